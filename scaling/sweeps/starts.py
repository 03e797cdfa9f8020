"""What a run begins with: fresh parameters, or those of a run that has finished in the same workdir.

The plan trains that run first, and a pack begins when all runs that it waits for have their records
(`Runner.can_begin`). Later steps follow from the state alone, so a run that resumes does not come back here.
"""

import os

import jax
import numpy as np

from scaling import experiment as experiments
from scaling.devices import hosts, sharding
from scaling.store import checkpoint
from scaling.sweeps.plan import Run

OF_BASE = ("fingerprint", "family", "params_total", "params_non_embedding", "steps", "flops", "flops_executed",
           "flops_cumulative", "diverged", "start")  # what a record says about the run that its own begins with


def initial_state(training):
    """The state of a pack before its first step.

    A run that begins with one that diverged counts as diverged from its first step on. Raises CheckpointError where the
    parameters to begin with cannot be read.
    """
    program, runs = training.program, [trunk.runs[-1] for trunk in training.pack.filled()]
    if not training.pack.waits_for:
        return program.init(training.experiments)
    found = {run.stands_on: _parameters(training, run) for run in runs}  # once for all runs that share it
    given = [{own: found[run.stands_on][there] for own, there in experiments.taken(run.experiment).items()} for run in runs]
    state = program.init(training.experiments, {path: [row[path] for row in given] for path in given[0]})
    lost = hosts.by_lead(lambda: [training.runner.records.read(run.stands_on)["diverged"] for run in runs])
    if not any(lost):
        return state
    return state._replace(diverged=jax.device_put(np.where(lost, 0, -1).astype(np.int32), program.shardings.diverged))


def _parameters(training, run: Run) -> dict[str, jax.Array]:
    """{path: array} of the run that a run begins with, where the layout of the pack puts parameters."""
    experiment, mesh = run.experiment.start.experiment, training.program.mesh
    abstract = jax.eval_shape(experiment.family.init, jax.random.key(0))
    places = sharding.shardings(abstract, mesh, training.pack.experiment.layout, packed=False)
    abstract = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), abstract, places)
    folder, records = training.runner.workdir / "params" / run.stands_on, training.runner.records
    try:
        params = checkpoint.restore_tree(folder, {"params": abstract})[0]["params"]
    except (checkpoint.CheckpointError, checkpoint.NoCheckpoint) as error:
        raise checkpoint.CheckpointError(
            f"the parameters of {run.stands_on}, with which {run.fingerprint} begins, cannot be read: {error}; restore "
            f"{os.fspath(folder)}, or delete {os.fspath(records.path(run.stands_on))} and run the command again, which "
            "trains that run anew") from None
    return dict(checkpoint.flatten(params)[0])


def about_base(runner, run: Run, flops: float) -> dict:
    """What the record of a run says about the run that it begins with; {} for one that begins with fresh parameters.

    "start" holds N, D and C of that run, and of the one that it begins with itself. "flops_cumulative" are those of all of
    them and the `flops` of the run, or None where one was trained elsewhere.
    """
    if not run.stands_on:
        return {}
    base = runner.records.read(run.stands_on)
    kept = {name: value for name, value in base.items() if name in OF_BASE or name.endswith(("_seen", "_unique"))}
    before = base.get("flops_cumulative", base["flops"])
    return {"start": kept, "flops_cumulative": None if before is None else flops + before}
