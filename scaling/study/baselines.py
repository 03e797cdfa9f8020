"""What models are compared with that learn nothing: n-gram models, for text."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from scaling.experiment import Experiment, Text
from scaling.families.masked import Masked
from scaling.families.ngram import NGram
from scaling.training.program import Program
from scaling.training.step import State

ORDER = 6
MOST = 2**24  # tokens that are counted, in half a minute


def compares_with_ngrams(experiment) -> bool:
    """Whether n-gram models are a baseline of an experiment: it is on text, and neither one of n-gram models itself nor of
    models of masked tokens, whose bits per byte are those of no likelihood."""
    data = experiment.data
    return isinstance(data, Text) and data.numbers is None and not isinstance(experiment.family, (Masked, NGram))


def ngram_scores(runner, experiment, sizes: Iterable[int]) -> list[dict[str, float]]:
    """The metrics of n-gram models of order `ORDER` that store all counts of the first tokens of an experiment's data, on
    its evaluation sets: one for each of the `sizes`, amounts of unique tokens, up to `MOST`."""
    data, source = experiment.data, runner.source(experiment)
    sizes = sorted({size for size in sizes if data.length <= size <= MOST})
    if not sizes:
        return []
    vocab = data.family_fields()["vocab"]
    family = NGram(vocab=vocab, length=data.length, order=ORDER, counts=vocab + ORDER * sizes[-1])
    program = Program(Experiment(family=family, data=data), source, 1, devices=jax.devices()[:1])
    windows = source.batches(0, 0, -(-sizes[-1] // data.per_step))["tokens"].reshape(-1, data.length + 1)
    found = []
    for size in sizes:
        params = family.solve([{"tokens": windows[:size // data.length]}])
        state = State(jnp.zeros(1, jnp.int32), jax.tree.map(lambda x: x[None], params), {}, {}, jnp.full(1, -1))
        scores = runner.scores(program, state)
        found.append({f"{data.unit}_unique": size, **{name: float(np.asarray(x)[0]) for name, x in scores.items()}})
    return found
