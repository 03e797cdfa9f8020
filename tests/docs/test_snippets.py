"""The Python blocks of the README and of two other pages run and do what the text beside them says."""

import dataclasses
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
from tiny_workdir import text_workdir

from scaling import experiment, laws
from scaling.fields import DataError

ROOT = pathlib.Path(__file__).parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TESTED = {"README.md": ("def load", "scaling.load", "Runs.from_csv", "def sweep"),
          "docs/architecture.md": ("laws.register",), "docs/checkpoints.md": ("N=3e5",)}


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


def test_a_law_of_ones_own_can_be_fitted():
    try:
        exec(block("docs/architecture.md", "laws.register"), {})
        x = np.geomspace(10, 1e5, 12)
        runs = laws.Runs.from_dataframe(pd.DataFrame({"x": x, "loss": 1 + 3 / (1 + 0.5 * np.log(x))}))
        assert laws.fit(runs, "logarithmic").params["c"] == pytest.approx(0.5, rel=0.05)
    finally:
        laws.FORMS.pop("logarithmic", None)


def test_the_source_of_the_readme_teaches_words_backwards(tmp_path, monkeypatch):
    (tmp_path / "reversal.py").write_text(block("README.md", "def load"))
    monkeypatch.syspath_prepend(tmp_path)
    data = experiment.Pairs(name="own:reversal.load", source_length=8, length=8, batch=4)
    source = data.load()
    for rows in (source.batch(0, 1), source.evaluation("held_out", 16)):
        assert rows["source"].shape[1:] == (8,) and rows["target"].shape[1:] == (9,)
        words, written = (["".join(map(chr, row)).strip("\0") for row in rows[name]] for name in ("source", "target"))
        assert all(word == reverse[::-1] and len(word) == 6 for word, reverse in zip(words, written, strict=True))
    with pytest.raises(DataError, match="own:<module>.<function>"):
        dataclasses.replace(data, name="own:reversal.other").load()
