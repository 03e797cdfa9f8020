"""The adversarial family: exact penalties, the order of the game, modes, conditions, augmentation, broken
games.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sources import tiny

from scaling import cost
from scaling.families import Player, _gan_losses
from scaling.families._gan_augment import POLICIES, augment
from scaling.families.gan import BODIES, GAN
from scaling.training.program import options_for_one_call
from scaling.training.step import TRUNK, init_state, train_step

KEY = jax.random.key(0)


def small(**fields):
    return GAN(**{"image_size": 8, "width": 8, "layers": 1, "latent": 8} | fields)


def lively(family, seed=0):
    """Parameters that are all far from zero, so that none that start there hide an error; not compiled."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape, scale=0.3), jnp.float32),
                        jax.eval_shape(family.init, KEY))


def quick(function):
    """Compiled in little time, for what runs a few times."""
    return jax.jit(function, compiler_options=options_for_one_call())


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=options_for_one_call())
def game(family, player, params, batch, key=KEY):
    return dict((p.name, p.loss) for p in family.players())[player](params, batch, key)


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


def test_the_critic_pays_half_of_gamma_for_each_penalty():
    params, batch = lively(small()), small().example_batch(4, KEY)
    for penalise, wanted in (("both", {"r1", "r2"}), ("real", {"r1"}), ("fake", {"r2"})):
        loss, m = game(small(gamma=3.0, penalise=penalise), "disc", params, batch)
        paid = 1.5 * sum(float(m[k]) for k in wanted)
        assert float(loss - m["adversarial"]) == pytest.approx(paid, rel=1e-4)
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


# ---- the losses


def test_only_the_difference_of_a_pair_counts_for_the_relativistic_loss():
    real, fake = jax.random.normal(KEY, (2, 16))
    for loss in _gan_losses.GAMES["relativistic"]:
        np.testing.assert_allclose(loss(real + 7.0, fake + 7.0), loss(real, fake), rtol=1e-5)
    critic, generator = _gan_losses.GAMES["relativistic"]
    np.testing.assert_allclose(critic(real, fake), generator(fake, real), rtol=1e-6)  # symmetric


@pytest.mark.parametrize("loss,real,fake,critic,generator", [
    # logits, derivative of the critic's loss by (real, fake), of the generator's by fake; sigmoid(-10) =
    # 4.54e-5
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


# ---- the order of the game


@functools.cache
def training(family):
    """(the first state, the train step, compiled once for all tests)."""
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


def test_the_generator_moves_against_the_discriminator_just_updated():
    f = small()
    batch = f.example_batch(8, KEY)
    state, after, metrics = moved_by(f, batch)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 1)  # step 1, player 1
    sees = {name: float(game(f, "gen", {"gen": state.params["gen"], "disc": disc}, batch, key)[0])
            for name, disc in (("old", state.params["disc"]), ("new", after.params["disc"]))}
    assert float(metrics["gen/loss"]) == pytest.approx(sees["new"], rel=1e-4)
    assert abs(sees["new"] - sees["old"]) > 1e-3 * abs(sees["new"])


def test_the_discriminator_may_move_several_times():
    assert [p.name for p in small(disc_steps=3).players()] == ["disc", "disc", "disc", "gen"]


# ---- a game small enough to know its answer: eight Gaussians on a ring

CENTRES = 2 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
SPREAD = 0.2


def mlp(params, x):
    for w, b in params[:-1]:
        x = jax.nn.leaky_relu(x @ w + b[None], 0.2)
    return x @ params[-1][0] + params[-1][1][None]


def ring(loss, gamma, rate=3e-3, steps=1000, batch=128, width=48):
    """(samples [4096, 2], curve) of two three-layer perceptrons that play `loss` on points of the ring."""
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
    """Share of the points within three spreads of each centre; of the data 1/8 times 0.99."""
    return (np.linalg.norm(points[:, None] - CENTRES[None], axis=-1) < 3 * SPREAD).mean(0)


@pytest.mark.parametrize("loss", ["relativistic", "nonsaturating"])
def test_all_modes_of_a_ring_are_covered_and_the_game_is_not_called_broken(loss):
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
    ({"relativistic": [99.0, 1.0, 99.0, 1.0]}, None),  # spikes that pass
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
        halves = [game(f, player, params, jax.tree.map(lambda x: x[i::2], batch)) for i in (0, 1)]
        jax.tree.map(lambda w, a, b: np.testing.assert_allclose(w, (a + b) / 2, rtol=1e-4), whole, *halves)


@pytest.mark.parametrize("levels", [2, 256])
def test_samples_are_images_of_the_right_levels_and_depend_on_their_number_alone(levels):
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
    assert all(float(count) == 6 and np.isfinite(total) for total, count in found.values())
    assert 0 <= float(found["pair_accuracy"][0]) <= 6


# ---- augmentation


@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_is_the_identity_at_probability_zero_and_differentiable_at_one(policy):
    x, examples = jax.random.normal(KEY, (4, 8, 8, 3)), jnp.arange(4)
    direction, step = jax.random.normal(jax.random.key(1), x.shape), 1e-2

    @quick
    def augmented(x, probability):
        def total(x):
            moved = augment(x, (policy,), probability, KEY, examples)
            return jnp.sin(moved).sum(), moved

        (total, moved), gradient = jax.value_and_grad(total, has_aux=True)(x)
        return total, moved, gradient

    np.testing.assert_array_equal(augmented(x, 0.0)[1], x)
    _, moved, gradient = augmented(x, 1.0)
    assert float(jnp.abs(moved - x).max()) > 0.1
    slope = (augmented(x + step * direction, 1.0)[0] - augmented(x - step * direction, 1.0)[0]) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=0.02)


def test_a_share_of_the_images_is_augmented_and_real_and_generated_ones_alike():
    x = jnp.broadcast_to(jax.random.normal(KEY, (1, 8, 8, 1)), (4000, 8, 8, 1))
    moved = quick(lambda x: augment(x, ("colour",), 0.3, KEY, jnp.arange(4000)))(x)
    changed = np.asarray(jnp.abs(moved - x).max((1, 2, 3)) > 0)
    real, fake = np.asarray(moved)[0::2], np.asarray(moved)[1::2]  # as `disc_loss` numbers them
    for share in (changed[0::2].mean(), changed[1::2].mean()):
        assert share == pytest.approx(0.3, abs=4 * (0.21 / 2000) ** 0.5)
    error = 4 * (real.var(0) / 1000) ** 0.5
    assert (np.abs(real.mean(0) - fake.mean(0)) < error).all()


def test_translation_moves_whole_images_and_lets_in_grey():
    x = jax.random.normal(KEY, (64, 16, 16, 2))
    moved = np.asarray(quick(lambda x: augment(x, ("translation",), 1.0, KEY, jnp.arange(64)))(x))
    found = set()
    for before, after in zip(np.asarray(x), moved):
        wide = np.pad(before, [(2, 2), (2, 2), (0, 0)])
        shifts = [(i, j) for i, j in itertools.product(range(5), range(5))
                  if np.allclose(wide[i:i + 16, j:j + 16], after, atol=1e-6)]
        assert len(shifts) == 1
        found |= set(shifts)
    assert len(found) > 15


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


def test_players_are_scaled_and_counted_apart():
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


@pytest.mark.parametrize("body", BODIES)
def test_the_players_of_every_body_learn_from_each_other(body):
    family = small(body=body)
    white = jnp.full((8, 8, 8, 1), 255, jnp.uint8)  # one image, to be learnt
    batch = family.example_batch(8, KEY) | {"image": white}
    first, step = training(family)
    state = first
    for _ in range(40):
        state, _ = step(state, batch)
    assert int(state.diverged) == -1
    sample = quick(family.sample)
    before, after = (float(sample(s.params, batch, KEY).mean(dtype=float)) for s in (first, state))
    assert after > before + 30
