"""The Python of docs/tutorials/ runs, and does what the text beside it says."""

import contextlib
import dataclasses
import io
import pathlib
import re
import sys

import pytest
from printed_blocks import unsaid

from experiments import claims
from scaling import experiment, families, laws
from scaling.claims import Estimate
from scaling.families._discovery import _FAMILIES
from scaling.fields import DataError
from scaling.results import records
from scaling.store import files
from scaling.store.progress import Progress
from scaling.study import configs
from scaling.sweeps.runner import Runner, TrainingOptions

ROOT = pathlib.Path(__file__).parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def block(page, word):
    """The one Python block of a page that contains `word`."""
    [found] = [code for code in PYTHON.findall((ROOT / "docs" / page).read_text()) if word in code]
    return found


@pytest.fixture
def beside(tmp_path):
    """Writes a file into a folder that a package of the repository reads as its own, and forgets it afterwards."""
    added = []

    def write(package, name, code):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / f"{name}.py").write_text(code)
        package.__path__.append(str(folder))
        added.append((package, str(folder), f"{package.__name__}.{name}"))
        forget()

    def forget():
        for name in ("modules", "classes"):
            vars(_FAMILIES).pop(name, None)

    yield write
    for package, folder, module in added:
        package.__path__.remove(folder)
        sys.modules.pop(module, None)
    forget()


def test_the_family_is_found_and_learns(beside, tmp_path, corpus, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    beside(families, "window", block("tutorials/family.md", "class Window"))
    (tmp_path / "config.py").write_text(block("tutorials/family.md", "def sweep"))
    module = configs.load_config(str(tmp_path / "config.py"))
    config = module.get_config()
    assert len(module.sweep(config)) == 27
    config.update_from_flattened_dict({"data.name": f"text:{corpus}/*.txt", "data.length": 32, "optim.warmup": 4,
                                       "data.evaluation_tokens": 1024})
    config.sizes, config.tokens = (1e4,), (2560, 20_480)
    job, progress = Runner(files.open_workdir(tmp_path / "runs"), TrainingOptions()), Progress(1, silent=True)
    job.run(job.plan([run for run in module.sweep(config) if run.optim.learning_rate == 8e-3], 2), progress)
    table = records.load_records(tmp_path / "runs").sort_values("tokens_seen")
    assert list(table["family"]) == ["window"] * 2 and table["params_non_embedding"].between(9e3, 1.1e4).all()
    assert table["bits_per_byte"].iloc[1] < table["bits_per_byte"].iloc[0] < 8
    assert experiment.family_at(config, 1e4).context == 4


def run_blocks(page, namespace, skip=()):
    """Runs the Python blocks of a page in their order, and returns what they print."""
    with contextlib.redirect_stdout(said := io.StringIO()):
        for code in PYTHON.findall((ROOT / "docs" / page).read_text()):
            if not any(word in code for word in skip):
                exec(compile(code, page, "exec"), namespace)
    return said.getvalue()


def test_the_source_teaches_words_backwards(tmp_path, monkeypatch):
    (tmp_path / "reversal.py").write_text(block("tutorials/source.md", "def load"))
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict = {}
    lines = run_blocks("tutorials/source.md", namespace, skip=["def load"]).splitlines()
    assert len(lines) == 5 and all(given == written[::-1] for given, written in (line.split(" -> ") for line in lines[:4]))
    data = namespace["data"]
    for rows in (data.load().batch(0, 1), data.load().evaluation("held_out", 16)):
        assert rows["source"].shape[1:] == (8,) and rows["target"].shape[1:] == (9,)
        words, written = (["".join(map(chr, row)).strip("\0") for row in rows[name]] for name in ("source", "target"))
        assert all(word == reverse[::-1] and len(word) == 6 for word, reverse in zip(words, written, strict=True))
    with pytest.raises(DataError, match="own:<module>.<function>"):
        dataclasses.replace(data, name="own:reversal.other").load()


def test_the_law_is_found_in_runs_that_follow_it():
    try:
        printed = run_blocks("tutorials/law.md", {})
    finally:
        laws.FORMS.pop("logarithmic", None)
    [expected] = re.findall(r"^```text\n(.*?)^```$", (ROOT / "docs/tutorials/law.md").read_text(), re.MULTILINE | re.DOTALL)
    assert unsaid(expected, printed) is None, printed


def test_the_claim_is_tried_by_its_rule(beside, tmp_path, corpus, monkeypatch, capsys):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    file = block("tutorials/claim.md", "CLAIM = ")
    beside(claims, "context", file.replace("(10_240, 30_720, 102_400, 307_200)", "(2560, 10_240, 40_960)")
           .replace("SEEDS = (2, 5), 3", "SEEDS = (2, 5), 1"))
    changes = {"data.name": f"text:{corpus}/*.txt", "data.length": 32, "data.evaluation_tokens": 2048}
    code = block("tutorials/claim.md", "Trial(").replace("TrainingOptions())", "TrainingOptions(), changes=CHANGES)")
    exec(code, namespace := {"CHANGES": changes})
    verdict, rule = namespace["verdict"], claims.find("context").rules["growth"]
    found = verdict["parts"]["ngram"]["estimates"]["growth"]
    assert verdict["cost"]["runs"] == 6 and found["low"] < found["value"] < found["high"]
    decided = rule.decide(Estimate(found["value"], found["low"], found["high"], found["runs"]))
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{decided} {{")
    assert (tmp_path / "runs" / "claims" / "context" / "registered.json").exists()
