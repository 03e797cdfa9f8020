"""The Python blocks of the README and of two other pages run and do what the text beside them says.

tests/store/test_checkpoint_plain.py runs the two that read checkpoints by orbax alone.
"""

import pathlib
import re

import numpy as np
import pytest
from tiny_workdir import text_workdir

ROOT = pathlib.Path(__file__).parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TESTED = {"README.md": ("scaling.load", "Runs.from_csv", "def sweep"),
          "docs/checkpoints.md": ("N=3e5", "PyTreeCheckpointer", "v1.load("), "docs/start.md": ("scaling.restore",)}


def block(page, word):
    """The one Python block of a page that contains `word`."""
    [found] = [code for code in PYTHON.findall((ROOT / page).read_text()) if word in code]
    return found


@pytest.mark.parametrize("page", TESTED)
def test_every_block_has_a_test(page):
    assert PYTHON.findall((ROOT / page).read_text()) == [block(page, word) for word in TESTED[page]]


def test_a_workdir_is_a_table_and_its_best_run_continues_a_prompt(tmp_path, corpus, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    text_workdir(tmp_path / "runs" / "quickstart", corpus)
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(block("README.md", "scaling.load"), namespace)
    assert len(namespace["df"]) == 3 and namespace["run"].fingerprint in set(namespace["df"]["fingerprint"])
    assert capsys.readouterr().out.strip()
    exec(block("docs/start.md", "scaling.restore"), namespace)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 5 and lines[4].startswith(f"{namespace['run'].family.width} ")


def test_a_run_of_a_size_gives_texts_losses_and_logits(tmp_path, corpus, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    text_workdir(tmp_path / "runs" / "quickstart", corpus, target=False)
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(block("docs/checkpoints.md", "N=3e5"), namespace)
    assert namespace["losses"].shape == (32,) and namespace["logits"].shape == (1, 4, 256)
    assert str(namespace["run"]) in capsys.readouterr().out


def test_the_laws_of_the_readme_run(tmp_path, monkeypatch):
    rng, rows = np.random.default_rng(0), ["N,D,C,loss,group,kept"]
    for n in (1e7, 4e7, 1.6e8, 6.4e8, 2.5e9):
        for c in (1e18, 1e19, 1e20, 1e21):
            d = c / (6 * n)
            loss = (1.8 + 480 * n**-0.35 + 2100 * d**-0.37) * np.exp(0.003 * rng.standard_normal())
            rows.append(f"{n},{d},{c},{loss},{c},1")
    (tmp_path / "points.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(block("README.md", "Runs.from_csv").replace("draws=4000", "draws=40"), namespace)
    low, high = namespace["boot"].interval("alpha")
    assert 0 < low < high


def test_the_sweep_of_the_readme_is_a_list_of_experiments():
    namespace = {}
    exec(block("README.md", "def sweep"), namespace)
    runs = namespace["sweep"](namespace["get_config"]())
    assert len(runs) == 18 and len({run.family for run in runs}) == 3
