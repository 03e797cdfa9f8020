"""The verdict on a change: does it keep its gain at scale? The rule, with its thresholds, and the sentences.

Speed-ups are effective ones (see `speedup`); all intervals have one level, 90% by default, so that each bound is one-sided
at 95%. A line "fits" unless the test of its lack of fit refuses it, or the base has too few runs for a law that can level
off. The first of RULES that applies decides.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

MARGIN = 0.05   # "keeps" excludes that a tenfold of compute costs more than this part of the speed-up
MOST = 16       # times as many seeds, at most, that are proposed
RULES = (  # (verdict, the rule in words); `decide` is the same in code
    ("reverses", "The interval of the speed-up lies below 1 at the largest rung, or at the target by a line that fits."),
    ("fades", "The line fits, the interval of its slope lies below zero, and the interval of its speed-up at the smallest "
              "rung lies above 1: there is a gain, and it shrinks."),
    ("keeps", "The line fits, and the interval of the speed-up at the target lies above 1. The interval of the slope does "
              f"not lie below zero, and excludes that a tenfold of compute costs more than {MARGIN:.0%} of the speed-up."),
    ("cannot tell", "None of these applies. What would decide it is said."))
VERDICTS = tuple(name for name, _ in RULES)


@dataclass(frozen=True)
class WithEnds:
    """A number with the ends of its interval; NaN where none is known."""
    value: float
    low: float
    high: float

    def narrowed(self, factor: float) -> WithEnds:
        """The same estimate with both ends `factor` as far from it."""
        return WithEnds(self.value, self.value + factor * (self.low - self.value),
                        self.value + factor * (self.high - self.value))


@dataclass(frozen=True)
class Evidence:
    """What the rule reads. Speed-ups are in natural logarithms, the slope is of these for each tenfold of compute.

    fits: False where the test refuses the line. known: whether there is any estimate of noise.
    shaped: False where the base has too few runs for a law that can level off, and no law was chosen.
    """
    first: WithEnds     # by the line at the smallest rung
    last: WithEnds      # at the largest rung
    target: WithEnds    # by the line
    slope: WithEnds
    fits: bool
    known: bool
    shaped: bool = True

    def narrowed(self, factor: float, further: float | None = None) -> Evidence:
        """With intervals `factor` as wide; `further` is the factor of the slope's and the target's, if another."""
        far = factor if further is None else further
        return dataclasses.replace(self, first=self.first.narrowed(factor), last=self.last.narrowed(factor),
                                   target=self.target.narrowed(far), slope=self.slope.narrowed(far))


def decide(found: Evidence) -> str:
    """One of VERDICTS by the rule above."""
    if not found.known:
        return "cannot tell"
    straight = found.fits and found.shaped
    if found.last.high < 0 or (straight and found.target.high < 0):
        return "reverses"
    if straight and found.slope.high < 0 and found.first.low > 0:
        return "fades"
    if straight and found.target.low > 0 and found.slope.high >= 0 and found.slope.low > np.log(1 - MARGIN):
        return "keeps"
    return "cannot tell"


def because(found: Evidence, verdict: str, target_flops: float, largest: float) -> str:
    """The sentence that gives the reason of a verdict."""
    slope = f"{_change(found.slope)} for each tenfold of compute"
    target = f"{times(found.target)} at {target_flops:.3g} FLOPs"
    if verdict == "keeps":
        trend = ("above zero" if found.slope.low > 0 else
                 f"which is compatible with zero and excludes a loss of more than {MARGIN:.0%}")
        return f"The gain keeps: the speed-up is {target}, above 1, and it changes by {slope}, {trend}."
    if verdict == "fades":
        beyond = "By this line some is left there" if found.target.low > 0 else "Whether any is left there is open"
        return (f"The gain fades: the speed-up changes by {slope}, an interval below zero, from {times(found.first)} at "
                f"the smallest rung to {target}. {beyond}.")
    if verdict == "reverses":
        where = f"{times(found.last)} at the largest rung, {largest:.3g} FLOPs" if found.last.high < 0 else target
        return f"The gain reverses: the speed-up is {where}, below 1: there the base needs less compute for the same loss."
    if not found.known:
        return "The comparison cannot tell: nothing shows how much a speed-up scatters, so it has no interval."
    if not found.fits:
        return ("The comparison cannot tell: the speed-ups do not lie on a line against log compute, by more than noise, "
                f"so the line says nothing about {target_flops:.3g} FLOPs.")
    if not found.shaped:
        return ("The comparison cannot tell: these runs cannot show whether the loss of the base levels off, and if it "
                "does, a law that does not makes a constant gain look as if it faded.")
    open_ = []
    if found.target.low <= 0:
        open_.append(f"the speed-up of {target} may be 1 or less")
    if found.slope.high < 0:
        open_.append(f"it changes by {slope}, but a gain at the smallest rung, {times(found.first)}, is not sure")
    elif found.slope.low <= np.log(1 - MARGIN):
        open_.append(f"it changes by {slope}, which holds zero and also a loss of more than {MARGIN:.0%}")
    return f"The comparison cannot tell: {', and '.join(open_)}."


def advice(found: Evidence, verdict: str, spread: tuple[float, float], step: float, largest: float, given: bool) -> str:
    """What would decide an undecided comparison, if the estimates stay where they are; "" for a decided one.

    spread: how many times as wide the intervals of slope and target would be with one more rung, `step` times `largest`.
    given: whether the speed-ups were given, so that no seeds can be added.
    """
    if verdict != "cannot tell":
        return ""
    if not found.known:
        return ("Give the noise of a speed-up, --noise=0.01, or a third rung." if given else
                "Train a second seed of each rung, or give the noise of a run, --noise=0.002.")
    if not found.fits:
        return ("Look at the rung that is off the line (was one recipe tuned worse there?), and train a rung beyond "
                f"{largest:.3g} FLOPs.")
    if not found.shaped:
        return (f"Train one more rung of both recipes, such as {step * largest:.3g} FLOPs, so that the base has three or "
                "more and four runs, or choose the law of the base, --law=power.")
    seeds = next((count for count in range(2, MOST + 1) if decide(found.narrowed(count ** -0.5)) != "cannot tell"), None)
    rung = decide(found.narrowed(1.0, max(spread))) != "cannot tell"
    at = f"one more rung of both recipes at {step * largest:.3g} FLOPs"
    what = "rungs" if given else "seeds"
    if rung and seeds:
        return f"If the estimates stay, {at} would decide it, or {seeds} times as many {what}."
    if rung:
        return f"If the estimates stay, {at} would decide it."
    if seeds:
        return f"If the estimates stay, {seeds} times as many {what} would decide it; {at} alone would not."
    return (f"Not even {MOST} times as many {what} would decide it if the estimates stay, because they lie at a border of "
            "the rule: train larger rungs.")


def times(found: WithEnds) -> str:
    """A speed-up in words from its logarithm: "1.23 [1.18, 1.28]"."""
    value, low, high = np.exp([found.value, found.low, found.high])
    return f"{value:.3g}" if np.isnan(low) else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _change(found: WithEnds) -> str:
    value, low, high = np.expm1([found.value, found.low, found.high])
    return f"{value:+.1%}" + ("" if np.isnan(low) else f" [{low:+.1%}, {high:+.1%}]")
