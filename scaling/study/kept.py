"""Earlier steps of finished runs, whose checkpoints a workdir keeps, and other parameters of the same shapes.

    workdir/checkpoints/<pack>/<segment>/<step>/   those that `--keep_best` keeps, of runs that were trained side by side
    workdir/trunks/<trunk>/<step>/                 the last step that runs of several lengths share, see `--keep_trunks`

The last step of a run is in workdir/params/<run>/, always.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from etils import epath

from scaling import experiment as experiments
from scaling.fields import replace
from scaling.store import checkpoint
from scaling.study.restored import RestoredRun, RestoreError
from scaling.training import optim


class KeptStep(NamedTuple):
    """A kept checkpoint. It holds several runs, of which number `row` is the one asked for, or that alone: None."""

    folder: epath.Path  # of steps
    step: int
    row: int | None


def at_step(run: RestoredRun, step: int) -> RestoredRun:
    """The run with the parameters of an earlier step, the averaged ones where it kept an average.

    Raises RestoreError where no checkpoint of that step is kept, or it is damaged.
    """
    last = run.experiment.steps
    if step == last:
        return run
    found = {each.step: each for each in kept_of(run)}
    if step not in found:
        steps = ", ".join(map(str, sorted(found)))
        kept = f"kept are the steps {steps} and {last}, its last" if found else f"only its last step, {last}, is kept"
        raise RestoreError(f"run {run.fingerprint} has no checkpoint of step {step}: {kept}")
    named, structure = _shapes(run)
    folder, _, row = found[step]
    try:
        tree, _ = checkpoint.read_checkpoint(folder, step, "ema" if run.experiment.optim.ema else "params")
        values = dict(checkpoint.flatten(tree)[0])
        arrays = [jnp.asarray(values[path] if row is None else values[path][row]) for path, _ in named]
    except (checkpoint.CheckpointError, checkpoint.NoCheckpoint, KeyError) as error:
        raise RestoreError(f"the checkpoint of step {step} in {os.fspath(folder)} cannot be read: {error}; write another "
                           "step, or leave it out for the last one") from None
    return dataclasses.replace(run, params=jax.tree.unflatten(structure, arrays), step=step)


def with_weights(run: RestoredRun, folder) -> tuple[RestoredRun, dict[str, Any]]:
    """(the run with the parameters of a checkpoint that is not its own, what these are).

    `folder` is one that `Checkpoints` wrote, such as an average by `tools.average_checkpoints`; its newest step is taken.
    It must hold arrays of the shapes of the run's. What they are is {"checkpoint": the folder, "digest": of all arrays}
    and, of an average, "averaged": its parts. Raises RestoreError.
    """
    named, structure = _shapes(run)
    try:
        tree, meta = checkpoint.read_checkpoint(epath.Path(folder).expanduser())
    except (checkpoint.CheckpointError, checkpoint.NoCheckpoint) as error:
        raise RestoreError(f"{os.fspath(folder)} holds no parameters ({error}); write a step that is kept, or the folder "
                           "of an average") from None
    values = dict(checkpoint.flatten(tree)[0])
    wanted, found = ({path: (tuple(x.shape), str(x.dtype)) for path, x in pairs} for pairs in (named, values.items()))
    if wanted != found:
        path = min(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
        raise RestoreError(f"the parameters in {os.fspath(folder)} do not fit run {run.fingerprint}: {path!r} is "
                           f"{_shown(found.get(path))} there and {_shown(wanted.get(path))} in the run; name a run that "
                           "they were made from")
    digest = hashlib.sha256(b"".join(values[path].tobytes() for path, _ in named)).hexdigest()[:16]
    about = {"checkpoint": os.fspath(folder), "digest": digest} | {k: meta[k] for k in ("averaged",) if k in meta}
    arrays = [jnp.asarray(values[path]) for path, _ in named]
    return dataclasses.replace(run, params=jax.tree.unflatten(structure, arrays), step=meta["step"]), about


def _shapes(run: RestoredRun):
    """([(path, shape and type) of each array], the structure) of the parameters of a run."""
    return checkpoint.flatten(jax.eval_shape(run.family.init, jax.random.key(0)))


def _shown(array: tuple | None) -> str:
    return "not there" if array is None else f"{array[1]}{list(array[0])}"


def kept_of(run: RestoredRun) -> Iterator[KeptStep]:
    """The checkpoints of earlier steps that are kept of a run; those of a trunk are of all runs that leave it later."""
    own, last, shared = _but_length(run.experiment), run.experiment.steps, optim.cooldown_start(run.experiment)
    workdir = run.runner.workdir
    for pattern in ("trunks/*", "checkpoints/*/trunk", f"checkpoints/*/branch-{last}"):
        most = last - 1 if "branch" in pattern else min(shared, last - 1)
        for folder in sorted(workdir.glob(pattern)):
            if not folder.is_dir():  # the curve of a trunk
                continue
            steps = [int(path.name) for path in folder.iterdir() if path.name.isdecimal() and int(path.name) <= most]
            row = _row(checkpoint.read_meta(folder, max(steps)), own) if steps else -1
            yield from (KeptStep(folder, step, row) for step in steps if row != -1)


def _row(meta: dict, own: str) -> int | None:
    """The number of a run among those of a checkpoint, None in one of this run alone, and -1 where it is not there."""
    if "experiment" in meta:
        return None if _said(meta["experiment"]) == own else -1
    return next((row for row, each in enumerate(meta.get("experiments", ())) if _said(each) == own), -1)


def _said(values: dict) -> str | None:
    try:
        return _but_length(experiments.from_dict(values))
    except (KeyError, TypeError, ValueError):  # of another version
        return None


def _but_length(experiment) -> str:
    """The same for experiments that differ in their length, or in how they are computed, alone."""
    return experiments.fingerprint(replace(experiment, {experiment.data.length_knob: 1}), "")
