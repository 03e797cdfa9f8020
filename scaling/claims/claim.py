"""What a claim is: a statement with its source, the runs that decide it, and rules that are written before the runs.

A rule is a region of one number, such as "the exponent of the loss in N lies above 0.02". The claim is reproduced where the
number's 90% interval lies inside of the region, refuted where it lies outside, and undecided where it reaches over a bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from scaling.experiment import Experiment
from scaling.fields import ConfigError

LEVEL = 0.9  # of every interval
REPRODUCED, REFUTED, UNDECIDED = "reproduced", "refuted", "undecided"
BUDGETS = ("5m", "30m", "2h", "gpu")  # what the runs may cost: minutes and hours are of two CPU cores


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its interval of level LEVEL; `runs` is the number of runs that it rests on. A bound may be infinite, or
    NaN where the runs do not give it."""

    value: float
    low: float
    high: float
    runs: int
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Criterion:
    """The claim holds where a number, `quantity` in words, lies from `low` to `high`; `why` says why these are the bounds.
    """

    quantity: str
    low: float = -math.inf
    high: float = math.inf
    why: str = ""

    def __post_init__(self):
        if not self.low < self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise ConfigError(f"the rule on {self.quantity!r} holds from {self.low} to {self.high}, which decides nothing; "
                              "write a low below high, and at least one of them finite")

    def decide(self, found: Estimate) -> str:
        """REPRODUCED, REFUTED or UNDECIDED."""
        if self.low <= found.low and found.high <= self.high:
            return REPRODUCED
        return REFUTED if found.high < self.low or found.low > self.high else UNDECIDED

    def power(self, found: Estimate) -> float:
        """How far from a bound a number must lie to be decided with such an interval: half of its width."""
        return (found.high - found.low) / 2


@dataclasses.dataclass(frozen=True)
class Part:
    """Runs of a claim that share a workdir, such as those of one family. metric: of the records, which the study shows.

    A claim about what is on record already has parts without runs.
    """

    sweep: Sequence[Experiment]
    metric: str


@dataclasses.dataclass(frozen=True)
class Line:
    """Points of a figure, in order: x and y of equal length, and the ends of their intervals where there are any."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dots: bool = True  # else a plain line, such as that of a law
    bounds: Sequence[str] = ()  # for each point: "at least" or "at most" where y only bounds the value, else ""


@dataclasses.dataclass(frozen=True)
class Panel:
    """A figure with the names of its axes; `labels` says what the names of the lines count."""

    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = True
    log_y: bool = False
    labels: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the runs of one part show: an estimate for each rule of the claim that concerns the part."""

    estimates: Mapping[str, Estimate]
    panel: Panel | None = None
    said: str = ""  # a sentence or two for the page


@dataclasses.dataclass(frozen=True)
class Trained:
    """The finished runs of a part: their records, and the workdir to restore them from."""

    runs: pd.DataFrame
    workdir: str
    lost: int = 0  # diverged runs, which `runs` leaves out


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim about scale.

    id: a word. statement: what is claimed, as one sentence. source: who claims it, with the place. published: {part: the
    number that was published, in words}. parts(budget): {part: its runs} for one of BUDGETS. analyse(name, part): the
    Finding of one part. rules: {name: Criterion}; the claim holds for a part where it holds by each rule that the finding
    has an estimate for. cost: {budget: what the runs cost, in words}. more: what would change the verdict.
    """

    id: str
    statement: str
    source: str
    published: Mapping[str, str]
    rules: Mapping[str, Criterion]
    parts: Callable[[str], dict[str, Part]]
    analyse: Callable[[str, Trained], Finding]
    cost: Mapping[str, str]
    more: str = ""

    def __post_init__(self):
        if not self.id.isidentifier():
            raise ConfigError(f"a claim's id is a word that may name a file, not {self.id!r}")
        if unknown := [name for name in self.cost if name not in BUDGETS]:
            raise ConfigError(f"claim {self.id}: {unknown[0]} is no budget; there are {', '.join(BUDGETS)}")
        if not self.rules:
            raise ConfigError(f"claim {self.id} has no rule, so nothing could refute it; write one")

    def decide(self, found: Finding) -> str:
        """The verdict on one part. Raises ConfigError for an estimate without a rule."""
        if not found.estimates or (odd := [name for name in found.estimates if name not in self.rules]):
            gave = odd[0] if found.estimates else "nothing"
            raise ConfigError(f"claim {self.id}: the analysis gave {gave}, and the rules are about "
                              f"{', '.join(self.rules)}")
        return joint_verdict(self.rules[name].decide(estimate) for name, estimate in found.estimates.items())


def joint_verdict(verdicts) -> str:
    """The verdict on several: refuted where one is, else undecided where one is, else reproduced."""
    found = set(verdicts)
    return next(verdict for verdict in (REFUTED, UNDECIDED, REPRODUCED) if verdict in found)
