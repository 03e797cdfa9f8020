"""The tokenizer of images: codes and their levels, gradients that go straight through, codebooks, training, sizes."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lively import call, lively, once
from numpy.testing import assert_allclose, assert_array_equal
from sources import ExampleSource, tiny

from scaling import cost, data
from scaling.families import _fsq_codes as codes
from scaling.families._fsq_network import autoencoder_weights
from scaling.families._vae_likelihoods import LIKELIHOODS
from scaling.families.fsq import FSQ
from scaling.fields import ConfigError
from scaling.store import checkpoint
from scaling.training.evaluation import metrics_of
from scaling.training.program import Program
from scaling.training.step import TRUNK

KEY = jax.random.key(5)
TINY = FSQ(image_size=8, levels=16, width=8, layers=1, code_levels="4,3")
VQ = dataclasses.replace(TINY, quantiser="vq", codebook=6, code_width=3)
BATCH = TINY.example_batch(8, KEY) | {"step": jnp.zeros(8, jnp.int32)}  # of all tests, which share programs


# ---- finite scalar quantisation


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), pytest.param((2,), marks=pytest.mark.slow)])
def test_every_code_stands_for_one_choice_of_levels_and_its_values_have_it_again(levels):
    every = np.arange(math.prod(levels))
    digits = np.asarray(codes.digits_of_codes(every, levels))
    assert {tuple(row) for row in digits} == set(itertools.product(*map(range, levels)))
    assert_array_equal(codes.codes_of_digits(digits, levels), every)
    values = codes.scalar_values(every, levels)
    assert float(jnp.abs(values).max()) == 1
    found, again = codes.scalar_quantised(jnp.arctanh(jnp.clip(values, -0.999999, 0.999999)), levels)
    assert_array_equal(found, every)
    assert_allclose(again, values, atol=1e-6)


def test_a_vector_gets_the_nearest_values_that_there_are():
    z = 2 * jax.random.normal(KEY, (500, 2))
    found, values = codes.scalar_quantised(z, (4, 3))
    every = np.asarray(codes.scalar_values(np.arange(12), (4, 3)))
    assert_array_equal(found, np.square(np.tanh(z)[:, None] - every).sum(-1).argmin(-1))
    assert_allclose(values, every[found], atol=1e-6)


@pytest.mark.parametrize("family", [TINY, pytest.param(VQ, marks=pytest.mark.slow)], ids=["fsq", "vq"])
def test_gradients_go_straight_through_the_quantiser(family):
    """They are those of a loss without rounding: what rounding adds to the vectors at these parameters is a constant.
    Finite differences of that loss agree with them in any direction of the parameters."""
    params, flat = lively(family), jax.flatten_util.ravel_pytree
    start, rebuilt = flat(params["model"])
    decoded = jnp.tanh if family.quantiser == "fsq" else (lambda z: z)

    @once
    def apart():
        z = family.module(params).encode(BATCH["image"])
        return family.quantised(params, z)[1], family.quantised(params, z)[1] - decoded(z)

    fixed, added = apart()

    def soft(moved):
        module = family.module(params | {"model": rebuilt(moved)})
        z = module.encode(BATCH["image"])
        loss = family.distortion(module.decode(decoded(z) + added), BATCH).mean() / family.dimensions
        return loss + (0 if family.quantiser == "fsq" else family.commitment * jnp.square(z - fixed).sum(-1).mean())

    gradient = flat(once(jax.grad(lambda own: family.loss(params | {"model": own}, BATCH, KEY)[0]))(params["model"]))[0]
    each = np.random.default_rng(0).normal(size=(6, start.size)) * np.maximum(np.abs(gradient), 1e-3)
    each = (each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32)
    ends = once(jax.vmap(soft))(np.asarray(start) + 1e-2 * np.concatenate([each, -each]))
    slopes = (ends[:6] - ends[6:]) / 2e-2
    assert_allclose(slopes, each @ gradient, rtol=0.02, atol=0.01 * float(jnp.abs(each @ gradient).max()))
    encoder = rebuilt(gradient)["enter"]["weight"][...]
    assert float(jnp.abs(encoder).max()) > 1e-3  # the encoder learns at all


# ---- images and codes


@pytest.mark.parametrize("family", [TINY, pytest.param(VQ, marks=pytest.mark.slow), pytest.param(
    dataclasses.replace(TINY, channels=3), marks=pytest.mark.slow)], ids=["fsq", "vq", "colours"])
def test_images_become_codes_and_codes_images(family):
    params, images = lively(family), family.example_batch(8, KEY)["image"]
    found = call(family, "encode_images", params, images)
    assert found.shape == (8, 4) and found.dtype == jnp.int32 and found.min() >= 0 and found.max() < family.codes
    assert len(np.unique(found)) > 1
    drawn = call(family, "decode_codes", params, found)
    assert drawn.shape == images.shape and drawn.dtype == jnp.uint8 and drawn.max() < 16
    assert_array_equal(found, metrics(family, params, images)["_codes"])
    shown = call(family, "pictures", params, {"image": jnp.concatenate([images, images[:3]])}, KEY)["reconstructions"]
    assert_array_equal(shown, jnp.stack([images, drawn]))


def metrics(family, params, images):
    return call(family, "evaluate", params, {"image": images}, KEY)


@pytest.mark.slow
def test_the_mean_of_a_likelihood_is_that_of_its_samples():
    for name, levels, channels in (("logistic", 16, 3), ("bernoulli", 2, 1)):
        family = FSQ(image_size=4, levels=levels, channels=channels, likelihood=name)
        kind, draws = LIKELIHOODS[name], 4000
        outputs = jax.random.normal(KEY, (1, 2, 2, kind.outputs(family)))
        if name == "logistic":  # narrow components, whose tails beyond the range are small
            k = family.mixture
            outputs = outputs.at[..., k * (1 + channels):k * (1 + 2 * channels)].set(-3.0)
        noise = jax.random.uniform(KEY, (draws, 2, 2, channels + 1))
        outputs = jnp.broadcast_to(outputs, (draws, *outputs.shape[1:]))
        values = 2 * np.asarray(once(kind.sample, static_argnums=1)(outputs, levels, noise), float) / (levels - 1) - 1
        assert_allclose(kind.mean(outputs[:1], channels)[0], values.mean(0), atol=0.04)


def test_rate_and_distortion_add_up_to_the_bound_and_the_loss_is_the_distortion_in_nats():
    params = lively(TINY)
    found = {name: float(x) for name, x in metrics_of(TINY, metrics(TINY, params, BATCH["image"])).items()}
    assert found["rate"] == pytest.approx(4 * math.log2(12) / 64)
    assert found["rate"] + found["distortion"] == pytest.approx(found["bits_per_dim"], rel=1e-5)
    assert found["loss"] == pytest.approx(found["distortion"] * math.log(2), rel=1e-5)
    loss, aux = call(TINY, "loss", params, BATCH, KEY)
    assert [float(loss), float(aux["bits_per_dim"])] == pytest.approx([found["loss"], found["bits_per_dim"]], rel=1e-5)
    images = 2 * np.asarray(BATCH["image"], float) / 15 - 1
    drawn = call(TINY, "decode_codes", params, call(TINY, "encode_images", params, BATCH["image"]))
    drawn = 2 * np.asarray(drawn, float) / 15 - 1
    assert found["mse"] == pytest.approx(np.square((images - drawn) / 2).mean(), rel=0.05)  # but for rounding to levels


def test_the_usage_of_codes_is_that_of_all_examples_with_its_error():
    """Of codes that are drawn independently the entropy is known, and its error that of many such sets."""
    shares, examples, tokens = np.array([0.5, 0.25, 0.125, 0.125]), 400, 5
    drawn = np.random.default_rng(0).choice(4, (200, examples, tokens), p=shares)
    found = codes.conclude_usage(drawn, 8)
    assert (found["codes_used"].value == 0.5).all()
    entropy = found["code_entropy"]
    assert abs(entropy.value.mean() - tokens * 1.75) < 0.01
    assert_allclose(found["code_perplexity"].value, 2 ** (entropy.value / tokens))
    for name in ("code_entropy", "code_perplexity"):
        error = np.sqrt(np.square(found[name].influence).sum(-1)).mean()
        assert error == pytest.approx(found[name].value.std(), rel=0.15)
        assert_allclose(found[name].influence.sum(-1), 0, atol=1e-9)


# ---- vector quantisation


def test_a_codebook_on_vectors_that_stay_finds_their_clusters_and_restarts_codes_that_are_not_used():
    """Six clusters and twelve codes: k-means leaves no cluster without a code, and no code without vectors."""
    centres = 3 * jax.random.normal(KEY, (6, 2))
    moved = once(codes.moved_codebook)
    codebook = codes.new_codebook(12, 2)
    for step in range(60):
        noise = jax.random.normal(jax.random.fold_in(KEY, step), (240, 2))
        z = jnp.tile(centres, (40, 1)) + 0.05 * noise
        codebook = moved(codebook, z, step, jax.random.fold_in(KEY, 1000 + step))
    apart = np.linalg.norm(np.asarray(centres)[:, None] - np.asarray(codebook["vectors"][...]), axis=-1)
    assert apart.min(1).max() < 0.2 and apart.min(0).max() < 0.5
    lost = codebook["vectors"].replace(codebook["vectors"][...].at[3].set(100.0))
    worn = codebook["usage"].replace(codebook["usage"][...].at[3].set(0.9 * codes.DEAD))
    again = moved({"vectors": lost, "usage": worn}, z, 60, KEY)
    assert float(jnp.abs(again["vectors"][...][3]).max()) < 20 and float(again["usage"][...][3]) == 1


def test_what_is_nearest_has_the_least_distance():
    codebook = {"vectors": codes.new_codebook(9, 3)["vectors"].replace(jax.random.normal(KEY, (9, 3)))}
    z = jax.random.normal(jax.random.key(1), (4, 7, 3))
    apart = np.square(np.asarray(z)[:, :, None] - np.asarray(codebook["vectors"][...])).sum(-1)
    assert_array_equal(codes.nearest_codes(z, codebook), apart.argmin(-1))


def trained(e, steps, pack=1, source=None):
    program = Program(e, source or ExampleSource(e.family, e.data.batch), pack, "", 8, jax.devices()[:1])
    runs = [e.replace({"seed": seed}) for seed in range(pack)]
    return program, runs, program.advance(program.init(runs), runs, [TRUNK] * pack, steps)[0]


@pytest.mark.slow
def test_codebooks_are_part_of_the_state_and_equal_packed_accumulated_and_resumed(tmp_path):
    e = tiny("fsq", **{"optim.ema": 0.9}).replace({"family": dataclasses.replace(VQ, image_size=16)})
    program, runs, whole = trained(e, 8)
    book = whole.params["codebook"]
    assert float(book["usage"][...].min()) > 0 and len(np.unique(np.asarray(book["vectors"][...])[0], axis=0)) == 6
    for other in (trained(e, 8, pack=2)[2], trained(e.replace({"microbatch": 2}), 8)[2]):
        for a, b in zip(jax.tree.leaves((whole.params, whole.ema)), jax.tree.leaves((other.params, other.ema))):
            assert_allclose(a[0], b[0], rtol=2e-4, atol=1e-5)
    _, _, half = trained(e, 4)
    saved = checkpoint.Checkpoints(tmp_path)
    saved.save(4, half)
    saved.wait()
    resumed, _ = program.advance(saved.restore(4, program.abstract)[0], runs, [TRUNK], 4)
    jax.tree.map(assert_array_equal, jax.tree.leaves(resumed), jax.tree.leaves(whole))


@pytest.mark.slow
@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_a_trained_tokenizer_uses_its_codes_and_reads_what_it_draws_as_what_it_was_drawn_from(quantiser):
    source = data.load_images("glyphs/letters", size=16, levels=16, batch=16)
    e = tiny("fsq", **{"data.batch": 16, "data.examples": 16 * 400, "data.levels": 16, "optim.learning_rate": 0.012,
                       "optim.name": "muon", "optim.warmup": 40})
    e = e.replace({"family": dataclasses.replace(e.family, width=24, quantiser=quantiser, code_levels="5,5,5")})
    program, _, state = trained(e, 400, source=source)
    examples = source.evaluation("iid", 512)
    found = program.evaluate(state, examples)
    assert found["codes_used"][0] > 0.6 and found["code_perplexity"][0] > 12
    assert found["mse"][0] < 0.6 * (examples["image"] / 15.0).var()
    params = program.parameters(state)[0]
    first = call(e.family, "encode_images", params, examples["image"])
    again = call(e.family, "encode_images", params, call(e.family, "decode_codes", params, first))
    assert (first == again).mean() > 0.5  # chance: 0.05


# ---- sizes


def test_the_ladder_is_near_the_wanted_size_and_its_count_is_that_of_the_parameters():
    for size in np.geomspace(5e3, 1e8, 5):
        family = FSQ.ladder(size)
        assert abs(cost.param_count(family)["non_embedding"] / size - 1) < 0.25
    for family in (TINY, FSQ(width=16, layers=2, channels=3), VQ):
        outputs = LIKELIHOODS["logistic"].outputs(family) * family.cell**2
        count = autoencoder_weights(family.channels * family.cell**2, outputs, family.code_channels)
        assert cost.param_count(family)["non_embedding"] == count(family.width, family.layers)
    assert FSQ.ladder(1e6, layers=4).layers == 4


@pytest.mark.parametrize("wrong, says", [
    ({"patch": 3}, "family.patch=3 must divide the 16 pixels of data.size; write one of 1, 2, 4, 8, 16"),
    ({"code_levels": "8,5,x"}, "family.code_levels='8,5,x' is no list of levels; .* such as 8,5,5,5"),
    ({"code_levels": "1,5"}, "from 2 to 256"), ({"code_levels": "256,256,256"}, "gives 16777216 codes"),
    ({"codebook": 4}, "family.codebook=4 changes nothing with family.quantiser=fsq"),
    ({"likelihood": "bernoulli"}, "takes 2 levels, not family.levels=256")])
def test_fields_that_do_not_go_together_are_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        FSQ(**wrong)
