"""Sequence models of six kinds at equal non-embedding parameters: an n-gram model, a hidden Markov model, an LSTM, a GRU, a
minGRU and a Transformer, all on the bytes of Python's standard library.

    config = config_of("lstm", **{"data.batch": 8})
    run = run_of(config, size=3e4, tokens=2**19, seed=1)     # at the learning rate of its kind

All but the hidden Markov model, which has AdamW, are trained with Muon, at one base rate for each kind, which pilots found.
The parametrisation carries it over widths. The rate falls with the amount of data (Bjorck et al. 2409.19913), and the batch
grows with its square root. N-gram models are counted, and have no rate. Bits per byte of the pilots, each one run of about
30 thousand parameters on 393,216 bytes in batches of three windows, with their learning rates:

    transformer  0.008 2.631  0.016 2.573  0.032 2.570  0.064 2.655      with AdamW  0.006 2.907  0.012 2.896  0.024 2.971
    lstm         0.008 2.564  0.016 2.467  0.032 2.503  0.064 2.591      with AdamW  0.006 2.779  0.012 2.778  0.024 2.785
    gru          0.008 2.486  0.016 2.409  0.032 2.434  0.064 2.630
    mingru       0.008 2.561  0.016 2.524  0.032 2.567  0.064 2.626
    hmm          0.2   3.159  0.4   3.079  0.8   3.031  1.6   3.086

In batches of eight windows, which leave 192 steps for 512, the Transformer has 2.634 and the LSTM 2.529; with AdamW 3.047
and 2.932. Short runs with AdamW say more of the optimiser than of the models.
"""

import dataclasses

from experiments._ladders import whole_batch
from scaling import cost, experiment, families
from scaling.experiment import Experiment, RateRule, chain, grid

LEAST, BATCH = 262_144, 4  # tokens, and sequences of a step, that the base rates are meant for
FIELDS = {"data.name": "pycode/stdlib", "data.length": 256, "data.batch": BATCH, "data.evaluation_tokens": 131_072,
          "optim.warmup": 20, "optim.beta2": 0.99, "optim.name": "muon"}


@dataclasses.dataclass(frozen=True)
class SequenceKind:
    """A family with the fields that make it a kind, and its base learning rate; 0 where nothing is descended."""

    family: str
    rate: float
    fields: tuple[tuple[str, object], ...] = ()


KINDS = {"transformer": SequenceKind("transformer", 0.028, (("family.layers", 2), ("family.head_dim", 16),
                                                            ("optim.table_rate", 8.0))),
         "lstm": SequenceKind("recurrent", 0.024, (("family.cell", "lstm"), ("family.layers", 2))),
         "gru": SequenceKind("recurrent", 0.023, (("family.cell", "gru"), ("family.layers", 2))),
         "mingru": SequenceKind("recurrent", 0.022, (("family.cell", "mingru"), ("family.layers", 2))),
         "hmm": SequenceKind("hmm", 1.0, (("optim.name", "adamw"),)), "ngram": SequenceKind("ngram", 0.0)}


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
    batches. The batch of the config is that of LEAST tokens."""
    base = experiment.from_config(config)
    base = base.replace({"data.batch": whole_batch(base.data.batch * (tokens / LEAST) ** 0.5)})
    whole = max(1, round(tokens / base.data.per_step)) * base.data.per_step
    run = base.replace({"family": experiment.family_at(config, size), "data.tokens": whole, "seed": seed})
    if run.family.players():
        run = RateRule(seen=LEAST, batch=BATCH)(run)
    return run.replace(changes)



def sweep(config) -> list[Experiment]:
    """The runs of the config's `sizes` and `tokens`, at `factors` times the rate of each, with so many `seeds`."""
    cells = [run_of(config, size, tokens, config.seed) for size in config.sizes for tokens in config.tokens]
    seeds = [config.seed + number for number in range(config.seeds)]
    if not cells[0].family.players():  # counts have neither rates nor seeds
        return cells
    return chain(*(grid(cell, {"optim.learning_rate": [cell.optim.learning_rate * factor for factor in config.factors],
                               "seed": seeds}) for cell in cells))


def flops_of_token(run: Experiment) -> float:
    """Training FLOPs of the model for each token."""
    return cost.train_flops(run.family, run.data.batch) / run.data.per_step


def non_embedding(run: Experiment) -> int:
    """N: parameters beside those of the tables of tokens."""
    return cost.param_count(run.family)["non_embedding"]


def kind_of(family) -> str:
    """The kind of a family of KINDS: the recurrent cell, or the name of the family."""
    return getattr(family, "cell", families.name(family))
