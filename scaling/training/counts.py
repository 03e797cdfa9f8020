"""N, D and C of a run, and what its training executes, counted."""

import functools

import jax

from scaling import cost
from scaling import experiment as experiments
from scaling.devices import sharding
from scaling.devices.remembered import remembered
from scaling.experiment import Optim, kind_read
from scaling.families import is_solved
from scaling.training.step import TRUNK, init_state, train_step


def step_flops(experiment) -> int:
    """FLOPs of the model in one training step: forward and backward pass of every player (see `scaling.cost`), or what
    solving costs for the batch of a step."""
    return cost.train_flops(experiment.family, experiment.data.batch, experiment.optim.trainable)


def step_flops_executed(experiment) -> int:
    """FLOPs that one training step executes here: the model's, recomputation, and the optimiser's matrix products.

    Work that several devices repeat counts once.
    """
    e, o, form = experiment, experiment.optim, "fast" if experiment.fast else "plain"
    if is_solved(e.family):
        return step_flops(e)
    return _executed(e.family, e.data.batch, o.name, o.orthogonalise, o.trainable, form)


@functools.lru_cache(maxsize=1024)
@remembered(sharding.platform)
def _executed(family, batch, optimiser, orthogonalise, trainable, form):
    e = experiments.Experiment(family=family, data=kind_read(family)(batch=batch),
                               optim=Optim(name=optimiser, orthogonalise=orthogonalise, trainable=trainable))
    examples = jax.eval_shape(lambda: family.example_batch(batch, jax.random.key(0)))
    with sharding.as_on(sharding.platform(), form == "plain"):
        state = jax.eval_shape(lambda: init_state(e))
        return cost.flops(lambda state, examples: train_step(e, TRUNK, state, examples), state, examples)


def counts(experiment, available: int) -> dict[str, float]:
    """N, D and C of a run as records hold them, when its source gives `available` different units of data."""
    params = cost.param_count(experiment.family)
    data = experiment.data
    seen = data.steps * data.per_step
    players = params["by_player"] if len(params["by_player"]) > 1 else {}
    rule = experiment.optim.trainable
    each = cost.player_flops(experiment.family, data.batch, rule) if players else {}
    trained = {"params_trainable": cost.trainable_count(experiment.family, rule)} if rule != "all" else {}
    unique = min(seen, data.unique or available)
    steps = experiment.steps
    if is_solved(experiment.family) and unique:  # repeats cost it nothing
        steps = -(-unique // data.per_step)
    active = cost.active_count(experiment.family)
    return {"params_total": params["total"], "params_non_embedding": params["non_embedding"], "params_active": active,
            **{f"params_{player}": n for player, n in players.items()}, **trained,
            f"{data.unit}_seen": seen, f"{data.unit}_unique": unique, "steps": data.steps,
            "flops": step_flops(experiment) * steps,
            "flops_executed": step_flops_executed(experiment) * steps,
            **{f"flops_{player}": n * steps for player, n in each.items()},
            "flops_6nd": cost.six_nd(active, seen)}
