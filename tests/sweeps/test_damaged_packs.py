"""A pack goes on from what is whole, says what it lost, and ends with the results that it would have had."""
import json
import shutil
import warnings

import pytest
from etils import epath
from launcher import results

from scaling import experiment
from scaling.devices import exits
from scaling.store import checkpoint
from scaling.store.progress import Progress
from scaling.sweeps import segments
from scaling.sweeps.runner import Runner, TrainingOptions


@pytest.fixture(scope="module")
def train(corpus, tmp_path_factory):
    """train(workdir, saves) trains a trunk with two lengths, until checkpoint number `saves` if that is given."""
    base = experiment.from_config(experiment.config("transformer")).replace({
        "data.name": f"text:{corpus}/*.txt", "data.length": 16, "data.batch": 8, "data.evaluation_tokens": 512,
        "optim.warmup": 2})
    base = base.replace({"family": type(base.family).ladder(5e3, length=16)})
    sweep = [base.replace({"data.tokens": tokens}) for tokens in (8 * 128, 24 * 128)]
    programs = type("Kept", (dict,), {"clear": lambda self: None})()

    def train(workdir, saves=None):
        job = Runner(workdir, TrainingOptions(checkpoint_seconds=0 if saves else 1e9, steps_per_call=4))
        seen, save = [], checkpoint.Checkpoints.save

        def counted(self, *args, **kwargs):
            seen.extend([1] if "checkpoints" in str(self._directory) else [])
            return save(self, *args, **kwargs)
        job.programs.kept = programs
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            patch.setenv("SCALING_DATA_DIR", str(data))
            if saves:
                patch.setattr(checkpoint.Checkpoints, "save", counted)
                patch.setattr(segments.exits, "preempted", lambda: len(seen) >= saves)
            try:
                job.run(job.plan(sweep, 1), Progress(1, silent=True))
            except exits.Preempted:
                assert saves
        return [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    data = tmp_path_factory.mktemp("data")
    return train


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A finished workdir, and one that was stopped in the trunk after the first length was done."""
    finished, stopped = (epath.Path(tmp_path_factory.mktemp(name)) for name in ("finished", "stopped"))
    assert train(finished) == [] and train(stopped, saves=4) == []
    assert len(results(stopped)) == 1 and len(results(finished)) == 2
    return finished, stopped


@pytest.fixture
def stopped(whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "copy")
    return epath.Path(tmp_path / "copy")


def test_where_no_checkpoint_is_whole_the_pack_starts_over(train, whole, stopped):
    for path in stopped.glob("checkpoints/*/*/*/state/manifest.ocdbt"):
        path.write_bytes(b"")
    said = train(stopped)
    assert any("is whole, so this part of the training starts over at step 0" in line for line in said)
    assert results(stopped) == results(whole[0])


def test_a_damaged_record_of_a_shorter_run_takes_the_trunk_back_to_where_its_branch_begins(train, whole, stopped):
    [path] = (stopped / "records").iterdir()
    path.write_text("{}\n")
    said = train(stopped)
    assert any(f"{path.name}: torn or damaged last line" in line for line in said)
    assert any("its training is repeated from there on" in line for line in said)
    assert results(stopped) == results(whole[0]) and path.read_text().startswith("{}\n")


def test_a_log_that_lost_points_is_named_and_marks_the_curve(train, whole, stopped):
    [path] = [p for p in (stopped / "logs").iterdir() if p.name.endswith("trunk.jsonl")]
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    said = train(stopped)
    assert any(f"{path.name} is damaged: it lost 1 or more" in line for line in said)
    found, wanted = results(stopped), results(whole[0])
    longest = max(wanted, key=lambda name: wanted[name]["steps"])
    assert found[longest].pop("curve")["lost"] == 1 and wanted[longest].pop("curve").get("lost") is None
    assert found == wanted


def test_checkpoints_of_a_finished_pack_are_removed_at_the_start(train, whole, stopped):
    [pack] = (stopped / "checkpoints").iterdir()
    left = list(pack.iterdir())
    assert left
    for path in (whole[0] / "records").iterdir():  # a kill came between the last record and the end of the pack
        shutil.copy(path, stopped / "records" / path.name)
    assert train(stopped) == [] and not list(pack.iterdir())


def test_every_record_has_a_digest_and_the_seal_of_its_curve(whole):
    for path in (whole[0] / "records").iterdir():
        record = json.loads(path.read_text())
        points = (whole[0] / "curves" / path.name).read_text().splitlines()
        assert record["digest"] and record["curve"]["points"] == len(points)
