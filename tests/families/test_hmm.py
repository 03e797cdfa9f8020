"""The hidden Markov model: its likelihood is the sum over all paths, and it finds the entropy of data from a known one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from scaling import cost
from scaling.data.known.hmm import HiddenMarkov
from scaling.families.hmm import HMM

SMALL = HMM(vocab=3, length=4, states=4)


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(lambda x: 2 * x, jax.jit(SMALL.init)(jax.random.key(0)))


def every_window(length):
    return np.array(list(itertools.product(range(SMALL.vocab), repeat=length)))


def by_paths(params, tokens):
    """The probability of tokens [S] as a sum over every path of states, the one before the first token included."""
    start, move, emit = (np.asarray(jax.nn.softmax(params["model"][name][...])) for name in ("start", "move", "emit"))
    total = 0.0
    for path in itertools.product(range(SMALL.states), repeat=len(tokens) + 1):
        total += start[path[0]] * np.prod([move[i, j] * emit[j, token] for i, j, token in zip(path, path[1:], tokens)])
    return total


def test_the_likelihood_is_the_sum_over_all_paths(params):
    windows = every_window(4)[::5]
    _, nats = jax.jit(lambda tokens: SMALL.module(params)(tokens))(windows)
    assert_allclose(np.exp(-nats.sum(-1)), [by_paths(params, row) for row in windows], rtol=1e-4)


def test_probabilities_of_all_windows_and_of_every_next_token_sum_to_one(params):
    windows = every_window(5)
    beliefs, nats = jax.jit(lambda tokens: SMALL.module(params)(tokens))(windows)
    assert_allclose(np.exp(-nats.sum(-1)).sum(), 1, rtol=1e-5)
    assert_allclose(beliefs.sum(-1), 1, rtol=1e-5)
    logits = jax.jit(SMALL.logits)(params, windows)
    assert_allclose(jax.nn.logsumexp(logits, axis=-1), 0, atol=1e-5)
    predicted = np.take_along_axis(np.asarray(logits[:, :-1]), windows[:, 1:, None], 2)[..., 0]
    assert_allclose(-nats[:, 1:], predicted, atol=1e-5)  # the loss is that of what is predicted


def test_a_prediction_depends_on_all_earlier_tokens_and_on_no_later_one(params):
    tokens = jnp.array([[0, 1, 2, 1, 0, 2]])
    logits = jax.jit(SMALL.logits)
    before, after = logits(params, tokens), logits(params, tokens.at[0, 2].set(0))
    assert jnp.array_equal(before[:, :2], after[:, :2]) and bool((before != after)[:, 2:].any(-1).all())


def test_tokens_that_are_all_but_impossible_leave_losses_and_gradients_finite(params):
    never = jax.tree.map(lambda x: 200 * x, params)
    batch = {"tokens": every_window(5)}
    loss, grads = jax.jit(jax.value_and_grad(lambda p: SMALL.loss(p, batch, None)[0]))(never)
    assert np.isfinite(loss) and all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


def test_the_ladder_is_near_the_wanted_size():
    for size in np.geomspace(5e3, 1e8, 12):
        assert abs(cost.param_count(HMM.ladder(size))["non_embedding"] / size - 1) < 0.1


def test_it_finds_the_entropy_of_a_known_chain():
    """Twice the states of the chain, 300 steps: the excess is a few percent of what a model of single tokens has."""
    chain, length = HiddenMarkov(states=4, vocab=8, sharpness=1.5), 24
    family = HMM(vocab=8, length=length, states=8)

    def windows(first, count):
        return np.asarray(chain.read(chain.tables, np.arange(first, first + count, dtype=np.uint32), length + 1))

    held_out = windows(10**6, 1024)
    true = chain.nats(held_out)[:, 1:].mean()
    share = np.bincount(held_out.ravel()) / held_out.size
    alone = -(share * np.log(share)).sum()
    params, adam = jax.jit(family.init)(jax.random.key(0)), optax.adam(0.1)

    @jax.jit
    def step(params, state, tokens):
        grads = jax.grad(lambda p: family.loss(p, {"tokens": tokens}, None)[0])(params)
        updates, state = adam.update(grads, state)
        return optax.apply_updates(params, updates), state

    state = adam.init(params)
    for i in range(300):
        params, state = step(params, state, windows(48 * i, 48))
    found = float(jax.jit(lambda p: family.loss(p, {"tokens": held_out}, None)[0])(params))
    assert alone - true > 0.04 and -0.001 < found - true < 0.1 * (alone - true)
