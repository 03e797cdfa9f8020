"""What `tools.build_notebooks` and the tests of the notebooks share: scripts, their first cell, and the README's badges.

The address of the repository stands in pyproject.toml, as `repository` of `[tool.scaling]`, and is empty while there is
none. From there it goes into the first cell of every notebook, the badges of the README, and the metadata of the package.
"""

import pathlib
import re
import subprocess
import tomllib
import urllib.parse

import jupytext
import nbformat

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "notebooks"
NOTEBOOKS = {  # in the order of the README: what each one shows, and what it takes of one core at full size
    "tour": ("A sweep from its config to a forecast that is checked, and text from the best model.", "three minutes"),
    "families": ("Transformers, VAEs and GANs side by side: three sweeps, one figure, samples of each.", "five minutes"),
    "own_csv": ("A law for a table of your own runs: intervals, a back-test, a forecast.", "15 seconds"),
    "checkpoints": ("What changes with size and time: loss by position, attention, weights, samples.", "two minutes"),
}
LARGEST = 400_000  # bytes of a notebook
ADDRESS = re.compile(r"https://[\w.-]+(/[\w.-]+)+")
START, END = "<!-- notebooks -->", "<!-- end of notebooks -->"
COLAB = "https://colab.research.google.com/github"
FIRST_CELL = '''\
# On Colab this cell installs the package from its repository. Elsewhere it does nothing.
import os
import subprocess
import sys

REPOSITORY = os.environ.get("SCALING_REPOSITORY", "{repository}")
if "google.colab" in sys.modules:
    if not REPOSITORY:
        raise ValueError("REPOSITORY is empty: write the https address of the repository there, and run this cell again")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"scaling @ git+{{REPOSITORY}}"], check=True)'''


def repository() -> str:
    """The https address of the repository, or "" while it has none."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scaling"]["repository"]


def checked_address(text: str) -> str:
    """An address as it can be published: "origin" is that of the git remote, without its user, password and ending.

    Raises ValueError for anything but an https address.
    """
    if text == "origin":
        said = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True)
        text = said.stdout.strip()
    parts = urllib.parse.urlsplit(text)
    found = f"https://{parts.hostname}{parts.path}".removesuffix("/").removesuffix(".git")
    if parts.scheme != "https" or not ADDRESS.fullmatch(found):
        raise ValueError(f"--repository={text or 'origin, which git does not know,'} is no https address of a repository; "
                         "write one such as --repository=https://github.com/you/scaling")
    return found


def first_cell(address: str) -> str:
    """The code of the first cell of every notebook."""
    return FIRST_CELL.format(repository=address)


def script(name: str) -> pathlib.Path:
    return FOLDER / f"{name}.py"


def built(name: str) -> pathlib.Path:
    return FOLDER / f"{name}.ipynb"


def from_script(name: str) -> nbformat.NotebookNode:
    """The notebook of a script, without outputs. Cells are numbered, so that the same script gives the same file."""
    parsed = jupytext.reads(script(name).read_text(encoding="utf-8"), fmt="py:percent")
    made = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    cells = [made[cell.cell_type](cell.source, id=f"cell-{number:02}") for number, cell in enumerate(parsed.cells)]
    return nbformat.v4.new_notebook(cells=cells, metadata={
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}})


def with_address(text: str, address: str) -> str:
    """The text of a script whose first cell has an address."""
    return re.sub(r'("SCALING_REPOSITORY", )"[^"]*"', rf'\1"{address}"', text, count=1)


def badges(address: str) -> str:
    """The table of the notebooks in the README. Without an address on GitHub, its badges lead to docs/colab.md."""
    lines = [START, "", "| notebook | what it shows | CPU time | |", "| --- | --- | --- | --- |"]
    for name, (shows, takes) in NOTEBOOKS.items():
        path = built(name).relative_to(ROOT).as_posix()
        there = address.removeprefix("https://github.com/")
        link = f"{COLAB}/{there}/blob/main/{path}" if there != address else "docs/colab.md#open-a-notebook"
        lines.append(f"| [`{name}`]({path}) | {shows} | {takes} | [![Open in Colab](docs/figures/colab.svg)]({link}) |")
    return "\n".join([*lines, "", END])


def with_badges(page: str, address: str) -> str:
    """A page whose table of notebooks is that of an address."""
    above, _, rest = page.partition(START)
    return above + badges(address) + rest.partition(END)[2]
