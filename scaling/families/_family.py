"""The protocol of families and their players."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax

from scaling.fields import ConfigError, checked_values, python_value, shown

DTYPES = ("float32", "bfloat16")  # of the fields `dtype`
MOST_LAYERS = 4096  # of the fields `layers`
UNROLLED = 8  # layers at most that are unrolled: on CPU a loop over them is slower (S2 of tools.bench: 1.15 of the time)
Params = Mapping[str, Any]  # {player name: tree of parameters with named axes, see scaling.axes}
Batch = Mapping[str, jax.Array]
Metrics = Mapping[str, Any]


def ladder_arguments(cls, size, overrides, smallest: float, largest: float) -> tuple[float, dict]:
    """The size of a ladder and its overrides as Python's own values. Raises a ConfigError for wrong ones."""
    size = python_value(size, float)
    if type(size) is not float or not smallest <= size <= largest:
        raise ConfigError(f"{cls.__name__}.ladder takes sizes from {smallest:g} to {largest:g} parameters, not "
                          f"{shown(size)}; write a number such as {cls.sizes()[0]:g} as family.size or in a sweep's sizes")
    return size, checked_values(cls, overrides, "family.")


def divisors(number: int, most: int = 12) -> str:
    """The divisors of a number in words: "1, 2, 4"; the first ones if there are many."""
    found = [n for n in range(1, min(number, 10_000) + 1) if number % n == 0]
    return ", ".join(map(str, found[:most])) + (", ..." if len(found) > most else "")


class Depth(NamedTuple):
    """How deep a network is beside the one whose learning rate was tuned, and how its residual branches follow (CompleteP,
    Dey et al. 2505.01618, table 1). `docs/recipes.md` has the whole table."""

    ratio: float = 1.0  # blocks over those of the base
    exponent: float = 1.0  # alpha: 1 is CompleteP, 1/2 is depth-muP (Yang et al. 2310.02244)

    @property
    def branch(self) -> float:
        """What the output of every residual branch is multiplied by."""
        return self.ratio**-self.exponent

    @property
    def rate(self) -> float:
        """What the learning rates of the parameters of residual blocks are multiplied by."""
        return self.ratio ** (self.exponent - 1)


def scaled(x, factor: float):
    """x times a factor, which is often one."""
    return x if factor == 1.0 else x * factor


class Player(NamedTuple):
    """A minimiser: it owns `params[name]`, has one optimiser, and gets the parameters of all players.

    `loss(params, batch, key)` returns a scalar and metrics. The train step differentiates it by `params[name]` only.
    """

    name: str
    loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]]


def is_solved(family) -> bool:
    """Whether a family's parameters are solved for, so that no optimiser, schedule or learning rate matters to its runs."""
    return hasattr(family, "solve")


class Family(Protocol):
    """A frozen, hashable dataclass of static sizes. Two equal families are the same program.

    A family may also have these methods:

    * `solve(batches)`: the parameters that a run's training data give, counted or in closed form, in place of players.
      Such a family is solved: its `players()` are (). `batches` iterates over the batches of the run in their order, of
      which the last may be smaller. Every example comes once, also where the run repeats its data. The result has the
      structure, shapes and types of `init`, as host arrays, and `init` gives the model of no data.
      `solve_flops(batch_size)` says what solving costs for each batch, which is C.
    * `begin(params, tokens, lengths, capacity)` and `decode(params, state, token)`, which continue text; see
      `scaling.families._generate` and `scaling.families.transformer`.
    * `longest`: the tokens of the longest text that such a family can write, None for any length; without it any length.
    * `sample(params, batch, key)`: one sample for each example of `batch`, given its condition and number (label,
      caption, first token, "example"). The judge of its data scores them. Options are those of the `sampling` of the data.
    * `class_logits(params, batch)`: float32 [B, classes] of the texts or images of a batch, without their labels. A family
      whose `classes` is above 0 then tells labels; see `scaling.study.classifying`.
    * `pictures(params, batch, key)`: {name: images [rows, columns, H, W, C]} for the report.
    * `conclude(found)`: {metric: `scaling.families._sums.Whole`} of what is no ratio of totals, such as F1. `found` is what
      `evaluate` or `examine` found, in NumPy arrays [..., examples]. Names that begin with "_" are no metrics: they are of
      arrays [B, ...] that only `conclude` reads.
    * `examine(params, batch, key)`: metrics as from `evaluate`, but too costly for every run. The report shows them for the
      best run of the smallest size and of the largest size.
    * `depth(player)`: the `Depth` of a player's network; without it learning rates do not depend on depth.
    * `settle(params, batch, key)`: {name: parameters} of what no player moves but every step does, such as a codebook,
      after the players moved. It sees the whole batch, with "example" and "step". They are part of the state, and are
      averaged where the parameters are.
    * `broken(curve, metrics)`: (step, reason) if the training curve, {metric: array over its points}, or the final metrics
      show that training broke down although all numbers are finite, else None.
    """

    reads: ClassVar[str | tuple[str, ...]]  # the kinds of data, see scaling.experiment.kinds; configs take the first

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters. Pure: may be vmapped, jitted with shardings, or only shape-evaluated."""

    def players(self) -> tuple[Player, ...]:
        """The players in the order one step updates them. A name may repeat: (D, D, G) is n-critic."""

    def evaluate(self, params: Params, batch: Batch, key: jax.Array) -> Metrics:
        """{metric: what `scaling.families._sums` makes}, or (sum, count) for a metric without a standard error."""

    def example_batch(self, batch_size: int, key: jax.Array) -> Batch:
        """Random data of the right shapes and types, to count costs, to compile and to test."""

    @classmethod
    def ladder(cls, size: float, **overrides) -> "Family":
        """The member of the family with this size. Any field can be overridden."""

    @classmethod
    def sizes(cls) -> tuple[float, ...]:
        """Ascending sizes over the whole range of `ladder`."""
