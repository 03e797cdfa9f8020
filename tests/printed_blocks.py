"""What a page says a command prints, beside what it prints: the same words, and numbers within 5%."""

import math
import re

NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?=$|[^\w.]|[kMBT%]\b|\.$|\.\s)")


def numbers(line: str) -> list[float]:
    return [float(number.replace(",", "").replace("−", "-")) for number in NUMBER.findall(line)]


def alike(expected: str, line: str) -> bool:
    """The same words, and numbers within 5%."""
    if NUMBER.sub("#", expected).split() != NUMBER.sub("#", line).split():
        return False
    return all(math.isclose(one, other, rel_tol=0.05, abs_tol=2e-3)
               for one, other in zip(numbers(expected), numbers(line), strict=True))


def unsaid(expected: str, printed: str) -> str | None:
    """The first line of `expected` that was not printed in its place, or None."""
    lines, skip = iter(printed.rstrip("\n").split("\n")), False
    for line in expected.rstrip("\n").split("\n"):
        if line.strip() == "...":
            skip = True
            continue
        found = next((each for each in lines if not skip or alike(line, each)), None)
        if found is None or not alike(line, found):
            return line
        skip = False
    return None if skip or not "".join(lines).strip() else "(the end)"
