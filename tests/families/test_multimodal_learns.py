"""What a model of captions and images learns where the truth is known: a letter says which of two patterns an image has."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling.families.fsq import FSQ
from scaling.families.multimodal import Multimodal
from scaling.families.transformer import Transformer

FLIPPED, PIXELS = 0.05, 16
PATTERNS = np.stack([np.tile([[1, 0], [1, 0]], (2, 2)), np.tile([[1, 1], [0, 0]], (2, 2))])  # they differ in 8 pixels
# A pixel is a part of the image: pixels of one patch are independent given what came before it, which those here are not.
FAMILY = Multimodal(image_size=4, levels=2, caption=2, images="patches", tokenizer=FSQ(patch=1),
                    model=Transformer(width=32, layers=2, scan=False))


def drawn(key, size):
    """A batch of `size` pairs, and the true -log p of each in nats, float32 [size]."""
    letter_key, noise_key = jax.random.split(key)
    which = jax.random.randint(letter_key, (size,), 0, 2)
    flips = jax.random.uniform(noise_key, (size, 4, 4)) < FLIPPED
    image = jnp.asarray(PATTERNS)[which] ^ flips
    nats = math.log(2) - jnp.where(flips, math.log(FLIPPED), math.log(1 - FLIPPED)).sum((1, 2))
    return {"image": image[..., None].astype(jnp.uint8), "example": jnp.arange(size, dtype=jnp.int32),
            "caption": jnp.stack([ord("a") + which, jnp.zeros_like(which)], 1)}, nats


@pytest.mark.slow
def test_both_orders_come_near_the_truth_and_the_wrong_caption_costs_what_it_must():
    schedule = optax.cosine_decay_schedule(3e-3, 1500)
    optimiser = optax.adam(schedule)

    def step(carry, number):
        params, state = carry
        key = jax.random.fold_in(jax.random.key(1), number)
        (_, found), gradient = jax.value_and_grad(FAMILY.loss, has_aux=True)(params, drawn(key, 64)[0], key)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), found["loss_image"]

    @jax.jit
    def train():
        params = FAMILY.init(jax.random.key(0))
        return jax.lax.scan(step, (params, optimiser.init(params)), jnp.arange(1500))[0][0]

    params = train()
    batch, true = jax.jit(drawn, static_argnums=1)(jax.random.key(9), 2048)
    text, seen, images = FAMILY.read(params, batch)
    nats = jax.jit(FAMILY.nats)
    for first in (True, False):
        parts = nats(params, text, seen, images, jnp.full(2048, first))
        gap = np.asarray(sum(x.sum(1) for x in parts) - true) / math.log(2)
        error = gap.std() / math.sqrt(len(gap))
        assert -3 * error < gap.mean() < 0.3, (first, gap.mean())  # a likelihood is no better than the truth
    metrics = jax.jit(FAMILY.evaluate)(params, batch, jax.random.key(0))
    found = {name: float((x.over / x.under).mean()) for name, x in metrics.items()}
    # A letter has one bit, which eight pixels give away: they all but tell it.
    assert found["image_information"] == pytest.approx(1, abs=0.1)
    assert found["text_information"] == pytest.approx(1, abs=0.1)
    order = jnp.full(2048, True)
    other = text.at[:, 0].set(ord("a") + ord("b") - text[:, 0])
    right, wrong = (nats(params, said, seen, images, order)[1].sum(1) for said in (text, other))
    # Each of the eight pixels costs log((1 - f) / f) more, but log((1 - f) / f) less where it was flipped.
    owed = 8 * (1 - 2 * FLIPPED) * math.log2((1 - FLIPPED) / FLIPPED)
    assert float((wrong - right).mean()) / math.log(2) == pytest.approx(owed, rel=0.5)  # no example shows what contradicts
    captions = jax.jit(FAMILY.describe)(params, batch, jax.random.key(0), 0.0)
    assert (captions == batch["caption"]).all(1).mean() > 0.98
    images = jax.jit(FAMILY.sample)(params, batch, jax.random.key(0))
    which = np.asarray(batch["caption"][:, 0] - ord("a"))
    assert np.mean(np.asarray(images)[..., 0] != PATTERNS[which]) == pytest.approx(FLIPPED, abs=0.01)
