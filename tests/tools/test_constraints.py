"""constraints.txt has one version of every package that the package and its tests need, which setup.py allows."""

import importlib.metadata
import pathlib

from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[2]


def test_every_requirement_has_a_version_that_it_allows():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}
    assert len(pinned) == len(lines) and all(pinned.values())
    needed = [Requirement(text) for text in importlib.metadata.requires("scaling")]
    for needs in needed:
        if needs.marker is None or any(needs.marker.evaluate({"extra": extra}) for extra in ("", "test")):
            assert needs.specifier.contains(pinned[needs.name.lower().replace("_", "-")]), needs
    assert sum(needs.marker is None for needs in needed) > 20
