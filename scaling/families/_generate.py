"""Text generation by any family that has `begin` and `decode`: one pass over all prompts, then one token of every text at
a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def generate(family, params, prompts, *, max_tokens, temperature=1.0, top_k=None, top_p=None, stop=(),
             seed=0):
    """Continue prompts (token arrays of any lengths, at least one token each). Returns a list of arrays of new tokens.

    temperature: divides the logits; 0 takes the most likely token.
    top_k: sample among the k most likely tokens. Ties at the threshold are kept.
    top_p: sample among the fewest most likely tokens whose probabilities add up to p or more (Holtzman et al. 2020,
        section 3.1). Ties at the threshold are kept.
    stop: tokens, or sequences of tokens such as an encoded string. A row ends before the first of any of them.
    seed: the same seed, prompts and sizes give the same tokens. A row does not depend on the other rows.

    A text may be longer than `family.length`: recurrent families carry their state on, and with rotary positions each token
    attends to the last `length` tokens in every layer. With learned positions a longer text is a ValueError.
    """
    prompts = [np.asarray(prompt, np.int32) for prompt in prompts]
    check_request(family, prompts, max_tokens, temperature, top_k, top_p)
    if not prompts:
        return []
    tokens, lengths, stops, single = arranged(prompts, stop)
    out = continued(family, params, tokens, lengths, jax.random.key(seed), jnp.float32(temperature),
                    jnp.float32(1 if top_p is None else top_p), max_tokens=max_tokens, stop=single,
                    top_k=top_k, nucleus=top_p is not None, greedy=temperature == 0)
    return [cut_at_stops(row, stops) for row in np.asarray(out)]


def arranged(prompts, stop):
    """(prompts in rows, int32 [B, S], padded on the right; their lengths, int32 [B]; all stops as arrays; the stops of one
    token as a tuple)."""
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    tokens = np.zeros((len(prompts), lengths.max()), np.int32)
    for row, prompt in zip(tokens, prompts):
        row[:len(prompt)] = prompt
    stops = [np.atleast_1d(np.asarray(s, np.int32)) for s in stop]
    return tokens, lengths, stops, tuple(sorted({int(s[0]) for s in stops if len(s) == 1}))


def stream(family, params, prompt, *, max_tokens, temperature=1.0, top_k=None, top_p=None, stop=(), seed=0, row=0):
    """Yield the tokens of row number `row` of `generate` one by one, each as soon as it is drawn.

    `prompt` is one array of tokens and `stop` holds single tokens. The other arguments are those of `generate`.
    """
    prompt = np.asarray(prompt, np.int32)
    check_request(family, [prompt], max_tokens, temperature, top_k, top_p)
    key = jax.random.fold_in(jax.random.key(seed), row)
    options = {"top_k": top_k, "nucleus": top_p is not None, "greedy": temperature == 0}
    logits, state = _begin(family, params, prompt[None], np.array([len(prompt)], np.int32), len(prompt) + max_tokens)
    for step in range(max_tokens):
        token = _choose(logits[0], jax.random.fold_in(key, step), jnp.float32(temperature),
                        jnp.float32(1 if top_p is None else top_p), **options)
        if int(token) in stop:
            return
        yield int(token)
        if step + 1 < max_tokens:
            logits, state = _decode(family, params, state, token[None])


def sample_windows(family, params, batch, key, temperature=1.0, length=0):
    """Windows of text, int32 [B, 1 + length]: the first token of each window of {"tokens": integer [B, S + 1], "example":
    int32 [B]}, and `length` tokens that a family draws after it, as many as `family.length` for 0.

    So a model that is right writes windows with the distribution of the data, whose windows begin anywhere. `temperature`
    divides the logits; 0 takes the likeliest tokens. A row depends on its first token, the key and its "example" alone.
    """
    length = length or family.length
    first = batch["tokens"][:, :1].astype(jnp.int32)
    keys = jax.vmap(lambda example: jax.random.fold_in(key, example))(batch["example"])

    def pick(logits, step):
        return jax.vmap(lambda logits, key: choose_warm(logits, jax.random.fold_in(key, step), temperature))(logits, keys)

    def one_more(carry, step):
        logits, state = family.decode(params, carry[1], carry[0])
        token = pick(logits, step)
        return (token, state), token

    logits, state = family.begin(params, first, jnp.ones(len(first), jnp.int32), length)
    token = pick(logits, 0)
    _, rest = lax.scan(one_more, (token, state), jnp.arange(1, length))
    return jnp.concatenate([first, token[:, None], rest.T], axis=1)


def find_longest(family) -> int | None:
    """The tokens of the longest text, prompt included, that a family can write; None for any length."""
    return getattr(family, "longest", None)


def choose(logits, key, temperature, top_p, *, top_k=None, nucleus=False, greedy=False):
    """A token, int32 [], from float32 logits [vocab]. The options are those of `generate`."""
    if greedy:
        return logits.argmax().astype(jnp.int32)
    logits = logits / temperature
    if top_k is not None and top_k < logits.size:
        logits = jnp.where(logits >= lax.top_k(logits, top_k)[0][-1], logits, -jnp.inf)
    if nucleus:
        ranked = jnp.sort(logits, descending=True)
        weight = jax.nn.softmax(ranked)
        before = jnp.cumsum(weight) - weight  # 0 for the most likely token, which is therefore always kept
        logits = jnp.where(logits >= jnp.where(before < top_p, ranked, jnp.inf).min(), logits, -jnp.inf)
    return jax.random.categorical(key, logits).astype(jnp.int32)


def choose_warm(logits, key, temperature):
    """A token, int32 [], from float32 logits [vocab], which are divided by `temperature`, a number or an array; 0 takes the
    likeliest."""
    if not isinstance(temperature, jax.Array):
        return choose(logits, key, temperature, 1.0, greedy=temperature == 0)
    drawn = choose(logits, key, jnp.where(temperature > 0, temperature, 1.0), 1.0)
    return jnp.where(temperature > 0, drawn, choose(logits, key, 1.0, 1.0, greedy=True))


def choose_each(logits, keys, temperature, top_p, top_k):
    """A token of each row, int32 [B], from float32 logits [B, vocab], as `choose` takes it, with options of each row's own.

    `keys` are [B], `temperature` and `top_p` float32 [B], and `top_k` int32 [B]. Temperature 0 takes the likeliest token,
    `top_p` from 1 on and `top_k` 0 leave all tokens. Rows are sorted only where one of them asks for it.
    """
    def narrowed(logits, top_p, top_k):
        ranked = jnp.sort(logits, descending=True)
        least = jnp.where(top_k > 0, ranked[jnp.clip(top_k, 1, logits.size) - 1], -jnp.inf)
        logits, ranked = (jnp.where(x >= least, x, -jnp.inf) for x in (logits, ranked))
        weight = jax.nn.softmax(ranked)
        least = jnp.where(jnp.cumsum(weight) - weight < top_p, ranked, jnp.inf).min()
        return jnp.where((logits >= least) | (top_p >= 1), logits, -jnp.inf)

    scaled = logits / jnp.where(temperature > 0, temperature, 1)[:, None]
    scaled = lax.cond(((top_p < 1) | (top_k > 0)).any(), jax.vmap(narrowed), lambda logits, *_: logits,
                      scaled, top_p, top_k)
    drawn = jax.vmap(jax.random.categorical)(keys, scaled)
    return jnp.where(temperature > 0, drawn, logits.argmax(-1)).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("family", "capacity"))
def _begin(family, params, tokens, lengths, capacity):
    return family.begin(params, tokens, lengths, capacity)


@functools.partial(jax.jit, static_argnames="family", donate_argnames="state")
def _decode(family, params, state, token):
    return family.decode(params, state, token)


_choose = jax.jit(choose, static_argnames=("top_k", "nucleus", "greedy"))


@functools.partial(jax.jit, static_argnames=("family", "max_tokens", "stop", "top_k", "nucleus", "greedy"))
def continued(family, params, tokens, lengths, key, temperature, top_p, *, max_tokens, stop, **options):
    """New tokens int32 [B, max_tokens]. Tokens after a stop token in a row have no meaning."""
    batch, width = tokens.shape
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch))

    def pick(logits, step):
        """Token number `step` of every row, from logits [B, vocab]."""
        return jax.vmap(lambda logits, key: choose(logits, jax.random.fold_in(key, step), temperature, top_p,
                                                   **options))(logits, keys)

    def unfinished(carry):
        step, _, _, done, _ = carry
        return (step < max_tokens) & ~done.all()

    def one_more(carry):
        step, token, out, done, cache = carry
        logits, cache = family.decode(params, cache, token)
        token = pick(logits, step)
        return step + 1, token, out.at[:, step].set(token), done | is_stop(token, stop), cache

    logits, cache = family.begin(params, tokens, lengths, width + max_tokens)
    token = pick(logits, 0)
    out = jnp.zeros((batch, max_tokens), jnp.int32).at[:, 0].set(token)
    return lax.while_loop(unfinished, one_more, (1, token, out, is_stop(token, stop), cache))[2]


def is_stop(token, stop):
    """Whether each token, int32 [...], is one of the tokens in the tuple `stop`: bool [...]."""
    return functools.reduce(jnp.logical_or, [token == s for s in stop], jnp.zeros(token.shape, bool))


def cut_at_stops(row, stops):
    """The row up to the first of any of the stops."""
    ends = [len(row)]
    for s in stops:
        if 0 < len(s) <= len(row):
            windows = np.lib.stride_tricks.sliding_window_view(row, len(s))
            ends += list(np.flatnonzero((windows == s).all(-1))[:1])
    return row[:min(ends)]


def check_request(family, prompts, max_tokens, temperature=1.0, top_k=None, top_p=None):
    """Raise a ValueError for prompts (token arrays) or options that `generate` or `beam_search` cannot use."""
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    if not temperature >= 0:
        raise ValueError(f"temperature must be 0 (greedy) or more, not {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1 or None, not {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, or None, not {top_p}")
    for i, prompt in enumerate(prompts):
        if prompt.ndim != 1 or not len(prompt):
            raise ValueError(f"prompt {i} has shape {prompt.shape}; give each as a list of one token or more")
        if prompt.min() < 0 or prompt.max() >= family.vocab:
            raise ValueError(f"prompt {i} holds token {max(prompt, key=abs)}, but the vocabulary is 0 to "
                             f"{family.vocab - 1}; encode it with the tokenizer the model was trained with")
        longest = find_longest(family)
        if longest is not None and len(prompt) + max_tokens > longest:
            raise ValueError(f"prompt {i} and max_tokens make {len(prompt)} + {max_tokens} tokens, but the "
                             f"learned positions end at {longest}; shorten either")
