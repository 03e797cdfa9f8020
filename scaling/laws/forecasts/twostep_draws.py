"""Draws of a two-step prediction: both steps are refitted to resamples that treat a run alike in both.

"case" and "cluster" give a run, or its cluster, the same weight in both steps. "wild" and "wild cluster" give
its residuals the same sign in both steps, which keeps their correlation. "noise" draws normal residuals with
the measured correlation. All but "case" and "cluster" leave the link's losses as observed. The default is
chosen as in `laws.bootstrap`; a step with few points decides for both.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit, input_logs, refit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals import resample
from scaling.laws.intervals.uncertainty import MANY, METHODS, PLENTY, percentiles, residual_spread
from scaling.laws.runs import Runs


@dataclass(frozen=True, eq=False)
class Steps:
    """A law and a link, and the runs they share.

    law: the fit of the loss L. link: the fit of the metric in L. runs: all runs, with the metric as y and the
    loss as L. shared[i]: the number among the law's runs of the link's run i, -1 for a run of the link only.
    """
    law: Fit
    link: Fit
    runs: Runs
    shared: np.ndarray


@dataclass(frozen=True, eq=False)
class TwoStepBootstrap:
    """Paired draws of both steps: row i of each array is one resample."""
    fit: Steps
    law: np.ndarray              # [draws, P] parameters of the law
    link: np.ndarray             # [draws, P] parameters of the link
    law_noise: np.ndarray        # [draws] standard deviation of one run's residual, drawn since it is uncertain
    link_noise: np.ndarray       # [draws]
    correlation: float           # between a run's residuals in the two steps
    method: str
    seed: int
    cluster: str | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def losses(self, *inputs, noise: bool = False, **named) -> np.ndarray:
        """The loss at the law's inputs by every draw, [draws, *broadcast shape]: the first step alone."""
        law = self.fit.law
        logs, shape = input_logs(law.form, inputs, named)
        loss = law.form.predict(self.law, logs)
        if noise:
            error = self.law_noise[:, None] * self._normal()[0]
            loss = resample.untransformed(law.spec, law.spec.transform(loss) + error)
        return loss.reshape(len(loss), *shape)

    def samples(self, *inputs, noise: bool = False, **named) -> np.ndarray:
        """The metric by every draw, [draws, *broadcast shape].

        noise adds the noise of one run, in its loss and in its metric at that loss.
        """
        link, loss = self.fit.link, self.losses(*inputs, noise=noise, **named)
        at = np.log(np.maximum(loss, np.finfo(float).tiny)).reshape(len(loss), -1)
        metric = np.stack([link.form.predict(*pair)[0] for pair in zip(self.link[:, None], at[:, None])])
        if noise:
            error = self.link_noise[:, None] * _mix(*self._normal(), self.correlation)
            metric = resample.untransformed(link.spec, link.spec.transform(metric) + error)
        return metric.reshape(loss.shape)

    def _normal(self) -> np.ndarray:
        """[2, draws, 1] normal numbers. A fresh stream makes predictions independent of earlier calls."""
        return np.random.default_rng([self.seed, 1]).standard_normal((2, len(self.law), 1))

    def predict(self, *inputs, level: float = 0.9, noise: bool = True, **named):
        """(low, high) of the metric of one new run; with noise=False, of the two laws themselves."""
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


def resample_steps(two: Steps, draws: int, method: str, cluster: str | None, seed: int) -> TwoStepBootstrap:
    """`draws` refits of both steps; the module's docstring says how.

    Raises LawError where a step has no degrees of freedom, or was fitted to a quantile other than 0.5.
    """
    steps, said = (two.law, two.link), []
    if draws < 2:
        raise LawError(f"draws must be at least 2, got {draws}")
    for step in steps:
        if step.degrees_of_freedom < 1:
            raise LawError(f"{len(step.y)} points and {len(step.form.free)} parameters of {step.form.name} "
                           "leave no degrees of freedom to judge the noise by")
        if step.spec.quantile != 0.5:
            raise LawError(f"intervals in two steps take errors as symmetric, but {step.form.name} was "
                           f"fitted to the quantile {step.spec.quantile:g}; fit it with quantile=0.5")
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
        found = [refit(step, step.y, step.weights * times[:, group]) for step, group in zip(steps, groups)]
    else:
        if method == "noise":
            first = rng.standard_normal((draws, len(two.law.y)))
            second = rng.standard_normal((draws, len(two.link.y)))
            second[:, both] = _mix(first[:, two.shared[both]], second[:, both], correlation)
            errors = [_relative_noise(step) * normal for step, normal in zip(steps, (first, second))]
        else:
            signs = resample.signs(draws, count, rng)
            errors = [signs[:, group] * resample.errors(step, np.unique(group, return_inverse=True)[1])
                      / max(residual_spread(step), 1e-300) for step, group in zip(steps, groups)]
        found = [refit(step, _moved(step, sd[:, None] * error), step.weights)
                 for step, sd, error in zip(steps, noise, errors)]
    finite = np.all([np.isfinite(result.vectors).all(1) for result in found], axis=0)
    if cluster and count < MANY:
        said.append(Diagnostic(f"There are only {count} clusters of {cluster}: intervals rest on {count - 1} "
                               "degrees of freedom.", "few-clusters", cluster))
    for name, result in zip(("law", "link"), found):
        if failed := int((~(result.converged & finite)).sum()):
            said.append(Diagnostic(f"{failed} of {draws} refits of the {name} did not converge.",
                                   "refits-failed", name))
    law, link = (result.vectors[finite] for result in found)
    law_noise, link_noise = (sd[finite] for sd in noise)
    return TwoStepBootstrap(two, law, link, law_noise, link_noise, correlation, method, seed, cluster, said)


def _moved(step: Fit, errors: np.ndarray) -> np.ndarray:
    """The values [draws, n] that lie `errors` away from the predictions, in the objective's space."""
    return resample.untransformed(step.spec, step.spec.transform(step.predicted) + errors)


def _method(steps: Sequence[Fit], method: str, cluster: str | None, count: int) -> str:
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


def _groups(two: Steps, cluster: str | None) -> tuple[list[np.ndarray], int]:
    """([group of each run of the law, group of each run of the link], number of groups). A group is a cluster,
    or without clusters a run."""
    count = len(two.law.y)
    labels = [np.arange(count), np.where(two.shared >= 0, two.shared, count + np.arange(len(two.shared)))]
    if cluster is not None:
        if cluster not in two.runs.frame:
            there = ", ".join(map(str, two.runs.frame.columns))
            raise LawError(f"no column {cluster!r} to cluster by; the columns are {there}")
        labels = [step.runs.frame[cluster] for step in (two.law, two.link)]
    numbers, names = pd.factorize(np.concatenate(labels), use_na_sentinel=False)
    if len(names) < 2:
        raise LawError(f"column {cluster!r} holds a single cluster; intervals need several")
    return [numbers[:count], numbers[count:]], len(names)


def _relative_noise(step: Fit) -> np.ndarray:
    """[n] the noise of each run over that of a run with the mean weight. Weights are one over the variance."""
    known = step.weights > 0
    return np.sqrt(np.divide(step.weights.mean(), step.weights, out=np.ones(len(known)), where=known))


def _mix(first: np.ndarray, second: np.ndarray, correlation: float) -> np.ndarray:
    """Normal draws that have the given correlation with `first`; `first` and `second` are independent."""
    return correlation * first + np.sqrt(1 - correlation ** 2) * second


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of residuals; 0 where there are too few to tell."""
    if len(first) < 4 or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
