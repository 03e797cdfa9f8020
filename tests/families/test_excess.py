"""Excess loss: the loss beyond the true distribution, paired by example, of every family that has a likelihood."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from scaling import data, families
from scaling.families.associative import Associative, Memory
from scaling.families.diffusion import Diffusion
from scaling.families.transformer import Transformer
from scaling.families.vae import VAE
from scaling.training.evaluation import means


@functools.partial(jax.jit, static_argnums=0)
def evaluate(family, params, batch):
    return family.evaluate(params, batch, jax.random.key(0))


def evaluated(family, params, examples):
    batch = examples | {"example": np.arange(len(examples["nats"]), dtype=np.int32)}
    return evaluate(family, params, batch)


def cases():
    """(family, examples of a source that it reads)."""
    tokens = data.load_text("hmm:4,vocab=8", length=12, batch=8)
    facts = data.load_text("zipf:1.5,contexts=100,answers=8", length=1, batch=8)
    images = data.load_images("teacher", size=4, levels=2, batch=8)
    return {"transformer": (Transformer(vocab=8, length=12, width=16, layers=1), tokens, 12 * 256),
            "associative": (Associative(vocab=facts.vocab, answers=8, width=40), facts, 256),
            "vae": (VAE(image_size=4, levels=2, width=16, layers=2, likelihood="bernoulli"), images, 256),
            "diffusion": (Diffusion(image_size=4, levels=2, width=16, layers=1), images, 256)}


CASES = cases()


@functools.cache
def noisy(family):
    """Parameters away from their start."""
    leaves, treedef = jax.tree.flatten(jax.jit(family.init)(jax.random.key(0)))
    noise = [np.sin(7.0 * np.arange(x.size) + i).reshape(x.shape).astype(np.float32) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, [jnp.asarray(np.asarray(x) + 0.3 * n) for x, n in zip(leaves, noise)])


@pytest.mark.parametrize("name", CASES)
def test_excess_is_the_difference_to_the_true_distribution_in_the_units_of_the_metric(name):
    family, source, count = CASES[name]
    examples = source.evaluation("iid", count)
    found = means(evaluated(family, noisy(family), examples))
    per = 16 if family.reads == "images" else source.length
    true = examples["nats"].reshape(256, -1).sum(-1).mean() / (per * np.log(2))
    metric = "bits_per_dim" if family.reads == "images" else "bits_per_byte"
    np.testing.assert_allclose(found["excess"], found[metric] - true, rtol=1e-4)
    batch = {k: v for k, v in examples.items() if k != "nats"} | {"example": np.arange(256, dtype=np.int32)}
    without = jax.eval_shape(lambda batch: family.evaluate(noisy(family), batch, jax.random.key(0)), batch)
    assert {name for name in found if not name.endswith("_se")} - set(without) == {"excess"}


@pytest.mark.parametrize("name", CASES)
def test_a_model_that_is_not_the_teacher_has_an_excess_above_zero(name):
    family, source, count = CASES[name]
    found = means(evaluated(family, noisy(family), source.evaluation("iid", count)))
    assert found["excess"] > 3 * found["excess_se"] > 0


def test_the_true_distribution_itself_has_no_excess_in_any_example():
    family, source, _ = CASES["associative"]
    teacher = source.teacher
    few = 30                                          # contexts that 40 dimensions can tell apart without interference
    told = np.stack(np.meshgrid(np.arange(few), np.arange(8), indexing="ij"), -1).reshape(-1, 2) + [8, 0]
    logits = -teacher.nats(told)[:, 1].reshape(few, 8)
    memory = Memory(family, jnp.zeros)
    embedded, params = memory.embed(jnp.arange(8, 8 + few)[:, None])[:, 0], nnx.state(memory)
    params["weight"].set_value(jnp.asarray(np.linalg.pinv(embedded) @ logits, jnp.float32))
    tokens = np.concatenate([source.batches(0, 0, 64)["tokens"].reshape(-1, 2)])
    tokens = tokens[tokens[:, 0] < 8 + few]
    examples = {"tokens": tokens, "bytes": np.ones((len(tokens), 1), np.int32),
                "nats": teacher.nats(tokens)[:, 1:].astype(np.float32)}
    found = evaluated(family, {"model": params}, examples)["excess"]
    assert len(tokens) > 100 and np.abs(found.over).max() < 1e-4


# The noise levels of a diffusion model are spread evenly over examples, so its metrics scatter less than their errors say.
@pytest.mark.parametrize("name", [name for name in CASES if name != "diffusion"])
def test_its_standard_error_is_the_scatter_over_fresh_samples(name):
    family, source, _ = CASES[name]
    sets, each = 400, 100
    per = source.length if hasattr(source, "length") else 1
    found = evaluated(family, noisy(family), source.evaluation("iid", sets * each * per))["excess"]
    over, under = (np.asarray(x, np.float64).reshape(sets, each) for x in found)
    values, errors = zip(*[(m["excess"], m["excess_se"]) for m in
                           (means({"excess": type(found)(a, b)}) for a, b in zip(over, under))])
    assert abs(np.sqrt(np.mean(np.square(errors))) / np.std(values, ddof=1) - 1) < 0.1


def test_a_trained_model_is_near_the_teacher_and_its_excess_has_little_of_the_noise_of_its_loss():
    family, source, _ = CASES["transformer"]
    optimiser = optax.adam(1e-2)

    @jax.jit
    def train(params):
        def step(carry, i):
            params, state = carry
            batch = source.slice(arrays, 0, i)
            grads = jax.grad(lambda params: family.loss(params, batch, None)[0])(params)
            updates, state = optimiser.update(grads, state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimiser.init(params)), jnp.arange(400))[0][0]

    arrays, start = jax.tree.map(jnp.asarray, source.arrays()), jax.jit(family.init)(jax.random.key(0))
    examples = source.evaluation("iid", 12 * 2048)
    before, after = (means(evaluated(family, params, examples)) for params in (start, train(start)))
    assert -4 * after["excess_se"] < after["excess"] < before["excess"] / 4
    assert after["excess_se"] < after["bits_per_byte_se"] / 3


def test_families_without_a_likelihood_have_no_excess():
    gan = families.find("gan").ladder(2e4, image_size=8, levels=2)
    batch = gan.example_batch(2, jax.random.key(0)) | {"nats": jnp.ones(2)}
    found = jax.eval_shape(lambda: gan.evaluate(gan.init(jax.random.key(0)), batch, jax.random.key(0)))
    assert "excess" not in found
