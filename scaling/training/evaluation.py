"""How an evaluation set is cut into batches, and what follows from the numbers of its examples.

Which examples are evaluated never depends on how a run was trained. Only the sizes of the batches follow the mesh and the
memory of its devices, so metrics are equal up to rounding.
"""

from collections.abc import Mapping

import numpy as np

from scaling.families._sums import Each
from scaling.results.pairs import clustered_error

EARLY = 0.009  # an evaluation on the way costs at most this share of the FLOPs of training up to it
CLUSTER = "document"  # the array of an evaluation set that numbers the cluster of each example
SPACING = 2**0.5  # of evaluations on the way: the ratio of neighbouring steps


def cut(count: int, wanted: int, shards: int, fits: int) -> list[range]:
    """Ranges that cover range(count) in order: batches of about `wanted` examples, each divided among `shards` devices.

    A device has room for `fits` examples. The batches are of one size where a size close to the wanted one divides both;
    otherwise the last ones are smaller. Examples that the shards do not divide are evaluated whole on every device.
    """
    most = max(shards, min(wanted, fits * shards) // shards * shards)
    even = (n for n in range(most, most // 2, -shards) if count % n == 0)
    size = next(even, most)
    whole, divided = count // size * size, count // shards * shards
    starts = [*range(0, whole, size), *([whole] if divided > whole else []), *range(divided, count, fits)]
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], count])]


def join(ranges: list[range], most: int) -> list[tuple[range, int]]:
    """(range, size of its batches): neighbours of equal length are joined, up to `most` examples in one range."""
    found: list[tuple[range, int]] = []
    for rows in ranges:
        before, size = found[-1] if found else (range(0), 0)
        if size == len(rows) and before.stop == rows.start and len(before) + size <= most:
            found[-1] = range(before.start, rows.stop), size
        else:
            found.append((rows, len(rows)))
    return found


def steps_on_the_way(stop: int, cost: float, step_cost: float) -> set[int]:
    """The steps before `stop` at which a run is evaluated on the way: powers of `SPACING`, rounded to whole steps.

    An evaluation costs `cost` and a training step `step_cost`. Steps at which it would cost more than `EARLY` of the
    training so far are left out, so that all together cost at most about EARLY / (1 - 1 / SPACING), 3%. The steps do not
    depend on `stop` otherwise, so runs of all lengths share them.
    """
    first = cost / (EARLY * step_cost)
    powers = SPACING ** np.arange(0, 2 * np.log2(max(stop, 1)) + 1)
    return {int(step) for step in np.rint(powers) if first <= step < stop}


def means(found: Mapping, clusters=None) -> dict[str, np.ndarray]:
    """{metric: value, `<metric>_se`: its standard error} from {metric: `Each` of arrays [..., examples], or (sum, count)}.

    Names that begin with "_" are left out: they are of no metric; see `metrics_of`.

    The standard error of a ratio of totals is that of its residuals a - ratio b (Cochran 1977, "Sampling Techniques",
    equation 2.46), of examples that depend on each other within `clusters` [examples].
    """
    out = {}
    for name, parts in ratios(found).items():
        over, under = (np.asarray(part, np.float64) for part in parts)
        if isinstance(parts, Each):
            out[name] = ratio = over.sum(-1) / under.sum(-1)
            out[f"{name}_se"] = clustered_error(over - ratio[..., None] * under, clusters) / under.sum(-1)
        else:
            out[name] = over / under
    return out


def metrics_of(family, found: Mapping, clusters=None) -> dict[str, np.ndarray]:
    """`means` of what a family's `evaluate` found for all examples, and what its `conclude` makes of them."""
    out = means(found, clusters)
    for name, (value, influence) in (family.conclude(found) if hasattr(family, "conclude") else {}).items():
        out[name] = value
        if influence is not None:
            out[f"{name}_se"] = clustered_error(influence, clusters)
    return out


def ratios(found: Mapping) -> dict:
    """What a family found, without the numbers that only `conclude` reads."""
    return {name: parts for name, parts in found.items() if not name.startswith("_")}
