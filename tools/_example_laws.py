"""The worked examples of docs/laws-forms.md, for benchmarks and tests that fit them."""
import pathlib
import re

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "laws-forms.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def register_examples(draw: bool = False) -> dict:
    """Run the page's blocks of Python in order, which registers its laws, and return the names that they define.

    draw: also run the blocks that write figures into the current directory.
    """
    names: dict = {}
    for block in BLOCK.findall(PAGE.read_text()):
        if draw or "savefig" not in block:
            exec(compile(block, str(PAGE), "exec"), names)
    return names
