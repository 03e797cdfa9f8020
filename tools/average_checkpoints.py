"""Average the weights of several checkpoints of one experiment into a new checkpoint.

    python -m tools.average_checkpoints --checkpoints=A,B,C --output=soups/a
    python -m tools.average_checkpoints --checkpoints='runs/x/params/*' --coefficients=1,2,1 --output=soups/b
    python -m tools.average_checkpoints --checkpoints=runs/x/checkpoints/P/trunk --last=2 --output=soups/c

Checkpoints are given by name or by a pattern. They count equally or by --coefficients, which need not sum to one; with
--last the last few steps of each are averaged. All must hold the same arrays, and their experiments may differ only in
knobs such as seed, learning rate and length. The result is a directory like workdir/params/<run>, which
scaling.store.checkpoint and tools.inspect_checkpoint read. Its meta holds the experiment of the first checkpoint and a
list of what was averaged. An existing output is never overwritten.

The command prints the norm of the average's matrices over the mean norm of its parts. The ratio is near 1 where the parts
are close to each other, as the last steps of one run are, and near 1 / sqrt(number of parts) where they have nothing in
common, as runs from different seeds do. Averages of the second kind are rarely good models (Frankle et al. 1912.05671):
evaluate them first.

A checkpoint of a pack holds several runs: --run chooses one, and --part=ema averages their averaged weights. Paths may be
gs://... with the extra gcs. Exit status: 0; 1 when something cannot be read or averaged; 2 for wrong flags. The reason is
one sentence on standard error.
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

_COEFFICIENTS = flags.DEFINE_list("coefficients", [], "One positive number per checkpoint; by default all are equal.")
_LAST = flags.DEFINE_integer("last", None, "Average this many of the newest steps of each directory.", 1)
flags.adopt_module_key_flags(_checkpoints_flags)

TAKEN = "{} exists and weights are never overwritten: name another --output"


def main():
    if not CHECKPOINTS.value or not OUTPUT.value:
        raise flags.Error("give the checkpoints by --checkpoints=A,B and the directory to write by --output=DIR")
    output = epath.Path(OUTPUT.value).expanduser()
    if output.exists():
        raise CheckpointsError(TAKEN.format(OUTPUT.value))
    paths = _checkpoints.expand(CHECKPOINTS.value)
    if _LAST.value is not None:
        paths = [step for path in paths for step in _last(path, _LAST.value)]
    if len(paths) < 2:
        raise CheckpointsError(f"{paths[0]} is only one checkpoint: name more, or average several of its steps by --last=2")
    shares = coefficients(_COEFFICIENTS.value, len(paths))
    arrays, first, parts = average(paths, shares, RUN.value, PART.value)
    step = max(part["step"] for part in parts)
    write(output, step, arrays, {"experiment": first and experiments.to_dict(first), "averaged": parts})
    compared = ""
    if typical := sum(part["share"] * part["norm"] for part in parts):
        norm = matrix_norm(_checkpoints.read(output))
        share = words.number(norm / typical, 3)
        compared = f": its matrices have norm {words.number(norm)}, which is {share} of the mean norm of its parts"
    print(f"{words.plural(len(parts), 'checkpoint')} averaged{compared}\nwritten: {output / str(step)}")


def matrix_norm(weights) -> float:
    """The norm of all matrices together, without scales: these start at one and would hide how far apart weights are."""
    return math.hypot(*(np.linalg.norm(array.astype(np.float64)) for name, array in weights.arrays.items()
                        if measure.is_matrix(name, weights.names[name])))


def coefficients(given, count: int) -> list[float]:
    """The share of each of `count` checkpoints, from the values of --coefficients; shares sum to one."""
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
                               f"{words.plural(count, 'checkpoint')}; give one number per checkpoint")
    return [value / sum(values) for value in values]


def average(paths, shares, run=None, part="params"):
    """(averaged arrays by path, the first experiment, [{checkpoint, step, share, norm}]) of the weights at `paths`.

    The norm is `matrix_norm`. Sums are float64; the result has the dtypes of its parts. Only one checkpoint is in memory
    at a time.
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
    """Writes a checkpoint of parameters into a new directory."""
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
            raise CheckpointsError(f"{name!r} in {weights.path} has values that are not finite: leave that checkpoint out")
    if first.experiment is None or weights.experiment is None:
        return
    other = _checkpoints.difference(first.experiment, weights.experiment, ("plain",))
    if other:
        raise CheckpointsError(f"{first.path} and {weights.path} are of different experiments: {other}")


if __name__ == "__main__":
    _checkpoints.run(main)
