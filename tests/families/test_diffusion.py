"""The diffusion model: its bound and its samplers with denoisers that are known exactly, conditions, guidance, sizes."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lively import lively as lively_at
from lively import once
from numpy.testing import assert_allclose

from scaling import cost
from scaling.families import _diffusion_bound as bounds
from scaling.families._diffusion_levels import level_nats, mean_of_levels
from scaling.families._diffusion_network import denoiser_weights
from scaling.families._diffusion_sample import follow, guided, step_levels
from scaling.families.diffusion import Diffusion, edm_weight
from scaling.fields import ConfigError

KEY = jax.random.key(5)
TINY = Diffusion(image_size=8, levels=16, width=8, layers=1, classes=4, caption=3, steps=3, strata=2)
BOUND = dataclasses.replace(TINY, weighting="bound", drop=0.0)
BATCH = TINY.example_batch(8, KEY)  # of all tests, which share programs
lively = functools.partial(lively_at, scale=0.2)


@functools.partial(once, static_argnums=(0, 1))
def call(family, method, params, batch, key=KEY):
    return getattr(family, method)(params, batch, key)


# ---- the bound


def gaussian(std):
    """The best denoiser of pixels that are independent normals of this standard deviation."""
    return lambda z, sigma: z * (std**2 / (std**2 + jnp.square(sigma)))[:, None, None, None]


@pytest.mark.parametrize("std, highest", [(0.5, 20.0), (2.0, 4.0)])
def test_the_bound_on_normal_data_with_the_best_denoiser_is_their_information(std, highest, lowest=0.01, count=2000):
    """Prior and integral add up to the information that z at the lowest noise has of x, log(1 + std^2 / lowest^2) / 2 nats
    for each pixel (Shannon's formula), whatever the highest noise is. Noise levels that are spread evenly leave the noise
    of the pixels alone, 0.3% of it."""
    @once
    def found():
        x, noise = jax.random.normal(KEY, (2, count, 16, 16, 1)) * jnp.array([std, 1.0]).reshape(2, 1, 1, 1, 1)
        sigma = bounds.noise_levels(KEY, jnp.arange(count), lowest, highest)
        integral = math.log(highest / lowest) * bounds.denoising_nats(gaussian(std), x, sigma, noise)
        return bounds.prior_nats(x, highest, std).mean() / 256, integral.mean() / 256

    prior, integral = map(float, found())
    assert prior == pytest.approx(0.5 * math.log1p((std / highest) ** 2), rel=0.01)
    assert prior + integral == pytest.approx(0.5 * math.log1p((std / lowest) ** 2), rel=0.01)


def test_a_worse_denoiser_has_a_worse_bound():
    examples = jnp.arange(4096)
    x, noise = jax.random.normal(KEY, (2, 4096, 2, 2, 1)) * jnp.array([0.5, 1.0]).reshape(2, 1, 1, 1, 1)
    sigma = bounds.noise_levels(KEY, examples, 0.01, 20.0)
    best, *worse = (float(bounds.denoising_nats(gaussian(std), x, sigma, noise).mean()) for std in (0.5, 0.25, 1.0))
    assert all(best < other - 0.05 for other in worse)


@pytest.mark.parametrize("strata", [1, 3])
def test_noise_levels_cover_their_part_of_the_range_evenly_and_follow_the_number_of_the_example(strata, count=64):
    examples = jnp.arange(1000, 1000 + count)
    parts = [bounds.noise_levels(KEY, examples, 0.01, 10.0, stratum, strata) for stratum in range(strata)]
    places = np.sort(np.log(np.concatenate(parts) / 0.01) / np.log(1000))
    assert places[0] >= 0 and places[-1] < 1 and np.diff(places).max() < 3 / (count * strata)  # random ones: about 5
    assert_allclose(bounds.noise_levels(KEY, examples[7:9], 0.01, 10.0, 0, strata), parts[0][7:9], rtol=0)


def exact_mean(mean, variance, levels):
    values = 2 * np.arange(levels) / (levels - 1) - 1
    logs = -((values - np.asarray(mean, np.float64)[..., None]) ** 2) / (2 * np.asarray(variance, np.float64)[..., None])
    shares = np.exp(logs - logs.max(-1, keepdims=True))
    return (shares * values).sum(-1) / shares.sum(-1)


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_the_mean_over_levels_is_that_of_all_levels(levels):
    step = 2 / (levels - 1)
    mean = jnp.linspace(-1.5, 1.5, 401).reshape(-1, 1, 1, 1)
    for std in (0.12, 0.3, 0.7):
        variance = jnp.full_like(mean, (std * step) ** 2)
        found = once(mean_of_levels, static_argnums=2)(mean, variance, levels)
        assert_allclose(found, exact_mean(mean, variance, levels), atol=3e-4 * step)


def test_levels_cost_next_to_nothing_at_the_lowest_noise_and_all_their_bits_at_much_noise():
    image = jnp.arange(16, dtype=jnp.uint8).reshape(1, 4, 4, 1)
    nats = once(level_nats, static_argnums=(1, 2))
    noise = jax.random.normal(KEY, (500, 4, 4, 1))
    images = jnp.broadcast_to(image, noise.shape)
    assert 0 <= float(nats(images, 16, TINY.lowest, noise).mean()) < 16e-3
    assert_allclose(nats(images, 4, 1e4, noise).mean() / 16, np.log(4), rtol=0.3)


def test_rate_and_distortion_add_up_and_the_loss_is_the_bound_in_nats():
    params = lively(TINY)
    found = {name: float(x.over.sum() / x.under.sum()) for name, x in call(TINY, "evaluate", params, BATCH).items()}
    assert found["rate"] + found["distortion"] == pytest.approx(found["bits_per_dim"], rel=1e-5)
    assert found["loss"] == pytest.approx(found["bits_per_dim"] * math.log(2), rel=1e-5)
    losses = [call(BOUND, "loss", params, BATCH, jax.random.key(i)) for i in range(100)]
    for loss, metrics in losses:
        assert float(loss) == pytest.approx(float(metrics["bits_per_dim"]) * math.log(2), rel=1e-5)
    mean, error = np.mean([float(x) for x, _ in losses]), np.std([float(x) for x, _ in losses]) / 10
    again = [call(TINY, "evaluate", params, BATCH, jax.random.key(i))["loss"].over.mean() for i in range(100)]
    assert abs(mean - np.mean(again)) < 4 * math.hypot(error, np.std(again) / 10)


def test_weights_of_edm_are_its_density_times_its_lambda():
    grid = jnp.exp(jnp.linspace(-9.0, 7.0, 4001))
    each = edm_weight(grid, 1e6) * 16 / 4000
    assert float(each.sum()) == pytest.approx(1, rel=1e-3)
    density = np.exp(-0.5 * ((np.log(grid) + 1.2) / 1.2) ** 2) / (1.2 * np.sqrt(2 * np.pi))
    assert_allclose(edm_weight(grid, 0.5) / grid**2, density * (grid**2 + 0.25) / (grid * 0.5) ** 2, rtol=1e-3)
    edm = dataclasses.replace(BOUND, weighting="edm")
    bound, edm = (call(f, "loss", lively(TINY), BATCH) for f in (BOUND, edm))
    assert float(edm[0]) != float(bound[0])
    assert float(edm[1]["bits_per_dim"]) == pytest.approx(float(bound[1]["bits_per_dim"]))


# ---- samples


MEANS, SHARES, STD = np.array([-0.6, 0.1, 0.8]), np.array([0.2, 0.5, 0.3]), 0.05


def mixture(z, sigma):
    """The best denoiser of pixels that are independent draws from three normals."""
    variance = STD**2 + jnp.square(sigma)[:, None, None, None, None]
    means = jnp.asarray(MEANS, jnp.float32).reshape(1, 1, 1, 1, 3)
    shares = jnp.asarray(SHARES, jnp.float32).reshape(means.shape)
    logs = jnp.log(shares) - jnp.square(z[..., None] - means) / (2 * variance)
    each = means + STD**2 / variance * (z[..., None] - means)
    return (jax.nn.softmax(logs, -1) * each).sum(-1)


@functools.partial(once, static_argnums=0)
def followed(sampler, levels):
    return jnp.sort(follow(mixture, 20.0 * jax.random.normal(KEY, (4096, 1, 1, 1)), levels, sampler).ravel())


@functools.cache
def drawn(sampler, steps):
    """Sorted samples of the mixture from the same 4096 draws of noise. Steps between equal levels, which do nothing, let
    one program take any number of others."""
    return np.asarray(followed(sampler, np.pad(step_levels(steps, 0.002, 20.0), (0, 256 - steps), "edge")), np.float64)


@pytest.mark.parametrize("sampler, steps", [("heun", 32), ("ddim", 128)])
def test_samples_with_the_exact_denoiser_are_the_mixture(sampler, steps):
    x = drawn(sampler, steps)
    nearest = np.abs(x[:, None] - MEANS).argmin(1)
    counts = np.bincount(nearest, minlength=3)
    assert (np.abs(counts / x.size - SHARES) < 4 * np.sqrt(SHARES * (1 - SHARES) / x.size)).all()
    for i, mean in enumerate(MEANS):
        assert abs(x[nearest == i].mean() - mean) < 5 * STD / math.sqrt(counts[i]) + 0.004
        assert x[nearest == i].std() == pytest.approx(STD, rel=0.15)


def test_more_steps_come_closer_to_the_solution():
    """Distances to the solution by many steps, by optimal transport on the line: they fall with the steps, and Heun's are
    smaller at twice the calls of the denoiser."""
    exact = drawn("heun", 256)
    distance = {(name, n): np.abs(drawn(name, n) - exact).mean() for name in ("heun", "ddim") for n in (8, 16, 32, 64)}
    for name in ("heun", "ddim"):
        each = [distance[name, n] for n in (8, 16, 32, 64)]
        assert all(later < 1.02 * earlier for earlier, later in zip(each, each[1:])), (name, each)
        assert each[-1] < 0.5 * each[0]
    assert distance["heun", 16] < distance["ddim", 32] and distance["heun", 32] < distance["ddim", 64]


def test_noise_levels_of_samplers_fall_from_the_highest_to_the_lowest():
    levels = step_levels(16, 0.01, 20.0)
    assert_allclose([levels[0], levels[-1]], [20.0, 0.01], rtol=1e-5)
    assert (np.diff(levels) < 0).all() and levels.shape == (16,)


def test_guidance_of_one_is_the_conditional_model_and_of_zero_the_unconditional_one():
    def conditional(z, sigma):
        return z + nn_along(sigma)

    def unconditional(z, sigma):
        return 2 * z

    def nn_along(sigma):
        return sigma[:, None, None, None]

    z, sigma = jax.random.normal(KEY, (3, 2, 2, 1)), jnp.array([0.1, 1.0, 2.0])
    assert guided(conditional, unconditional, 1.0) is conditional
    assert_allclose(guided(conditional, unconditional, 0.0)(z, sigma), 2 * z)
    assert_allclose(guided(conditional, unconditional, 3.0)(z, sigma), 2 * z + 3 * (nn_along(sigma) - z), rtol=1e-5)
    params = lively(TINY)
    plain, without = (call(dataclasses.replace(TINY, guidance=g), "sample", params, BATCH) for g in (1.0, 0.0))
    other = BATCH | {"label": (BATCH["label"] + 1) % 4, "caption": (BATCH["caption"] + 1) % 256}
    assert (call(dataclasses.replace(TINY, guidance=0.0), "sample", params, other) == without).all()
    assert (call(TINY, "sample", params, other) != plain).any() and (plain != without).any()


def test_labels_and_captions_change_what_is_denoised_and_sampled_and_dropped_ones_do_not():
    params, batch, ones = lively(TINY), BATCH, jnp.ones(8)
    z, sigma = jax.random.normal(KEY, (8, 8, 8, 1)), jnp.full(8, 0.7)
    run = once(lambda batch, kept: TINY.denoise(params, batch, kept)(z, sigma))
    for name in ("label", "caption"):
        changed = batch | {name: (batch[name] + 1) % 4}
        apart = jnp.abs(run(batch, ones) - run(changed, ones)).reshape(8, -1).max(1)
        assert (apart > 1e-5).all(), name
        assert_allclose(run(batch, 0 * ones), run(changed, 0 * ones), rtol=0)


def test_a_share_of_the_images_is_trained_without_its_condition():
    """The label of one image changes the loss with every key; with drop=0.5 it changes it with about half of the keys."""
    other = BATCH | {"label": BATCH["label"].at[0].set((BATCH["label"][0] + 1) % 4)}
    keys = [jax.random.key(i) for i in range(64)]
    for share, least, most in ((0.0, 64, 64), (0.5, 16, 48)):
        f = dataclasses.replace(BOUND, drop=share)
        changed = [float(call(f, "loss", lively(TINY), batch, key)[0]) for batch in (BATCH, other) for key in keys]
        assert least <= np.not_equal(*np.split(np.array(changed), 2)).sum() <= most


def test_noise_depends_on_the_number_of_the_example_and_not_on_its_row():
    params, batch, order = lively(TINY), BATCH, jnp.array([5, 1, 3, 0, 7, 2, 6, 4])
    part = {name: x[order] for name, x in batch.items()}
    whole, some = (call(TINY, "evaluate", params, given)["bits_per_dim"].over for given in (batch, part))
    assert_allclose(some, whole[order], rtol=2e-4)
    assert (np.asarray(call(TINY, "sample", params, part)) == np.asarray(call(TINY, "sample", params, batch))[order]).all()
    assert (call(TINY, "evaluate", params, batch, jax.random.key(6))["bits_per_dim"].over != whole).all()


def test_pictures_are_images_and_share_the_noise_of_samples():
    params = lively(TINY)
    shown = {name: np.asarray(x) for name, x in call(TINY, "pictures", params, BATCH).items()}
    assert {name: (x.shape, x.dtype) for name, x in shown.items()} == {
        name: ((4, 8, 8, 8, 1), jnp.uint8) for name in ("samples", "interpolations")}
    assert (shown["samples"][0] == np.asarray(call(TINY, "sample", params, BATCH))).mean() > 0.99  # in another program
    assert shown["samples"].max() < 16 and len(np.unique(shown["samples"].reshape(32, -1), axis=0)) == 32


# ---- sizes


def test_the_ladder_is_near_the_wanted_size_and_its_count_is_that_of_the_parameters():
    for size in np.geomspace(1e4, 1e8, 5):
        family = Diffusion.ladder(size)
        assert abs(cost.param_count(family)["non_embedding"] / size - 1) < 0.25
    for family in (TINY, Diffusion(width=16, layers=2, channels=3)):
        count = denoiser_weights(family.conditional, family.patch_values)(family.width, family.layers)
        assert cost.param_count(family)["non_embedding"] == count
    assert Diffusion.ladder(1e6, layers=2).layers == 2


@pytest.mark.parametrize("wrong, says", [
    ({"patch": 3}, "family.patch=3 must divide the 16 pixels of data.size; write one of 1, 2, 4, 8, 16"),
    ({"guidance": 2.0, "drop": 0.0}, "family.guidance=2.0 needs a model that .* write family.drop=0.1"),
    ({"sampler": "euler"}, "heun")])
def test_fields_that_do_not_go_together_are_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        Diffusion(**wrong)
