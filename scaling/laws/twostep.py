"""A downstream metric through the loss: a law says what the loss will be, a link what the metric is at that loss.

Gadre et al. 2024 (arXiv:2403.08540), sections 2 and 4: the loss from N and D, then top-1 error =
epsilon - k exp(-gamma loss). The interval needs both steps: every draw of the law goes through a draw of the
link, and runs that both were fitted to are resampled together.

    two = two_step("runs.csv", "overtraining", "downstream", metric="error")
    two.bootstrap().predict(C=1e21, M=20)
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws import fitting
from scaling.laws import runs as tables
from scaling.laws.diagnose import Diagnostic
from scaling.laws.fitting import Fit
from scaling.laws.forms import Form, LawError, get
from scaling.laws.objectives import Objective
from scaling.laws.runs import Runs
from scaling.laws.uncertainty import bootstrap, percentiles

PLENTY = 20  # points a parameter, in both steps, from which rows are resampled by default
FEW = 10     # clusters below which resampling them gives too narrow intervals


@dataclass(frozen=True, eq=False)
class TwoStep:
    """A law of the loss and a link from the loss L to the metric; it predicts like a Fit of the metric.

    runs: all of them, y being the metric and L the loss. shared[i]: which run of the law the link's run i is,
    -1 for none. settings: arguments of `two_step` that repeat it on other runs.
    """
    law: Fit
    link: Fit
    runs: Runs
    shared: np.ndarray
    settings: dict

    @property
    def form(self) -> Form:
        """The law's form under the names of both."""
        return dataclasses.replace(self.law.form, name=f"{self.law.form.name}, then {self.link.form.name}",
                                   formula=f"{self.link.form.formula}; L = {self.law.form.formula}")

    @property
    def spec(self) -> Objective:
        return self.link.spec

    @property
    def logs(self) -> np.ndarray:
        return self.law.logs

    @property
    def y(self) -> np.ndarray:
        return self.link.y

    @property
    def diagnostics(self) -> list[Diagnostic]:
        return [*self.law.diagnostics, *self.link.diagnostics]

    @property
    def manifest(self) -> dict:
        return {"law": self.law.manifest, "link": self.link.manifest}

    def to_json(self) -> dict:
        return {"law": self.law.to_json(), "link": self.link.to_json(), "shared_runs": int((self.shared >= 0).sum())}

    def predict(self, *inputs, **named):
        """The metric at the law's inputs, which broadcast; a float for scalars."""
        return self.link.predict(self.law.predict(*inputs, **named))

    def direct(self) -> Fit:
        """The one-step rival: the law's form fitted to the metric itself, as the link was fitted."""
        rows = self.link.runs.select(self.shared >= 0, "no inputs of the law")
        return self.link.again(rows, law=self.law.settings["law"], fix={}, bounds={},
                               tie=self.law.settings["tie"])

    def bootstrap(self, draws: int = 1000, method: str = "auto", cluster: str | None = None,
                  seed: int = 0) -> TwoStepBootstrap:
        """Refit both steps to `draws` resamples.

        method "case" resamples runs and "cluster" the groups of the column `cluster`, each with the same weights
        in both steps; "noise" adds normal noise to both steps' predictions, of the residuals' size and, for runs
        in both, their correlation, the link's loss staying as observed. "auto" takes "cluster" when a column is
        named, "case" from 20 points a parameter on in both steps, else "noise".
        """
        steps = self.law, self.link
        plenty = all(len(step.y) >= PLENTY * len(step.form.free) for step in steps)
        if method == "auto":
            method = "cluster" if cluster else "case" if plenty else "noise"
        if method not in ("case", "cluster", "noise"):
            raise LawError(f"method must be 'auto', 'case', 'cluster' or 'noise', got {method!r}")
        if (method == "cluster") != (cluster is not None):
            raise LawError("method 'cluster' and the argument cluster=<column> go together")
        if draws < 2:
            raise LawError(f"draws must be at least 2, got {draws}")
        rng = np.random.default_rng([seed, 0])
        noise = [_noise(step, draws, rng) for step in steps]
        both = self.shared >= 0
        correlation = _correlation(self.law.residuals[self.shared[both]], self.link.residuals[both])
        said = []
        if method == "noise":
            first = rng.standard_normal((draws, len(self.law.y)))
            second = rng.standard_normal((draws, len(self.link.y)))
            second[:, both] = _mix(first[:, self.shared[both]], second[:, both], correlation)
            losses = [(restored(step.spec, step.spec.transform(step.predicted) + sd[:, None] * normal), step.weights)
                      for step, sd, normal in zip(steps, noise, (first, second))]
        else:
            groups, count = self._groups(cluster)
            if count < FEW and cluster:
                said.append(Diagnostic(f"Only {count} clusters of {cluster}: intervals from resampling them are "
                                       "too narrow.", "few-clusters", cluster))
            times = rng.multinomial(count, np.full(count, 1 / count), size=draws)
            losses = [(step.y, step.weights * times[:, group]) for step, group in zip(steps, groups)]
        found = [fitting.refit(step, *loss) for step, loss in zip(steps, losses)]
        for name, result in zip(("law", "link"), found):
            if failed := int((~result.converged).sum()):
                said.append(Diagnostic(f"{failed} of {draws} refits of the {name} did not converge.", "refits", name))
        return TwoStepBootstrap(self, *(result.vectors for result in found), *noise, correlation, method, seed,
                                cluster, said)

    def _groups(self, cluster: str | None) -> tuple[list[np.ndarray], int]:
        """The number of the cluster, or of the run, of every run of the law and of the link, and how many there
        are."""
        count = len(self.law.y)
        if cluster is None:
            alone = count + np.arange(len(self.shared))
            labels = np.concatenate([np.arange(count), np.where(self.shared >= 0, self.shared, alone)])
        else:
            if cluster not in self.runs.frame:
                there = ", ".join(map(str, self.runs.frame.columns))
                raise LawError(f"no column {cluster!r} to cluster by; the columns are {there}")
            labels = pd.concat([step.runs.frame[cluster] for step in (self.law, self.link)])
        numbers, names = pd.factorize(labels, use_na_sentinel=False)
        if len(names) < 2:
            raise LawError(f"column {cluster!r} holds a single cluster; resampling needs several")
        return [numbers[:count], numbers[count:]], len(names)

    def against_direct(self, cut: float, draws: int = 300, level: float = 0.9, seed: int = 0) -> pd.DataFrame:
        """Both ways to predict the metric, fitted to runs of fewer than `cut` FLOPs, scored on the others.

        One row each ("two-step", "direct"): n_fit, n_test, mean absolute error, bias (predicted minus observed)
        and coverage, the share of held-out runs inside their prediction intervals. The direct fit knows only the
        runs that have the metric, the two-step one also those that have only the loss.
        """
        large = self.runs.flops >= cut
        below = two_step(_renamed(self.runs, y=self.runs.columns["L"]).select(~large, f"at least {cut:g} FLOPs"),
                         **self.settings)
        test = self.runs.select(large & np.isfinite(self.runs.y), "not scored")
        if not len(test):
            raise LawError(f"no run of at least {cut:g} FLOPs has {self.runs.columns['y']!r}; lower the cut")
        direct, rows = below.direct(), {}
        at = dict(zip(self.law.form.inputs, np.exp(test.inputs(self.law.form))))
        for name, fit, boot in (("two-step", below, below.bootstrap(draws, seed=seed)),
                                ("direct", direct, bootstrap(direct, draws, seed=seed))):
            error, (low, high) = fit.predict(**at) - test.y, boot.predict(**at, level=level)
            rows[name] = {"n_fit": len(fit.y), "n_test": len(test), "error": np.abs(error).mean(),
                          "bias": error.mean(), "coverage": ((low <= test.y) & (test.y <= high)).mean()}
        return pd.DataFrame.from_dict(rows, orient="index")


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

    def samples(self, *inputs, noise: bool = False, **named) -> np.ndarray:
        """The metric at the law's inputs by every draw, [draws, *broadcast shape]; with the noise of one run, of
        its loss and of its metric, if asked."""
        law, link = self.fit.law, self.fit.link
        logs, shape = fitting.input_logs(law.form, inputs, named)
        loss = law.form.predict(self.law, logs)
        normal = np.random.default_rng([self.seed, 1]).standard_normal((2, len(loss), 1))
        if noise:
            loss = restored(law.spec, law.spec.transform(loss) + self.law_noise[:, None] * normal[0])
        loss = np.log(np.maximum(loss, np.finfo(float).tiny))
        metric = np.stack([link.form.predict(vector[None], at[None])[0] for vector, at in zip(self.link, loss)])
        if noise:
            second = _mix(*normal, self.correlation)
            metric = restored(link.spec, link.spec.transform(metric) + self.link_noise[:, None] * second)
        return metric.reshape(len(metric), *shape)

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


def restored(objective: Objective, values: np.ndarray) -> np.ndarray:
    """The inverse of objective.transform."""
    return values if objective.space == "linear" else np.exp(values) - objective.shift


def _mix(first: np.ndarray, second: np.ndarray, correlation: float) -> np.ndarray:
    """Normal draws with a correlation with the first, from two independent ones."""
    return correlation * first + np.sqrt(1 - correlation ** 2) * second


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Of residuals; 0 where there are too few, or none, to tell."""
    if len(first) < 4 or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _noise(step: Fit, draws: int, rng) -> np.ndarray:
    """[draws] standard deviations of one run's residual, drawn from what the residuals leave possible."""
    spare = step.degrees_of_freedom
    if spare < 1:
        raise LawError(f"{len(step.y)} points and {len(step.form.free)} parameters of {step.form.name} leave no "
                       "degrees of freedom to judge the noise by")
    square = (step.weights * step.residuals ** 2).sum() / step.weights.sum() * len(step.y) / spare
    return np.sqrt(square * spare / rng.chisquare(spare, draws))


def two_step(runs, law: str | Form = "chinchilla", link: str | Form = "downstream", *, metric: str,
             law_options: Mapping | None = None, link_options: Mapping | None = None) -> TwoStep:
    """Fit a law to the loss of runs, and a link from their loss to a metric.

    runs: Runs, a table's path or a DataFrame; y is the loss. metric: the column of an error, which falls as the
    loss does. A run takes part in each step that it has all the numbers for, so the metric may be empty where it
    was not measured, and N where a run is only there for the link. link: a form in L, such as "downstream" or
    "sigmoid". law_options, link_options: arguments of `fit`; links are fitted by least squares unless told
    otherwise.

    Raises LawError where either step cannot be fitted.
    """
    runs = tables.of(runs)
    if metric not in runs.frame:
        raise LawError(f"no column {metric!r} for the metric; the columns are {', '.join(map(str, runs.frame))}")
    options = {"law": law, "link": link, "metric": metric, "law_options": dict(law_options or {}),
               "link_options": dict(link_options or {})}
    measured = np.isfinite(runs.y)
    of_law = measured & np.isfinite([runs.values(name) for name in get(law).inputs]).all(0)
    both = _renamed(runs, y=metric, L=runs.columns["y"])
    of_link = measured & np.isfinite(both.y)
    for mask, step in ((of_law, "the law's inputs and the loss"), (of_link, f"the loss and {metric}")):
        if not mask.any():
            raise LawError(f"no run has {step}: two steps need runs for the law and runs for the link")
    first = fitting.fit(runs.select(of_law, "no loss, or not all inputs"), law, **options["law_options"])
    second = fitting.fit(both.select(of_link, f"no loss, or no {metric}"), link,
                         **({"loss": "mse"} | options["link_options"]))
    if second.form.inputs != ("L",):
        raise LawError(f"{second.form.name} is no link: a link has the one input L, the loss")
    place = np.where(of_law, np.cumsum(of_law) - 1, -1)
    return TwoStep(first, second, both, place[of_link], options)


def _renamed(runs: Runs, **columns: str) -> Runs:
    return dataclasses.replace(runs, columns={**runs.columns, **columns})
