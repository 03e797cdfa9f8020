"""Optimisers, schedules, and the parametrisation, which sets the learning rate of each parameter from its axes.

Every number read here may be a traced knob, so one compiled program serves all its values.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from scaling import axes
from scaling.experiment import optimisers
from scaling.training import precision
from scaling.training.muon import make_muon


def cooldown_start(experiment) -> int:
    """The first step whose learning rate depends on the length of the run.

    Runs of different lengths are one run, the trunk, until then (Hagele et al. 2405.18392). `experiment.steps` must be a
    number, not a tracer.
    """
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


def multiplier(shape, names, base_width) -> float:
    """muP's learning-rate multiplier of a parameter from the names of its axes: base_width over its fan-in width.

    `shape` may have leading axes without a name, such as that of runs.
    """
    named = list(zip(names, shape[len(shape) - len(names):], strict=True))
    wide = [n for name, n in named if name in axes.WIDTH_AXES]
    inner = [n for name, n in named if name == "embed"]
    if len(wide) >= 2 or ("vocab" in names and names[-1] == "vocab" and wide):
        return base_width / (inner or wide)[0]
    return 1.0


def is_table(names) -> bool:
    """True for lookup tables. Their rows have unit size, and few examples of a batch touch a given row."""
    return len(names) > 0 and names[0] == "vocab"


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the parametrisation asks about a parameter."""

    table: bool
    scale: float  # of the learning rate, where it is no table


def kinds(experiment, params):
    """The `Kind` of every parameter of a tree."""
    o = experiment.optim

    def kind(x, names):
        scale = multiplier(x.shape, names, o.base_width) if o.parametrization == "mup" else 1.0
        return Kind(is_table(names), scale)

    return axes.tree_map_with_axes(kind, params)


def make_optimiser(experiment, span) -> optax.GradientTransformation:
    """The optimiser of an experiment, for any player's parameters: clip, optimiser, parametrisation.

    `adamw` and `muon` are set up here, and `scaling.experiment.optimisers` makes those of optax by name. Weight decay is
    decoupled and applies to matrices, never to biases. Raises ConfigError for an optimiser that cannot be used.
    """
    o = experiment.optim
    decay = optax.add_decayed_weights(o.weight_decay, mask=axes.matrices)
    if o.name == "adamw":
        core = [optax.scale_by_adam(o.beta1, o.beta2, o.epsilon, mu_dtype=o.moments), decay]
    elif o.name == "muon":
        core = [optax.chain(make_muon(o), optax.scale(-1.0)), decay]  # the schedule below carries the sign
    else:
        core = [optimisers.make_by_name(o), optax.scale(-1.0), decay]
    clip = [] if isinstance(o.clip, (int, float)) and o.clip == 0 else [_clip(o.clip)]
    rate = [_parametrization(experiment), optax.scale_by_learning_rate(schedule(experiment, span))]
    return precision.keep_second_moments(optax.chain(*clip, *core, *rate), o.second_moments)


def _clip(norm):
    """Clips to a global norm, which may be traced; zero or less is off."""
    def update(updates, state, params=None):
        size = optax.global_norm(updates)
        scale = jnp.where(norm > 0, jnp.minimum(1.0, norm / jnp.maximum(size, 1e-30)), 1.0)
        return jax.tree.map(lambda g: g * scale, updates), state
    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _parametrization(experiment):
    def update(updates, state, params=None):
        rates = jax.tree.map(lambda kind: experiment.optim.table_rate if kind.table else kind.scale,
                             kinds(experiment, updates))
        return jax.tree.map(lambda g, rate: g * rate, updates, rates), state
    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
