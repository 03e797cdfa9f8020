"""The runs of a part restored, and what a Transformer makes of each token, for claims that records are too coarse for."""

import functools

import jax
import numpy as np
from etils import epath

from scaling.claims import Trained
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

    run: a restored Transformer. `together` windows are scored at a time, and the last ones are filled up, so that one
    program serves all of them.
    """
    tokens, nats, right = np.asarray(tokens, np.int32), [], []
    for first in range(0, len(tokens), together):
        some = tokens[first:first + together]
        filled = np.concatenate([some, np.zeros((together - len(some), tokens.shape[1]), np.int32)])
        found = _scored(run.family, run.params, filled)
        nats.append(np.asarray(found[0])[:len(some)])
        right.append(np.asarray(found[1])[:len(some)])
    return np.concatenate(nats), np.concatenate(right)


def held_out(run, tokens: int) -> np.ndarray:
    """The first windows of the first evaluation split with so many tokens together, int32 [n, length + 1]."""
    return np.asarray(run.source.evaluation(run.source.splits[0], tokens)["tokens"], np.int32)
