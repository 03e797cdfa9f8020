"""Taps read and replace activations, for every family that reads data, and leave no trace where they are closed."""

import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from scaling import nn
from scaling.families._pairs import written
from scaling.families.classifier import Classifier
from scaling.families.coded import Coded
from scaling.families.diffusion import Diffusion
from scaling.families.fsq import FSQ
from scaling.families.gan import GAN
from scaling.families.masked import Masked
from scaling.families.multimodal import Multimodal
from scaling.families.recurrent import Recurrent
from scaling.families.seq2seq import Seq2Seq
from scaling.families.transformer import Transformer
from scaling.families.vae import VAE
from scaling.insight.activations import forward_of, read_places, tappable, tapped_forward

SMALL = Transformer(vocab=31, length=12, width=16, layers=2, heads=2)
NARROW = dataclasses.replace(SMALL, heads=4, head_dim=4, kv_heads=2, window=5, document_masking=True, remat="full",
                             scan=False)
PLAIN = dataclasses.replace(SMALL, heads=4, head_dim=4, remat="full", scan=False)
WIDE = FSQ(width=24, layers=1)  # a tokenizer, whose layers no tap reads
FAMILIES = {
    "transformer": (SMALL, 3, 2), "narrow": (NARROW, 3, 2),
    "recurrent": (Recurrent(vocab=31, length=12, width=16, layers=2), 3, 0),
    "masked": (Masked(vocab=31, length=12, width=16, layers=2), 3, 2),
    "classifier": (Classifier(image_size=8, width=16, layers=2), 3, 2),
    "vae": (VAE(image_size=8, width=16, layers=3, scan=False), None, None),
    "gan": (GAN(image_size=8, width=16, layers=2), None, None),
    "fsq": (FSQ(image_size=8, width=16, layers=2), 3, 2),
    "diffusion": (Diffusion(image_size=8, width=16, layers=2, classes=3), 3, 2),
    "coded": (Coded(image_size=8, tokenizer=WIDE, model=SMALL), 3, 2),
    "coded recurrent": (Coded(image_size=8, tokenizer=WIDE, prior="recurrent", model=Recurrent(width=16, layers=2)), 3, 0),
    "seq2seq": (Seq2Seq(vocab=31, source_length=9, length=12, width=16, layers=2, heads=2, encoder_layers=3), 3, 4),
    "multimodal": (Multimodal(image_size=8, caption=5, tokenizer=WIDE, model=PLAIN), 3, 2),
}


def drawn(family):
    return jax.jit(family.init)(jax.random.key(0)), family.example_batch(3, jax.random.key(1))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_that_reads_data_has_a_residual_stream(name):
    family, layers, attended = FAMILIES[name]
    params, batch = jax.eval_shape(lambda: (family.init(jax.random.key(0)), family.example_batch(3, jax.random.key(1))))
    output, values = jax.eval_shape(tapped_forward(family), params, batch)
    assert output.shape == jax.eval_shape(lambda p, b: forward_of(family)(family, p, b), params, batch).shape
    residual = values["residual"]
    assert len(residual) >= 2 and all(x.shape[0] == 3 for x in residual)
    if layers is not None:
        assert len(residual) == layers and {x.shape[-1] for x in residual} == {16}
        assert len(values.get("attention", ())) == attended


@pytest.mark.parametrize("name", ["transformer", "narrow", "masked", "multimodal", "seq2seq"])
def test_open_taps_change_no_output_and_attention_is_a_distribution(name):
    family = FAMILIES[name][0]
    params, batch = drawn(family)
    read, values = jax.jit(tapped_forward(family))(params, batch)
    assert_allclose(read, jax.jit(lambda p, b: forward_of(family)(family, p, b))(params, batch), rtol=1e-4, atol=1e-5)
    for weights in values["attention"]:
        assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        if name != "masked" and weights.shape[2] == weights.shape[3]:  # else it is attention to the source
            assert (np.triu(weights, 1) == 0).all()
    if name == "narrow":
        assert all((np.tril(weights, -family.window) == 0).all() for weights in values["attention"])


def test_a_denoiser_is_read_without_its_condition_and_with_the_noise_of_each_example():
    family = FAMILIES["diffusion"][0]
    params, batch = drawn(family)
    read = jax.jit(tapped_forward(family))
    before, again = (read(params, batch | {"label": (batch["label"] + shift) % 3})[1]["residual"] for shift in (0, 1))
    turned = read(params, {name: x[::-1] for name, x in batch.items()})[1]["residual"]
    for x, same, rows in zip(before, again, turned, strict=True):
        assert_allclose(x, same, atol=1e-6)
        assert_allclose(x, rows[::-1], atol=1e-5)


def test_places_of_pairs_are_those_of_targets_whatever_pads_them():
    family = FAMILIES["seq2seq"][0]
    params, batch = drawn(family)
    read = jax.jit(tapped_forward(family))
    real = np.asarray(written(batch["target"][:, 1:]))
    padded = {"source": batch["source"], "target": batch["target"].at[:, 1:].add(np.where(real, 0, 7))}
    for x, other in zip(*(read(params, pairs)[1]["residual"] for pairs in (batch, padded)), strict=True):
        rows, others = read_places(batch, np.asarray(x)), read_places(batch, np.asarray(other))
        assert len(rows) == real.sum() < real.size
        assert_allclose(rows, others, atol=1e-6)


def test_an_edit_replaces_a_value_for_all_that_comes_after():
    params, batch = drawn(SMALL)
    swap = {("residual", 1): lambda x: x[::-1]}
    edited, values = jax.jit(tapped_forward(SMALL, swap))(params, batch)
    clean, before = jax.jit(tapped_forward(SMALL))(params, batch)
    assert_allclose(values["residual"][1], before["residual"][1][::-1], rtol=1e-5)
    assert_allclose(edited, clean[::-1], rtol=1e-4, atol=1e-5)


def test_a_program_that_trains_has_no_trace_of_taps(monkeypatch):
    params, batch = jax.eval_shape(lambda: (SMALL.init(jax.random.key(0)), SMALL.example_batch(3, jax.random.key(1))))

    def program():
        return str(jax.make_jaxpr(lambda p, b: jax.grad(lambda p: SMALL.loss(p, b, None)[0])(p))(params, batch))

    with_taps = program()
    with nn.tapped():
        assert program() != with_taps  # layers one after another
    monkeypatch.setattr("scaling.nn.attention.tap", lambda place, x: x)
    monkeypatch.setattr("scaling.nn.stack.tapping", lambda: False)
    assert program() == with_taps
    assert tappable(NARROW).remat == "none"
