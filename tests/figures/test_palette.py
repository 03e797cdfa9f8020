"""Colours of figures can be told from the background, in both schemes."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.figures.palette import Palette


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_contrasts_with_the_background(scheme):
    palette = Palette(range(6), range(6))
    colours = dict(getattr(palette, scheme))
    paper = colours.pop("paper")
    del colours["grid"]
    assert min(contrast(colour, paper) for colour in colours.values()) > 3.7
    for name in ("size", "data"):
        ramp = [contrast(colours[f"{name}-{i}"], paper) for i in range(6)]
        assert ramp == sorted(ramp), "more is farther from the background"


def contrast(a, b):
    """Ratio of relative luminances as WCAG 2 defines it, 1 to 21."""
    def luminance(colour):
        channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
        return np.dot((0.2126, 0.7152, 0.0722), linear)
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)
