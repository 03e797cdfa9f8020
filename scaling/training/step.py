"""One run: its state, its initialisation, its training step and its evaluation, as pure functions.

Everything that they read from the experiment may be a traced knob. `scaling.training.program` compiles them for a pack of
runs.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scaling import axes
from scaling.devices import sharding
from scaling.store import checkpoint
from scaling.training import optim, precision
from scaling.training.compiled import traced_once

NEVER = np.iinfo(np.int32).max // 2  # a step that is never reached


class State(NamedTuple):
    step: jax.Array  # int32; steps taken
    params: Any  # {player: parameters}
    opt: Any  # {player: optimiser state}
    ema: Any  # {player: averaged parameters}, or {} when off
    diverged: jax.Array  # int32; the step whose loss or gradient was not finite, or -1


class Span(NamedTuple):
    """The step from which the learning rate of a run depends on its length, and its length in steps."""

    cooldown: Any
    steps: Any


TRUNK = Span(NEVER, NEVER)  # the part that runs of all lengths share


def run_span(experiment) -> Span:
    """The span of a whole run, its cooldown included."""
    return Span(optim.cooldown_start(experiment), experiment.steps)


def init_state(experiment, given: Mapping[str, jax.Array] = MappingProxyType({})) -> State:
    """The state before the first step; a pure function of the experiment, its seed, and what it begins with.

    `given` are {path: array} of parameters that are taken from another run, with the paths of `experiment.start.taken`.
    """
    params, rule = experiment.family.init(jax.random.key(experiment.seed)), experiment.optim.trainable
    if given:
        named, structure = checkpoint.flatten(params)
        params = jax.tree.unflatten(structure, [given.get(path, x) for path, x in named])
    movers = {player.name for player in experiment.family.players()}
    opt = {name: optim.make_optimiser(experiment, TRUNK, player=name).init(axes.trainable_part(own, rule))
           for name, own in params.items() if name in movers}
    ema = jax.tree.map(jnp.copy, dict(params)) if experiment.optim.ema else {}
    return State(jnp.int32(0), dict(params), opt, ema, jnp.int32(-1))


def train_step(experiment, span: Span, state: State, batch, accumulation_steps: int = 1,
               loop: bool = True) -> tuple[State, dict[str, jax.Array]]:
    """One update of every player in turn. Each player sees the players before it already updated.

    `batch` arrays lead with the example axis. Gradients are accumulated over `accumulation_steps` microbatches, in a
    compiled loop or unrolled. The batch gains `batch["example"]`, the number of each example in its batch, so that losses
    can draw noise that does not depend on the microbatches, and `batch["step"]`.
    A step whose loss or gradient is not finite changes nothing and marks the run as diverged from then on. A player whose
    gradient norm is above `optim.skip` does not move. Learning rates follow the step of the run, whatever a player did.
    What `optim.trainable` freezes has no gradients and no optimiser state, and keeps its bits.
    """
    key = jax.random.fold_in(jax.random.key(experiment.seed), state.step + 1)
    size = jax.tree.leaves(batch)[0].shape[0]
    batch = {**batch, "example": jnp.arange(size, dtype=jnp.int32),
             "step": jnp.full(size, state.step, jnp.int32)}
    moving, opt, ema, metrics = dict(state.params), dict(state.opt), state.ema, {}

    def seen(name):  # by the losses
        return precision.lowered(moving[name], experiment.optim.parameters)

    params = {name: seen(name) for name in moving}
    players, rule = experiment.family.players(), experiment.optim.trainable
    alone = len({player.name for player in players}) == 1
    finite = state.diverged < 0
    for index, (name, loss) in enumerate(players):
        own, part = partial(_own_loss, loss, params, name, rule), axes.trainable_part(moving[name], rule)
        (value, aux), grads = _gradients(own, axes.trainable_part(params[name], rule), batch,
                                         jax.random.fold_in(key, index), accumulation_steps, loop,
                                         experiment.optim.reduction)
        grads = sharding.like_parameters(precision.raised(grads))
        norm = optax.global_norm(grads)
        tx = optim.make_optimiser(experiment, span, name, state.step)
        updates, moved = tx.update(grads, opt[name], part)
        moves = (experiment.optim.skip <= 0) | (norm <= experiment.optim.skip)
        part, opt[name] = _choose(moves, (optax.apply_updates(part, updates), moved), (part, opt[name]))
        moving[name] = axes.with_trainable_part(moving[name], part, rule)
        params[name] = seen(name)
        finite &= jnp.isfinite(value) & jnp.isfinite(norm)
        prefix = "" if alone else f"{name}/"
        found = {"loss": value, **aux, "grad_norm": norm, "skipped": 1 - jnp.float32(moves)}
        metrics |= {f"{prefix}{k}": v for k, v in found.items()}
    settled = {}
    if hasattr(experiment.family, "settle"):
        settled = experiment.family.settle(moving, batch, jax.random.fold_in(key, len(players)))
        moving |= settled
    if experiment.optim.ema:
        taken = state.step.astype(jnp.float32)
        decay = jnp.minimum(experiment.optim.ema, (1 + taken) / (10 + taken))  # low at first, to forget the initial weights
        ema = optax.incremental_update(moving, ema, 1 - decay)
        changing = {*opt, *settled}  # the average of what nothing moves would lose its bits to rounding
        ema = {name: axes.with_trainable_part(moving[name], axes.trainable_part(own, rule), rule)
               if name in changing else moving[name] for name, own in ema.items()}
    metrics["learning_rate"] = optim.schedule(experiment, span)(state.step)
    keep = partial(_choose, finite)
    diverged = jnp.where(finite | (state.diverged >= 0), state.diverged, state.step)
    metrics["diverged"] = diverged
    return State(state.step + 1, keep(moving, state.params), keep(opt, state.opt), keep(ema, state.ema), diverged), metrics


def _choose(first, a, b):
    """`a` where `first` is true, else `b`, for every leaf of two trees."""
    return jax.tree.map(lambda x, y: jnp.where(first, x, y), a, b)


def _own_loss(loss, params, name, rule, part, batch, key):
    """The loss as a function of the part of the player's parameters that trains."""
    with axes.training(rule):
        return loss({**params, name: axes.with_trainable_part(params[name], part, rule)}, batch, key)


def _gradients(loss, own, batch, key, microbatches, loop, reduction="auto"):
    """((loss, metrics), gradient) of a batch: the mean over `microbatches` equal parts of it, computed in turn.

    Devices that hold whole parameters add up their own gradients over the microbatches in float32, and sum them once at the
    end, in the type of `reduction`. The plain form sums them over the devices in every microbatch.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)
    if microbatches == 1 and reduction == "auto":
        return gradient(own, batch, key)
    plain = sharding.plain() and reduction == "auto"
    parts = 1 if plain else sharding.parts()
    # Microbatch i holds rows i, i + microbatches, ...: every device of a sharded batch has a share of every microbatch.
    split = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(parts, -1, microbatches, *x.shape[1:]), 2, 0), batch)

    def of_part(own, rows, key):
        found, grads = gradient(own, rows, key)
        return found, sharding.like_parameters(precision.raised(grads))

    first = jax.tree.map(lambda x: x[0], split)
    over = jax.vmap if plain else sharding.map_parts
    each, shapes = traced_once(over(of_part, (None, 0, None)), own, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(total, microbatch):
        return jax.tree.map(jnp.add, total, each(own, microbatch, key)), None

    if microbatches == 1:
        found, grads = each(own, first, key)
    else:
        (found, grads), _ = jax.lax.scan(add, zeros, split, unroll=1 if loop else microbatches)

    def mean(x, kind):
        return precision.sum_of_parts(x, kind) / (parts * microbatches)

    return jax.tree.map(partial(mean, kind="auto"), found), jax.tree.map(partial(mean, kind=reduction), grads)


def evaluate_batch(experiment, state: State, first, batch) -> dict[str, tuple]:
    """What the family finds for a batch of an evaluation set that begins with example number `first` of it.

    Every run gets the same noise. The averaged weights are evaluated if there are any.
    """
    return dict(experiment.family.evaluate(state.ema or state.params, numbered(batch, first), jax.random.key(0)))


def sample_batch(experiment, state: State, first, batch) -> jax.Array:
    """The family's samples number `first` and following, under the conditions of a batch of an evaluation set."""
    key, options = jax.random.fold_in(jax.random.key(0), 1), experiment.data.sampling()
    return experiment.family.sample(state.ema or state.params, numbered(batch, first), key, **options)


def numbered(batch, first):
    """A batch of an evaluation set with "example" added: the numbers of its examples in that set, from `first` on."""
    size = jax.tree.leaves(batch)[0].shape[0]
    return {**batch, "example": jnp.int32(first) + jnp.arange(size, dtype=jnp.int32)}
