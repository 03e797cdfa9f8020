"""The critic: a two-sample test by a classifier of real and generated images (Lopez-Paz & Oquab 2016, arXiv:1610.06545)."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scaling import axes, nn

BATCH = 128           # half of it real
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2


class PatchClassifier(nnx.Module):
    """Images [n, H, W, C] in [-1, 1] -> one logit [n]: shared weights embed patches, then two layers."""

    def __init__(self, draw, size, channels):
        self.patch = next(p for p in (4, 2, 1) if size % p == 0)
        tokens, inputs = (size // self.patch) ** 2, self.patch**2 * channels
        self.embed = nn.Linear(draw, {"patch": inputs}, {"embed": 64}, bias=True, scale=1.4)
        self.mix = nn.Linear(draw, {"token": tokens, "embed": 64}, {"mlp": 128}, bias=True, scale=1.4)
        self.out = nn.Linear(draw, {"mlp": 128}, {"one": 1}, bias=True)

    def __call__(self, x):
        x = jax.nn.gelu(self.embed(nn.patches(x, self.patch)))
        return self.out(jax.nn.gelu(self.mix(x)))[:, 0]


def critic_error(real, fake, steps, levels=256, seed=0):
    """The error of a critic that is trained from scratch on half of both sets and tested on the other halves.

    real, fake: uint8 [n, H, W, C] with values 0..levels-1. The result is the mean of the errors on real and on fake
    images, so sets of unequal size change nothing. It is 0.5 if the critic cannot tell them apart; by chance it may be
    above. `seed` fixes the network, its initial weights, the halves and the batches. The number depends on `steps`, so
    compare only numbers of equal `steps`.
    """
    rng = np.random.default_rng(seed)
    halves = [np.array_split(np.asarray(x)[rng.permutation(len(x))], 2) for x in (real, fake)]
    (train_real, test_real), (train_fake, test_fake) = halves
    rows = [rng.integers(len(x), size=(steps, BATCH // 2)) for x in (train_real, train_fake)]
    wrong = _run(train_real, train_fake, test_real, test_fake, *rows, steps=steps, levels=levels, seed=seed)
    return float(sum(wrong)) / 2


@functools.partial(jax.jit, static_argnames=("steps", "levels", "seed"))
def _run(train_real, train_fake, test_real, test_fake, real_rows, fake_rows, steps, levels, seed):
    make = functools.partial(PatchClassifier, size=train_real.shape[1], channels=train_real.shape[3])
    graph, state = nnx.split(axes.drawn(make, jax.random.key(seed)))
    optimiser = optax.adamw(optax.cosine_decay_schedule(LEARNING_RATE, steps), weight_decay=WEIGHT_DECAY)

    def loss(state, real, fake):
        logits = nnx.merge(graph, state)(nn.levels_to_signed(jnp.concatenate([real, fake]), levels))
        on_real, on_fake = jnp.split(logits, 2)
        return (jax.nn.softplus(-on_real) + jax.nn.softplus(on_fake)).mean()

    def step(i, carry):
        state, inner = carry
        gradient = jax.grad(loss)(state, train_real[real_rows[i]], train_fake[fake_rows[i]])
        updates, inner = optimiser.update(gradient, inner, state)
        return optax.apply_updates(state, updates), inner

    state, _ = jax.lax.fori_loop(0, steps, step, (state, optimiser.init(state)))
    network = nnx.merge(graph, state)
    on_real = network(nn.levels_to_signed(test_real, levels))
    on_fake = network(nn.levels_to_signed(test_fake, levels))
    return (on_real <= 0).mean(), (on_fake > 0).mean()
