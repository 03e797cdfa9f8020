"""Two recipes compared: the speed-up at each rung and at a target, its trend, and the verdict, as text and as JSON.

    base, change = ladder_of_workdir("runs/a", "base"), ladder_of_workdir("runs/b", "change")
    print(speedup(base, change, target_flops=1e20))
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.fitting.fit import Fit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals.uncertainty import percentiles, residual_spread
from scaling.laws.recipes import sentences
from scaling.laws.recipes import verdict as rules
from scaling.laws.recipes.ladder import Ladder
from scaling.laws.recipes.speedup import (
    FURTHEST,
    Noise,
    base_law,
    draw,
    find_rungs,
    noise_sizes,
    shared_rungs,
    solve_speedups,
    steepness,
)
from scaling.laws.recipes.trend import Misfit, TrendLine, judge_line, line, pooled
from scaling.laws.recipes.verdict import Evidence, WithEnds
from scaling.store.strict_json import finite

BEYOND = 10.0  # times the compute of the largest rung, where no target is named


@dataclass(frozen=True, eq=False)
class Speedup:
    """The effective speed-up of a change over a base. Logarithms are natural, compute is in FLOPs.

    table: a row for each rung of the change, by compute, with the columns rung, flops, speedup, low, high and, for losses,
    base, change (geometric means), pairs, base_runs and change_runs. logs [R] and draws [draws, R] are the log speed-ups,
    and weights [R] their weights in the line. noise: of one pair (or of one given speed-up).
    """
    names: tuple[str, str]
    metric: str
    table: pd.DataFrame
    logs: np.ndarray
    draws: np.ndarray
    weights: np.ndarray
    noise: Noise
    misfit: Misfit
    target: float
    level: float
    paired: bool = False
    law: Fit | None = None
    said: tuple[str, ...] = ()
    shaped: bool = True  # False where the base's law cannot level off, and nobody chose it

    @property
    def flops(self) -> np.ndarray:
        return self.table["flops"].to_numpy(float)

    @property
    def lines(self) -> tuple[TrendLine, TrendLine]:
        """(the line, the lines of the draws)."""
        return line(self.flops, self.logs, self.weights), line(self.flops, self.draws, self.weights)

    def at(self, flops: float) -> WithEnds:
        """The log speed-up that the line gives at FLOPs."""
        own, drawn = self.lines
        return self._estimate(own.at(flops), drawn.at(flops))

    @property
    def slope(self) -> WithEnds:
        """The change of the log speed-up for each tenfold of compute."""
        own, drawn = self.lines
        return self._estimate(own.slope * np.log(10), drawn.slope * np.log(10))

    def rung(self, place: int) -> WithEnds:
        return self._estimate(self.logs[place], self.draws[:, place])

    def _estimate(self, value, draws) -> WithEnds:
        ends = percentiles(np.asarray(draws), self.level) if np.isfinite(self.noise.size) else (np.nan, np.nan)
        return WithEnds(float(value), *ends)

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.at(self.flops[0]), self.rung(-1), self.at(self.target), self.slope, not self.misfit.refused,
                        bool(np.isfinite(self.noise.size)), self.shaped)

    @property
    def verdict(self) -> str:
        """One of `verdict.VERDICTS`: keeps, fades, reverses, cannot tell."""
        return rules.decide(self.evidence)

    @property
    def because(self) -> str:
        return rules.because(self.evidence, self.verdict, self.target, self.flops[-1])

    @property
    def advice(self) -> str:
        """What would decide it; "" where it is decided."""
        step = float((self.flops[-1] / self.flops[0]) ** (1 / (len(self.flops) - 1)))
        return rules.advice(self.evidence, self.verdict, self._spread(step), step, self.flops[-1], self.law is None)

    def _spread(self, step: float) -> tuple[float, float]:
        """How many times as wide the intervals of slope and target are with a rung more, `step` times the largest."""
        errors = []
        for flops, weights in ((self.flops, self.weights),
                               (np.append(self.flops, step * self.flops[-1]), np.append(self.weights, self.weights[-1]))):
            x = np.log(flops) - np.average(np.log(flops), weights=weights)
            far = np.log(self.target) - np.average(np.log(flops), weights=weights)
            slope = 1 / (weights * x ** 2).sum()
            errors.append((np.sqrt(slope), np.sqrt(1 / weights.sum() + far ** 2 * slope)))
        return errors[1][0] / errors[0][0], errors[1][1] / errors[0][1]

    def to_json(self) -> dict:
        """Everything but the draws, as plain JSON values; None where an end of an interval is not known."""
        found = self.evidence
        return {"verdict": self.verdict, "because": self.because, "advice": self.advice, "base": self.names[0],
                "change": self.names[1], "metric": self.metric, "level": self.level, "margin": rules.MARGIN,
                "rungs": self.table.astype(object).where(self.table.notna(), None).to_dict("records"),
                "target": {"flops": self.target, **_factors(found.target)},
                "slope": {"per": "tenfold of compute", **_factors(found.slope)},
                "line": {"fits": found.fits, "p": finite(self.misfit.p),
                         "freedom": self.misfit.freedom},
                "noise": {"size": finite(self.noise.size), "freedom": finite(self.noise.freedom),
                          "source": self.noise.source, "paired": self.paired},
                "law": None if self.law is None else self.law.to_json(), "notes": [*self.said, *self.notes]}

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the noise, the law and the line, in sentences."""
        return sentences.notes(self)

    def __str__(self) -> str:
        return sentences.as_text(self)


def speedup(base: Ladder, change: Ladder, target_flops: float | None = None, *, law=None, noise: float | None = None,
            level: float = 0.9, draws: int = 2000, seed: int = 0) -> Speedup:
    """The effective speed-up of a change over a base at each rung, and at a target by its line against log compute.

    target_flops: by default ten times those of the largest rung. law: that of the base (see `base_law`). noise: an assumed
    relative standard deviation of the loss of one run, in place of what the runs show. level: of all intervals. Raises
    LawError where the ladders do not overlap, share a single rung, or the base's runs do not determine its law.
    """
    shared_rungs(base, change)  # whose refusals say more than those of a fit to too few rungs
    fitted = base_law(base, law)
    rungs = find_rungs(base, change, fitted)
    steep = steepness(fitted, rungs)
    weights = rungs.counts * steep ** 2
    logs = solve_speedups(fitted, fitted.vector[None], rungs, rungs.gap[None], rungs.own[None])[0]
    seen = rungs.seeds if noise is None else Noise(np.sqrt(2) * noise, np.inf, "assumed")
    misfit = judge_line(rungs.flops, logs, weights, seen)
    used = pooled(seen, misfit)
    if noise is not None:
        about = noise, np.inf
    elif fitted.degrees_of_freedom > 0:
        about = residual_spread(fitted), fitted.degrees_of_freedom
    else:
        about = used.size / np.sqrt(2), used.freedom
    known = np.isfinite(used.size) and used.freedom > 0
    drawn = draw(fitted, rungs, used, about, draws, seed) if known else logs[None]
    table = rungs.table[["rung", "flops", "base", "change", "pairs", "base_runs", "change_runs"]].copy()
    said = list(rungs.said)
    if (far := np.abs(logs - rungs.ratio) > 0.99 * np.log(FURTHEST)).any():
        said.append(f"at {int(far.sum())} of {len(far)} rungs the base never reaches the loss of the change by its law, or "
                    f"needs {FURTHEST:g} times the compute or more")
    return _made(Speedup((base.name, change.name), base.metric, table, logs, drawn, weights, used, misfit,
                         _target(target_flops, rungs.flops), level, rungs.paired, fitted, tuple(said),
                         law is not None or fitted.form.name != "power"))


def speedup_of_ratios(flops: Sequence[float], ratios: Sequence[float], target_flops: float | None = None, *,
                      noise: float | None = None, level: float = 0.9, draws: int = 4000, seed: int = 0,
                      names: tuple[str, str] = ("base", "change")) -> Speedup:
    """The same for speed-ups that are given, such as published ones.

    noise: the relative standard deviation of each; without it, it is that about the line, which needs three rungs. Raises
    LawError for fewer than two rungs, and for values that are not positive.
    """
    at, found = np.asarray(flops, float), np.asarray(ratios, float)
    if len(at) != len(found) or not all(np.all(np.isfinite(each) & (each > 0)) for each in (at, found)):
        raise LawError("FLOPs and speed-ups must be positive and finite, one of each for a rung")
    if len(np.unique(at)) < max(2, len(at)):
        raise LawError(f"a trend needs two rungs or more, each at another amount of compute; there are "
                       f"{len(np.unique(at))} in {len(at)} speed-ups")
    order = np.argsort(at)
    at, logs, weights = at[order], np.log(found[order]), np.ones(len(at))
    seen = Noise(np.nan, 0, "") if noise is None else Noise(noise, np.inf, "assumed")
    misfit = judge_line(at, logs, weights, seen)
    used = pooled(seen, misfit)
    rng = np.random.default_rng([seed, 2])
    drawn = logs[None]
    if np.isfinite(used.size):
        size = noise_sizes(used.size, used.freedom, draws, rng)
        drawn = logs + size[:, None] * rng.standard_normal((draws, len(logs)))
    table = pd.DataFrame({"rung": np.arange(len(at)), "flops": at})
    return _made(Speedup(names, "", table, logs, drawn, weights, used, misfit, _target(target_flops, at), level))


def _made(found: Speedup) -> Speedup:
    """With the speed-ups and their intervals as columns of the table."""
    ends = [found.rung(place) for place in range(len(found.logs))]
    for name, part in (("speedup", "value"), ("low", "low"), ("high", "high")):
        found.table[name] = np.exp([getattr(each, part) for each in ends])
    return found


def _target(target: float | None, flops: np.ndarray) -> float:
    if target is not None and not 0 < target < np.inf:
        raise LawError(f"the compute to extrapolate to, target_flops=, must be positive and finite, got {target:g}")
    return float(BEYOND * flops.max() if target is None else target)


def _factors(found: WithEnds) -> dict:
    """An estimate in logarithms as factors."""
    return {"speedup": finite(np.exp(found.value)), "low": finite(np.exp(found.low)), "high": finite(np.exp(found.high))}
