"""The rungs of the GAN's ladder: the widths, and the numbers of layers of each."""

import bisect
import dataclasses
import functools
import math

from scaling import cost

# (step between widths, up to this width)
TOKENS = ((4, 64), (8, 128), (16, 256), (32, 512), (64, 2049))
CHANNELS = ((1, 16), (2, 32), (4, 64), (8, 128), (16, 2049))


def nearest_rung(family, size, overrides):
    """`family` with the width and layers of the rung whose number of parameters is nearest to `size`. A width or layers
    in `overrides` stay."""
    fixed = {"width", "layers"} & set(overrides)
    rungs = [r for r in _rungs(family.body) if all(r[name] == overrides[name] for name in fixed)]
    if not rungs:
        return family

    def count(rung):
        return _count(dataclasses.replace(family, **rung))

    index = bisect.bisect_left(rungs, size, key=count)
    near = rungs[max(0, index - 1):index + 2]
    return dataclasses.replace(family, **min(near, key=lambda rung: abs(math.log(count(rung) / size))))


@functools.cache
def _rungs(body):
    """[{"width", "layers"}], about in order of parameters.

    Tokens: layers = 3 (width/64)^(2/3), as in the Transformer's ladder. Convolutions: (width/16)^(1/3) blocks at each
    resolution. Both have at least one. The number of layers is the nearest to the rule, or within 10% of it.
    """
    rungs, start = [], 8 if body == "tokens" else 2
    for unit, stop in TOKENS if body == "tokens" else CHANNELS:
        for width in range(start, stop, unit):
            rule = max(1.0, 3 * (width / 64) ** (2 / 3) if body == "tokens" else (width / 16) ** (1 / 3))
            depths = [1] if body == "dcgan" else [n for n in range(1, 100) if abs(n - rule) <= max(0.5, rule / 10)]
            rungs += [(width, layers) for layers in depths]
        start = stop
    io = 0 if body == "tokens" else 1  # the input and output convolutions count about as much as a layer
    rungs.sort(key=lambda rung: rung[0] ** 2 * (rung[1] + io))
    return [{"width": width, "layers": layers} for width, layers in rungs]


@functools.lru_cache(maxsize=4096)
def _count(family):
    return cost.param_count(family)["total"]
