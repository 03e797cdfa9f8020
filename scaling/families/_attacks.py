"""Attacks on classifiers of images: the worst image within a radius of each image, as well as it can be found.

An attack looks for a perturbation of at most `reach` in every value (the l-infinity norm) of images that stay in [-1, 1].
A classifier is a function `logits` from images float32 [B, H, W, C] to float32 [B, classes]. No example sees another one,
so that an attack is the same in any batch. The best image of an attack is kept, and the clean one is the first, so that no
loss falls under attack, and more steps and restarts never make an attack weaker.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from scaling import nn

PATIENCE = 3  # steps without a better image after which an attack that adapts goes back, and halves its step
OBJECTIVES = ("loss", "margin")


class Attacked(NamedTuple):
    """What an attack found for each image: [B] but for the images."""

    images: jax.Array  # float32 [B, H, W, C]: those that are best by the objective
    value: jax.Array  # the objective there
    loss: jax.Array  # the most nats of the label, on any image that was tried
    margin: jax.Array  # the largest margin, on any image that was tried
    wrong: jax.Array  # bool; whether any image that was tried has another class


def margin(logits, labels):
    """The largest logit of another class less that of the label, [B]: above zero where the class is wrong (Carlini & Wagner
    1608.04644, section IV.A, f_6 without the least value)."""
    right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.where(right, -jnp.inf, logits).max(-1) - jnp.where(right, logits, 0).sum(-1)


def looked_at(logits, labels, objective="loss"):
    """A function of images that gives the `Attacked` of no attack. Its objective is the label's nats, or the margin."""
    def look(images):
        found = logits(images)
        nats, gap = nn.cross_entropy(found, labels), margin(found, labels)
        return Attacked(images, nats if objective == "loss" else gap, nats, gap, found.argmax(-1) != labels)

    return look


def better(one, other):
    """The better of two attacks for each image, and the worst that either found."""
    first = one.value >= other.value
    return Attacked(jnp.where(nn.along(first, one.images, 0), one.images, other.images),
                    jnp.where(first, one.value, other.value), jnp.maximum(one.loss, other.loss),
                    jnp.maximum(one.margin, other.margin), one.wrong | other.wrong)


def projected(x, images, reach):
    """x brought into the ball around images, and into the range of pixels."""
    return jnp.clip(x, jnp.maximum(images - reach, -1), jnp.minimum(images + reach, 1))


def ascend(look, images, start, reach, steps: int, step: float, adapts: bool = False) -> Attacked:
    """Projected gradient ascent in signs (PGD, Madry et al. 1706.06083, section 2.1) from `start`: `steps` steps of `step`
    in every value.

    With `adapts`, images that no step improved for `PATIENCE` steps go back to the best one and halve their step, as
    Auto-PGD does (Croce & Hein 2003.01690, section 3), which counts better steps between fixed checkpoints. Here the first
    steps do not depend on how many follow.
    """
    best = look(images)
    if not steps:
        return better(best, look(projected(start, images, reach)))

    def uphill(x):
        def total(x):
            found = look(x)
            return found.value.sum(), found

        gradient, found = jax.grad(total, has_aux=True)(x)
        return found, jnp.sign(gradient)

    def move(_, state):
        x, sizes, waited, best, kept = state
        found, signs = uphill(x)
        up = found.value > best.value
        best, kept = better(best, found), jnp.where(nn.along(up, x, 0), signs, kept)
        waited = jnp.where(up, 0, waited + 1)
        if adapts:
            stuck = waited >= PATIENCE
            sizes, waited = jnp.where(stuck, sizes / 2, sizes), jnp.where(stuck, 0, waited)
            x, signs = (jnp.where(nn.along(stuck, x, 0), a, b) for a, b in ((best.images, x), (kept, signs)))
        return projected(x + nn.along(sizes, x, 0) * signs, images, reach), sizes, waited, best, kept

    first = (projected(start, images, reach), jnp.full(len(images), step, jnp.float32), jnp.zeros(len(images), jnp.int32),
             best, jnp.zeros_like(images))
    x, _, _, best, _ = jax.lax.fori_loop(0, steps, move, first)
    return better(best, look(x))


def random_start(key, images, examples, reach):
    """Images moved by uniform noise within the reach, each by its own."""
    return images + reach * (2 * nn.noise(key, examples, images.shape[1:], "uniform") - 1)


def strongest(logits, images, labels, examples, key, reach, steps: int, restarts: int) -> Attacked:
    """The worst of a suite: adaptive ascents of the loss and of the margin, each from the clean image and from
    `restarts` - 1 random ones, with a first step of the reach. `value` is the margin of the worst image."""
    def attack(objective, number):
        start = random_start(jax.random.fold_in(key, number), images, examples, reach)
        start = jnp.where(number == 0, images, start)
        found = ascend(looked_at(logits, labels, objective), images, start, reach, steps, reach, adapts=True)
        return found if objective == "margin" else found._replace(value=margin(logits(found.images), labels))

    def again(number, found):
        return functools.reduce(better, (attack(objective, number) for objective in OBJECTIVES), found)

    return jax.lax.fori_loop(0, restarts, again, looked_at(logits, labels, "margin")(images))


def search(logits, images, labels, examples, key, reach, queries: int) -> Attacked:
    """Random search without gradients: squares of random place and size get new signs of the perturbation, and stay where
    the margin grows (Square Attack, Andriushchenko et al. 1912.00049, algorithm 2). It starts with vertical stripes."""
    look = looked_at(logits, labels, "margin")
    _, height, width, channels = images.shape
    rows, columns = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]

    def signs(key, shape):
        return jnp.where(nn.noise(key, examples, shape, "uniform") < 0.5, -1.0, 1.0)

    def query(number, found):
        own = jax.random.fold_in(key, number)
        share = 0.9 * 0.5 ** (number / max(1, queries) * 5)  # of the image that a square covers
        side = jnp.maximum(1, jnp.round(jnp.sqrt(share * height * width)))
        place = nn.noise(jax.random.fold_in(own, 1), examples, (2, 1, 1), "uniform")
        top, left = (jnp.floor(place[:, axis] * (size - jnp.minimum(side, size) + 1))
                     for axis, size in ((0, height), (1, width)))
        inside = ((rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side))[..., None]
        new = images + reach * signs(own, (1, 1, channels))
        return better(found, look(projected(jnp.where(inside, new, found.images), images, reach)))

    striped = images + reach * signs(key, (1, width, channels))
    return jax.lax.fori_loop(0, queries, query, better(look(images), look(projected(striped, images, reach))))


def masking_signs(logits, images, labels, examples, key, reach, steps: int, restarts: int, queries: int):
    """Signs that gradients mislead, float32 [B] each (Athalye et al. 1802.00420, section 3.1; Carlini et al. 1902.06705).

    "search_error" is whether the random search finds a wrong class, "masked_gradients" whether it finds one where the suite
    finds none, and "boundless_error" whether the suite finds one where any image is allowed, which a sound attack does.
    """
    suite = functools.partial(strongest, logits, images, labels, examples, key, steps=steps, restarts=restarts)
    found = search(logits, images, labels, examples, key, reach, queries)
    return {"search_error": found.wrong.astype(jnp.float32),
            "masked_gradients": (found.wrong & ~suite(reach=reach).wrong).astype(jnp.float32),
            "boundless_error": suite(reach=2.0).wrong.astype(jnp.float32)}


def gradients_are_masked(masked, boundless, count: int):
    """Whether means of `masking_signs` over `count` images, floats or arrays, say so: more masked images, or more that
    withstand an attack without bounds, than the 2% that few steps leave, by three standard errors."""
    allowed = 0.02 + 3 * math.sqrt(0.02 * 0.98 / count)
    return (masked > allowed) | (1 - boundless > allowed)
