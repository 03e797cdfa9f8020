"""The adversarial family: the order of the game, conditions, samples, sizes, training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import tiny
from tiny_gan import KEY, game, lively, quick, small

from scaling import cost
from scaling.families import Player
from scaling.families.gan import BODIES, GAN
from scaling.training.step import TRUNK, init_state, train_step

# ---- the order of the game


@functools.cache
def training(family):
    """(the first state, the train step), compiled once for all tests."""
    e = dataclasses.replace(tiny("gan", **{"optim.learning_rate": 1e-2}), family=family)
    step = quick(lambda state, batch: train_step(e, TRUNK, state, batch))
    return quick(lambda: init_state(e))(), step


def moved_by(family, batch):
    """(state, state one train step later, metrics of the step)."""
    state, step = training(family)
    return state, *step(state, batch)


def test_a_player_moves_its_own_parameters_and_no_others():
    class Alone(GAN):
        def players(self):
            def loss(params, batch, key):  # depends on both players' parameters
                return sum(jnp.square(x).sum() for x in jax.tree.leaves(params)), {}

            return (Player("disc", loss),)

    f = Alone(image_size=8, width=8, layers=1, latent=8)
    state, after, _ = moved_by(f, f.example_batch(8, KEY))

    def moved(name):
        before, now = (jax.tree.leaves(s.params[name]) for s in (state, after))
        return any(bool((a != b).any()) for a, b in zip(before, now))

    assert moved("disc") and not moved("gen")


def test_the_generator_moves_against_the_updated_discriminator():
    f = small()
    batch = f.example_batch(8, KEY)
    state, after, metrics = moved_by(f, batch)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 1)  # step 1, player 1
    losses = {name: float(game(f, "gen", {"gen": state.params["gen"], "disc": disc}, batch, key)[0])
              for name, disc in (("old", state.params["disc"]), ("new", after.params["disc"]))}
    assert float(metrics["gen/loss"]) == pytest.approx(losses["new"], rel=1e-4)
    assert abs(losses["new"] - losses["old"]) > 1e-3 * abs(losses["new"])


def test_the_discriminator_may_move_several_times():
    assert [p.name for p in small(disc_steps=3).players()] == ["disc", "disc", "disc", "gen"]


# ---- conditions, noise, samples


@pytest.mark.parametrize("body", BODIES)
def test_labels_and_captions_reach_both_players(body):
    f = small(body=body, classes=5, caption=4)
    params, batch = lively(f), f.example_batch(4, KEY)
    images = batch["image"] / 127.5 - 1

    @quick
    def outputs(batch):
        z = jnp.ones((4, f.latent))
        return f.module(params, "gen")(z, batch), f.module(params, "disc")(images, batch)

    for name in ("label", "caption"):
        for a, b in zip(outputs(batch), outputs(batch | {name: (batch[name] + 1) % 5})):
            assert float(jnp.abs(a - b).reshape(4, -1).max(1).min()) > 1e-6
    padded = batch | {"caption": jnp.pad(batch["caption"], [(0, 0), (0, 6)])}
    for a, b in zip(outputs(batch), outputs(padded)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_halves_of_a_batch_average_to_the_whole():
    f = small(classes=3, caption=4, augment="translation,colour,cutout", augment_probability=0.7)
    params, batch = lively(f), f.example_batch(8, KEY)
    for player in ("disc", "gen"):
        whole = game(f, player, params, batch)
        halves = [game(f, player, params, {name: x[i::2] for name, x in batch.items()}) for i in (0, 1)]
        jax.tree.map(lambda w, a, b: np.testing.assert_allclose(w, (a + b) / 2, rtol=1e-4), whole, *halves)


@pytest.mark.parametrize("levels", [2, 256])
def test_samples_have_valid_levels_and_depend_only_on_the_number_of_the_example(levels):
    f = small(levels=levels)
    params = lively(f)
    sample = quick(f.sample)
    images = np.asarray(sample(params, {"example": jnp.arange(8)}, KEY))
    assert images.shape == (8, 8, 8, 1) and images.dtype == np.uint8 and 0 < images.max() < levels
    np.testing.assert_array_equal(images[[3, 5]], sample(params, {"example": jnp.array([3, 5])}, KEY))


def test_pictures_are_rows_of_samples_and_of_interpolations():
    f = small()
    pictures = quick(f.pictures)(lively(f), f.example_batch(3, KEY), KEY)
    assert set(pictures) == {"samples", "interpolations"}
    assert all(grid.shape == (4, 8, 8, 8, 1) for grid in pictures.values())


def test_evaluation_counts_pairs():
    f = small()
    found = quick(f.evaluate)(lively(f), f.example_batch(6, KEY), KEY)
    assert all(float(x.under.sum()) == 6 and np.isfinite(x.over).all() for x in found.values())
    assert 0 <= float(found["pair_accuracy"].over.sum()) <= 6


# ---- sizes


@pytest.mark.parametrize("body", BODIES)
def test_the_ladder_is_monotone_and_keeps_its_tolerance(body):
    sizes = GAN.sizes()[::2 if body == "tokens" else 5]
    members = [GAN.ladder(size, body=body) for size in sizes]
    totals = [cost.param_count(f)["total"] for f in members]
    assert totals == sorted(set(totals))
    assert all(abs(n / size - 1) < 0.2 for n, size in zip(totals, sizes))
    assert len({f.latent for f in members}) == 1
    by_player = cost.param_count(members[-1])["by_player"]
    assert by_player["gen"] == pytest.approx(by_player["disc"], rel=0.05)  # mirrors


def test_players_are_scaled_and_counted_separately():
    base, apart = small(), small(critic_width=16, critic_layers=2)
    a, b = base.flops_by_player(), apart.flops_by_player()
    assert a["gen"] == b["gen"] and 3 < b["disc"] / a["disc"] < 10
    a, b = cost.param_count(base)["by_player"], cost.param_count(apart)["by_player"]
    assert a["gen"] == b["gen"] and b["disc"] > 3 * a["disc"]
    both = GAN.ladder(1e5, critic_width=16)
    assert both.critic_width == 16 and cost.param_count(both)["total"] == pytest.approx(1e5, rel=0.2)


def test_flops_of_a_player_are_those_of_its_matrices():
    f = small(width=16, layers=2, image_size=16)
    tokens, width = 16, 16
    blocks = 2 * 2 * (tokens * 12 * width**2 + 2 * tokens**2 * width)  # two layers
    disc = blocks + 2 * tokens * 16 * width + 2 * width
    assert f.flops_by_player()["disc"] == disc


@pytest.mark.parametrize("field,value", [
    ("body", "resnet"), ("loss", "wasserstein"), ("augment", "flip"), ("width", 0), ("image_size", 20),
    ("patch", 3), ("augment_probability", 2.0)])
def test_wrong_fields_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        GAN(**{field: value})


# ---- training


@pytest.mark.parametrize("body", [pytest.param(body, marks=[pytest.mark.slow] if body == "conv" else [])  # as dcgan
                                  for body in BODIES])
def test_the_players_of_every_body_learn_from_each_other(body):
    family = small(body=body)
    white = jnp.full((8, 8, 8, 1), 255, jnp.uint8)  # the one image to learn
    batch = family.example_batch(8, KEY) | {"image": white}
    first, step = training(family)
    state = first
    for _ in range(40):
        state, _ = step(state, batch)
    assert int(state.diverged) == -1
    sample = quick(family.sample)
    before, after = (float(sample(s.params, batch, KEY).mean(dtype=float)) for s in (first, state))
    assert after > before + 30
