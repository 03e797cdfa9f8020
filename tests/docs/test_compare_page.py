"""The blocks of docs/compare.md print what the page says; those that train are parsed by test_pages.py and not run.

    PYTHONPATH=tests python tests/docs/test_compare_page.py      # writes into the page what the blocks print now
"""

import contextlib
import io
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

from printed_blocks import unsaid

from scaling.laws.recipes import verdict

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "compare.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TRAINED = ("--workdir=", "_workdir=")  # of commands that need studies


def run(text: str, folder) -> list[tuple[str, str]]:
    """(what the page says, what was printed) of every block of text, with the blocks run in `folder`, in order."""
    printed, names, pairs = "", {}, []
    with contextlib.chdir(folder):
        for language, code in BLOCK.findall(text):
            if language == "text":
                pairs.append((code, printed))
            elif language == "python":
                with contextlib.redirect_stdout(said := io.StringIO()):
                    exec(compile(code, "docs/compare.md", "exec"), names)
                printed = said.getvalue()
            elif not any(mark in code for mark in TRAINED):
                words = shlex.split(code.replace("\\\n", " "))
                ran = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, cwd=folder,
                                     env=os.environ | {"PYTHONPATH": str(ROOT)})
                assert ran.returncode == 0, ran.stderr
                printed = ran.stdout
    return pairs


def test_every_block_prints_what_the_page_says(tmp_path):
    pairs = run(PAGE.read_text(), tmp_path)
    assert len(pairs) == 3
    for expected, printed in pairs:
        line = unsaid(expected, printed)
        assert line is None, f"the page says {line!r}, but this was printed:\n{printed}"


def test_the_rule_on_the_page_is_that_of_the_code():
    text = PAGE.read_text()
    assert re.findall(r"^\| ([a-z ]+) \| [A-Z]", text, re.MULTILINE) == list(verdict.VERDICTS)
    assert f"more than {verdict.MARGIN:.0%} of the speed-up" in text


def rewrite() -> None:
    """Writes the printed text and the figure into the page."""
    text = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        now = iter([printed.strip("\n") + "\n" for _, printed in run(text, folder)])
        PAGE.write_text(BLOCK.sub(lambda match: f"```text\n{next(now)}```" if match[1] == "text" else match[0], text))
        figure = pathlib.Path(folder, "compared", "report", "figures", "speedup.png")
        (PAGE.parent / "figures" / "compare-speedup.png").write_bytes(figure.read_bytes())


if __name__ == "__main__":
    rewrite()
