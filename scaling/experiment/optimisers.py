"""Optimisers of optax by name: which can be used, and which fields of an experiment each of them takes.

What an experiment writes is what its optimiser uses. The fields `beta1`, `beta2` and `epsilon` go to the arguments that
mean the same, whatever optax calls them. Weight decay is always decoupled and of matrices alone (Loshchilov & Hutter
1711.05101), so an optimiser's own is off. The schedule and the parametrisation scale the optimiser's steps, so its steps
must be in proportion to its learning rate.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
import optax.contrib

from scaling.fields import ConfigError, is_traced, nearest

OWN = ("adamw", "muon")  # set up by scaling.training.optim from the fields alone
# The arguments of optax that mean a field; the first that an optimiser has is used.
ARGUMENTS = {"beta1": ("b1", "beta1", "momentum", "beta"), "beta2": ("b2", "beta2", "decay", "rho"),
             "epsilon": ("eps", "epsilon")}
BOTH_BETAS = "betas"  # of optimisers that take (beta1, beta2) as one argument
STEPS = 4  # of a trial
# Second moments in bfloat16, of 8 significant bits, that fall by less than half a unit of the last are rounded to what they
# were, so that they would never fall.
LARGEST_DECAY = 1 - 2.0**-8


def check_optimiser(optim):
    """Raises a ConfigError unless the optimiser of an experiment can be used with the values of its fields."""
    if optim.name in OWN:
        if optim.second_moments != "float32" and not is_traced(optim.beta2) and optim.beta2 > LARGEST_DECAY:
            raise ConfigError(f"optim.beta2={optim.beta2} changes second moments by less than the rounding of "
                              f"optim.second_moments={optim.second_moments!r}; write {LARGEST_DECAY} or less, or float32")
        return
    for field in ("moments", "second_moments"):
        if getattr(optim, field) != "float32":
            raise ConfigError(f"optim.{field}={getattr(optim, field)!r} has no effect, since only {' and '.join(OWN)} keep "
                              "moments of a chosen type; write float32, or one of them as optim.name")
    taken = _taken(optim.name)
    defaults = {f: type(optim).__dataclass_fields__[f].default for f in ARGUMENTS}
    for field, default in defaults.items():
        value = getattr(optim, field)
        if field not in taken and not is_traced(value) and value != default:
            raise ConfigError(f"optim.{field}={value} has no effect, since optim.name={optim.name!r} takes no such number; "
                              f"write {default}, its default, or another optimiser")
    if wrong := _trial(optim.name):
        raise ConfigError(f"optim.name={optim.name!r} {wrong}; write adamw, muon, or another optimiser of optax")


def make_by_name(optim) -> optax.GradientTransformation:
    """The optimiser of optax that `optim` names, at a learning rate of 1 and without weight decay. Fields may be traced."""
    return _find(optim.name)(1.0, **_arguments(optim.name, {field: getattr(optim, field) for field in ARGUMENTS}))


def differs_from_defaults(optim) -> bool:
    """True if the fields give an optimiser by name other arguments than optax's defaults."""
    if optim.name in OWN:
        return False
    known = inspect.signature(_find(optim.name)).parameters
    given = _arguments(optim.name, {field: getattr(optim, field) for field in ARGUMENTS})
    return any(known[name].default != value for name, value in given.items())


@functools.cache
def usable() -> tuple[str, ...]:
    """Names of the optimisers of optax and optax.contrib that need nothing but a learning rate."""
    return tuple(sorted({*OWN, *(name for module in (optax, optax.contrib) for name in dir(module)
                                 if _is_optimiser(name, getattr(module, name)))}))


def _is_optimiser(name: str, value) -> bool:
    if name.startswith(("_", "scale_by_")) or not inspect.isfunction(value):
        return False
    parameters = dict(inspect.signature(value).parameters)
    rest = [p for key, p in parameters.items() if key != "learning_rate"]
    return "learning_rate" in parameters and all(p.default is not p.empty for p in rest)


def _find(name: str) -> Callable[..., optax.GradientTransformation]:
    if name in usable():
        return getattr(optax, name, None) or getattr(optax.contrib, name)
    if name and (hasattr(optax, name) or hasattr(optax.contrib, name)):
        raise ConfigError(f"optim.name={name!r} is a part of optax but no optimiser that is made from a learning rate "
                          f"alone; {nearest(name, usable())}")
    raise ConfigError(f"optim.name={name!r} is not an optimiser of optax; {nearest(name, usable())}")


def _taken(name: str) -> dict[str, str]:
    """{field of an experiment: argument of the optimiser} of the fields that an optimiser takes."""
    parameters = inspect.signature(_find(name)).parameters
    found = dict.fromkeys(("beta1", "beta2"), BOTH_BETAS) if BOTH_BETAS in parameters else {}
    for field, names in ARGUMENTS.items():
        # The beta of optimistic gradient descent, which comes with an alpha, is the weight of a difference of gradients.
        there = [n for n in names if n in parameters and not (n == "beta" and "alpha" in parameters)]
        if there and field not in found:
            found[field] = there[0]
    return found


def _arguments(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of an optimiser, given {field: value}."""
    given = {argument: values[field] for field, argument in _taken(name).items() if argument != BOTH_BETAS}
    parameters = inspect.signature(_find(name)).parameters
    if BOTH_BETAS in parameters:
        given[BOTH_BETAS] = (values["beta1"], values["beta2"])
    own = [n for n, p in parameters.items() if "weight_decay" in n and isinstance(p.default, float)]
    return given | dict.fromkeys(own, 0.0)


@functools.cache
def _trial(name: str) -> str:
    """Why an optimiser cannot be used, found by a few steps of it on small arrays, or '' if it can."""
    if name.startswith("schedule_free"):
        return "trains other weights than those that it means to be evaluated, which runs do not keep"
    rng = np.random.default_rng(0)
    shapes = {"matrix": (4, 3), "vector": (3,), "stack": (2, 5, 6)}
    params, gradients = ([{k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()} for _ in range(STEPS)]
                         for _ in range(2))

    def steps(values):
        found = []
        for rate in (1.0, 0.25):
            tx = _find(name)(rate, **_arguments(name, values))
            state, updates = tx.init(params[0]), []
            for p, g in zip(params, gradients):
                update, state = tx.update(g, state, p)
                updates.append(update)
            found.append(updates)
        return found

    try:
        numbers = {field: np.float32(0.9) for field in ARGUMENTS} | {"epsilon": np.float32(1e-8)}
        held = jax.eval_shape(lambda values: _find(name)(1.0, **_arguments(name, values)).init(params[0]), numbers)
        if any(x.shape not in ((), *shapes.values()) for x in jax.tree.leaves(held)):
            return "keeps a state that is not shaped like the parameters, so that it has no place on a mesh"
        with jax.ensure_compile_time_eval():
            whole, quarter = jax.jit(steps)(numbers)
            whole, quarter = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(u)]) for u in (whole, quarter))
    except Exception as error:  # whatever an optimiser raises that needs more than gradients and parameters
        return f"cannot be used: {str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__}"
    pushed = sum(float(np.vdot(x, y)) for x, y in zip(whole, np.concatenate(
        [np.ravel(x) for x in jax.tree.leaves(gradients)])))
    if not np.isfinite(whole).all() or math.isnan(pushed):
        return "gives steps that are not finite"
    if not np.allclose(quarter, whole / 4, rtol=1e-3, atol=1e-7 * np.abs(whole).max()):
        return "takes steps that are not in proportion to its learning rate, on which schedules rely"
    return "" if pushed < 0 else "does not go down the gradient"
