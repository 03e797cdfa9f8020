"""experiments.export and experiments.import_checkpoint from the command line: what they write, print and refuse."""

import json
import sys

import pytest
from absl import flags
from absl.testing import flagsaver
from boxed_flags import Box
from foreign_checkpoint import GPT2, write_foreign

import scaling
from scaling import exchange

with (EXPORT := Box()):
    from experiments import _environment, export
with (IMPORT := Box()):
    from experiments import import_checkpoint


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A workdir with a run that was imported."""
    folder = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_DATA_DIR", str(folder / "data"))
        write_foreign(folder / "hf", "the law of the loss", **GPT2, layers=1)
        exchange.import_checkpoint(str(folder / "hf"), folder / "runs")
        yield folder / "runs"


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs a command: (exit status, standard output, standard error)."""
    def call(module, *argv):
        monkeypatch.setattr(sys, "argv", [module.__name__, *argv])
        status = 0
        with EXPORT if module is export else IMPORT, flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            try:
                module.main(_environment.parse(sys.argv))
            except SystemExit as left:
                status = left.code
        return status, *capsys.readouterr()
    return call


def test_a_run_goes_out_and_comes_back(command, text, tmp_path):
    run = scaling.restore(text)
    for form, file in (("hf", "tokenizer.json"), ("safetensors", "model.safetensors")):
        status, out, err = command(export, f"--workdir={text}", f"--format={form}", f"--output={tmp_path / form}", "--json")
        said = json.loads(out)
        assert (status, err, said["run"], said["format"]) == (0, "", run.fingerprint, form)
        assert file in said["files"] and sorted(path.name for path in (tmp_path / form).iterdir()) == said["files"]
    assert exchange.read_exported(tmp_path / "safetensors")[0] == run.experiment
    status, out, err = command(import_checkpoint, f"--from={tmp_path / 'hf'}", f"--workdir={tmp_path / 'runs'}", "--json")
    said = json.loads(out)
    assert (status, err, said["existed"]) == (0, "", False)
    back = scaling.restore(tmp_path / "runs")
    assert back.fingerprint == said["run"] and back.loss("hello").tolist() == pytest.approx(run.loss("hello").tolist())
    status, out, _ = command(import_checkpoint, f"--from={tmp_path / 'hf'}", f"--workdir={tmp_path / 'runs'}")
    assert status == 0 and "was imported already" in out


def test_what_cannot_be_is_one_sentence_with_its_status(command, text, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    for module, argv, wanted, says in (
            (export, (f"--workdir={text}", f"--output={tmp_path / 'full'}"), 1, "never overwritten"),
            (export, (f"--workdir={text}", f"--output={tmp_path / 'new'}", "--run=N=none"), 1, "a number of non-embedding"),
            (export, (f"--workdir={text}", f"--output={tmp_path / 'new'}", "--format=tflite"), 2, "hf|safetensors|"),
            (export, (f"--workdir={text}", f"--output={tmp_path / 'new'}", "more"), 2, "takes flags only"),
            (import_checkpoint, (f"--from={tmp_path / 'full'}", f"--workdir={tmp_path / 'new'}"), 1, "has no config.json"),
            (import_checkpoint, (f"--from={tmp_path}/no/such", f"--workdir={tmp_path / 'new'}"), 1, "is no folder")):
        status, out, err = command(module, *argv)
        assert status == wanted and not out and says in err and err.startswith("error: ") and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["full"] and (tmp_path / "full" / "file").read_text() == "mine"
