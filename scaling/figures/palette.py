"""Colours for a light and a dark scheme, under one set of names.

Figures are drawn in the light colours, which the PNGs keep. In a report each light colour becomes a CSS variable, to
which the style sheet also gives its dark value. Model size and data have one sequential scale each, on which more is
farther from the background. Such scales can be read without hue, by colour-blind readers and in print.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import matplotlib
from matplotlib.colors import to_hex

LIGHT = {"paper": "#fefefe", "ink": "#1a1e23", "muted": "#59626d", "grid": "#e2e5e9", "accent": "#c2185b"}
DARK = {"paper": "#15181c", "ink": "#e7e9ec", "muted": "#a0a9b4", "grid": "#2d333a", "accent": "#ff80b0"}
# A colour map, and the part of it from the smallest to the largest value in the light and in the dark scheme. Every
# colour has a contrast of about 4 or more with the background.
SCALES = {"size": ("viridis", (0.45, 0.0), (0.5, 0.98)), "data": ("YlOrBr", (0.7, 1.0), (0.7, 0.12))}


def scale(name: str, steps: int, dark: bool = False) -> list[str]:
    """`steps` colours for increasing sizes ("size") or amounts of data ("data")."""
    colours, *ends = SCALES[name]
    first, last = ends[dark]
    ramp = matplotlib.colormaps[colours]
    return [to_hex(ramp(first + (last - first) * i / max(steps - 1, 1))) for i in range(steps)]


class Palette:
    """The colours of one report: `ink`, `muted`, ... as attributes, and one colour for each size and amount of data."""

    def __init__(self, sizes: Iterable[float], data: Iterable[float]):
        self._values = {"size": sorted(set(sizes)), "data": sorted(set(data))}
        self.light, self.dark = dict(LIGHT), dict(DARK)
        for name, values in self._values.items():
            for dark, scheme in enumerate((self.light, self.dark)):
                ramp = scale(name, len(values), bool(dark))
                scheme |= {f"{name}-{i}": colour for i, colour in enumerate(ramp)}
        self._names = {colour: name for name, colour in self.light.items()}
        self._pattern = re.compile("|".join(map(re.escape, self._names)))

    def size(self, value: float) -> str:
        """The colour of a model of `value` parameters: that of the nearest size of the palette."""
        return self._nearest("size", value)

    def data(self, value: float) -> str:
        """The colour of an amount of data: that of the nearest amount of the palette."""
        return self._nearest("data", value)

    def _nearest(self, name: str, value: float) -> str:
        values = self._values[name]
        return self.light[f"{name}-{min(range(len(values)), key=lambda i: abs(values[i] - value))}"]

    def __getattr__(self, name: str) -> str:
        try:
            return LIGHT[name]
        except KeyError:
            raise AttributeError(f"the palette has no colour {name!r}; it has {', '.join(LIGHT)}, "
                                 "size(N) and data(D)") from None

    def variables(self, dark: bool) -> str:
        """The CSS declarations of all colours of one scheme."""
        scheme = self.dark if dark else self.light
        return " ".join(f"--{name}: {colour};" for name, colour in scheme.items())

    def themed(self, svg: str) -> str:
        """`svg` with each colour of this palette replaced by its CSS variable."""
        return self._pattern.sub(lambda match: f"var(--{self._names[match.group()]})", svg)
