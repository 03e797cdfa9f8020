"""experiments.reproduce: a record's run is trained again and compared, here or with the code of its commit."""

import json
import subprocess

import pytest
from absl import app
from boxed_flags import Box, status_of
from tiny_workdir import text_workdir

from scaling.claims import ClaimError, registry
from scaling.results import records
from scaling.study import reproducing

with (BOX := Box()):
    from experiments import reproduce


@pytest.fixture(scope="module")
def study(corpus, tmp_path_factory):
    return text_workdir(tmp_path_factory.mktemp("text") / "runs", corpus, target=False)


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs the command: (exit status, standard output, standard error)."""
    def call(record, workdir, *argv):
        words = [] if record is None else [f"--record={record}"]
        status = status_of(BOX, reproduce, [*words, f"--workdir={workdir}", *argv], monkeypatch)
        return status, *capsys.readouterr()
    return call


@pytest.fixture
def changed(study, tmp_path):
    """Writes a record of the study with changes, and returns its path."""
    def make(**changes):
        path = tmp_path / "changed.json"
        record = records.Records(study).read(records.Records(study).fingerprints()[0])
        path.write_text(json.dumps({**record, **changes}))
        return path
    return make


def test_a_record_is_reproduced_in_another_workdir_and_resumes(study, command, tmp_path):
    record = next((study / "records").iterdir())
    status, out, _ = command(record, tmp_path / "again")
    assert status == 0 and "\nreproduced: bits_per_byte differs by " in out
    assert out.startswith("versions, machine and commit are those of the record")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").glob("records/*")}
    status, out, _ = command(None, tmp_path / "again", str(record), "--json")
    found = json.loads(out.splitlines()[-1])
    assert status == 0 and found["agrees"] and found["difference"] < 1e-6 and found["differences"] == {}
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "again").glob("records/*")}


def test_another_result_is_told_and_a_tolerance_decides(study, changed, command, tmp_path):
    loss = records.load_records(study)["bits_per_byte"].iloc[0]
    path = changed(bits_per_byte=loss * 1.01, versions={"jax": "0.0.1", "machine": "1 device (cpu)"})
    status, out, _ = command(path, tmp_path / "again", "--tolerance=0.001")
    assert status == reproduce.DIFFERS and "not reproduced: bits_per_byte differs by 0.0099" in out
    assert "jax: 0.0.1 in the record, " in out and "machine: 1 device (cpu) in the record, 8 devices (cpu) here" in out
    assert command(path, tmp_path / "again")[0] == 0  # two percent on another machine


def test_one_record_is_named(command, tmp_path):
    for words in ([], ["a.jsonl", "b.jsonl"]):
        with pytest.raises(app.UsageError, match="name one record.*" + " ".join(words)):
            command(None, tmp_path, *words)


@pytest.mark.parametrize(("changes", "said"), [
    ({"data_fingerprint": "0123"}, "that of the record 0123"),
    ({"experiment": {"family": {"name": "transformr"}}}, "is not one that this version of scaling knows"),
    ({"git_commit": "ab12-dirty"}, "changed after commit ab12, and the change is nowhere")])
def test_what_cannot_be_reproduced_is_one_sentence(changed, command, tmp_path, changes, said):
    checkout = [f"--checkout={tmp_path / 'code'}"] if "git_commit" in changes else []
    status, _, err = command(changed(**changes), tmp_path / "again", *checkout)
    assert status == 1 and said in err and err.count("\n") == 1


def test_a_record_is_not_compared_with_itself_and_other_files_are_refused(study, command, tmp_path):
    path = next((study / "records").iterdir())
    assert "is the record itself; write another --workdir" in command(path, study)[2]
    for name, text, said in (("a.json", "{", "is no JSON"), ("b.json", "{}", "is neither the record of a run nor")):
        (tmp_path / name).write_text(text)
        assert said in command(tmp_path / name, tmp_path / "again")[2]
    assert "cannot be read" in command(tmp_path / "nowhere.json", tmp_path / "again")[2]


def test_several_players_and_other_machines_may_differ_more():
    from scaling import experiment
    found = {}
    for family in ("transformer", "gan"):
        run = {"experiment": experiment.to_dict(experiment.from_config(experiment.config(family))), "fd": 1.0,
               "versions": {"machine": "a"}}
        others = [{**run, "versions": {"machine": name}} for name in "ab"]
        found[family] = [reproducing.compare_records(run, other).tolerance for other in others]
    assert found == {"transformer": [0.005, 0.02], "gan": [0.05, 0.2]}


def test_a_run_that_diverged_in_one_of_two_is_told():
    with pytest.raises(reproducing.NotReproducible, match="diverged at step 7, and this one did not diverge"):
        reproducing.compare_records({"diverged": True, "diverged_step": 7}, {"diverged": False})


@pytest.fixture
def history(tmp_path, monkeypatch):
    """A repository whose first commit has the command, and the code after it; (folder, [commits])."""
    folder, commits = tmp_path / "repository", []

    def git(*words):
        return subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True,
                              capture_output=True, text=True).stdout.strip()
    (folder / "experiments").mkdir(parents=True)
    git("init", "-q")
    for text in ("", "import sys; print(*sys.argv, file=open('used', 'w')); sys.exit(3)", "raise AssertionError"):
        path = folder / "experiments" / ("reproduce.py" if text else "run.py")
        path.write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", "some")
        commits.append(git("rev-parse", "HEAD"))
    monkeypatch.setattr(reproduce, "__file__", str(folder / "experiments" / "reproduce.py"))
    return commits


def test_the_code_of_the_record_is_checked_out_and_used(history, changed, command, tmp_path):
    code = tmp_path / "code"
    assert command(changed(git_commit=history[1]), tmp_path / "again", f"--checkout={code}", "--tolerance=0.1")[0] == 3
    used = (code / "used").read_text()
    assert f"--workdir={tmp_path / 'again'}" in used and "--tolerance=0.1" in used and "--checkout" not in used
    status, _, err = command(changed(git_commit=history[2]), tmp_path / "again", f"--checkout={code}")
    assert status == 1 and "exists and is not commit" in err
    status, _, err = command(changed(git_commit=history[0]), tmp_path / "again", f"--checkout={tmp_path / 'old'}")
    assert status == 1 and "is older than this command" in err


def test_verdicts_agree_where_intervals_overlap_and_numbers_are_the_same():
    def verdict(low, high, name="exponent"):
        return {"id": "size", "parts": {"vae": {"estimates": {name: {"value": 0, "low": low, "high": high}}}}}
    overlaps = [registry.compare_verdicts(verdict(0.1, 0.2), verdict(*other))["vae: exponent"][2]
                for other in ((0.15, 0.3), (0.25, 0.3), (None, 0.12), (None, 0.05), (None, None))]
    assert overlaps == [True, False, True, False, True]
    with pytest.raises(ClaimError, match="are on other numbers"):
        registry.compare_verdicts(verdict(0, 1), verdict(0, 1, "slope"))
