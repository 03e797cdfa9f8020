"""Write the table of docs/words.md again, after a definition in `scaling.report.glossary` has changed.

    python -m tools.write_words
"""

import pathlib

from scaling.report import glossary

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "words.md"


def with_table(page: str) -> str:
    """`page` with its table replaced by the glossary's."""
    above = page[:page.index("| word | meaning |")]
    return above + glossary.markdown()


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
