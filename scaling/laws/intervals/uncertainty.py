"""Intervals by refitting: every resample is fitted to convergence, all of them in one batch.

case: draws runs with replacement (Efron 1979). It assumes nothing about the noise, but a resample of a small grid may
    leave out whole levels of an input, and its distribution is coarse.
cluster: draws whole clusters with replacement (Davison and Hinkley 1997, section 3.8), for runs that share something: a
    trunk, a data order, a tuned recipe, a size.
noise: the fitted law plus normal noise in the objective's space (a parametric bootstrap).
wild: the fitted law plus each run's own residual times a random sign (Wu 1986; Liu 1988). The noise may differ from run
    to run, and the points stay where they are.
wild cluster: one sign a cluster (Cameron, Gelbach and Miller 2008), for clusters that are too few to resample.
    `resample.errors` tells how residuals are enlarged to the size of the errors.
noise cluster: normal noise of which runs of a cluster share a part, the `correlation`. It is for clusters that are hardly
    more than the parameters, such as four sizes with a trunk each: there a fit absorbs what a cluster shares, so that
    residuals cannot show it. The spread of the errors is the one under which the residuals have their expected size.

"noise" and both "wild" methods draw the size of the noise itself for every resample, from the chi-square distribution of
its degrees of freedom, which widens intervals as Student's t does. Intervals are percentiles of the refits. A prediction
interval adds a draw of the noise to every refit's prediction, so it is for one new run. Without noise it is for the law.

tests/laws/test_coverage.py measures how often 90% intervals hold the truth, for normal errors and planted laws in one and
two inputs, 8 to 100 runs, small and noise-scaled deltas and squares: 85 to 95% of the time with every method that "auto"
takes there. Resampling rows holds it 62 to 79% of the time if three runs share most of their error.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit, input_logs, refit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals import resample

METHODS = ("auto", "case", "cluster", "noise", "noise cluster", "wild", "wild cluster")
CLUSTERED = ("cluster", "noise cluster", "wild cluster")
PLENTY = 20    # points per parameter from which "auto" resamples runs
MANY = 20      # clusters from which "auto" resamples whole clusters
SHARE = 0.02   # share of refits at a bound from which there is a warning
DOUBTFUL = 0.05   # share of refits that did not converge from which intervals are called unreliable
WITHHELD = 0.5    # the same from which no interval of a parameter is printed or saved


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """The refits of a fit, with intervals of parameters, of functions of them, and of predictions."""
    fit: Fit
    draws: pd.DataFrame          # one refit a row, one parameter a column, in the units of the data
    noise: np.ndarray            # [draws] standard deviation of one run's residual, itself uncertain
    method: str                  # the method that was used, one of METHODS but never "auto"
    seed: int
    cluster: str | None = None   # the column, or that labels were given
    failed: float = 0.0          # share of the refits that did not converge
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def withheld(self) -> bool:
        """Whether so many refits did not converge that intervals of the parameters would mislead."""
        return self.failed > WITHHELD

    def interval(self, quantity: str | Callable[[pd.DataFrame], object], level: float = 0.9):
        """The percentile interval (low, high) of a parameter, or of any function of all parameters.

        quantity: the name of a parameter or of one in `fit.derived`, or a callable that takes `draws` and returns [draws]
        or [draws, k], such as lambda p: p.beta / (p.alpha + p.beta). Raises LawError for an unknown name.
        """
        if callable(quantity):
            values = np.asarray(quantity(self.draws), float)
            if values.shape[:1] != (len(self.draws),):
                raise LawError(f"the quantity must have one value a draw, {len(self.draws)}; it has shape "
                               f"{values.shape}")
            return percentiles(values, level)
        return percentiles(self._values(quantity), level)

    def _values(self, name: str) -> np.ndarray:
        if name in self.draws.columns:
            return self.draws[name].to_numpy()
        derived = self.fit.form.derive({column: self.draws[column].to_numpy() for column in self.draws})
        if name in derived:
            return derived[name]
        names = ", ".join([*self.draws.columns, *self.fit.derived])
        raise LawError(f"no parameter {name!r}; the parameters are {names}")

    def samples(self, *inputs, noise: bool = False, **named) -> np.ndarray:
        """The predictions of every refit at the form's inputs, [draws, *broadcast shape].

        noise: adds the noise of one run, drawn once a refit, so that points of one curve move together.
        """
        logs, shape = input_logs(self.fit.form, inputs, named)
        values = self.fit.form.predict(self.draws.to_numpy(), logs)
        if noise:  # a random stream of its own, so that predictions do not depend on earlier calls
            spec, rng = self.fit.spec, np.random.default_rng([self.seed, 1])
            if spec.quantile == 0.5:
                shift = self.noise * rng.standard_normal(len(values))
            else:  # errors about a quantile are not centred on it, so the residuals themselves are drawn
                chance = self.fit.weights / self.fit.weights.sum()
                shift = rng.choice(self.fit.residuals, len(values), p=chance)
            values = resample.untransformed(spec, spec.transform(values) + shift[:, None])
        return values.reshape(len(values), *shape)

    def predict(self, *inputs, level: float = 0.9, noise: bool = True, **named):
        """(low, high) of the loss at the form's inputs, for one new run, or for the law itself if noise is False."""
        return percentiles(self.samples(*inputs, noise=noise, **named), level)

    def standard_errors(self) -> dict[str, float]:
        return {name: float(self.draws[name].std(ddof=1)) for name in self.draws.columns}

    def to_json(self, level: float = 0.9) -> dict:
        names = [] if self.withheld else [*self.draws.columns, *self.fit.derived]
        intervals = {name: [end if np.isfinite(end) else None for end in self.interval(name, level)] for name in names}
        return {"method": self.method, "draws": len(self.draws), "seed": self.seed, "cluster": self.cluster,
                "level": level, "failed": self.failed, "intervals": intervals,
                "standard_errors": {} if self.withheld else self.standard_errors(), "noise": float(np.median(self.noise)),
                "diagnostics": [said.to_json() for said in self.diagnostics]}


def percentiles(values: np.ndarray, level: float):
    """The central interval (low, high) of values along their first axis. A vector gives floats."""
    if not 0 < level < 1:
        raise LawError(f"level must lie between 0 and 1, got {level}")
    method = "nearest" if np.isinf(values).any() else "linear"  # between two infinities there is no line
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0, method=method)
    return (float(low), float(high)) if np.ndim(low) == 0 else (low, high)


def bootstrap(fit: Fit, draws: int = 1000, method: str = "auto", cluster=None, seed: int = 0,
              correlation: float = 0.5, iterations: int = 300) -> Bootstrap:
    """Refit `draws` resamples of a fit. The module's docstring says what each method assumes.

    cluster: a column of the runs, or one label a run. method "auto" with clusters is "cluster" from 20 clusters on, else
    "wild cluster"; without clusters it is "case" from 20 points per parameter on, else "noise". With clusters "wild" is
    "wild cluster", and "noise" is "noise cluster", whose runs share the part `correlation` of the variance of their errors.
    iterations: of each refit, at most.

    Raises LawError for unknown methods or columns, and if no degrees of freedom are left to estimate the noise.
    """
    if draws < 2:
        raise LawError(f"draws must be at least 2, got {draws}")
    if (spare := fit.degrees_of_freedom) < 1:
        raise LawError(f"{len(fit.y)} points and {len(fit.form.free)} parameters leave no degrees of freedom "
                       "to estimate the noise; add runs or fix parameters")
    numbers, name = resample.cluster_numbers(fit, cluster)
    count = int(numbers.max()) + 1
    method = _method(fit, method, cluster is not None, count)
    if not 0 <= correlation < 1:
        raise LawError(f"correlation must be at least 0 and below 1, got {correlation}")
    spread, shared = residual_spread(fit), correlation if method == "noise cluster" else 0.0
    if shared:
        spread *= resample.absorbed(fit, numbers, shared)
    elif cluster is not None:
        spare = min(spare, count - 1)
    rng = np.random.default_rng([seed, 0])
    noise = spread * np.sqrt(spare / rng.chisquare(spare, draws))
    found = refit(fit, *resamples(fit, method, numbers, noise, rng, shared), iterations)
    finite = np.isfinite(found.vectors).all(1)
    frame = pd.DataFrame(found.vectors[finite], columns=list(fit.form.names))
    said = _clusters(numbers, name, method, shared) if cluster is not None else []
    if (failed := int((~(found.converged & finite)).sum())):
        what = next((words for share, words in (
            (WITHHELD, ": these runs do not determine the law, and its parameters have no interval; fix or bound "
                       "parameters, or choose a form with fewer"),
            (DOUBTFUL, ", so the intervals are unreliable"), (0.0, "")) if failed > share * draws))
        said.append(Diagnostic(f"{failed} of {draws} refits did not converge{what}.", "refits-failed"))
    if not finite.any():
        raise LawError(f"none of {draws} refits ended in finite parameters, so there are no intervals")
    return Bootstrap(fit, frame, noise[finite], method, seed, name or None, failed / draws, said + _bounds(fit, frame))


def resamples(fit: Fit, method: str, numbers: np.ndarray, noise: np.ndarray, rng, shared: float = 0.0):
    """(losses, weights) of resamples, each [draws, n], or [n] if it is the same in all of them.

    numbers: the cluster of each run, as `resample.cluster_numbers` gives them. noise [draws]: the standard deviation of
    the noise in each resample. shared: the part of its variance that the runs of a cluster share, under "noise cluster".
    """
    draws, n, count = len(noise), len(fit.y), int(numbers.max()) + 1
    if method in ("case", "cluster"):
        there = np.bincount(numbers, fit.weights > 0) > 0
        return fit.y, fit.weights * rng.multinomial(there.sum(), there / there.sum(), size=draws)[:, numbers]
    if method in ("noise", "noise cluster"):  # weights are taken as one over the variance
        size = np.sqrt(np.divide(fit.weights.mean(), fit.weights, out=np.ones(n), where=fit.weights > 0))
        moved = rng.standard_normal((draws, n))
        if shared:
            moved = np.sqrt(1 - shared) * moved + np.sqrt(shared) * rng.standard_normal((draws, count))[:, numbers]
        moved *= noise[:, None] * size
    else:
        relative = noise / max(residual_spread(fit), 1e-300)
        factors = relative[:, None] * resample.signs(draws, count, rng)
        moved = factors[:, numbers] * resample.errors(fit, numbers)
    return resample.untransformed(fit.spec, fit.spec.transform(fit.predicted) + moved), fit.weights


def residual_spread(fit: Fit) -> float:
    """The standard deviation of one run's residual, at the mean weight, with the fit's degrees of freedom."""
    square = (fit.weights * fit.residuals ** 2).sum() / fit.weights.sum()
    return float(np.sqrt(square * (fit.weights > 0).sum() / fit.degrees_of_freedom))


def _method(fit: Fit, method: str, clustered: bool, count: int) -> str:
    if method not in METHODS:
        raise LawError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    one_sided = fit.spec.quantile != 0.5
    if method == "auto":
        if clustered:
            return "cluster" if count >= MANY or one_sided else "wild cluster"
        return "case" if one_sided or len(fit.y) >= PLENTY * len(fit.form.free) else "noise"
    if clustered and method in ("wild", "noise"):
        method = f"{method} cluster"
    if clustered != (method in CLUSTERED):
        raise LawError(f"method {method!r} " + (
            "takes every run as independent; with cluster= write 'cluster' or 'wild'" if clustered else
            "needs cluster=, a column of the runs or one label a run"))
    if one_sided and method not in ("case", "cluster"):
        raise LawError(f"method {method!r} takes errors as symmetric about the law, but "
                       f"quantile={fit.spec.quantile:g} fits one side of them; write 'case' or 'cluster'")
    return method


def _clusters(numbers: np.ndarray, name: str, method: str, shared: float) -> list[Diagnostic]:
    """A warning if the clusters are few, or worth few equal ones: small ones add little beside large ones (Carter, Schnepel
    and Steigerwald 2017)."""
    sizes = np.bincount(numbers)
    worth = sizes.sum() ** 2 / (sizes ** 2).sum()
    if worth >= MANY:
        return []
    counted = f"{len(sizes)} clusters of {name}" + (
        f", worth {worth:.1f} equal ones" if worth < 0.75 * len(sizes) else "")
    if method == "cluster":
        advice = "intervals from resampling so few are unreliable, mostly too narrow; method='wild' is better"
    elif method == "noise cluster":
        advice = f"so few cannot test the share of variance that runs of a cluster have in common, {shared:.0%} as given"
    else:
        advice = f"intervals rest on {len(sizes) - 1} degrees of freedom, and on the clusters being alike"
    return [Diagnostic(f"{counted}: {advice}.", "few-clusters", name)]


def _bounds(fit: Fit, frame: pd.DataFrame) -> list[Diagnostic]:
    """Warnings of parameters that many refits have at a bound."""
    said = []
    for name in fit.form.free:
        p = fit.form.parameter(name)
        share = float(((frame[name] <= p.low) | (frame[name] >= p.high)).mean())
        if share > SHARE:
            said.append(Diagnostic(f"{name} is at a bound of [{p.low:.4g}, {p.high:.4g}] in {share:.0%} of "
                                   "the refits: its interval is set by the bound.", "refits-at-bound", name))
    return said
