"""Draws of a two-step prediction: both steps refitted to resamples that treat a run alike in both.

case and cluster give a run, or its cluster, the same weight in both steps; wild and wild cluster give its
residuals in both steps the same sign, so that they stay as correlated as they are; noise draws normal
residuals with the correlation that was measured. All but case and cluster leave the link's losses as
observed. The default is chosen as in `laws.bootstrap`, a step with few points deciding for both.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import input_logs, refit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals import resample
from scaling.laws.intervals.uncertainty import MANY, METHODS, PLENTY, percentiles, residual_spread

if TYPE_CHECKING:
    from scaling.laws.forecasts.twostep import TwoStep


@dataclass(frozen=True, eq=False)
class TwoStepBootstrap:
    """Draws of both steps, paired; row i of each array is one resample."""
    fit: TwoStep
    law: np.ndarray              # [draws, P] parameters of the law
    link: np.ndarray             # [draws, P] and of the link
    law_noise: np.ndarray        # [draws] standard deviation of one run's residual, itself uncertain
    link_noise: np.ndarray
    correlation: float           # of a run's residuals in the two steps
    method: str
    seed: int
    cluster: str | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def losses(self, *inputs, noise: bool = False, **named) -> np.ndarray:
        """The first step alone: the loss at the law's inputs by every draw, [draws, *broadcast shape]."""
        law = self.fit.law
        logs, shape = input_logs(law.form, inputs, named)
        loss = law.form.predict(self.law, logs)
        if noise:
            error = self.law_noise[:, None] * self._normal()[0]
            loss = resample.restored(law.spec, law.spec.transform(loss) + error)
        return loss.reshape(len(loss), *shape)

    def samples(self, *inputs, noise: bool = False, **named) -> np.ndarray:
        """The metric by every draw, [draws, *broadcast shape]; if asked with the noise of one run, that of
        its loss and that of its metric at the loss."""
        link, loss = self.fit.link, self.losses(*inputs, noise=noise, **named)
        at = np.log(np.maximum(loss, np.finfo(float).tiny)).reshape(len(loss), -1)
        metric = np.stack([link.form.predict(*pair)[0] for pair in zip(self.link[:, None], at[:, None])])
        if noise:
            error = self.link_noise[:, None] * _mix(*self._normal(), self.correlation)
            metric = resample.restored(link.spec, link.spec.transform(metric) + error)
        return metric.reshape(loss.shape)

    def _normal(self) -> np.ndarray:
        """[2, draws, 1], its own stream, so that predictions do not depend on what was asked before."""
        return np.random.default_rng([self.seed, 1]).standard_normal((2, len(self.law), 1))

    def predict(self, *inputs, level: float = 0.9, noise: bool = True, **named):
        """(low, high) of the metric of one new run, or with noise=False of the two laws themselves."""
        return percentiles(self.samples(*inputs, noise=noise, **named), level)

    def to_json(self, level: float = 0.9) -> dict:
        ends = {name: np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
                for name, draws in (("law", self.law), ("link", self.link))}
        forms = {"law": self.fit.law.form, "link": self.fit.link.form}
        return {"method": self.method, "draws": len(self.law), "seed": self.seed, "cluster": self.cluster,
                "level": level, "correlation": self.correlation,
                "noise": {"law": float(np.median(self.law_noise)), "link": float(np.median(self.link_noise))},
                "intervals": {step: dict(zip(forms[step].names, ends[step].T.tolist())) for step in forms},
                "diagnostics": [said.to_json() for said in self.diagnostics]}


def resampled(two: TwoStep, draws: int, method: str, cluster: str | None, seed: int) -> TwoStepBootstrap:
    """`draws` refits of both steps, see the module's docstring."""
    steps, said = (two.law, two.link), []
    if draws < 2:
        raise LawError(f"draws must be at least 2, got {draws}")
    for step in steps:
        if step.degrees_of_freedom < 1:
            raise LawError(f"{len(step.y)} points and {len(step.form.free)} parameters of {step.form.name} "
                           "leave no degrees of freedom to judge the noise by")
        if step.spec.quantile != 0.5:
            raise LawError(f"intervals in two steps take errors as symmetric, but {step.form.name} was "
                           f"fitted to the quantile {step.spec.quantile:g}")
    groups, count = _groups(two, cluster)
    method = _method(steps, method, cluster, count)
    rng = np.random.default_rng([seed, 0])
    noise = []
    for step in steps:
        spare = min(step.degrees_of_freedom, count - 1) if cluster else step.degrees_of_freedom
        noise.append(residual_spread(step) * np.sqrt(spare / rng.chisquare(spare, draws)))
    both = two.shared >= 0
    correlation = _correlation(two.law.residuals[two.shared[both]], two.link.residuals[both])
    if method in ("case", "cluster"):
        times = rng.multinomial(count, np.full(count, 1 / count), size=draws)
        given = [(step.y, step.weights * times[:, group]) for step, group in zip(steps, groups)]
    else:
        if method == "noise":
            first, second = (rng.standard_normal((draws, len(step.y))) for step in steps)
            second[:, both] = _mix(first[:, two.shared[both]], second[:, both], correlation)
            errors = [_sizes(step) * normal for step, normal in zip(steps, (first, second))]
        else:
            signs = resample.signs(draws, count, rng)
            errors = [signs[:, group] * resample.errors(step, np.unique(group, return_inverse=True)[1])
                      / max(residual_spread(step), 1e-300) for step, group in zip(steps, groups)]
        given = [(resample.restored(step.spec, step.spec.transform(step.predicted) + sd[:, None] * error),
                  step.weights) for step, sd, error in zip(steps, noise, errors)]
    found = [refit(step, *data) for step, data in zip(steps, given)]
    finite = np.all([np.isfinite(result.vectors).all(1) for result in found], axis=0)
    if cluster and count < MANY:
        said.append(Diagnostic(f"There are only {count} clusters of {cluster}: intervals rest on {count - 1} "
                               "degrees of freedom.", "few-clusters", cluster))
    for name, result in zip(("law", "link"), found):
        if failed := int((~(result.converged & finite)).sum()):
            said.append(Diagnostic(f"{failed} of {draws} refits of the {name} did not converge.",
                                   "refits-failed", name))
    return TwoStepBootstrap(two, *(result.vectors[finite] for result in found), *(sd[finite] for sd in noise),
                            correlation, method, seed, cluster, said)


def _method(steps, method: str, cluster: str | None, count: int) -> str:
    if method not in METHODS:
        raise LawError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if method == "auto":
        plenty = all(len(step.y) >= PLENTY * len(step.form.free) for step in steps)
        method = "case" if plenty else "noise"
        if cluster:
            method = "cluster" if count >= MANY else "wild cluster"
    method = "wild cluster" if cluster and method == "wild" else method
    if (cluster is not None) != (method in ("cluster", "wild cluster")):
        raise LawError(f"method {method!r} and cluster={cluster!r} do not go together: 'cluster' and 'wild' "
                       "take a column of clusters, 'case' and 'noise' take none")
    return method


def _groups(two: TwoStep, cluster: str | None) -> tuple[list[np.ndarray], int]:
    """The number of the cluster, or of the run itself, of each run of the law and of the link; how many."""
    count = len(two.law.y)
    labels = [np.arange(count), np.where(two.shared >= 0, two.shared, count + np.arange(len(two.shared)))]
    if cluster is not None:
        if cluster not in two.runs.frame:
            there = ", ".join(map(str, two.runs.frame.columns))
            raise LawError(f"no column {cluster!r} to cluster by; the columns are {there}")
        labels = [step.runs.frame[cluster] for step in (two.law, two.link)]
    numbers, names = pd.factorize(np.concatenate(labels), use_na_sentinel=False)
    if len(names) < 2:
        raise LawError(f"{cluster} holds a single cluster; several are needed to see how they differ")
    return [numbers[:count], numbers[count:]], len(names)


def _sizes(step) -> np.ndarray:
    """[n] the noise of runs over that of one with the mean weight, weights being one over the variance."""
    known = step.weights > 0
    return np.sqrt(np.divide(step.weights.mean(), step.weights, out=np.ones(len(known)), where=known))


def _mix(first: np.ndarray, second: np.ndarray, correlation: float) -> np.ndarray:
    """Normal draws with a correlation with the first, from two independent ones."""
    return correlation * first + np.sqrt(1 - correlation ** 2) * second


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Of residuals; 0 where there are too few, or none, to tell."""
    if len(first) < 4 or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
