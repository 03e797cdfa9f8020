"""Sparse autoencoders: activations as sums of few of many directions (Gao et al. 2024, arXiv:2406.04093).

A top-k autoencoder has z = TopK(W_enc (x - b_pre)) and x' = W_dec z + b_pre (their equations 3 and 4), and is trained to
make the squared error small. As there, activations are centred over their features and scaled to unit norm, rows of W_dec
have unit norm, W_enc starts as its transpose, and the dead latents also learn to explain what is left ("AuxK", appendix
A.2). The loss that is reported is the normalised squared error, the error over that of always saying the mean.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

DEAD = 100  # steps without a use after which a latent counts as dead
AUXILIARY = 1 / 32  # the weight of the loss of dead latents


class SparseAutoencoder(NamedTuple):
    """Its parameters: encoder [width, latents], decoder [latents, width] with unit rows, offset [width]."""

    encoder: jax.Array
    decoder: jax.Array
    offset: jax.Array

    def latents(self, x, k: int):
        """z [n, latents], of which k are used, for normalised activations x [n, width]."""
        return top_k((x - self.offset[None]) @ self.encoder, k)

    def decode(self, z):
        """Activations [n, width] of latents z [n, latents]."""
        return z @ self.decoder + self.offset[None]


class AutoencoderFit(NamedTuple):
    """A trained autoencoder, and what it does on activations that it was not trained on.

    error: the squared error over that of always saying the mean; dead: the share of latents that no held-out activation
    uses; flops: of training, 6 for each parameter of the two matrices and each activation.
    """

    autoencoder: SparseAutoencoder
    k: int
    steps: int
    error: float
    dead: float
    flops: float

    @property
    def latents(self) -> int:
        return self.autoencoder.encoder.shape[1]

    def reconstruct(self, x):
        """Activations [..., width] by way of the latents, with their own mean and norm."""
        flat = x.reshape(-1, x.shape[-1])
        centred, middle, norm = normalised(flat)
        found = self.autoencoder.decode(self.autoencoder.latents(centred, self.k))
        return (found * norm + middle).reshape(x.shape).astype(x.dtype)


def top_k(z, k: int):
    """z with all but the k largest numbers of each row set to 0, and those at least 0."""
    values, places = lax.top_k(z, k)
    rows = jnp.arange(len(z))[:, None]
    return jnp.zeros_like(z).at[rows, places].set(jax.nn.relu(values))


def normalised(x):
    """(x [n, width] with mean 0 and norm 1 in each row, the means [n, 1], the norms [n, 1])."""
    middle = x.mean(-1, keepdims=True)
    norm = jnp.maximum(jnp.linalg.norm(x - middle, axis=-1, keepdims=True), 1e-12)
    return (x - middle) / norm, middle, norm


def train_autoencoder(x, held_out, latents: int, k: int = 8, steps: int = 400, batch: int = 256, rate: float = 3e-3,
                      seed: int = 0) -> list[AutoencoderFit]:
    """A top-k autoencoder of activations x float [n, width] after each quarter of its `steps`, scored on `held_out`
    [m, width]. The rate is constant, so that each quarter ends a shorter training. `k` is at most `latents`."""
    x, held_out = (normalised(jnp.asarray(each, jnp.float32))[0] for each in (x, held_out))
    key, order = jax.random.split(jax.random.key(seed))
    k, quarter, found = min(k, latents), max(1, steps // 4), []
    chosen = jax.random.randint(order, (4, quarter, batch), 0, len(x))
    state = _initial(key, x, latents, rate)
    for number, part in enumerate(chosen):
        state = _advance(x, state, part, rate, k)
        error, dead = _scores(state[0], held_out, x.mean(0), k)
        found.append(AutoencoderFit(state[0], k, quarter * (number + 1), float(error), float(dead),
                                    12.0 * latents * x.shape[1] * quarter * (number + 1) * batch))
    return found


@functools.partial(jax.jit, static_argnames=("k",))
def _scores(model, held_out, mean, k):
    """(the normalised squared error, the share of dead latents) on `held_out`."""
    z = model.latents(held_out, k)
    error = jnp.square(model.decode(z) - held_out).sum() / jnp.square(held_out - mean[None]).sum()
    return error, (z == 0).all(0).mean()


def _initial(key, x, latents, rate):
    """(parameters, state of the optimiser, steps since each latent was used)."""
    decoder = jax.random.normal(key, (latents, x.shape[1]))
    decoder = decoder / jnp.linalg.norm(decoder, axis=-1, keepdims=True)
    model = SparseAutoencoder(decoder.T, decoder, x.mean(0))
    return model, optax.adam(rate).init(model), jnp.zeros(latents, jnp.int32)


@functools.partial(jax.jit, static_argnames=("k",))
def _advance(x, state, chosen, rate, k):
    """The state of `_initial` after a step on each batch of `chosen`, integer [steps, batch]."""
    optimiser = optax.adam(rate)

    def loss(model, rows, unused):
        scores = (rows - model.offset[None]) @ model.encoder
        z = top_k(scores, k)
        left = rows - model.decode(z)
        dead = unused > DEAD
        revived = top_k(jnp.where(dead[None], scores, -jnp.inf), min(2 * k, len(unused))) @ model.decoder
        lost = jnp.square(lax.stop_gradient(left) - revived).sum(-1).mean()
        return jnp.square(left).sum(-1).mean() + AUXILIARY * jnp.where(dead.any(), lost, 0.0), (z > 0).any(0)

    def step(carry, places):
        model, state, unused = carry
        gradient, used = jax.grad(loss, has_aux=True)(model, x[places], unused)
        updates, state = optimiser.update(gradient, state)
        model = optax.apply_updates(model, updates)
        decoder = model.decoder / jnp.linalg.norm(model.decoder, axis=-1, keepdims=True)
        return (model._replace(decoder=decoder), state, jnp.where(used, 0, unused + 1)), None

    return lax.scan(step, state, chosen)[0]
