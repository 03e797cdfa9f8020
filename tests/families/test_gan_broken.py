"""Games that cover all modes of a small distribution, and games that break down and are called broken."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_gan import KEY, small

from scaling.families import _gan_losses

# ---- a game whose answer is known: eight Gaussians on a ring

CENTRES = 2 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
SPREAD = 0.2


def mlp(params, x):
    for w, b in params[:-1]:
        x = jax.nn.leaky_relu(x @ w + b[None], 0.2)
    return x @ params[-1][0] + params[-1][1][None]


def ring(loss, gamma, rate=3e-3, steps=1000, batch=128, width=48):
    """(samples [4096, 2], curve) of two three-layer perceptrons that play the game `loss` on points of the ring."""
    def layers(key, sizes):
        return [(jax.random.normal(jax.random.fold_in(key, i), (a, b)) * (2 / a) ** 0.5, jnp.zeros(b))
                for i, (a, b) in enumerate(zip(sizes, sizes[1:]))]

    tx = optax.adam(optax.cosine_decay_schedule(rate, steps), b1=0.0, b2=0.99)
    gen = layers(jax.random.key(1), (4, width, width, 2))
    disc = layers(jax.random.key(2), (2, width, width, 1))

    def step(state, step):
        gen, disc, gen_opt, disc_opt = state
        keys = jax.random.split(jax.random.fold_in(KEY, step), 5)
        centre = jnp.asarray(CENTRES)[jax.random.randint(keys[0], (batch,), 0, 8)]
        real = centre + SPREAD * jax.random.normal(keys[1], (batch, 2))

        def critic_loss(disc):
            fake = mlp(gen, jax.random.normal(keys[2], (batch, 4)))
            return _gan_losses.critic_loss(loss, lambda x: mlp(disc, x)[:, 0], real, fake, gamma)

        (value, metrics), grads = jax.value_and_grad(critic_loss, has_aux=True)(disc)
        updates, disc_opt = tx.update(grads, disc_opt)
        disc = optax.apply_updates(disc, updates)

        def generator_loss(gen):
            fake = mlp(gen, jax.random.normal(keys[3], (batch, 4)))
            return _gan_losses.generator_loss(loss, mlp(disc, real)[:, 0], mlp(disc, fake)[:, 0])[0]

        updates, gen_opt = tx.update(jax.grad(generator_loss)(gen), gen_opt)
        return (optax.apply_updates(gen, updates), disc, gen_opt, disc_opt), metrics | {"loss": value}

    state = gen, disc, tx.init(gen), tx.init(disc)
    state, metrics = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(steps)))(state)
    curve = {f"disc/{k}": np.asarray(v)[::20] for k, v in metrics.items()} | {"step": np.arange(steps)[::20]}
    return np.asarray(mlp(state[0], jax.random.normal(jax.random.key(3), (4096, 4)))), curve


def shares(points):
    """The share of the points within three spreads of each centre; for the data it is 1/8 times 0.99."""
    return (np.linalg.norm(points[:, None] - CENTRES[None], axis=-1) < 3 * SPREAD).mean(0)


@pytest.mark.parametrize("loss", ["relativistic", "nonsaturating"])
def test_a_game_covers_all_modes_of_a_ring_and_is_not_called_broken(loss):
    points, curve = ring(loss, gamma=0.1)
    assert shares(points).min() > 0.05, shares(points)
    assert shares(points).sum() > 0.6
    assert _gan_losses.broken(curve) is None


# ---- games that break down


def test_a_diverging_game_is_called_broken_and_its_step_is_given():
    _, curve = ring("relativistic", gamma=0.0, rate=3.0, steps=200)
    step, reason = _gan_losses.broken(curve)
    assert 0 <= step < 200 and "disc/" in reason


def flat(n=20, **changes):
    level = {"disc/relativistic": 1.0, "disc/adversarial": 0.6, "disc/r1": 0.2, "disc/r2": 0.2,
             "gen/loss": 1.0}
    curve = {name: np.full(n, value) for name, value in level.items()} | {"step": np.arange(n) * 10}
    for name, values in changes.items():
        curve[f"disc/{name}"][-len(values):] = values
    return curve


@pytest.mark.parametrize("changes,step", [
    ({}, None),
    ({"relativistic": [99.0, 1.0, 99.0, 1.0]}, None),  # isolated spikes
    ({"relativistic": [99.0] * 4}, 160),
    ({"relativistic": [-99.0] * 3}, 170),
    ({"adversarial": [1e-5] * 5}, 150),
    ({"adversarial": [np.nan, np.inf, np.nan, np.inf, np.inf]}, 160),  # NaN: not logged
    ({"r1": [50.0] * 6}, 140),
    ({"r2": [50.0] * 3, "r1": [50.0] * 4}, 160),  # the first of several
    ({"r1": [5.0] * 6}, None),
])
def test_broken_curves(changes, step):
    found = small().broken(flat(**changes))
    assert (found and found[0]) == step


def test_lost_coverage_is_a_broken_game_and_a_curve_without_the_metrics_is_not():
    assert small().broken(flat(), {"coverage": 0.5, "recall": 0.0}) is None
    assert small().broken(flat(), {"coverage": 0.001, "recall": 0.9}) is None  # varied, only not yet good
    assert small().broken(flat(), {"coverage": 0.001, "recall": 0.0})[0] == 190
    assert small().broken({"step": np.arange(5), "gen/loss": np.full(5, 1e9)}) is None
