"""What a run is evaluated on, and how sure its metrics are: neither depends on how the run was trained."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources import ExampleSource, tiny

from scaling.experiment import Text
from scaling.families._sums import Each
from scaling.training.evaluation import EARLY, cut, means, steps_on_the_way
from scaling.training.program import Program
from scaling.training.step import State


@given(count=st.integers(1, 500), wanted=st.integers(1, 300), shards=st.integers(1, 16), fits=st.integers(1, 64))
def test_batches_cover_every_example_once_and_leave_no_device_without_room(count, wanted, shards, fits):
    batches = cut(count, wanted, shards, fits)
    assert [i for rows in batches for i in rows] == list(range(count))
    divided = [rows for rows in batches if len(rows) % shards == 0 and len(rows) >= shards]
    assert sum(map(len, divided)) >= count // shards * shards
    for rows in batches:
        assert (len(rows) / shards if rows in divided else len(rows)) <= fits
    assert len({len(rows) for rows in batches}) <= 4  # each size is compiled


@given(stop=st.integers(1, 10**6), cost=st.floats(1, 1e6), step_cost=st.floats(1, 1e3))
def test_evaluations_on_the_way_are_cheap_and_the_same_for_runs_of_all_lengths(stop, cost, step_cost):
    steps = sorted(steps_on_the_way(stop, cost, step_cost))
    assert len(steps) * cost <= 0.032 * stop * step_cost
    assert all(cost <= EARLY * step * step_cost for step in steps)
    assert steps == [step for step in sorted(steps_on_the_way(3 * stop, cost, step_cost)) if step < stop]


# A program knows examples and their numbers, not families, so the GAN repeats what the VAE tests.
SLOW_GAN = ["transformer", "vae", pytest.param("gan", marks=pytest.mark.slow)]


def some_examples(e, count):
    """Examples of an evaluation set; the bytes of tokens differ, as those of a tokenizer do."""
    found = jax.tree.map(np.asarray, dict(e.family.example_batch(count, jax.random.key(5))))
    found.pop("example", None)
    if "bytes" in found:
        found["bytes"] = 1 + found["tokens"][:, 1:] % 3
    return found


def scores(e, examples, mesh="", devices=1, runs=1):
    """({metric: value}, samples) of the first weights of an experiment, evaluated by a program of `runs` runs."""
    program = Program(e, ExampleSource(e.family, e.data.batch), runs, mesh, devices=jax.devices()[:devices])
    state = program.init([e] * runs)
    found = {name: values[-1] for name, values in program.evaluate(state, examples).items()}
    return found, program.sample(state, examples, 13)[-1] if hasattr(e.family, "sample") else None


def smallest(name):
    """The tiny experiment of a family, with the body that compiles fastest."""
    e = tiny(name)
    return e.replace({"family.body": "linear", "family.layers": 1, "family.width": 16}) if name == "vae" else e


@pytest.mark.parametrize("name", SLOW_GAN)
def test_metrics_and_samples_do_not_depend_on_batch_microbatch_pack_mesh_or_layout(name, monkeypatch):
    """11 examples: fewer than a batch of training, and no multiple of the devices."""
    e = smallest(name)
    examples = some_examples(e, 11)
    wanted = scores(e, examples)
    layout = {"transformer": "fsdp_tensor", "gan": "fsdp"}.get(name, "data")
    other = e.replace({"data.batch": 24, "microbatch": 3, "layout": layout})
    monkeypatch.setattr(type(e.data), "at_once", (5 * e.data.per_example,) * 2)  # batches of four and a smaller one
    found = scores(other, examples, devices=4, runs=2)
    assert found[0].keys() == wanted[0].keys()
    for metric, value in wanted[0].items():
        np.testing.assert_allclose(found[0][metric], value, rtol=3e-5, err_msg=metric)
    if wanted[1] is not None:  # pixels are rounded to levels
        assert found[1].shape == wanted[1].shape and np.mean(found[1] != wanted[1]) < 0.01


@pytest.mark.parametrize("batch", [8, 24, 96, 300, 512, 520])
def test_the_whole_evaluation_set_is_evaluated_at_any_batch_of_training(batch):
    text = Text(batch=batch)
    rows = text.evaluation_tokens // text.length
    assert sum(map(len, cut(rows, text.evaluated_together, 1, 10**9))) * text.per_example == text.evaluation_tokens
    assert text.evaluated_together == Text().evaluated_together


@pytest.mark.parametrize("name", SLOW_GAN)
def test_standard_errors_agree_with_the_spread_over_other_evaluation_sets(name):
    """64 disjoint sets of 32 examples: the spread of their metrics has a relative error of 9%."""
    e = smallest(name)
    program = Program(e, ExampleSource(e.family, 8), 1, devices=jax.devices()[:1])
    params = program.init([e]).params
    noise = jax.random.normal(jax.random.key(2), (10**5,)) * (0.03 if name == "vae" else 0.3)  # logits begin equal
    params = jax.tree.map(lambda x: x + noise[:x.size].reshape(x.shape), params)
    state = State(np.zeros(1, np.int32), params, {}, {}, np.full(1, -1))
    found = program.evaluator.evaluating(state, some_examples(e, 64 * 32))()  # examples of other sets have other noise
    sets = [means(jax.tree.map(lambda x, at=at: x[:, at:at + 32], found)) for at in range(0, 64 * 32, 32)]
    measured = [metric for metric in sets[0] if f"{metric}_se" in sets[0]]
    assert measured and (name == "gan" or {"loss"} < set(measured))
    for metric in measured:
        spread = np.std([found[metric][0] for found in sets], ddof=1)
        said = np.sqrt(np.mean([found[f"{metric}_se"][0] ** 2 for found in sets]))
        assert said == pytest.approx(spread, rel=0.3), metric


def test_the_standard_error_of_a_ratio_is_that_of_its_residuals_and_of_one_example_unknown():
    rng = np.random.default_rng(1)
    b = rng.uniform(1, 3, (2000, 50))
    a = 2 * b + rng.normal(0, 0.2, b.shape)
    found = means({"r": Each(a, b)})
    assert np.mean(found["r_se"]) == pytest.approx(np.std(found["r"]), rel=0.05)
    assert np.isnan(means({"m": Each(a[0, :1], np.ones(1))})["m_se"])


def test_examples_of_a_cluster_count_as_one():
    """2,000 sets of 50 clusters of 1 to 8 examples that share most of their noise."""
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(50), rng.integers(1, 9, 50))
    rng.shuffle(clusters)
    noise = rng.normal(0, 1, (2000, 50))[:, clusters] + rng.normal(0, 0.3, (2000, len(clusters)))
    found = means({"m": Each(3 + noise, np.ones_like(noise))}, 7 * clusters)
    assert np.mean(found["m_se"]) == pytest.approx(np.std(found["m"]), rel=0.05)
    blind = means({"m": Each(3 + noise, np.ones_like(noise))})
    assert np.mean(blind["m_se"]) < 0.6 * np.std(found["m"])
    assert np.isnan(means({"m": Each(noise, np.ones_like(noise))}, np.zeros(len(clusters)))["m_se"]).all()
