"""Slots: a fixed number of texts, each at its own place, that one compiled step makes a token longer.

Any family that has `begin` and `decode` will do. The states of its texts lie in the rows of one state, which `begin` fills
a row at a time, so that a text begins while others are being written (continuous batching, Yu et al. 2022, "Orca",
section 3). The shapes never change: whatever is in the other rows, the same program computes a row.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from scaling.families import _generate

NARROWEST = 16  # tokens; prompts are padded to a power of two from here on
LIKELIEST = 5  # tokens of which a text can be told how probable they were


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How the tokens of a text are drawn, as in `scaling.families._generate.generate`: text number `row` with this seed."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    row: int = 0


class Chance(NamedTuple):
    """How probable a token was, in nats below certainty: the model's own probabilities, before temperature and cuts. The
    first token of a prompt has none: its `nats` are None."""

    token: int
    nats: float | None
    likeliest: tuple[tuple[int, float], ...]  # (token, nats) of the `LIKELIEST`, from the most probable on


class Slots:
    """`count` texts of one model, with prompts of up to `prompt_tokens` tokens and up to `new_tokens` after them."""

    def __init__(self, family, params, count: int, prompt_tokens: int, new_tokens: int):
        self.family, self.params, self.count = family, params, count
        self.capacity = prompt_tokens + new_tokens
        self.widths = _widths(family, params, prompt_tokens, self.capacity)
        self._board = _empty(family, params, count, self.widths[-1], self.capacity)

    def begin(self, slot: int, prompt: np.ndarray, drawing: Drawing) -> int:
        """Gives a slot to the text after a prompt, int32 [n], and returns the first token of it."""
        width = next(width for width in self.widths if width >= len(prompt))
        tokens = np.zeros((1, width), np.int32)
        tokens[0, :len(prompt)] = prompt
        options = {"temperature": np.float32(drawing.temperature), "top_k": np.int32(drawing.top_k or 0),
                   "top_p": np.float32(1 if drawing.top_p is None else drawing.top_p)}
        key = jax.random.fold_in(jax.random.key(drawing.seed), drawing.row)
        self._board = _begun(self.family, self.params, self._board, np.int32(slot), tokens,
                             np.array([len(prompt)], np.int32), key, options, self.capacity)
        return int(self._board["token"][slot])

    def step(self) -> np.ndarray:
        """The next token of every slot, int32 [count]. Those of slots without a text have no meaning."""
        self._board = _stepped(self.family, self.params, self._board)
        return np.asarray(self._board["token"])

    def chance(self, slot: int) -> Chance:
        """How probable the last token of a slot was. Only texts that ask for it cost the time."""
        token, nats, tokens, values = map(np.asarray, _read(self._board["logits"], self._board["token"], np.int32(slot)))
        return Chance(int(token), float(nats), tuple(zip(tokens.tolist(), values.tolist(), strict=True)))

    def chances_of(self, prompt: np.ndarray) -> list[Chance]:
        """How probable each token of a prompt, int32 [n], was after those before it. It takes as long as n steps."""
        tokens = np.zeros(self.widths[-1], np.int32)
        tokens[:len(prompt)] = prompt
        read = _read_prompt(self.family, self.params, tokens, np.int32(len(prompt)), self.capacity)
        nats, likeliest, values = (np.asarray(x)[:len(prompt) - 1].tolist() for x in read)
        rows = zip(prompt[1:].tolist(), nats, likeliest, values, strict=True)
        return [Chance(int(prompt[0]), None, ()),
                *(Chance(token, own, tuple(zip(best, theirs, strict=True))) for token, own, best, theirs in rows)]

    def warm(self) -> None:
        """Compiles all that will ever run but `chances_of`, which few ask for, so that no text waits for it."""
        for width in self.widths:
            self.begin(0, np.zeros(width, np.int32), Drawing())
        self.step()
        self.chance(0)


def _widths(family, params, prompt_tokens, capacity):
    """What prompts are padded to: powers of two, or one width for a family whose state is as wide as its prompt."""
    powers = [NARROWEST << i for i in range(prompt_tokens.bit_length()) if NARROWEST << i < prompt_tokens]
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), _abstract(family, params, 1, width, capacity))
              for width in (1, prompt_tokens)]
    return (*(powers if shapes[0] == shapes[1] else ()), prompt_tokens)


def _abstract(family, params, rows, width, capacity):
    """The shapes of the state after `rows` prompts of `width` tokens."""
    return jax.eval_shape(lambda params: family.begin(params, jnp.zeros((rows, width), jnp.int32),
                                                      jnp.ones(rows, jnp.int32), capacity)[1], params)


def _row_axes(family, params, width, capacity):
    """The axis of each array of a state that numbers the texts: the one that is longer with more of them."""
    def axis(two, three):
        return next(i for i, sizes in enumerate(zip(two.shape, three.shape)) if sizes == (2, 3))
    return jax.tree.map(axis, *(_abstract(family, params, rows, width, capacity) for rows in (2, 3)))


def _empty(family, params, count, width, capacity):
    """The arrays of `count` slots: the state, the last token and the number of tokens of each, and how they are drawn."""
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), _abstract(family, params, count, width, capacity))
    numbers = {name: jnp.zeros(count, jnp.int32) for name in ("token", "step", "top_k")}
    logits = jax.eval_shape(lambda params: family.begin(params, jnp.zeros((count, width), jnp.int32),
                                                        jnp.ones(count, jnp.int32), capacity)[0], params)
    numbers["logits"] = jnp.zeros(logits.shape, logits.dtype)
    return {"state": state, "key": jax.random.split(jax.random.key(0), count), "temperature": jnp.ones(count),
            "top_p": jnp.ones(count)} | numbers


def _chosen(logits, board):
    """The next token of each row, from logits [B, vocab]."""
    keys = jax.vmap(jax.random.fold_in)(board["key"], board["step"])
    return _generate.choose_each(logits, keys, board["temperature"], board["top_p"], board["top_k"])


@functools.partial(jax.jit, static_argnames=("family", "capacity"), donate_argnames="board")
def _begun(family, params, board, slot, tokens, length, key, options, capacity):
    """The slots with a text in one of them, whose first token is drawn."""
    logits, state = family.begin(params, tokens, length, capacity)
    row = {"key": key[None], "step": jnp.zeros(1, jnp.int32)} | {name: x[None] for name, x in options.items()}
    row |= {"token": _chosen(logits, row), "logits": logits}
    axes = {"state": _row_axes(family, params, tokens.shape[1], capacity)} | dict.fromkeys(row, 0)
    return jax.tree.map(lambda all_, one, axis: lax.dynamic_update_slice_in_dim(all_, one, slot, axis),
                        board, {"state": state} | row, axes)


@functools.partial(jax.jit, static_argnames="family", donate_argnames="board")
def _stepped(family, params, board):
    """The slots after one more token of each."""
    logits, state = family.decode(params, board["state"], board["token"])
    board = board | {"state": state, "step": board["step"] + 1, "logits": logits}
    return board | {"token": _chosen(logits, board)}


@jax.jit
def _read(logits, tokens, slot):
    """(token, its nats, the likeliest tokens, theirs) of a slot."""
    return tokens[slot], *_nats_of(logits[slot], tokens[slot])


def _nats_of(logits, token):
    """(the nats of a token, the likeliest tokens, theirs) by logits [vocab]."""
    nats = jax.nn.log_softmax(logits.astype(jnp.float32))
    values, likeliest = lax.top_k(nats, min(LIKELIEST, nats.size))
    return nats[token], likeliest, values


@functools.partial(jax.jit, static_argnames=("family", "capacity"))
def _read_prompt(family, params, tokens, length, capacity):
    """`_nats_of` token i + 1 of a prompt, int32 [width], in row i of each array; rows from length - 1 on are zero."""
    logits, state = family.begin(params, tokens[None, :1], jnp.ones(1, jnp.int32), capacity)
    shapes = jax.eval_shape(_nats_of, logits[0], tokens[0])
    empty = jax.tree.map(lambda x: jnp.zeros((len(tokens), *x.shape), x.dtype), shapes)

    def step(place, carry):
        logits, state, found = carry
        here = _nats_of(logits[0], tokens[place])
        found = jax.tree.map(lambda rows, row: lax.dynamic_update_index_in_dim(rows, row, place - 1, 0), found, here)
        return *family.decode(params, state, lax.dynamic_slice_in_dim(tokens, place, 1)), found

    return lax.fori_loop(1, length, step, (logits, state, empty))[2]
