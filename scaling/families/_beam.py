"""Beam search: the likeliest continuations of prompts, as far as a beam of a few texts finds them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from scaling.families._generate import arranged, check_request, cut_at_stops, is_stop


def beam_search(family, params, prompts, *, max_tokens, beam=4, length_penalty=0.0, stop=()):
    """Continue prompts (token arrays, at least one token each) by likely texts. Returns a list of arrays of new tokens.

    A beam holds the `beam` texts of highest score among those that extend the texts of the step before by one token. A text
    that has ended keeps its place as it is. A beam of 1 takes the likeliest token each time, as `generate` with temperature
    0. Rows do not depend on each other.

    max_tokens: the most new tokens of a text.
    length_penalty: the exponent a of the score log p(text) / ((5 + n) / 6)^a of n new tokens (Wu et al. 2016,
        arXiv:1609.08144, equation 14). 0 compares probabilities, which favours short texts.
    stop: as in `generate`. A text of the beam ends with a single token among them, which counts in its score.
    """
    prompts = [np.asarray(prompt, np.int32) for prompt in prompts]
    check_request(family, prompts, max_tokens)
    if not beam >= 1:
        raise ValueError(f"beam must be at least 1, not {beam}")
    if not length_penalty >= 0:
        raise ValueError(f"length_penalty must be at least 0, not {length_penalty}")
    if not prompts:
        return []
    tokens, lengths, stops, single = arranged(prompts, stop)
    out = _search(family, params, tokens, lengths, jnp.float32(length_penalty), max_tokens=max_tokens, beam=beam,
                  stop=single)
    return [cut_at_stops(row, stops) for row in np.asarray(out)]


class Beam(NamedTuple):
    """Texts that continue one prompt, [beam, ...]."""

    tokens: jax.Array  # int32 [beam, max_tokens]
    log_p: jax.Array  # float32 [beam], -inf for a place that no text has
    length: jax.Array  # int32 [beam], tokens so far
    ended: jax.Array  # bool [beam]


@functools.partial(jax.jit, static_argnames=("family", "max_tokens", "beam", "stop"))
def _search(family, params, tokens, lengths, length_penalty, *, max_tokens, beam, stop):
    """The best texts, int32 [B, max_tokens]. Tokens after a stop token in a row have no meaning."""
    def begin(tokens, length):
        logits, state = family.begin(params, tokens[None], length[None], tokens.size + max_tokens)
        return logits[0], state

    def decode(state, token):  # of one text, so that states of families need no axis in common
        logits, state = family.decode(params, state, token[None])
        return logits[0], state

    def repeat(x):
        return jnp.broadcast_to(x[:, None], (len(x), beam, *x.shape[1:]))

    def unfinished(carry):
        step, found, *_ = carry
        return (step < max_tokens) & ~found.ended.all()

    def one_more(carry):
        step, found, logits, states = carry
        found, parents = jax.vmap(lambda found, logits: _extended(found, logits, step, length_penalty, stop))(found, logits)
        states = jax.tree.map(jax.vmap(lambda x, parents: x[parents]), states, jax.tree.map(lambda _: parents, states))
        logits, states = jax.vmap(jax.vmap(decode))(states, found.tokens[:, :, step])
        return step + 1, found, logits, states

    logits, states = jax.tree.map(repeat, jax.vmap(begin)(tokens, lengths))
    shape = len(tokens), beam
    log_p = jnp.full(shape, -jnp.inf).at[:, 0].set(0.0)  # a beam begins as one text
    found = Beam(jnp.zeros((*shape, max_tokens), jnp.int32), log_p, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool))
    found = lax.while_loop(unfinished, one_more, (0, found, logits, states))[1]
    best = (found.log_p / _penalty(found.length, length_penalty)).argmax(-1)
    return jnp.take_along_axis(found.tokens, best[:, None, None], axis=1)[:, 0]


def _extended(found, logits, step, length_penalty, stop):
    """(the beam after one more token with these logits [beam, vocab], the places [beam] of the texts that it extends)."""
    beam, vocab = logits.shape
    same = jnp.where(jnp.arange(vocab) == 0, 0.0, -jnp.inf)[None]  # a text that has ended goes on in one way
    log_p = found.log_p[:, None] + jnp.where(found.ended[:, None], same, jax.nn.log_softmax(logits))
    length = found.length + ~found.ended
    _, chosen = lax.top_k((log_p / _penalty(length, length_penalty)[:, None]).ravel(), beam)
    parents, token = chosen // vocab, (chosen % vocab).astype(jnp.int32)
    tokens = found.tokens[parents].at[:, step].set(token)
    return Beam(tokens, log_p.ravel()[chosen], length[parents], found.ended[parents] | is_stop(token, stop)), parents


def _penalty(length, exponent):
    return ((5 + length) / 6) ** exponent
