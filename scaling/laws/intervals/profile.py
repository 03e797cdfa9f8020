"""Profiles: the best objective with one parameter held at each of many values and all others fitted again.

An interval holds the values where the objective rises above its minimum by less than noise makes it rise at the true
value. Under a likelihood (squares) that rise over the residual variance has the F distribution with 1 and n - P degrees
of freedom (Bates and Watts 1988, section 6.1). For any other objective it is a chi-square times a factor that depends on
how the density and spread of the errors vary over the points (Koenker and Bassett 1982; Heritier and Ronchetti 1994). A
few hundred points say little about that factor, so the rise is simulated. Resamples are drawn as in `bootstrap` (wild,
about the fit) and fitted twice, freely and with the parameter held at the fit's value, which is the truth of the
simulation. The cut is the wanted percentile of the difference between the two objectives.
"""
from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit, refit
from scaling.laws.fitting.optimise import Scale
from scaling.laws.forms.form import LawError
from scaling.laws.intervals import resample
from scaling.laws.intervals.uncertainty import resamples, residual_spread

DRAWS = 200       # resamples for the cut of an objective that is no likelihood
FARTHEST = 1e6    # times the value: where a search towards an infinite bound ends
FIRST = 0.03      # times the value: the first step of that search
CLOSE = 0.03      # times the rise: how near the objective at an end of the interval comes to the cut


@dataclass(frozen=True, eq=False)
class Profile:
    """The profile of a parameter.

    values [m]: of the parameter, ascending. objective [m]: its minimum with the parameter held there. interval: the ends
    of the values whose objective is below `cut`; an end is the parameter's bound, or infinite, if the objective never
    rises so far. flat: the objective stays below the cut up to a bound, so the data do not identify the parameter.
    """
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
        return {"parameter": self.parameter, "values": self.values.tolist(),
                "objective": self.objective.tolist(), "cut": self.cut, "level": self.level, "interval": ends,
                "flat": self.flat, "diagnostics": [said.to_json() for said in self.diagnostics]}


class _Path:
    """The constrained fits so far. Each starts from the nearest value before it and from the fit's own optima."""

    def __init__(self, fit: Fit, parameter: str):
        self.fit, self.parameter = fit, parameter
        self.done = {float(fit.params[parameter]): (fit.objective, fit.vector)}

    def __call__(self, value: float) -> float:
        if value not in self.done:
            fit, near = self.fit, min(self.done, key=lambda other: abs(other - value))
            form = fit.form.with_fixed({self.parameter: value})
            scale = Scale(form, fit.logs, fit.y, fit.spec)
            optima = fit.optima[list(form.names)].head(3).to_numpy(float)
            start = scale.enter(np.vstack([self.done[near][1], optima]))
            if fit.spec.kind == "huber":  # a small delta makes the objective rough: start from a smoother one too
                smooth = scale.objective.with_delta(10 * scale.objective.delta)
                eased = scale.minimise(start[:1], fit.y, fit.weights, smooth, tolerance=1e-4)
                start = np.vstack([start, eased.vectors])
            found = scale.minimise(start, fit.y, fit.weights)
            best = int(np.argmin(np.nan_to_num(found.objective, nan=np.inf)))
            vector = scale.restore(found.vectors[[best]])[0]
            self.done[value] = float(found.objective[best]) * scale.factor, vector
        return self.done[value][0]


def profile(fit: Fit, parameter: str, points=25, level: float = 0.9, cluster=None, seed: int = 0) -> Profile:
    """The profile of a free parameter.

    points: the number of values over a little more than the interval, or the values themselves. The values that the
    search for the interval tried are kept too. cluster: a column of the runs, or one label a run, for runs that share
    errors; the cut is then simulated with wild cluster resamples. Raises LawError for a parameter that is not fitted, and
    if no degrees of freedom are left to estimate the noise.
    """
    if parameter not in fit.form.free:
        raise LawError(f"{parameter!r} cannot be profiled: the fitted parameters of {fit.form.name} are "
                       f"{', '.join(fit.form.free)}")
    if not 0 < level < 1:
        raise LawError(f"level must lie between 0 and 1, got {level}")
    if fit.degrees_of_freedom < 1:
        raise LawError(f"{len(fit.y)} points and {len(fit.form.free)} parameters leave no degrees of freedom "
                       "to estimate the noise; add runs or fix parameters")
    rise = _rise(fit, parameter, level, cluster, seed)
    path, bounds = _Path(fit, parameter), fit.form.parameter(parameter)
    ends, reached = [], []
    near = fit.optima[parameter][fit.optima["objective"] < fit.objective + rise]
    for bound, far in ((bounds.low, near.min()), (bounds.high, near.max())):
        # the middle of the three is the far optimum if it lies between the fit and the bound, else the fit
        outermost = sorted((fit.params[parameter], float(far), bound))[1]
        end, crossed = _search(path, outermost, bound, fit.objective + rise, rise)
        ends.append(end)
        reached.append(not crossed)
    for value in _grid(path, ends, points, bounds) if np.ndim(points) == 0 else np.asarray(points, float):
        path(float(value))
    values = np.array(sorted(path.done))
    objective = np.array([path.done[value][0] for value in values])
    said = []
    if objective.min() < fit.objective - CLOSE * rise:
        best = values[objective.argmin()]
        said.append(Diagnostic(f"The profile of {parameter} found a lower objective, {objective.min():.6g} "
                               f"at {best:.4g}, than the fit's {fit.objective:.6g}: fit again with more "
                               "starts.", "better-optimum", parameter))
    return Profile(fit, parameter, values, objective, cut=fit.objective + rise, level=level,
                   interval=(float(ends[0]), float(ends[1])), flat=any(reached), diagnostics=said)


def _rise(fit: Fit, parameter: str, level: float, cluster, seed: int) -> float:
    """The rise of the objective from its minimum to the true value that noise does not exceed with probability `level`."""
    if fit.spec.is_likelihood and cluster is None:
        from scipy import special  # here, since importing the laws should not wait for it
        variance = fit.objective / fit.degrees_of_freedom
        return float(variance * special.stdtrit(fit.degrees_of_freedom, (1 + level) / 2) ** 2)
    if cluster is not None and not isinstance(cluster, str):
        cluster = tuple(np.ravel(np.asarray(cluster)).tolist())
    y, weights, free = _simulated(fit, cluster, seed)
    held = replace(fit, form=fit.form.with_fixed({parameter: fit.params[parameter]}))
    return float(np.quantile(np.maximum(refit(held, y, weights).objective - free, 0.0), level))


@functools.lru_cache(maxsize=2)
def _simulated(fit: Fit, cluster: str | tuple | None, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(losses, weights, least objective) of resamples, which all parameters of a fit share."""
    numbers, _ = resample.cluster_numbers(fit, cluster)
    spare = fit.degrees_of_freedom if cluster is None else min(fit.degrees_of_freedom, int(numbers.max()))
    rng = np.random.default_rng([seed, 2])
    noise = residual_spread(fit) * np.sqrt(spare / rng.chisquare(spare, DRAWS))
    y, weights = resamples(fit, "wild" if fit.spec.quantile == 0.5 else "case", numbers, noise, rng)
    return y, weights, refit(fit, y, weights).objective


def _search(path: _Path, start: float, bound: float, cut: float, rise: float) -> tuple[float, bool]:
    """(where the objective crosses the cut between start and a bound, True), or (the bound, False) if it does not.

    start: the outermost known optimum below the cut, so that a rise between optima is no end. Every step is guessed from
    the parabola through the fit and the last point, and halves the bracket if that guess is no use.
    """
    sign, size = 1.0 if bound > start else -1.0, max(abs(start), _unit(path.fit, path.parameter))
    limit, step = min(abs(bound - start), FARTHEST * size), FIRST * size
    if not limit > 1e-12 * size:
        return bound, False
    inside, outside = 0.0, np.inf
    for _ in range(60):
        step = min(step, limit)
        above = path(start + sign * step) - (cut - rise)
        if abs(above - rise) < CLOSE * rise:
            return start + sign * step, True
        if above < rise and step == limit:
            return bound, False
        inside, outside = (step, outside) if above < rise else (inside, step)
        guess = step * min(np.sqrt(rise / max(above, 1e-300)), 6.0)
        if not inside < guess < outside or outside - inside < 0.1 * outside:
            guess = 0.5 * (inside + outside) if np.isfinite(outside) else 2.0 * step
        elif not np.isfinite(outside):
            guess = max(guess, 1.5 * step)
        if outside - inside < 1e-6 * outside:  # here the objective jumps from one optimum to another
            break
        step = guess
    return start + sign * 0.5 * (inside + min(outside, limit)), True


def _unit(fit: Fit, parameter: str) -> float:
    """The scale of a parameter that may be zero: an amplitude whose term is a hundredth of the losses, or else 1e-3."""
    if parameter not in (names := [amplitude.name for amplitude in fit.form.amplitudes]):
        return 1e-3
    feature = fit.form.features(fit.vector[None, len(names):], fit.logs)[0, names.index(parameter)]
    return 0.01 * float(np.median(np.abs(fit.y)) / max(np.median(np.abs(feature)), 1e-300))


def _grid(path: _Path, ends: list[float], points: int, bounds) -> np.ndarray:
    """Evenly spaced values over a little more than the interval, or over the searched range if it has no end.

    They are ordered from the fit's value outwards, so that each fit starts from its neighbour.
    """
    low = ends[0] if np.isfinite(ends[0]) else min(path.done)
    high = ends[1] if np.isfinite(ends[1]) else max(path.done)
    margin = 0.2 * (high - low)
    low, high = max(low - margin, bounds.low), min(high + margin, bounds.high)
    grid = np.geomspace(low, high, points) if low > 0 and high / low > 30 else np.linspace(low, high, points)
    middle = int(np.searchsorted(grid, path.fit.params[path.parameter]))
    return np.concatenate([grid[middle:], grid[:middle][::-1]])
