"""The runs of a part restored, and what a model makes of each token, for claims that records are too coarse for."""

import functools

import jax
import numpy as np
from etils import epath

from scaling.claims import Trained
from scaling.study.positions import nats_of_windows
from scaling.study.restore import restore_record
from scaling.study.restored import RestoredRun
from scaling.sweeps.runner import Runner, TrainingOptions


def restored(part: Trained) -> list[RestoredRun]:
    """The runs of a part, in the order of its records. They share the data that one of them loads."""
    runner = Runner(epath.Path(part.workdir), TrainingOptions())
    return [restore_record(runner, runner.records.read(fingerprint)) for fingerprint in part.runs["fingerprint"]]


@functools.partial(jax.jit, static_argnums=0)
def _scored(family, params, tokens):
    network = family.module(params)
    nats, likeliest = network.scores(network.hidden(tokens[:, :-1]), tokens[:, 1:])
    return nats, likeliest == tokens[:, 1:]


def token_scores(run, tokens, together: int = 64):
    """Windows of tokens, integer [n, S+1] -> nats of the last S tokens, float32 [n, S], and whether each was the likeliest.

    run: a restored Transformer.
    """
    return _in_batches(functools.partial(_scored, run.family, run.params), tokens, together)


def token_nats(run, tokens, together: int = 64) -> np.ndarray:
    """The nats of `token_scores`, of a restored run of any family that predicts text from left to right."""
    return _in_batches(lambda some: (nats_of_windows(run.family, run.params, some),), tokens, together)[0]


def _in_batches(scored, tokens, together):
    """What `scored` gives of integer [together, S+1], a tuple of arrays [together, ...], for [n, S+1].

    The last windows are filled up, so that one program serves all of them.
    """
    tokens, found = np.asarray(tokens, np.int32), []
    for first in range(0, len(tokens), together):
        some = tokens[first:first + together]
        filled = np.concatenate([some, np.zeros((together - len(some), tokens.shape[1]), np.int32)])
        found.append([np.asarray(part)[:len(some)] for part in scored(filled)])
    return tuple(np.concatenate(parts) for parts in zip(*found))


def bits_by_context(nats, windows, contexts, tail: int) -> dict[int, float]:
    """{context: bits per byte of the last `tail` bytes of windows [n, length + 1], given at least so many bytes before}.

    nats(windows): those of each byte but the first, [n, length]. The window is moved to the left, so that what lies too far
    back falls out, and the model sees it begin there as windows do in training.
    """
    found = {}
    for context in contexts:
        cut = windows.shape[1] - 1 - tail - context
        moved = np.concatenate([windows[:, cut:], np.zeros_like(windows[:, :cut])], 1)
        found[context] = float(nats(moved)[:, context:context + tail].mean() / np.log(2))
    return found


def held_out(run, tokens: int) -> np.ndarray:
    """The first windows of the first evaluation split with so many tokens together, int32 [n, length + 1]."""
    return np.asarray(run.source.evaluation(run.source.splits[0], tokens)["tokens"], np.int32)
