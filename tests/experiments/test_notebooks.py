"""The notebooks: each holds the code of its script, is small and clean, and runs on tiny models; one address serves all."""

import os
import re
import subprocess
import sys
import tomllib
import types

import pytest

pytest.importorskip("jupytext", reason="pip install -e '.[notebooks]'")

import nbformat  # noqa: E402
from boxed_flags import Box  # noqa: E402

from tools import _notebooks  # noqa: E402
from tools._notebooks import NOTEBOOKS, ROOT  # noqa: E402

with Box():
    from tools import build_notebooks

SLOW = {"tour", "families", "checkpoints"}  # they compile three programs or more
each = pytest.mark.parametrize("name", NOTEBOOKS)


def cells(name):
    """The cells of a notebook as it is committed."""
    return nbformat.read(_notebooks.built(name), as_version=4).cells


def test_every_script_is_a_notebook():
    found = {path.stem for ending in ("py", "ipynb") for path in _notebooks.FOLDER.glob(f"*.{ending}")}
    assert found == {*NOTEBOOKS}


@each
def test_a_notebook_holds_exactly_its_script(name):
    script = [(cell.cell_type, cell.source, cell.id) for cell in _notebooks.from_script(name).cells]
    assert [(cell.cell_type, cell.source, cell.id) for cell in cells(name)] == script, (
        f"python -m tools.build_notebooks --only={name}")


@each
def test_a_notebook_was_run_from_top_to_bottom_and_is_small(name):
    assert _notebooks.built(name).stat().st_size < _notebooks.LARGEST
    code = [cell for cell in cells(name) if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    figures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(figures) >= 2


@each
def test_outputs_show_neither_progress_nor_this_machine(name):
    outputs = [output for cell in cells(name) if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr" or output.output_type == "error"]
    text = "\n".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert not re.search(r"(?<![\w.])/(tmp|home|root|work|usr|opt)/", text)


@each
def test_markdown_is_short(name):
    long = [cell.source for cell in cells(name) if cell.cell_type == "markdown" and len(cell.source.splitlines()) > 14]
    assert not long


def run(name, folder, environment):
    """Runs a script on tiny models in `folder`; returns what it printed."""
    done = subprocess.run([sys.executable, _notebooks.script(name)], cwd=folder, text=True, capture_output=True,
                          env=environment | {"SCALING_NOTEBOOK_SMALL": "1", "MPLBACKEND": "Agg", "XLA_FLAGS": " ".join(
                              [os.environ["SCALING_TEST_FLAGS"], environment["XLA_FLAGS"]])})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NOTEBOOKS])
def test_a_script_runs_on_tiny_models(name, tmp_path, environment):
    assert run(name, tmp_path, environment).strip()


def test_building_leaves_out_progress_and_the_folder():
    cell = nbformat.v4.new_code_cell("\n".join([
        "import os, sys", "print(os.path.abspath('runs'), os.environ.get('SCALING_NOTEBOOK_SMALL'))",
        "print('10% done', file=sys.stderr)"]))
    build_notebooks.execute(nbformat.v4.new_notebook(cells=[cell]), small=True)
    assert [(output.name, output.text) for output in cell.outputs] == [("stdout", "runs 1\n")]


# ---------------------------------------------------------------------------------------- the first cell


@each
def test_the_first_cell_installs_in_colab_alone(name, monkeypatch):
    commands, first = [], cells(name)[0].source
    assert first == _notebooks.first_cell(_notebooks.repository())
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    exec(first, {})
    assert not commands
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setenv("SCALING_REPOSITORY", "https://example.org/somebody/scaling")
    exec(first, {})
    assert commands == [[sys.executable, "-m", "pip", "install", "--quiet",
                         "scaling @ git+https://example.org/somebody/scaling"]]


def test_without_an_address_the_first_cell_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.delenv("SCALING_REPOSITORY", raising=False)
    with pytest.raises(ValueError, match="write the https address"):
        exec(_notebooks.first_cell(""), {})


def test_the_badges_of_the_readme_lead_to_the_one_address():
    page, address = (ROOT / "README.md").read_text(), _notebooks.repository()
    assert _notebooks.badges(address) in page, "python -m tools.build_notebooks --run=false --repository=ADDRESS"
    there = _notebooks.badges("https://github.com/somebody/scaling")
    assert "(https://colab.research.google.com/github/somebody/scaling/blob/main/experiments/notebooks/tour.ipynb)" in there
    assert _notebooks.with_badges(_notebooks.with_badges(page, "https://github.com/a/b"), address) == page


def test_a_new_address_reaches_everything(tmp_path, monkeypatch):
    """In a copy of the files that hold it."""
    folder = tmp_path / "experiments" / "notebooks"
    folder.mkdir(parents=True)
    for path in ("pyproject.toml", "README.md", *(_notebooks.script(name).relative_to(ROOT) for name in NOTEBOOKS)):
        (tmp_path / path).write_text((ROOT / path).read_text())
    monkeypatch.setattr(build_notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(_notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(_notebooks, "FOLDER", folder)
    address = "https://github.com/somebody/scaling"
    build_notebooks.move(address)
    assert tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["scaling"]["repository"] == address
    assert f"{_notebooks.COLAB}/somebody/scaling/" in (tmp_path / "README.md").read_text()
    for name in NOTEBOOKS:
        assert _notebooks.from_script(name).cells[0].source == _notebooks.first_cell(address)


@pytest.mark.parametrize("given, found", [
    ("https://github.com/somebody/scaling.git", "https://github.com/somebody/scaling"),
    ("https://user:secret@example.org/a/scaling/", "https://example.org/a/scaling")])
def test_an_address_is_published_without_its_password(given, found):
    assert _notebooks.checked_address(given) == found


@pytest.mark.parametrize("given", ["git@github.com:somebody/scaling.git", "http://example.org/a", "",
                                   "https://<owner>/scaling", "https://example.org/a'b"])
def test_other_addresses_are_refused(given):
    with pytest.raises(ValueError, match="no https address"):
        _notebooks.checked_address(given)
