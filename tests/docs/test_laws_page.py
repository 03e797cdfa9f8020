"""The blocks of docs/laws.md run in order and print what the page says.

Blocks of Python share one namespace, as in a notebook, and blocks of bash run in the same directory. A block of
`text` holds what the block before it prints; a line "..." in it stands for any lines. Numbers may differ by 5%.

    PYTHONPATH=tests python tests/docs/test_laws_page.py      # writes into the page what the blocks print now
"""
import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pytest
from printed_blocks import unsaid

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "laws.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")   # figures/all-fit.png is the fits/all/fit.png of the commands


def blocks(text: str) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for match in BLOCK.finditer(text)]


def bash(code: str, folder) -> str:
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(["bash", "-euo", "pipefail", "-c", code], cwd=folder, env=environment, text=True,
                         capture_output=True)
    assert ran.returncode == 0, f"{code}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def python(code: str, namespace: dict) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "docs/laws.md", "exec"), namespace)
    return said.getvalue()


def run(text: str, folder):
    """(the block, the printed text) for every block of text on the page."""
    printed, namespace, pairs = "", {}, []
    with contextlib.chdir(folder):
        for language, code in blocks(text):
            if language == "text":
                pairs.append((code, printed))
            else:
                printed = bash(code, folder) if language == "bash" else python(code, namespace)
    return pairs


def test_every_block_runs_and_prints_what_the_page_says(tmp_path):
    pairs = run(PAGE.read_text(), tmp_path)
    assert len(pairs) >= 4
    for expected, printed in pairs:
        line = unsaid(expected, printed)
        assert line is None, f"the page says {line!r}, but this was printed:\n{printed}"


def test_figures_exist_and_have_alternative_texts():
    pictures = PICTURE.findall(PAGE.read_text())
    assert pictures and all((PAGE.parent / picture).exists() and len(text.split()) > 5 for text, picture in pictures)


@pytest.mark.parametrize(("expected", "printed", "same"), [
    ("alpha 0.340 [0.33, 0.35]", "alpha   0.342 [0.33, 0.35]", True),
    ("alpha 0.340 [0.33, 0.35]", "alpha   0.442 [0.33, 0.35]", False),
    ("a\n...\nd", "a\nb\nc\nd", True), ("a\nd", "a\nb\nd", False), ("a", "a\nb", False),
    ("E is at its bound", "B is at its bound", False),
    ("loss at 7e+10 is 1.9", "loss at 7.1e+10 is 1.9", True),
])
def test_what_is_compared(expected, printed, same):
    """The comparison fails wherever the printed text differs from the page."""
    assert (unsaid(expected, printed) is None) == same


def rewrite() -> None:
    """Write the printed text and the figures into the page. A block of text with a line "..." stays as it is."""
    text = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        now = iter([expected if "..." in expected.split("\n") else printed.strip("\n") + "\n"
                    for expected, printed in run(text, folder)])
        text = BLOCK.sub(lambda match: f"```text\n{next(now)}```" if match[1] == "text" else match[0], text)
        for _, picture in PICTURE.findall(text):
            place, _, name = pathlib.Path(picture).name.partition("-")
            (PAGE.parent / picture).write_bytes(pathlib.Path(folder, "fits", place, name).read_bytes())
    PAGE.write_text(text)


if __name__ == "__main__":
    rewrite()
