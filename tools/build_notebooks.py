"""Build the notebooks of experiments/notebooks/ from their scripts, with outputs.

    python -m tools.build_notebooks                                # all of them, at full size: ten minutes of one core
    python -m tools.build_notebooks --only=own_csv
    python -m tools.build_notebooks --small --output=build/small    # what CI does: a few steps of tiny models
    python -m tools.build_notebooks --run=false                     # after a change of words, or of the address
    python -m tools.build_notebooks --run=false --repository=origin

The scripts are the sources: change `tour.py`, never `tour.ipynb`. Each one runs from top to bottom in a new kernel and an
empty directory. What it writes to standard error (progress, warnings of compilers) is left out of the notebook, and so are
times and other metadata of the build. With --run=false a cell keeps the outputs that it has, if its code is the same.

--repository puts the public address of the repository where it belongs: pyproject.toml, the first cells and the badges of
the README. "origin" takes it from git. Needs the extra `notebooks`.
"""

import base64
import io
import os
import pathlib
import re
import sys
import tempfile

import jupytext.combine
import nbformat
from absl import app, flags
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from tools import _notebooks
from tools._notebooks import NOTEBOOKS, ROOT

_ONLY = flags.DEFINE_list("only", list(NOTEBOOKS), "The notebooks to build.")
_SMALL = flags.DEFINE_bool("small", False, "Run on tiny models, as the tests do. Needs --output.")
_RUN = flags.DEFINE_bool("run", True, "Run the notebooks; otherwise cells keep their outputs where their code is the same.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder to write to; by default that of the scripts.")
_REPOSITORY = flags.DEFINE_string("repository", None, "The https address of the repository from now on, or origin.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if _SMALL.value and not _OUTPUT.value:
        raise app.UsageError("--small needs --output: the notebooks of the repository show the full size")
    if unknown := set(_ONLY.value) - {*NOTEBOOKS}:
        raise app.UsageError(f"--only={','.join(unknown)}: the notebooks are {', '.join(NOTEBOOKS)}")
    if _REPOSITORY.value is not None:
        try:
            move(_notebooks.checked_address(_REPOSITORY.value))
        except ValueError as error:
            raise app.UsageError(str(error)) from None
    folder = pathlib.Path(_OUTPUT.value or _notebooks.FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ONLY.value:
        notebook = _notebooks.from_script(name)
        path = folder / f"{name}.ipynb"
        if _RUN.value:
            execute(notebook, _SMALL.value)
        elif path.exists():
            notebook = jupytext.combine.combine_inputs_with_outputs(notebook, nbformat.read(path, as_version=4))
        nbformat.write(notebook, path)
        print(f"written: {path}, {path.stat().st_size / 1000:.0f} kB", flush=True)


def move(address: str) -> None:
    """Makes `address` that of the repository, in all files that have it."""
    line = f'repository = "{address}"'
    edited = {ROOT / "pyproject.toml": lambda text: re.sub(r'^repository = ".*?"', line, text, flags=re.MULTILINE),
              ROOT / "README.md": lambda text: _notebooks.with_badges(text, address)}
    edited |= {_notebooks.script(name): lambda text: _notebooks.with_address(text, address) for name in NOTEBOOKS}
    for path, edit in edited.items():
        path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")


def execute(notebook: nbformat.NotebookNode, small: bool) -> None:
    """Runs all cells in a new kernel and an empty directory, and keeps what a reader wants to see of their outputs."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {name: value for name, value in os.environ.items() if name != "SCALING_NOTEBOOK_SMALL"}
    environment |= {"PYTHONPATH": path} | ({"SCALING_NOTEBOOK_SMALL": "1"} if small else {})
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=None, kernel_name="python3", record_timing=False,
                       resources={"metadata": {"path": folder}}).execute(env=environment)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [tidy(output, folder) for output in cell.outputs if output.get("name") != "stderr"]


def tidy(output: nbformat.NotebookNode, folder: str) -> nbformat.NotebookNode:
    """An output without the directory that it was made in, and without metadata."""
    if "text" in output:
        output["text"] = output["text"].replace(f"{os.path.realpath(folder)}/", "").replace(f"{folder}/", "")
    if "metadata" in output:
        output["metadata"] = {}
    if figure := output.get("data", {}).get("image/png"):
        output["data"]["image/png"] = fewer_colours(figure)
    return output


def fewer_colours(figure: str) -> str:
    """A PNG in base64, with 256 colours: a third of its bytes, and no difference that one can see in a plot."""
    small = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(figure))).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    try:
        app.run(main)
    except CellExecutionError as error:
        sys.exit(str(error))
