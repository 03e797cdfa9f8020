"""The cross-entropy in blocks of the vocabulary: equal to the plain one in value and gradients, with less memory."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from scaling import cost, nn
from scaling.devices import sharding
from scaling.devices.layouts import make_mesh
from scaling.families.transformer import Transformer
from scaling.nn import readout

WIDTH, VOCAB = 16, 50


def inputs(batch=8, length=6, vocab=VOCAB, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (batch, length, WIDTH)).astype(dtype)
    weight = jax.random.normal(keys[1], (WIDTH, vocab))
    return x, weight, jax.random.randint(keys[2], (batch, length), 0, vocab), jax.random.normal(keys[3], (batch, length))


def plain(x, weight, targets, scale):
    logits = jnp.einsum("bsw,wv->bsv", x, weight.astype(x.dtype), preferred_element_type=jnp.float32)
    return nn.cross_entropy(logits * scale, targets)


def value_and_gradients(loss, x, weight, targets, per_token):
    """Every token has its own weight in the sum, so that gradients with respect to each one are compared."""
    def total(x, weight):
        nats = loss(x, weight, targets)
        return (nats * per_token).sum(), nats
    (_, nats), gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(x, weight)
    return nats, *gradients


@pytest.mark.parametrize("block,scale", [(1, 1.0), (10, 0.5), (16, 1.0), (64, 1.0)])  # divides, rest, one
def test_it_equals_the_plain_cross_entropy_in_value_and_gradients(block, scale):
    found = value_and_gradients(lambda *a: readout.block_cross_entropy(*a, scale, block), *inputs())
    for ours, theirs in zip(found, value_and_gradients(lambda *a: plain(*a, scale), *inputs()), strict=True):
        assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_scores_are_the_nats_and_the_first_of_the_likeliest_words():
    x, weight, targets, _ = inputs()
    weight = weight.at[:, 40].set(weight[:, 28])  # two words with equal logits, in different blocks
    nats, best = jax.jit(lambda *a: readout.block_scores(*a, block=16))(x, weight, targets)
    assert_allclose(nats, plain(x, weight, targets, 1.0), rtol=1e-5, atol=1e-5)
    want = jnp.einsum("bsw,wv->bsv", x, weight).argmax(-1)
    assert bool((best == want).all()) and bool((want == 28).any())


def test_products_in_bfloat16_are_as_near_to_float32_as_the_plain_ones():
    exact = value_and_gradients(lambda *a: plain(*a, 1.0), *inputs())
    low = value_and_gradients(lambda *a: readout.block_cross_entropy(*a, block=16), *inputs(dtype=jnp.bfloat16))
    assert [x.dtype for x in low] == ["float32", "bfloat16", "float32"]
    for ours, theirs in zip(low, exact, strict=True):
        assert float(jnp.linalg.norm(ours.astype(jnp.float32) - theirs)) < 0.02 * float(jnp.linalg.norm(theirs))


def test_logits_that_overflow_an_exponential_are_finite():
    x, weight, targets, per_token = inputs()
    found = value_and_gradients(lambda *a: readout.block_cross_entropy(*a, block=16), 100 * x, weight, targets, per_token)
    for ours, theirs in zip(found, value_and_gradients(lambda *a: plain(*a, 1.0), 100 * x, weight, targets, per_token)):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("layout,mesh", [("tensor", "data=2,tensor=4"), ("fsdp_tensor", "data=2,fsdp=2,tensor=2"),
                                         ("sequence", "data=2,sequence=4"), ("fsdp", "")])
def test_it_is_the_same_under_every_layout(layout, mesh):
    """Under tensor=4 each device has a quarter of 52 words, in blocks of 5, 5 and 3."""
    given = inputs(length=8, vocab=52)
    where = make_mesh(1, mesh, layout)
    want = value_and_gradients(lambda *a: plain(*a, 1.0), *given)

    def loss(*arguments):
        with sharding.within(where, layout):
            return readout.block_cross_entropy(*arguments, block=5)

    for ours, theirs in zip(value_and_gradients(loss, *given), want, strict=True):
        assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_packed_runs_are_batched():
    x, weight, targets, per_token = inputs()
    runs = [jnp.stack([a, a[::-1]]) for a in (x, targets, per_token)]
    gradient = jax.grad(lambda w, x, t, c: (readout.block_cross_entropy(x, w, t, block=16) * c).sum())
    packed = jax.jit(jax.vmap(gradient, (None, 0, 0, 0)))(weight, *runs)
    assert_allclose(packed[0], jax.jit(gradient)(weight, x, targets, per_token), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------ as a loss of a family


SMALL = Transformer(vocab=50, length=12, width=16, layers=1, heads=2, logit_scale=0.5)
BLOCKS = dataclasses.replace(SMALL, cross_entropy="blocks")


@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_family_has_the_same_loss_gradients_and_evaluation_either_way(tied):
    ways = [dataclasses.replace(f, tied=tied, cross_entropy=f.cross_entropy) for f in (SMALL, BLOCKS)]
    batch = SMALL.example_batch(4, jax.random.key(1))

    @jax.jit
    def start(key):
        return jax.tree.map(lambda x: x + 0.3 * jnp.sin(7.0 * jnp.arange(x.size)).reshape(x.shape), ways[0].init(key))
    params = start(jax.random.key(0))

    def results(f):
        loss = jax.value_and_grad(lambda p: f.loss(p, batch, None)[0])
        return jax.jit(lambda p: (loss(p), f.evaluate(p, batch, None)))(params)

    for ours, theirs in zip(*(jax.tree.leaves(results(f)) for f in ways), strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_blocks_are_chosen_by_the_size_of_one_sequence():
    assert readout.in_blocks("auto", 2048, 128_000) and not readout.in_blocks("auto", 256, 8192)
    assert readout.in_blocks("blocks", 1, 1) and not readout.in_blocks("whole", 2048, 128_000)


def test_one_more_product_is_executed_and_the_model_counts_the_same():
    large = dataclasses.replace(SMALL, length=2048, vocab=2**16, attention="xla")
    whole, auto = (dataclasses.replace(large, cross_entropy=way) for way in ("whole", "auto"))
    readout_once = 2 * 2 * 2048 * large.width * large.vocab
    executed = [cost.flops(lambda p, b, f=f: jax.grad(lambda p: f.loss(p, b, None)[0])(p), *cost._abstract(f, 2)[:2])
                for f in (whole, auto)]
    assert executed[1] - executed[0] == readout_once
    assert cost.train_flops(auto, 2) == cost.train_flops(whole, 2)
    with sharding.as_on("tpu", plain=True):
        assert not readout.in_blocks("auto", 2048, 2**16)


def test_memory_at_a_vocabulary_of_128_thousand():
    """2,048 tokens of width 64: whole logits take more than 2 GiB of temporaries, blocks less than an eighth of that."""
    shapes = (1, 2048, 64), (64, 128_000), (1, 2048)
    given = [jax.ShapeDtypeStruct(s, t) for s, t in zip(shapes, ("float32", "float32", "int32"))]

    def temporaries(loss):
        step = jax.jit(jax.grad(lambda x, w, t: loss(x, w, t).mean(), argnums=(0, 1)))
        return step.lower(*given).compile().memory_analysis().temp_size_in_bytes

    whole = temporaries(lambda *a: plain(*a, 1.0))
    assert whole > 2 * 2**30 and temporaries(readout.block_cross_entropy) < whole / 8
