"""Optimisers and schedules. `scaling.experiment.parametrization` says how the rate of each parameter follows from its axes.

Every number read here may be a traced knob, so one compiled program serves all its values.
"""

import jax
import jax.numpy as jnp
import optax

from scaling import axes
from scaling.experiment import optimisers, parametrization
from scaling.families import is_solved
from scaling.training import precision
from scaling.training.muon import make_muon


def cooldown_start(experiment) -> int:
    """The first step whose learning rate depends on the length of the run.

    Runs of different lengths are one run, the trunk, until then (Hagele et al. 2405.18392). `experiment.steps` must be a
    number, not a tracer. Runs of a solved family share nothing.
    """
    if is_solved(experiment.family):
        return 0
    optim, steps = experiment.optim, experiment.steps
    if optim.schedule == "wsd":
        return steps - round(optim.cooldown * steps)
    return steps if optim.schedule == "constant" else 0


def schedule(experiment, span):
    """A function from step to learning rate, for a run whose `span` is (cooldown start, steps), both possibly traced.

    wsd: linear warmup, constant, then a fall as 1 - sqrt(progress) from the cooldown's start on
    (warmup-stable-decay with the cooldown of Hagele et al. 2405.18392). cosine: linear warmup, half a cosine.
    """
    o = experiment.optim

    def rate(step):
        step = jnp.asarray(step, jnp.float32)
        start, total = (jnp.asarray(x, jnp.float32) for x in span)
        warm = jnp.minimum(1.0, (step + 1) / jnp.maximum(1, o.warmup))
        if o.schedule == "wsd":
            progress = jnp.clip((step - start + 1) / (total - start + 1), 0.0, 1.0)
            shape = 1 - jnp.sqrt(progress)
        elif o.schedule == "cosine":
            progress = jnp.clip((step - o.warmup) / jnp.maximum(1.0, total - o.warmup), 0.0, 1.0)
            shape = 0.5 * (1 + jnp.cos(jnp.pi * progress))
        else:
            shape = jnp.ones(())
        return o.learning_rate * warm * (o.floor + (1 - o.floor) * shape)

    return rate


def make_optimiser(experiment, span, player=None, step=None) -> optax.GradientTransformation:
    """The optimiser of an experiment, for the parameters of `player`: clip, optimiser, parametrisation, decay, schedule.

    The player is the first one unless named. `step` is that of the run, which the schedule follows: a player may move
    several times in a step, or not at all. Without it, the optimiser counts its own steps.

    `adamw` and `muon` are set up here, and `scaling.experiment.optimisers` makes those of optax by name. Weight decay is
    decoupled and applies to matrices, never to biases, at the rate of the schedule whatever the parametrisation says.
    Raises ConfigError for an optimiser that cannot be used.
    """
    o = experiment.optim

    def found(tree):
        return parametrization.kinds(experiment, tree, player)

    decay = optax.add_decayed_weights(o.weight_decay, mask=axes.matrices)
    if o.name == "adamw":
        core = [_own_epsilons(optax.scale_by_adam(o.beta1, o.beta2, o.epsilon, mu_dtype=o.moments), found)]
    elif o.name == "muon":
        core = [optax.chain(_own_epsilons(make_muon(o), found), optax.scale(-1.0))]  # the schedule below carries the sign
    else:
        core = [optimisers.make_by_name(o), optax.scale(-1.0)]
    clip = [] if isinstance(o.clip, (int, float)) and o.clip == 0 else [_clip(o.clip)]
    chain = optax.chain(*clip, *core, _parametrization(o, found), decay, _at_rate(schedule(experiment, span), step))
    return precision.keep_second_moments(chain, o.second_moments)


def _clip(norm):
    """Clips to a global norm, which may be traced; zero or less is off."""
    def update(updates, state, params=None):
        size = optax.global_norm(updates)
        scale = jnp.where(norm > 0, jnp.minimum(1.0, norm / jnp.maximum(size, 1e-30)), 1.0)
        return jax.tree.map(lambda g: g * scale, updates), state
    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _own_epsilons(tx, kinds):
    """`tx` with epsilon multiplied by the factor of each parameter: Adam's update and Muon's for g / f are those for g with
    f times the epsilon."""
    def update(updates, state, params=None):
        updates = jax.tree.map(lambda g, kind: g if kind.epsilon == 1 else g / kind.epsilon, updates, kinds(updates))
        return tx.update(updates, state, params)
    return optax.GradientTransformation(tx.init, update)


def _parametrization(o, kinds):
    def update(updates, state, params=None):
        rates = jax.tree.map(lambda kind: o.table_rate * kind.rate if kind.table else kind.rate, kinds(updates))
        return jax.tree.map(lambda g, rate: g * rate, updates, rates), state
    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _at_rate(rate, step):
    """Multiplies by minus the learning rate at `step`, or at the number of updates before. It counts these in either case,
    so that the state is that of optax."""
    counting = optax.scale_by_learning_rate(rate)
    if step is None:
        return counting

    def update(updates, state, params=None):
        factor = -rate(step)
        return jax.tree.map(lambda g: factor.astype(g.dtype) * g, updates), state._replace(count=state.count + 1)
    return optax.GradientTransformation(counting.init, update)
