"""The losses of the adversarial family: exact penalties, and the derivatives of each game."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_gan import KEY, game, lively, quick, small

from scaling.families import _gan_losses
from scaling.families.gan import BODIES

# ---- penalties


@pytest.mark.parametrize("body", BODIES)
def test_slopes_are_the_finite_differences_of_the_critic(body):
    f = small(body=body)
    params, images = lively(f), jax.random.normal(KEY, (2, 8, 8, 1))
    disc = functools.partial(f.module(params, "disc"), batch={})
    critic = quick(disc)
    logits, slopes = quick(lambda x: _gan_losses.logits_and_slopes(disc, x))(images)
    np.testing.assert_allclose(logits, critic(images), rtol=1e-5, atol=1e-5)
    step = 1e-2 if body == "tokens" else 1e-3  # rectifiers have kinks
    moves = step * jnp.eye(64).reshape(1, 64, 8, 8, 1)
    moved = jnp.concatenate([images[:, None] + moves, images[:, None] - moves])
    up, down = critic(moved.reshape(-1, 8, 8, 1)).reshape(2, 2, 64)
    np.testing.assert_allclose(slopes, jnp.square((up - down) / (2 * step)).sum(1), rtol=0.03)


def test_the_gradient_of_the_penalties_is_their_finite_difference():
    f = small(gamma=3.0)
    params, batch = lively(f), f.example_batch(4, KEY)
    direction = lively(f, seed=1)["disc"]

    @quick
    def penalties(t):
        def total(t):
            moved = jax.tree.map(lambda x, d: x + t * d, params["disc"], direction)
            metrics = f.disc_loss(params | {"disc": moved}, batch, KEY)[1]
            return metrics["r1"] + metrics["r2"]

        return jax.value_and_grad(total)(t)

    (up, _), (down, _), (_, slope) = (penalties(t) for t in (0.01, -0.01, 0.0))
    assert float(slope) == pytest.approx(float(up - down) / 0.02, rel=0.02)


def test_the_loss_of_the_critic_has_half_of_gamma_times_each_penalty():
    params, batch = lively(small()), small().example_batch(4, KEY)
    for penalise, wanted in (("both", {"r1", "r2"}), ("real", {"r1"}), ("fake", {"r2"})):
        loss, m = game(small(gamma=3.0, penalise=penalise), "disc", params, batch)
        penalty = 1.5 * sum(float(m[k]) for k in wanted)
        assert float(loss - m["adversarial"]) == pytest.approx(penalty, rel=1e-4)
    loss, m = game(small(gamma=0.0), "disc", params, batch)
    assert float(loss) == float(m["adversarial"]) and "r1" not in m


def test_each_image_is_judged_under_its_own_condition():
    f = small(classes=5, caption=3)
    params, batch = lively(f), f.example_batch(6, KEY)
    pixels = batch["image"] / 127.5 - 1
    disc = f.module(params, "disc")
    real, slopes = quick(lambda x: _gan_losses.logits_and_slopes(lambda x: disc(x, batch), x))(pixels)
    metrics = game(f, "disc", params, batch)[1]
    assert float(metrics["logits_real"]) == pytest.approx(float(real.mean()), rel=1e-4)
    assert float(metrics["r1"]) == pytest.approx(float(slopes.mean()), rel=1e-4)


# ---- games


def test_the_relativistic_loss_depends_only_on_the_difference_of_a_pair():
    real, fake = jax.random.normal(KEY, (2, 16))
    for loss in _gan_losses.GAMES["relativistic"]:
        np.testing.assert_allclose(loss(real + 7.0, fake + 7.0), loss(real, fake), rtol=1e-5)
    critic, generator = _gan_losses.GAMES["relativistic"]
    np.testing.assert_allclose(critic(real, fake), generator(fake, real), rtol=1e-6)  # symmetric


@pytest.mark.parametrize("loss,real,fake,critic,generator", [
    # logits, derivatives of the critic's loss by (real, fake), of the generator's by fake; sigmoid(-10) = 4.54e-5
    ("relativistic", 0.0, 0.0, (-0.5, 0.5), -0.5),
    ("relativistic", 10.0, 0.0, (-4.54e-5, 4.54e-5), -1.0),
    ("minimax", 0.0, 0.0, (-0.5, 0.5), -0.5),
    ("minimax", 10.0, -10.0, (-4.54e-5, 4.54e-5), -4.54e-5),  # saturates: the generator learns nothing
    ("nonsaturating", 10.0, -10.0, (-4.54e-5, 4.54e-5), -1.0),
    ("hinge", 0.5, -0.5, (-1.0, 1.0), -1.0),
    ("hinge", 2.0, -2.0, (0.0, 0.0), -1.0),
])
def test_derivatives_of_each_game(loss, real, fake, critic, generator):
    one, two = _gan_losses.GAMES[loss]
    np.testing.assert_allclose(jax.grad(one, (0, 1))(real, fake), critic, rtol=1e-2, atol=1e-7)
    np.testing.assert_allclose(jax.grad(two, 1)(real, fake), generator, rtol=1e-2, atol=1e-7)
