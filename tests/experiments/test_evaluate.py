"""experiments.evaluate from the command line, in this process: what it measures, keeps, prints and refuses."""

import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from boxed_flags import Box, status_of
from tiny_workdir import text_workdir

import scaling
from scaling.figures import words
from scaling.results import evaluations
from scaling.store import checkpoint, files
from scaling.study import evaluating
from scaling.study.restored import RestoreError

with (BOX := Box()):
    from experiments import evaluate



@pytest.fixture(scope="module")
def text(corpus, tmp_path_factory):
    return text_workdir(tmp_path_factory.mktemp("text") / "runs", corpus, target=False)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """The name of text that no model of words can tell."""
    folder, rng = tmp_path_factory.mktemp("noise"), random.Random(1)
    for number in range(30):
        (folder / f"{number}.txt").write_text("".join(rng.choices("0123456789", k=400)))
    return f"text:{folder}/*.txt"


@pytest.fixture
def command(capsys, monkeypatch, text):
    """Runs the command on the workdir: (exit status, standard output, standard error)."""
    def call(*argv, workdir=text):
        return status_of(BOX, evaluate, [f"--workdir={workdir}", *argv], monkeypatch), *capsys.readouterr()
    return call


def test_an_evaluation_on_the_runs_own_data_is_its_record_and_is_made_once(command, text, monkeypatch):
    records = {path: path.read_bytes() for path in (text / "records").iterdir()}
    status, out, err = command("--json")
    found, run = json.loads(out), scaling.restore(text)
    assert (status, err, found["existed"]) == (0, "", False)
    assert {name: found[name] for name in ("run", "step", "data_fingerprint")} == {
        "run": run.fingerprint, "step": run.record["steps"], "data_fingerprint": run.record["data_fingerprint"]}
    for name, value in found["metrics"].items():
        assert value == pytest.approx(run.record[name], rel=1e-3), name
    assert {"bits_per_byte", "bits_per_byte_se", "accuracy"} <= found["metrics"].keys()

    def again(_):
        raise AssertionError("the evaluation was made again")
    monkeypatch.setattr(evaluating.RestoredRun, "evaluate", again)
    before = files.epath.Path(found["path"]).read_bytes()
    status, out, _ = command("--run=N=6e3")
    assert status == 0 and f"exists already, and was not made again: {found['path']}" in out
    shown = next(line for line in out.splitlines() if line.startswith("  bits_per_byte "))
    wanted = words.with_error(*(found["metrics"][name] for name in ("bits_per_byte", "bits_per_byte_se")))
    assert wanted in shown and "±" in wanted
    assert files.epath.Path(found["path"]).read_bytes() == before
    assert {path: path.read_bytes() for path in (text / "records").iterdir()} == records


def test_other_data_and_other_amounts_are_evaluations_of_their_own(command, text, noise):
    own = scaling.restore(text).record["bits_per_byte"]
    asked = [f"--data={noise}", "--units=512"], ["--units=2048"]
    other, more = (json.loads(command("--json", *argv)[1]) for argv in asked)
    assert other["metrics"]["bits_per_byte"] > 1.5 * own > more["metrics"]["bits_per_byte"]
    assert other["data"] == noise and (other["evaluated"], more["evaluated"]) == (512, 2048)
    table = evaluations.load_evaluations(text).set_index("evaluated")
    assert table["bits_per_byte"][512] == other["metrics"]["bits_per_byte"] and table["bits_per_byte_se"][2048] > 0
    assert evaluations.evaluation_path(text, other).name != evaluations.evaluation_path(text, more).name


def test_a_damaged_evaluation_is_named(command, text):
    path = json.loads(command("--json", "--units=256")[1])["path"]
    files.epath.Path(path).write_text("{")
    status, _, said = command("--units=256")
    assert status == 1 and path in said and "delete it" in said and said.count("\n") == 1
    with pytest.warns(UserWarning, match="skipped"):
        assert 256 not in set(evaluations.load_evaluations(text).get("evaluated", []))
    files.epath.Path(path).unlink()


def write_weights(folder, step: int, params):
    """A folder as `tools.average_checkpoints` writes them."""
    saved = checkpoint.Checkpoints(folder)
    saved.save(step, {"params": params}, {"averaged": [{"share": 0.5}, {"share": 0.5}]})
    saved.close()


def test_averaged_weights_are_an_evaluation_of_their_own(command, text, tmp_path):
    run = scaling.restore(text, "N=6e3")
    write_weights(tmp_path / "same", run.experiment.steps, run.params)
    write_weights(tmp_path / "zero", 7, jax.tree.map(jnp.zeros_like, run.params))
    asked = ["--run=N=6e3", "--units=512", "--json"]
    alone, same, zero = (json.loads(command(*asked, *more)[1]) for more in (
        [], [f"--checkpoint={tmp_path}/same"], [f"--checkpoint={tmp_path}/zero"]))
    assert same["metrics"] == alone["metrics"] and zero["metrics"]["loss"] == pytest.approx(np.log(256), rel=1e-4)
    assert len({found["path"] for found in (alone, same, zero)}) == 3
    assert [part["share"] for part in same["weights"]["averaged"]] == [0.5, 0.5] and zero["step"] == 7
    assert set(evaluations.load_evaluations(text)["weights"].dropna()) == {f"{tmp_path}/same", f"{tmp_path}/zero"}
    status, out, _ = command(f"--checkpoint={tmp_path}/zero", "--run=N=6e3", "--units=512")
    assert status == 0 and f"with {tmp_path}/zero on" in out and "exists already" in out


def test_weights_of_other_shapes_are_refused(command, text, tmp_path):
    write_weights(tmp_path / "cut", 1, jax.tree.map(lambda x: x[..., :1], scaling.restore(text, "N=6e3").params))
    for folder, says in (("cut", "is float32"), ("nowhere", "holds no parameters")):
        status, out, said = command(f"--checkpoint={tmp_path}/{folder}", "--run=N=6e3")
        assert status == 1 and out == "" and said.count("\n") == 1 and says in said, said


def test_tokenizers_must_match(text, noise, corpus):
    run = scaling.restore(text)
    trained = run.experiment.replace({"data.tokenizer": "bpe:258"})
    pairs = evaluating.dataclasses.replace(run, experiment=trained)
    with pytest.raises(RestoreError, match="tokenizers do not match: the bpe:258 of .* and .* has another") as caught:
        evaluating.with_data(pairs, noise)
    assert "\n" not in str(caught.value)
    assert evaluating.with_data(pairs, trained.data.name).experiment == trained
    with pytest.raises(RestoreError, match="vocab=4096, and the model 256|vocab=.*, and the model 256"):
        evaluating.with_data(run, "zipf")


@pytest.mark.parametrize("argv, status, says", [
    (["--units=1"], 1, "--units=1 is less than one sequence"),
    (["--units=999999999"], 1, "write at most that, or 0 for all"), (["--run=zz"], 1, "there are: "),
    (["--checkpoint=1"], 1, "only its last step"), (["--data=zip"], 1, "zip"),
    (["--data=glyphs/letters"], 1, "names images, and text is read here; write one of pycode/stdlib"),
    (["--units=-1"], 2, "units"), (["extra"], 2, "unexpected argument 'extra'"), (["--unit=3"], 2, "unit")])
def test_a_mistake_of_evaluation_is_one_sentence(command, argv, status, says):
    done, out, said = command(*argv)
    assert done == status and out == "" and said.startswith("error: ") and said.count("\n") == 1 and says in said, said


def test_a_workdir_without_evaluations_has_an_empty_table(tmp_path):
    assert evaluations.load_evaluations(tmp_path).empty
    with pytest.raises(files.WorkdirError, match="not a directory"):
        evaluations.load_evaluations(tmp_path / "nowhere")
