"""Hostile values of any field of any family give an experiment whose program can be traced, or one sentence."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sources import tiny

from scaling import experiment as experiments
from scaling import families
from scaling.fields import ConfigError, leaves
from scaling.training import optim
from scaling.training.step import TRUNK, init_state, run_span, train_step

NUMBERS = [-1, 0, 1, 2, 3, 7, 8, 16, 64, 1000, 2**31, 2**32 - 1, 2**63, 10**400, -0.5, 0.3, 0.99, 1.0, 1.5, 8.0, 1e-60,
           1e39, math.nan, math.inf, -math.inf, 1j, True, False]
OTHERS = [None, "", " ", "x", "1e-3", "8", "\0", "\ud800", "адам", "x" * 300, "bpe:300", "bpe:", "bpe:٣٠٠", "adam", "lion",
          "1x1,4x1", "1x1,4d1", "4x99999999999", "translation", "translation,flip", [], [1], (1, 2), {}, b"8",
          object(), int, np.array([1, 2]), np.array([]), np.int8(3), np.float32(0.1), np.float64(0.5), np.bool_(True),
          np.str_("x"), np.datetime64("2020-01-01"), jnp.float32(0.5), jnp.arange(3), np.longdouble(0.1)]


def hostile(path, cls, value):
    """Values for a field that holds `value`: those of no field in particular, those at the edges, and plausible ones."""
    part, _, name = path.rpartition(".")
    owner = {"family": cls, "optim": experiments.Optim, "": experiments.Experiment,
             "data": experiments.kind_read(cls)}[part]
    limits = owner.__dataclass_fields__[name].metadata["limits"]
    numbers = [n for n in (limits.least, limits.most, limits.above, limits.below) if n is not None]
    edges = [n + change for n in numbers for change in (-1, 0, 1)] if name not in SLOW_TO_TRACE else numbers[:1]
    near = [value, not value] if isinstance(value, bool) else [value, 2 * value, value / 2] if isinstance(
        value, (int, float)) else [value, *limits.choices]
    return st.one_of(st.sampled_from(NUMBERS), st.sampled_from(OTHERS), st.sampled_from([*edges, *limits.choices, None]),
                     st.sampled_from(near), st.sampled_from(near))


SLOW_TO_TRACE = ("layers", "critic_layers", "disc_steps")  # a network of thousands of layers is traced in minutes
FEW = {name: [1, 2, 3, 8] for name in SLOW_TO_TRACE}


TRACED = set()  # programs that were traced before


def traceable(e):
    """Traces a step of training, an evaluation and the schedule of an experiment, without computing anything."""
    program = (e.family, e.data.batch, *(v for path, (v, kind) in leaves(e).items() if "optim." in path and kind != "knob"))
    if program not in TRACED:  # knobs and data leave it alone
        TRACED.add(program)
        key = jax.random.key(0)
        batch = dict(jax.eval_shape(lambda: e.family.example_batch(e.data.batch, key)))
        state = jax.eval_shape(lambda: init_state(e))
        after, metrics = jax.eval_shape(lambda state, batch: train_step(e, TRUNK, state, batch), state, batch)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state) and metrics
    span = run_span(e)
    assert 0 <= span.cooldown <= span.steps
    rates = np.asarray(optim.schedule(e, span)(jnp.array([0, span.steps // 2, span.steps - 1])))
    assert np.isfinite(rates).all() and (rates >= 0).all() and (rates <= 1.0001 * e.optim.learning_rate).all()
    back = experiments.from_dict(experiments.to_dict(e))
    assert back == e and experiments.fingerprint(back, "d") == experiments.fingerprint(e, "d")


@pytest.mark.slow
@pytest.mark.parametrize("name", [families.name(cls) for cls in families.all()])
@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_hostile_values_give_an_experiment_that_can_be_traced_or_one_sentence(name, data):
    e = tiny(name, **({"data.size": 8} if families.find(name).reads in ("images", "classified") else {}))
    own = sorted(path for path in leaves(e) if path.count(".") < 2)  # those of parts of a family are of other families
    paths = data.draw(st.lists(st.sampled_from(own), min_size=1, max_size=2, unique=True))
    changes = {path: data.draw(hostile(path, type(e.family), leaves(e)[path][0])) for path in paths}
    by_sweep = data.draw(st.booleans())
    try:
        found = (experiments.grid(e, {path: [value] for path, value in changes.items()})[0] if by_sweep
                 else e.replace(changes))
    except ConfigError as error:
        event("refused")
        said = str(error)
        assert "\n" not in said and len(said) < 700
        assert any(path.rpartition(".")[2] in said for path in changes)
        return
    if any(getattr(found.family, field, 1) not in values for field, values in FEW.items() if hasattr(found.family, field)
           and getattr(found.family, field)):
        return
    event("traced")
    traceable(found)
