"""docs/laws-choosing.md: its blocks of Python run in order, and print what the text says about them."""
import contextlib
import io
import pathlib
import re

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "laws-choosing.md"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_blocks_run_in_order():
    said, names = [], {}
    for code in PYTHON.findall(PAGE.read_text()):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/laws-choosing.md", "exec"), names)
        said.append(printed.getvalue())
    chosen, parts, ways, gates = said
    assert "which has the lowest held-out error, or ties with it" in chosen and "90% intervals held" in chosen
    assert all(part in parts for part in ("parameters", "noise", "evaluation", "forms", "factor"))
    assert "by the law" in ways and "by the two arms" in ways
    follows, leaves = gates.strip().splitlines()
    assert "follows the other sizes" in follows and "leaves the curve" in leaves
