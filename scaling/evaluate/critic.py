"""A two-sample test by a classifier, after Lopez-Paz & Oquab 2016, arXiv:1610.06545: can it tell fakes?"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scaling import axes, nn
from scaling.evaluate.classifier import scaled

BATCH = 128           # half of it real
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2


class Critic(nnx.Module):
    """Images [n, H, W, C] in [-1, 1] -> one logit [n]: patches seen by shared weights, then two layers."""

    def __init__(self, draw, size, channels):
        self.patch = next(p for p in (4, 2, 1) if size % p == 0)
        tokens, inputs = (size // self.patch) ** 2, self.patch**2 * channels
        self.embed = nn.Linear(draw, {"patch": inputs}, {"embed": 64}, bias=True, scale=1.4)
        self.mix = nn.Linear(draw, {"token": tokens, "embed": 64}, {"mlp": 128}, bias=True, scale=1.4)
        self.out = nn.Linear(draw, {"mlp": 128}, {"one": 1}, bias=True)

    def __call__(self, x):
        x = jax.nn.gelu(self.embed(nn.patches(x, self.patch)))
        return self.out(jax.nn.gelu(self.mix(x)))[:, 0]


def error(real, fake, steps, levels=256, seed=0):
    """Error of a critic trained from scratch on half of both sets, on the other halves; 0.5: it cannot tell.

    real, fake: uint8 [n, H, W, C] with values 0..levels-1. The mean of the errors on real and on fake images,
    so sets of unequal size change nothing. The network, its start, the halves and the batches are fixed by
    `seed`; the number depends on `steps`, so compare only equal ones. By chance it may be above 0.5.
    """
    rng = np.random.default_rng(seed)
    halves = [np.array_split(np.asarray(x)[rng.permutation(len(x))], 2) for x in (real, fake)]
    (train_real, test_real), (train_fake, test_fake) = halves
    rows = [rng.integers(len(x), size=(steps, BATCH // 2)) for x in (train_real, train_fake)]
    wrong = _run(train_real, train_fake, test_real, test_fake, *rows, steps=steps, levels=levels, seed=seed)
    return float(sum(wrong)) / 2


@functools.partial(jax.jit, static_argnames=("steps", "levels", "seed"))
def _run(train_real, train_fake, test_real, test_fake, real_rows, fake_rows, steps, levels, seed):
    make = functools.partial(Critic, size=train_real.shape[1], channels=train_real.shape[3])
    graph, state = nnx.split(axes.drawn(make, jax.random.key(seed)))
    optimiser = optax.adamw(optax.cosine_decay_schedule(LEARNING_RATE, steps), weight_decay=WEIGHT_DECAY)

    def loss(state, real, fake):
        logits = nnx.merge(graph, state)(scaled(jnp.concatenate([real, fake]), levels))
        on_real, on_fake = jnp.split(logits, 2)
        return (jax.nn.softplus(-on_real) + jax.nn.softplus(on_fake)).mean()

    def step(i, carry):
        state, inner = carry
        gradient = jax.grad(loss)(state, train_real[real_rows[i]], train_fake[fake_rows[i]])
        updates, inner = optimiser.update(gradient, inner, state)
        return optax.apply_updates(state, updates), inner

    state, _ = jax.lax.fori_loop(0, steps, step, (state, optimiser.init(state)))
    network = nnx.merge(graph, state)
    return ((network(scaled(test_real, levels)) <= 0).mean(), (network(scaled(test_fake, levels)) > 0).mean())
