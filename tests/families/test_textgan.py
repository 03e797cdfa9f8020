"""The GAN of text: its generator is a language model, its tokens are hard and have gradients, and the game teaches it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling import axes, cost, families
from scaling.experiment import Experiment, Start, Text
from scaling.families._textgan_critic import gumbel_noise, straight_through
from scaling.families.textgan import TextGAN
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.training.step import TRUNK, init_state, train_step

FAMILY = TextGAN(vocab=20, length=10, width=16, layers=2, head_dim=8)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def params():
    """Sharper than at initialisation, so that what is written depends on what came before."""
    return jax.tree.map(lambda x: 3 * x, jax.jit(FAMILY.init)(jax.random.key(0)))


@pytest.fixture(scope="module")
def batch():
    return FAMILY.example_batch(6, jax.random.key(1))


write = jax.jit(FAMILY.write)
logits_of = jax.jit(FAMILY.logits)


# ---- words


def test_tokens_are_hard_and_have_the_gradient_of_the_softmax():
    logits, weights = (jax.random.normal(jax.random.key(i), (2, 5, 7)) for i in range(2))
    gumbel = gumbel_noise(KEY, jnp.arange(2), (5, 7))
    words = (logits + gumbel).argmax(-1)
    out = straight_through(logits, gumbel, words, 0.5)
    assert (out == jax.nn.one_hot(words, 7)).all()
    found = jax.grad(lambda x: (weights * straight_through(x, gumbel, words, 0.5)).sum())(logits)
    wanted = jax.grad(lambda x: (weights * jax.nn.softmax((x + gumbel) / 0.5)).sum())(logits)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert jnp.abs(found).max() > 0


def test_tokens_are_samples_of_the_softmax():
    logits = jnp.log(jnp.array([0.1, 0.2, 0.7]))
    drawn = (logits[None] + gumbel_noise(KEY, jnp.arange(4000), (3,))).argmax(-1)
    np.testing.assert_allclose(np.bincount(drawn) / 4000, [0.1, 0.2, 0.7], atol=0.03)


def test_a_window_is_what_the_whole_network_would_choose_with_the_same_noise(params, batch):
    windows, gumbel = write(params, batch, KEY)
    assert (windows[:, 0] == batch["tokens"][:, 0]).all()
    logits = logits_of(params, windows[:, :-1])
    assert ((logits + gumbel).argmax(-1) == windows[:, 1:]).all()
    alone, _ = write(params, jax.tree.map(lambda x: x[4:5], batch), KEY)
    assert (alone == windows[4:5]).all()
    assert len(np.unique(windows, axis=0)) == 6


def test_the_generator_sees_the_tokens_before_alone(params, batch):
    positions = jnp.arange(FAMILY.length)[None]

    @jax.jit
    def slopes(gen, tokens):
        network = FAMILY.writer.module({"model": gen})
        x = network.embed_at(tokens)
        return jax.jacobian(lambda x: jnp.square(network.logits(network.run(x, positions)[0])[0]).sum(-1))(x)

    reached = np.abs(slopes(params["gen"], batch["tokens"][:1, :-1])[:, 0]).max(-1)
    assert (reached[np.triu_indices(FAMILY.length, 1)] == 0).all() and (reached[np.tril_indices(FAMILY.length)] > 0).all()


# ---- the game


def test_the_gradient_of_the_game_reaches_the_whole_generator_and_every_token(params, batch):
    grads = jax.jit(jax.grad(lambda gen: FAMILY.gen_loss({**params, "gen": gen}, batch, KEY)[0]))(params["gen"])
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(grads))
    windows, gumbel = write(params, batch, KEY)

    @jax.jit
    def scored(params, logits):
        disc = FAMILY.critic(params)

        def score(logits):
            words = straight_through(logits, gumbel, windows[:, 1:], 1.0)
            return disc(jnp.concatenate([disc.embed(windows[:, :1]), disc.embed(words)], 1)).sum()

        return *jax.value_and_grad(score)(logits), disc(disc.embed(windows)).sum()

    score, slopes, wanted = scored(params, logits_of(params, windows[:, :-1]))
    assert (np.abs(slopes).max(-1) > 0).all()
    np.testing.assert_allclose(score, wanted, rtol=1e-5)  # as hard as what it wrote


def test_the_generator_has_no_gradient_from_the_loss_of_the_discriminator(params, batch):
    grads = jax.jit(jax.grad(lambda gen: FAMILY.disc_loss({**params, "gen": gen}, batch, KEY)[0]))(params["gen"])
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(grads))


def test_penalties_are_squared_gradients_by_word_vectors_that_no_length_of_the_table_changes(batch):
    params = jax.jit(FAMILY.init)(jax.random.key(0))  # sharper ones have slopes of a thousand, whose rounding shows
    penalty = jax.jit(lambda params: FAMILY.disc_loss(params, batch, KEY)[1]["r1"])

    @jax.jit
    def by_hand(params):
        disc = FAMILY.critic(params)
        vectors = disc.embed(batch["tokens"])
        return vectors, jax.vmap(jax.grad(lambda x: disc(x[None])[0]))(vectors)

    vectors, slopes = map(np.asarray, by_hand(params))
    np.testing.assert_allclose(np.square(vectors).sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(penalty(params), np.square(slopes).sum((1, 2)).mean(), rtol=1e-4)
    longer = {**params, "disc": jax.tree.map(lambda x: x, params["disc"])}
    table = params["disc"]["table"]["weight"]
    longer["disc"]["table"]["weight"] = table.replace(9 * table[...])
    np.testing.assert_allclose(penalty(longer), penalty(params), rtol=1e-4)


def test_a_likelihood_adds_the_nats_of_the_data(params, batch):
    more = TextGAN(**{**FAMILY.__dict__, "likelihood": 0.5})
    plain, (mixed, metrics), nats = jax.jit(lambda params: (
        FAMILY.gen_loss(params, batch, KEY)[0], more.gen_loss(params, batch, KEY),
        Transformer.loss(FAMILY.writer, {"model": params["gen"]}, batch, KEY)[0]))(params)
    found, wanted = (metrics["adversarial"], metrics["nats"], mixed), (plain, nats, plain + 0.5 * nats)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.slow
def test_the_game_alone_teaches_a_language():
    """Tokens go up by one or two: a fresh generator writes a quarter of its steps so, and one that played most of them."""
    family = TextGAN(vocab=8, length=8, width=32, layers=1)
    e = Experiment(family=family, data=Text(length=8, batch=32, tokens=32 * 8 * 400)).replace({
        "optim.beta1": 0.0, "optim.beta2": 0.99, "optim.weight_decay": 0.0, "optim.clip": 0.0, "optim.warmup": 10,
        "optim.learning_rate": 3e-3, "optim.schedule": "constant", "optim.ema": 0.99})

    def windows(key, count):
        first, step = jax.random.split(key)
        steps = jax.random.choice(step, jnp.array([1, 2]), (count, 8))
        start = jax.random.randint(first, (count, 1), 0, 8)
        return jnp.concatenate([start, start + jnp.cumsum(steps, 1)], 1) % 8

    def advance(state, _):
        batch = {"tokens": windows(jax.random.fold_in(jax.random.key(9), state.step), 32)}
        return train_step(e, TRUNK, state, batch)[0], None

    def share(params):
        batch = {"tokens": windows(jax.random.key(7), 512), "example": jnp.arange(512)}
        written = family.sample(params, batch, KEY)
        return float(jnp.isin((written[:, 1:] - written[:, :-1]) % 8, jnp.array([1, 2])).mean())

    state = jax.jit(lambda: init_state(e))()
    assert share(state.params) < 0.35
    state, _ = jax.jit(lambda state: jax.lax.scan(advance, state, None, length=400))(state)
    assert share(state.ema) > 0.7


# ---- a language model within


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"positions": "learned"}, {"heads": 4}, {"dtype": "bfloat16"}],
                         ids=str)
def test_the_generator_is_the_transformer_of_the_same_sizes(options):
    sizes = {"vocab": 20, "length": 10, "width": 16, "layers": 2, **options}
    gan, model = TextGAN(**sizes), Transformer(**sizes)
    assert gan.writer == model
    here, there = (jax.eval_shape(f.init, KEY) for f in (gan, model))
    assert jax.tree.structure(here["gen"]) == jax.tree.structure(there["model"])
    assert axes.names(here["gen"]) == axes.names(there["model"])
    assert jax.tree.map(lambda x: (x.shape, x.dtype), here["gen"]) == jax.tree.map(
        lambda x: (x.shape, x.dtype), there["model"])


@pytest.mark.slow
def test_a_game_begins_with_a_trained_language_model(tmp_path):
    """With a learning rate of almost zero the likelihood of the generator stays that of the model."""
    base = tiny("transformer", **{"optim.learning_rate": 1e-2})
    still = {"optim.learning_rate": 1e-12, "optim.weight_decay": 0.0}
    tuned = tiny("textgan", **{"start": Start(base, {"gen": "model"}), **still})
    runner = Runner(tmp_path, TrainingOptions(steps_per_call=8, compile_ahead=False))
    runner.source = lambda e: ExampleSource(Transformer(length=16, vocab=32), e.data.batch)
    plan = runner.plan([tuned], 1)

    class Bar:
        flops = 0.0

        def update(self, amount=0.0, text=None):
            pass

        print = update

    runner.run(plan, Bar())
    ours, theirs = (runner.records.read(run.fingerprint) for run in (plan.runs[0], plan.all_runs[0]))
    assert theirs["family"] == "transformer" and ours["start"]["fingerprint"] == theirs["fingerprint"]
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    fresh = tiny("textgan").family
    found = fresh.evaluate(fresh.init(KEY), fresh.example_batch(8, KEY), KEY)["loss"].over.mean()
    assert abs(float(found) - ours["loss"]) > 1e-3


def test_other_sizes_cannot_be_taken():
    from scaling.experiment import start
    base = tiny("transformer", **{"family.width": 32, "family.heads": None, "family.kv_heads": None, "family.mlp": None,
                                  "family.head_dim": None})
    with pytest.raises(ConfigError, match="Give both the same sizes"):
        start.taken(tiny("textgan", **{"start": Start(base, {"gen": "model"})}))


def test_wrong_sizes_are_refused_by_the_fields_of_the_transformer():
    with pytest.raises(ConfigError, match="family.heads=32 are more than family.width=16"):
        TextGAN(width=16, heads=32)


def test_the_ladder_is_that_of_the_transformer():
    for size in TextGAN.sizes():
        gan, model = TextGAN.ladder(size), Transformer.ladder(size)
        assert (gan.width, gan.layers) == (model.width, model.layers)
        counted = cost.param_count(gan)["by_player"]
        assert 0.7 < counted["disc"] / counted["gen"] < 1.4
    assert families.find("textgan") is TextGAN and TextGAN.ladder(5e3, layers=1).layers == 1
