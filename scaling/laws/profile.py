"""Profiles: how well a law can fit with one parameter held at each of many values, all others fitted again.

An interval holds the values at which the objective rises above its minimum by less than noise makes it rise at the true
value. Under a likelihood (squares) that rise, over the residual variance, has the F distribution with 1 and n - P degrees
of freedom (Bates and Watts 1988, section 6.1), and no draws are needed. Of any other objective it is a chi-square times a
factor that depends on how the errors' density and spread vary over the points (Koenker and Bassett 1982; Heritier and
Ronchetti 1994), which a few hundred points say little about: so there the rise is simulated. Resamples are drawn as
`bootstrap` draws them (wild, about the fit) and fitted twice, freely and with the parameter held at the fit's own value,
which is the truth of that simulation; the cut is the wanted percentile of the difference of the two.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from scaling.laws import resample
from scaling.laws.diagnose import Diagnostic
from scaling.laws.fitting import Fit, refit
from scaling.laws.forms import LawError
from scaling.laws.uncertainty import resamples, spread

DRAWS = 200       # resamples that the cut of an objective that is no likelihood is measured from
FARTHEST = 1e6    # of the larger of value and first step: where a search towards an infinite bound ends
CLOSE = 0.02      # of the cut: how near the objective at an end of the interval must come to it


@dataclass(frozen=True, eq=False)
class Profile:
    """values [m] of the parameter, ascending, and the least objective [m] with it held there; interval: the values whose
    objective is below `cut`, an end being the parameter's bound (or infinite) where the objective never rises so far.
    flat: whether it stays below up to a bound, so that the data do not identify the parameter."""
    fit: Fit
    parameter: str
    values: np.ndarray
    objective: np.ndarray
    cut: float
    level: float
    interval: tuple[float, float]
    flat: bool
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def to_json(self) -> dict:
        ends = [float(end) if np.isfinite(end) else None for end in self.interval]
        return {"parameter": self.parameter, "values": self.values.tolist(), "objective": self.objective.tolist(),
                "cut": self.cut, "level": self.level, "interval": ends, "flat": self.flat,
                "diagnostics": [said.to_json() for said in self.diagnostics]}


class _Path:
    """The constrained fits made so far, each started from its nearest neighbour and from the fit's own optima."""

    def __init__(self, fit: Fit, parameter: str):
        self.fit, self.parameter = fit, parameter
        self.done = {float(fit.params[parameter]): (fit.objective, fit.vector)}

    def __call__(self, value: float) -> float:
        if value not in self.done:
            near = min(self.done, key=lambda other: abs(other - value))
            held = _held(self.fit, self.parameter, value, self.done[near][1])
            found = refit(held, self.fit.y, self.fit.weights)
            self.done[value] = float(found.objective[0]), found.vectors[0]
        return self.done[value][0]


def _held(fit: Fit, parameter: str, value: float, start: np.ndarray | None = None) -> Fit:
    """The fit with a parameter held at a value; start [P]: an optimum to start from before the fit's own."""
    optima = fit.optima.head(2)
    if start is not None:
        first = pd.DataFrame([start], columns=list(fit.form.names)).assign(objective=fit.objective)
        optima = pd.concat([first, optima], ignore_index=True)
    return replace(fit, form=fit.form.with_fixed({parameter: value}), optima=optima)


def profile(fit: Fit, parameter: str, points: int = 25, level: float = 0.9, cluster=None, seed: int = 0) -> Profile:
    """The profile of a free parameter, at `points` values over a little more than its interval.

    cluster: a column of the runs, or one label a run, whose runs share errors; the cut then comes from wild cluster
    resamples whatever the objective. Raises LawError for a parameter that is not fitted, and where no degrees of
    freedom are left to judge the noise by.
    """
    if parameter not in fit.form.free:
        raise LawError(f"{parameter!r} cannot be profiled: the fitted parameters of {fit.form.name} are "
                       f"{', '.join(fit.form.free)}")
    if not 0 < level < 1:
        raise LawError(f"level must lie between 0 and 1, got {level}")
    if fit.degrees_of_freedom < 1:
        raise LawError(f"{len(fit.y)} points and {len(fit.form.free)} parameters leave no degrees of freedom to judge "
                       "the noise by")
    rise = _rise(fit, parameter, level, cluster, seed)
    path, bounds = _Path(fit, parameter), fit.form.parameter(parameter)
    ends, reached = [], []
    for bound in (bounds.low, bounds.high):
        end, crossed = _search(path, fit.params[parameter], bound, fit.objective + rise, rise)
        ends.append(end)
        reached.append(not crossed)
    _fill(path, ends, points, bounds)
    values = np.array(sorted(path.done))
    objective = np.array([path.done[value][0] for value in values])
    said = []
    if objective.min() < fit.objective - CLOSE * rise:
        best = values[objective.argmin()]
        said.append(Diagnostic(f"The profile of {parameter} found a lower objective, {objective.min():.6g} at {best:.4g}, "
                               f"than the fit's {fit.objective:.6g}: fit again with more starts.", "better-optimum",
                               parameter))
    return Profile(fit, parameter, values, objective, fit.objective + rise, level, (ends[0], ends[1]), any(reached), said)


def _rise(fit: Fit, parameter: str, level: float, cluster, seed: int) -> float:
    """By how much the objective at the true value exceeds its minimum, at most, with probability `level`."""
    from scipy import special  # here, since importing the laws should not wait for it
    if fit.spec.is_likelihood and cluster is None:
        variance = fit.objective / fit.degrees_of_freedom
        return float(variance * special.stdtrit(fit.degrees_of_freedom, (1 + level) / 2) ** 2)
    numbers, _ = resample.groups(fit, cluster)
    spare = fit.degrees_of_freedom if cluster is None else min(fit.degrees_of_freedom, int(numbers.max()))
    rng = np.random.default_rng([seed, 2])
    noise = spread(fit) * np.sqrt(spare / rng.chisquare(spare, DRAWS))
    data = resamples(fit, "wild" if fit.spec.quantile == 0.5 else "case", numbers, noise, rng)
    free, held = (refit(law, *data).objective for law in (fit, _held(fit, parameter, fit.params[parameter])))
    return float(np.quantile(np.maximum(held - free, 0.0), level))


def _search(path: _Path, start: float, bound: float, cut: float, rise: float) -> tuple[float, bool]:
    """(where the objective crosses the cut between the start and a bound, True), or (the bound, False)."""
    sign = 1.0 if bound > start else -1.0
    step = max(abs(start), 1e-6) * 1e-3
    limit = min(abs(bound - start), FARTHEST * max(abs(start), 1e-6))
    if not limit > 1e-12 * abs(start):
        return bound, False
    inside, outside = 0.0, None
    while outside is None:  # longer and longer steps, each guessed from the parabola through the last point
        step = min(step, limit)
        gap = path(start + sign * step) - (cut - rise)
        if gap > rise:
            outside = step
        elif step == limit:
            return bound, False
        else:
            inside, step = step, step * min(max(1.3 * np.sqrt(rise / max(gap, 1e-300)), 1.5), 4.0)
    for _ in range(20):  # halving, and where the parabola through the outer point says
        middle = outside * np.sqrt(rise / max(path(start + sign * outside) - (cut - rise), 1e-300))
        if not inside < middle < outside:
            middle = 0.5 * (inside + outside)
        gap = path(start + sign * middle) - cut
        if abs(gap) < CLOSE * rise:
            return start + sign * middle, True
        inside, outside = (middle, outside) if gap < 0 else (inside, middle)
    return start + sign * 0.5 * (inside + outside), True


def _fill(path: _Path, ends: list[float], points: int, bounds) -> None:
    """Fits at even distances over a little more than the interval, or over what was searched where it has no end."""
    known = sorted(path.done)
    low, high = (end if np.isfinite(end) else known[k] for k, end in zip((0, -1), ends))
    margin = 0.2 * (high - low)
    low, high = max(low - margin, bounds.low), min(high + margin, bounds.high)
    wide = low > 0 and high / low > 30
    grid = np.geomspace(low, high, points) if wide else np.linspace(low, high, points)
    middle = int(np.searchsorted(grid, path.fit.params[path.parameter]))
    for value in [*grid[middle:], *grid[:middle][::-1]]:
        path(float(value))
