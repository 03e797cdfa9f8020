"""Ladders of stacked networks: widths in rounded steps, each with numbers of layers near a rule."""

import functools

STEPS = ((4, 128), (8, 256), (16, 512), (64, 1024), (128, 4096), (256, 32768))  # a step, up to this width


def nearest_shape(size, weights, rule, layers=None, least: int = 2, start: int = 16) -> tuple[int, int]:
    """(width, layers) of the rung whose parameters are nearest to `size`, as a ratio.

    `weights(width, layers)` counts parameters, and `rule(width)` is the wanted number of layers, `least` at least. Widths
    begin at `start`. Rungs have the number nearest to the wanted one, or within 10% of it: rungs that leave the rule bend a
    law. With `layers` given, all rungs have as many.
    """
    return min(_rungs(weights, rule, layers, least, start), key=lambda rung: abs(weights(*rung) / size - 1))


@functools.lru_cache(maxsize=64)
def _rungs(weights, rule, layers, least, start):
    rungs = []
    for unit, stop in STEPS:
        for width in range(start, stop, unit):
            wanted = max(float(least), rule(width))
            near = [n for n in range(least, 200) if abs(n - wanted) <= max(0.5, wanted / 10)]
            rungs += [(width, n) for n in ([layers] if layers else near)]
        start = stop
    return sorted(rungs, key=lambda rung: weights(*rung))
