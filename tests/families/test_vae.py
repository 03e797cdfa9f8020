"""The VAE: identities of its bound, a linear one against probabilistic PCA, conditions, noise, training, pictures."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from scaling import experiment as experiments
from scaling import nn
from scaling.devices import sharding
from scaling.devices.layouts import make_mesh
from scaling.experiment import Images
from scaling.families.vae import VAE
from scaling.training.program import options_for_one_call
from scaling.training.step import TRUNK, init_state, train_step

TINY = VAE(image_size=8, levels=16, width=8, layers=3, schedule="1x1,2x2", latents=2, components=2,
           scan=True)
BODIES = {"tokens": TINY, "conv": dataclasses.replace(TINY, body="conv", patch=4, bottleneck=0.5),
          "linear": VAE(image_size=4, body="linear", width=6, layers=1, latents=2, likelihood="gaussian")}
KEY = jax.random.key(5)


once = functools.partial(jax.jit, compiler_options=options_for_one_call())  # most of a test's time is compilation


@functools.cache
def fresh(family):
    return once(family.init)(jax.random.key(0))


@functools.cache
def random_params(family):
    """Parameters without special values: heads are not zero, so latents carry information."""
    leaves, treedef = jax.tree.flatten(fresh(family))
    noise = [np.sin(7.0 * np.arange(x.size) + i).reshape(x.shape).astype(np.float32) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, [x + 0.2 * n for x, n in zip(leaves, noise)])


@functools.partial(once, static_argnums=(0, 1))
def call(family, method, params, batch, key=KEY):
    return getattr(family, method)(params, batch, key)


def mean(found, name):
    return float(found[name][0].sum() / found[name][1].sum())


CONV = pytest.param("conv", marks=pytest.mark.slow)  # compiles slowly; the identities do not depend on the body


@pytest.fixture(params=["tokens", CONV, "linear"])
def family(request):
    return BODIES[request.param]


def test_the_kl_by_sampling_equals_its_closed_form(family):
    draws, batch = 3000, family.example_batch(1, KEY)
    module = family.module(random_params(family))

    @once
    def sampled():
        same = jax.tree.map(lambda x: jnp.broadcast_to(x, (draws, *x.shape[1:])), batch)
        noise = family.noise(KEY, {"example": jnp.arange(draws)})
        _, latents = module.decode(same, noise, module.encode(same))
        return [(s.kl.sum((2, 3, 4)), -s.log_ratio.sum((2, 3, 4))) for s in latents]

    for closed, by_sampling in sampled():  # of each block, averaged over the latents above it
        difference = np.asarray(closed - by_sampling, np.float64)
        assert (np.abs(difference.mean(1)) < 4.5 * difference.std(1) / math.sqrt(draws)).all()
        assert (closed.mean(1) > 1e-3).all() and (closed >= -1e-4).all()


def test_the_kl_is_zero_before_training(family):
    found = call(family, "evaluate", fresh(family), family.example_batch(4, KEY))
    assert mean(found, "rate") == 0 and mean(found, "bits_per_dim") == mean(found, "distortion") > 0


def test_the_bound_of_many_samples_is_tighter(family):
    params, batch = random_params(family), family.example_batch(4, KEY)
    found = call(family, "examine", params, batch)

    def bound(index):
        return family.terms(params, batch, jax.random.fold_in(KEY, index))

    distortion, rate = once(lambda: jax.lax.map(bound, jnp.arange(64)))()
    elbo = float(distortion.mean() + rate.sum(1).mean()) / family.dimensions / math.log(2)
    assert mean(found, "iwae_bits_per_dim") < elbo
    assert 0 < mean(found, "active_latents") <= 1
    layers = sum(mean(found, name) for name in found if name.startswith("rate_layer"))
    assert layers == pytest.approx(mean(call(family, "evaluate", params, batch), "rate"), rel=1e-4)


def test_rate_and_distortion_add_up_and_the_units_agree(family):
    found = call(family, "evaluate", random_params(family), family.example_batch(4, KEY))
    assert mean(found, "rate") + mean(found, "distortion") == pytest.approx(mean(found, "bits_per_dim"), rel=1e-5)
    assert mean(found, "loss") == pytest.approx(mean(found, "bits_per_dim") * math.log(2), rel=1e-5)
    assert found["bits_per_dim"].over.shape == (4,) and float(found["bits_per_dim"].under.sum()) == 4


def test_a_linear_vae_reaches_the_optimum_of_probabilistic_pca():
    """The eigenvalues of the covariance give the best marginal likelihood (Tipping & Bishop 1999, eq. 3.8 and 3.9), and a
    linear Gaussian posterior makes the bound tight there (Lucas et al. 1911.02469)."""
    f, size, kept = BODIES["linear"], 2048, 2
    mixing, latents, noise = (jax.random.normal(k, s) for k, s in zip(jax.random.split(KEY, 3),
                                                                      ((kept, 16), (size, kept), (size, 16))))
    x = 0.15 * latents @ mixing + 0.1 * noise
    images = jnp.clip(jnp.round((x + 1) * 127.5), 0, 255).astype(jnp.uint8).reshape(size, 4, 4, 1)
    width = 2 / 255
    values = np.asarray(nn.levels_to_signed(images, 256), np.float64).reshape(size, 16)
    eigenvalues = np.linalg.eigvalsh(np.cov(values.T, bias=True) + np.eye(16) * width**2 / 12)[::-1]
    rest = eigenvalues[kept:].mean()
    best = 0.5 * (16 * (math.log(2 * math.pi) + 1) + np.log(eigenvalues[:kept]).sum() + (16 - kept) * math.log(rest))
    best = (best / 16 - math.log(width)) / math.log(2)

    tx = optax.adam(optax.cosine_decay_schedule(0.02, 800))
    batch = {"image": images, "example": jnp.arange(size, dtype=jnp.int32)}

    @jax.jit
    def trained(params):
        def step(i, carry):
            params, state = carry
            part = {"image": jax.lax.dynamic_slice_in_dim(images, i % 8 * 256, 256), "example": batch["example"][:256]}
            grads = jax.grad(lambda p: f.loss(p, part, jax.random.fold_in(KEY, i))[0])(params)
            updates, state = tx.update(grads, state)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, 800, step, (params, tx.init(params)))[0]

    params = trained(f.init(jax.random.key(1)))
    found = np.mean([mean(call(f, "evaluate", params, batch, jax.random.key(i)), "bits_per_dim") for i in range(8)])
    assert best - 0.005 < found < best + 0.01


@functools.partial(once, static_argnums=0)
def passes(family, params, batch):
    """Features, outputs and latents given the image, and outputs and latents given those latents alone."""
    module = family.module(params)
    features = module.encode(batch)
    outputs, latents = module.decode(batch, family.noise(KEY, batch), features)
    return features, outputs, latents, *module.decode(batch, [stage.u for stage in latents])


def test_latents_are_enough_to_decode(family):
    _, outputs, latents, again, same = passes(family, random_params(family), family.example_batch(4, KEY))
    assert_allclose(again, outputs, rtol=2e-4, atol=2e-4)
    assert all((stage.kl == 0).all() and (stage.kl != given.kl).any() for stage, given in zip(same, latents))


def test_images_reach_the_latents_of_every_block(family):
    params, batch = random_params(family), family.example_batch(4, KEY)
    one, other = (passes(family, params, {**batch, "image": image})[2] for image in (batch["image"], batch["image"][::-1]))
    assert all((jnp.abs(a.u - b.u).max((1, 2, 3, 4)) > 1e-4).all() for a, b in zip(one, other))


@pytest.mark.parametrize("body", ["tokens", CONV])
def test_conditions_reach_the_encoder_and_the_decoder(body):
    """Label and caption are changed one at a time. The decoder gets the changed condition with the same latents."""
    family = dataclasses.replace(BODIES[body], classes=4, caption=4)
    params, batch = random_params(family), family.example_batch(4, KEY)
    module = family.module(params)
    run = once(lambda condition, u: (module.encode(condition), module.decode(condition, u)[0]))
    noise = family.noise(KEY, batch)
    features, outputs = run(batch, noise)
    for name in ("label", "caption"):
        changed, drawn = run({**batch, name: (batch[name] + 1) % 4}, noise)
        for a, b in ((features[0], changed[0]), (features[-1], changed[-1]), (outputs, drawn)):
            assert (jnp.abs(a - b).reshape(4, -1).max(1) > 1e-4).all(), name


def test_noise_depends_on_the_number_of_the_example_and_not_on_its_row(family):
    params, batch = random_params(family), family.example_batch(6, KEY)
    whole = call(family, "terms", params, batch)
    order = jnp.asarray([5, 1, 3])
    part = call(family, "terms", params, jax.tree.map(lambda x: x[order], batch))
    assert_allclose(part[0], whole[0][order], rtol=2e-4)
    assert_allclose(part[1], whole[1][:, order], rtol=2e-4, atol=1e-4)
    again = call(family, "terms", params, batch)
    assert_allclose(again[0], whole[0], rtol=0)
    assert (call(family, "terms", params, batch, jax.random.key(6))[0] != whole[0]).all()


def test_sizes_with_the_same_block_give_it_the_same_noise():
    small, large = TINY, dataclasses.replace(TINY, schedule="1x2,2x5", width=16)
    batch = TINY.example_batch(2, KEY)
    for a, b in zip(*once(lambda: (small.noise(KEY, batch), large.noise(KEY, batch)))()):
        assert_allclose(a, b[:len(a)], rtol=0)
        assert np.unique(b).size == b.size


@pytest.mark.parametrize("changes", [{"beta": 0.5}, {"free_bits": 3.0}, {"warmup": 10}])
def test_options_change_the_loss_and_never_the_evaluation(changes):
    params, batch = random_params(TINY), TINY.example_batch(4, KEY) | {"step": jnp.full(4, 3, jnp.int32)}
    other = dataclasses.replace(TINY, **changes)
    plain, changed = (call(f, "loss", params, batch) for f in (TINY, other))
    assert abs(float(plain[0] - changed[0])) > 1e-4
    plain, changed = (call(f, "evaluate", params, batch) for f in (TINY, other))
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-6), plain, changed)


def test_the_weight_of_the_kl_rises_over_the_warm_up():
    f, params = dataclasses.replace(TINY, warmup=4), random_params(TINY)
    batch = TINY.example_batch(4, KEY)
    at = [float(call(f, "loss", params, batch | {"step": jnp.full(4, step, jnp.int32)})[0]) for step in range(6)]
    rate = float(call(TINY, "loss", params, batch)[1]["rate"]) * math.log(2)
    assert_allclose(np.diff(at), [rate / 4] * 3 + [0, 0], rtol=1e-3, atol=1e-6)


def test_blocks_in_a_loop_equal_unrolled_and_recomputed_blocks():
    f = dataclasses.replace(TINY, schedule="2x2")
    params, batch = random_params(f), f.example_batch(3, KEY)
    a, b = (once(jax.value_and_grad(lambda p, f=f: f.loss(p, batch, KEY)[0]))(params)
            for f in (f, dataclasses.replace(f, scan=False, remat=True)))
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-3, atol=1e-5), a, b)


@pytest.mark.parametrize("body", ["tokens", pytest.param("conv", marks=pytest.mark.slow)])
def test_a_few_steps_lower_the_loss(body):
    f = dataclasses.replace(BODIES[body], schedule="2x1")
    e = experiments.Experiment(family=f, data=Images(batch=16)).replace({"optim.warmup": 4, "optim.learning_rate": 1e-2})
    batch = {"image": (jnp.arange(16 * 64) % 13).astype(jnp.uint8).reshape(16, 8, 8, 1)}
    step = once(lambda state: train_step(e, TRUNK, state, batch))
    state, losses = once(lambda: init_state(e))(), []
    for _ in range(50):
        state, metrics = step(state)
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("body", ["tokens", CONV])
def test_a_sharded_loss_equals_that_of_one_device(body, layout="fsdp_tensor"):
    f = dataclasses.replace(BODIES[body], classes=4, schedule="2x1", heads=2 if body == "tokens" else 0)
    params, batch = random_params(f), f.example_batch(8, KEY)
    mesh = make_mesh(1, "fsdp=2,data=2,tensor=2", layout)
    placed = jax.device_put(params, sharding.shardings(params, mesh, layout))
    assert any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(placed))
    found = once(lambda p, b: f.loss(p, sharding.shard_batch(b, mesh), KEY)[0])(placed, batch)
    assert_allclose(found, call(f, "loss", params, batch)[0], rtol=1e-4)


def test_pictures_and_samples_have_valid_levels():
    f = dataclasses.replace(TINY, plain=True, schedule="", classes=3, channels=3)
    params, batch = random_params(f), f.example_batch(9, KEY)
    shown = {name: np.asarray(image) for name, image in call(f, "pictures", params, batch).items()}
    assert {name: x.shape[:2] for name, x in shown.items()} == {
        "reconstructions": (2, 8), "samples": (4, 8), "interpolations": (4, 8), "traversals": (4, 8)}
    assert all(x.shape[2:] == (8, 8, 3) and x.dtype == np.uint8 and x.max() < 16 for x in shown.values())
    assert_allclose(shown["reconstructions"][0], batch["image"][:8])
    drawn = np.asarray(call(f, "sample", params, batch))
    assert drawn.shape == (9, 8, 8, 3) and drawn.dtype == np.uint8 and drawn.max() < 16
    assert len(np.unique(drawn, axis=0)) == 9
    assert_allclose(shown["samples"][0], drawn[:8])
