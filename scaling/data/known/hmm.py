"""Tokens emitted by a hidden Markov chain, with their exact likelihood by the forward algorithm (Rabiner 1989, section
III.A)."""
import dataclasses
import functools
from types import ModuleType

import numpy as np

from scaling.data.known import draws
from scaling.fields import check_fields, convert_fields, static


@dataclasses.dataclass(frozen=True)
class HiddenMarkov:
    """A window starts in a hidden state drawn from the stationary distribution. Each state emits a token and moves on.

    The weights of transitions and emissions are exp(sharpness z) with standard normal z from the seed.
    """

    states: int = static(16, least=1, most=512)
    vocab: int = static(64, least=2, most=4096)
    sharpness: float = static(3.0, least=0, most=8)
    seed: int = static(0, least=0, most=2**32 - 1)

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "data.name=hmm: ")

    def family_fields(self) -> dict:
        return {}

    @functools.cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """Thresholds: "start", uint32 [states - 1]; "move", uint32 [states, states - 1]; "emit", [states, vocab - 1]."""
        move, emit = (draws.thresholds(np.exp(self.sharpness * draws.normals((self.states, count), self.seed, part)))
                      for part, count in enumerate((self.states, self.vocab)))
        return {"start": draws.thresholds(_stationary(draws.probabilities(move))), "move": move, "emit": emit}

    @functools.cached_property
    def probabilities(self) -> dict[str, np.ndarray]:
        """The exact probabilities of the tables: float64 [states], [states, states], [states, vocab]."""
        return {name: draws.probabilities(table) for name, table in self.tables.items()}

    def read(self, tables: dict, index, length: int, xp: ModuleType = np):
        """Windows `index` (uint32 [k]) of `length` tokens: int32 [k, length]."""
        random = draws.streams(index, self.seed, xp)

        def advance(state, t):
            token = draws.pick(draws.bits(random, 2 * t + 1, xp), tables["emit"][state], xp)
            return draws.pick(draws.bits(random, 2 * t + 2, xp), tables["move"][state], xp), token

        start = draws.pick(draws.bits(random, 0, xp), tables["start"], xp)
        return draws.repeat(advance, start, length, xp)[1].T

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        """-log p(token | tokens before it in the window), float64 [k, length], of windows [k, length]."""
        p, tokens = self.probabilities, np.asarray(tokens)
        belief, out = np.broadcast_to(p["start"], (len(tokens), self.states)), np.empty(tokens.shape)
        for t in range(tokens.shape[1]):
            joint = belief * p["emit"].T[tokens[:, t]]
            total = joint.sum(-1)
            out[:, t] = -np.log(total)
            belief = (joint / total[:, None]) @ p["move"]
        return out

    def entropy(self, length: int) -> None:
        """Unknown in closed form (Blackwell 1957); `TokenStream` estimates it."""


def _stationary(move: np.ndarray) -> np.ndarray:
    """The distribution that a chain of these transitions [n, n] keeps."""
    count = len(move)
    equations = np.concatenate([move.T - np.eye(count), np.ones((1, count))])
    return np.maximum(np.linalg.lstsq(equations, np.append(np.zeros(count), 1.0), rcond=None)[0], 0)
