"""The Python of docs/start.md and docs/tutorials/ runs, and does what the text beside it says."""

import pathlib
import re
import sys

import pytest

from experiments import claims
from scaling import experiment, families
from scaling.families._discovery import _FAMILIES
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
def beside(tmp_path, monkeypatch):
    """Writes a file into a folder that a package of the repository finds as if it were its own, and forgets it afterwards."""
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
