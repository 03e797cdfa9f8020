"""Average the weights of several checkpoints of one experiment into a new checkpoint.

    python -m tools.average_checkpoints --checkpoints=A,B,C --output=soups/a
    python -m tools.average_checkpoints --checkpoints='runs/x/params/*' --coefficients=1,2,1 --output=soups/b
    python -m tools.average_checkpoints --checkpoints=runs/x/checkpoints/P/trunk --last=2 --output=soups/c

averages checkpoints named one by one or by a pattern, alike or by coefficients (which need not sum to one),
or the last few steps of each. They must hold the same arrays, and come from experiments that differ in
nothing but knobs: seed, learning rate, length and such. The result is a directory like workdir/params/<run>,
which scaling.store.checkpoint reads back, tools.inspect_checkpoint too; its meta has the experiment of the first
checkpoint, and what was averaged. What exists is never overwritten.

Printed is how the norm of the average's matrices compares with those of its parts: near 1 where they are
close to one another, as the last steps of one run are, near 1 / sqrt(how many) where they have nothing in
common. Averages of the second kind, such as of runs that started from different seeds, are rarely good models
(Frankle et al. 1912.05671): evaluate them first.

A checkpoint of a pack holds several runs: choose by --run; --part=ema averages its averaged weights. Paths
may be gs://... too, with the extra gcs. Exit status: 0, 1 when something cannot be read or averaged, 2 for
flags; the reason is one sentence on standard error.
"""

import math
import os

import jax.numpy as jnp
import numpy as np
from absl import flags
from etils import epath

from scaling import experiment as experiments
from scaling.figures import words
from scaling.store import checkpoint, files
from tools import _checkpoints, _checkpoints_flags
from tools import _checkpoints_measure as measure
from tools._checkpoints import CheckpointsError
from tools._checkpoints_flags import CHECKPOINTS, OUTPUT, PART, RUN

_COEFFICIENTS = flags.DEFINE_list("coefficients", [], "A positive number for each; by default all are equal.")
_LAST = flags.DEFINE_integer("last", None, "Average so many of the newest steps of every directory named.", 1)
flags.adopt_module_key_flags(_checkpoints_flags)

TAKEN = "{} exists, and weights are never overwritten: name another --output"


def main():
    if not CHECKPOINTS.value or not OUTPUT.value:
        raise flags.Error("name what to average by --checkpoints=A,B and where to write it by --output=DIR")
    output = epath.Path(OUTPUT.value).expanduser()
    if output.exists():
        raise CheckpointsError(TAKEN.format(OUTPUT.value))
    paths = _checkpoints.expand(CHECKPOINTS.value)
    if _LAST.value is not None:
        paths = [step for path in paths for step in _last(path, _LAST.value)]
    if len(paths) < 2:
        raise CheckpointsError(f"one checkpoint, {paths[0]}, is its own average: name more, "
                               "or --last=2 or more of its steps")
    shares = coefficients(_COEFFICIENTS.value, len(paths))
    arrays, first, parts = average(paths, shares, RUN.value, PART.value)
    step = max(part["step"] for part in parts)
    write(output, step, arrays, {"experiment": first and experiments.to_dict(first), "averaged": parts})
    said = ""
    if typical := sum(part["share"] * part["norm"] for part in parts):
        norm = matrix_norm(_checkpoints.read(output))
        share = words.number(norm / typical, 3)
        said = f": its matrices have norm {words.number(norm)}, {share} of that of its parts'"
    print(f"{words.plural(len(parts), 'checkpoint')} averaged{said}\nwritten: {output / str(step)}")


def matrix_norm(weights) -> float:
    """The norm of all matrices together: scales, which start at one, would hide how far apart weights are."""
    return math.hypot(*(np.linalg.norm(array.astype(np.float64)) for name, array in weights.arrays.items()
                        if measure.is_matrix(name, weights.names[name])))


def coefficients(given, count: int) -> list[float]:
    """Shares that sum to one, from the values of --coefficients."""
    if not given:
        return [1 / count] * count
    try:
        values = [float(value) for value in given]
    except ValueError as error:
        raise flags.Error(f"--coefficients takes numbers separated by commas: {error}") from None
    if not all(0 < value < math.inf for value in values):
        raise flags.Error(f"--coefficients must be positive numbers, not {','.join(given)}")
    if len(values) != count:
        raise CheckpointsError(f"--coefficients has {words.plural(len(values), 'number')} for "
                               f"{words.plural(count, 'checkpoint')}; give one for each")
    return [value / sum(values) for value in values]


def average(paths, shares, run=None, part="params"):
    """(arrays by path, the first experiment, [{checkpoint, step, share, norm}]) of the weights at `paths`; for
    the norm see `matrix_norm`.

    Sums are float64, the result has the dtypes of what is averaged. One checkpoint is in memory at a time.
    """
    first, total, parts = None, {}, []
    for path, share in zip(paths, shares, strict=True):
        weights = _checkpoints.read(path, run, part)
        _averageable(weights, first or weights)
        first = first or weights
        for name, array in weights.arrays.items():
            total[name] = total.get(name, 0.0) + share * array.astype(np.float64)
        parts.append({"checkpoint": weights.path, "step": weights.step, "share": share,
                      "norm": matrix_norm(weights)})
    arrays = {name: value.astype(first.arrays[name].dtype) for name, value in total.items()}
    return arrays, first.experiment, parts


def write(output, step, arrays, meta) -> None:
    """A checkpoint of parameters in a directory that is not there yet."""
    try:
        output.mkdir(parents=True, exist_ok=False)
    except FileExistsError:
        raise CheckpointsError(TAKEN.format(os.fspath(output))) from None
    tree: dict = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    try:
        saved = checkpoint.Checkpoints(output)
        saved.save(step, {"params": tree}, meta if meta["experiment"] else {"averaged": meta["averaged"]})
        saved.close()
    except files.DiskFull:
        output.rmtree()
        raise


def _last(path, count: int):
    found = _checkpoints.steps(path)
    if len(found) < count:
        raise CheckpointsError(f"{os.fspath(path)} has {words.plural(len(found), 'step')}, "
                               f"fewer than --last={count}")
    return found[-count:]


def _averageable(weights, first) -> None:
    """Raises CheckpointsError unless `weights` can be averaged with `first`."""
    _checkpoints.same_tree(first, weights)
    for name, array in weights.arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise CheckpointsError(f"{name!r} in {weights.path} is {array.dtype}, which has no average")
        if not np.isfinite(array.astype(np.float64)).all():
            raise CheckpointsError(f"{name!r} in {weights.path} is not finite everywhere: leave it out")
    if first.experiment is None or weights.experiment is None:
        return
    other = _checkpoints.difference(first.experiment, weights.experiment, ("plain",))
    if other:
        raise CheckpointsError(f"{first.path} and {weights.path} are of different experiments: {other}")


if __name__ == "__main__":
    _checkpoints.run(main)
