"""Sequence models of six kinds at equal non-embedding parameters: an n-gram model, a hidden Markov model, an LSTM, a GRU, a
minGRU and a Transformer, all on the bytes of Python's standard library.

    config = config_of("lstm", **{"data.batch": 8})
    run = run_of(config, size=3e4, tokens=2**19, seed=1)     # at the learning rate of its kind

All are trained with AdamW in batches of as many tokens, at one base rate for each kind, which pilots found. The
parametrisation carries it over widths. The rate falls with the amount of data (Bjorck et al. 2409.19913). N-gram models are
counted, and have no rate. Bits per byte of the pilots, each one run on 64 or 128 steps:

    on 131,072 bytes, N = 1e4     transformer  0.004 3.77  0.008 3.64  0.016 3.61  0.032 3.67
                                  lstm         0.008 3.59  0.016 3.46  0.032 3.43  0.064 3.39  0.128 3.40
                                  gru          0.016 3.37  0.032 3.35  0.064 3.41
                                  mingru       0.008 3.62  0.016 3.47  0.032 3.43  0.064 3.40
                                  hmm          0.05  4.80  0.15  3.82  0.45  3.51
    on 262,144 bytes, N = 6e4     transformer  0.008 3.36  0.016 3.33  0.032 3.38
                                  lstm         0.016 2.93  0.032 2.94  0.064 2.95

The best rates of a minGRU and a hidden Markov model are the highest ones tried. A `table_rate` of 8 gave the Transformer
3.59 instead of 3.61.
"""

import dataclasses

from scaling import cost, experiment, families
from scaling.experiment import Experiment, RateRule

LEAST, BATCH = 262_144, 8  # tokens and sequences of the pilot
FIELDS = {"data.name": "pycode/stdlib", "data.length": 256, "data.batch": BATCH, "data.evaluation_tokens": 131_072,
          "optim.warmup": 20, "optim.beta2": 0.99}


@dataclasses.dataclass(frozen=True)
class SequenceKind:
    """A family with the fields that make it a kind, and its base learning rate; 0 where nothing is descended."""

    family: str
    rate: float
    fields: tuple[tuple[str, object], ...] = ()


KINDS = {"transformer": SequenceKind("transformer", 0.016, (("family.layers", 2), ("family.head_dim", 16))),
         "lstm": SequenceKind("recurrent", 0.04, (("family.cell", "lstm"), ("family.layers", 2))),
         "gru": SequenceKind("recurrent", 0.03, (("family.cell", "gru"), ("family.layers", 2))),
         "mingru": SequenceKind("recurrent", 0.05, (("family.cell", "mingru"), ("family.layers", 2))),
         "hmm": SequenceKind("hmm", 0.4), "ngram": SequenceKind("ngram", 0.0)}


def config_of(kind: str, **changes):
    """The config of a study of one kind, with the fields that all share and then `changes`."""
    found = KINDS[kind]
    config = experiment.config(found.family)
    fields = FIELDS if found.rate else {name: value for name, value in FIELDS.items() if not name.startswith("optim.")}
    rate = {"optim.learning_rate": found.rate} if found.rate else {}
    config.update_from_flattened_dict({**fields, **rate, **dict(found.fields), **changes})
    return config


def run_of(config, size: float, tokens: float, seed: int = 0, **changes) -> Experiment:
    """The run of about `size` non-embedding parameters (stored counts, of n-grams) on about so many tokens, in whole
    batches."""
    base = experiment.from_config(config)
    whole = max(1, round(tokens / base.data.per_step)) * base.data.per_step
    run = base.replace({"family": experiment.family_at(config, size), "data.tokens": whole, "seed": seed})
    if run.family.players():
        run = RateRule(seen=LEAST, batch=BATCH)(run)
    return run.replace(changes)


def flops_of_token(run: Experiment) -> float:
    """Training FLOPs of the model for each token."""
    return cost.train_flops(run.family, run.data.batch) / run.data.per_step


def non_embedding(run: Experiment) -> int:
    """N: parameters beside those of the tables of tokens."""
    return cost.param_count(run.family)["non_embedding"]


def kind_of(family) -> str:
    """The kind of a family of KINDS: the recurrent cell, or the name of the family."""
    return getattr(family, "cell", families.name(family))
