"""A downstream metric through the loss: a law says what the loss will be, a link the metric at that loss.

Gadre et al. 2024 (arXiv:2403.08540), sections 2 and 4: the loss from N and D, then top-1 error =
epsilon - k exp(-gamma loss). The interval needs both steps: every draw of the law goes through a draw of the
link, and runs that both were fitted to are resampled together (`twostep_draws`).

    two = two_step("runs.csv", "overtraining", "downstream", metric="error")
    two.bootstrap().predict(C=1e21, M=20)
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit
from scaling.laws.fitting.objectives import Objective
from scaling.laws.fitting.search import fit, fit_again
from scaling.laws.forecasts.twostep_draws import TwoStepBootstrap, resampled
from scaling.laws.forms.catalogue import get_form
from scaling.laws.forms.form import Form, LawError
from scaling.laws.intervals.uncertainty import bootstrap
from scaling.laws.runs import Runs, as_runs


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
        return {"law": self.law.to_json(), "link": self.link.to_json(),
                "shared_runs": int((self.shared >= 0).sum())}

    def predict(self, *inputs, **named):
        """The metric at the law's inputs, which broadcast; a float for scalars."""
        return self.link.predict(self.law.predict(*inputs, **named))

    def direct(self) -> Fit:
        """The one-step rival: the law's form fitted to the metric itself, as the link was fitted."""
        rows = self.link.runs.select(self.shared >= 0, "no inputs of the law")
        return fit_again(self.link, rows, law=self.law.settings["law"], fix={}, bounds={},
                               tie=self.law.settings["tie"])

    def bootstrap(self, draws: int = 1000, method: str = "auto", cluster: str | None = None,
                  seed: int = 0) -> TwoStepBootstrap:
        """Refit both steps to `draws` resamples; methods as in `laws.bootstrap`, see `twostep_draws`."""
        return resampled(self, draws, method, cluster, seed)

    def against_direct(self, cut: float, draws: int = 300, level: float = 0.9, seed: int = 0) -> pd.DataFrame:
        """Both ways to predict the metric, fitted to runs of fewer than `cut` FLOPs, scored on the others.

        One row each ("two-step", "direct"): n_fit, n_test, mean absolute error, bias (predicted minus
        observed) and coverage, the share of held-out runs inside their prediction intervals. The direct fit
        knows only runs that have the metric, two steps also those that have only the loss.
        """
        large = self.runs.flops >= cut
        losses = _renamed(self.runs, y=self.runs.columns["L"])
        below = two_step(losses.select(~large, f"at least {cut:g} FLOPs"), **self.settings)
        test = self.runs.select(large & np.isfinite(self.runs.y), "not scored")
        if not len(test):
            raise LawError(f"no run of at least {cut:g} FLOPs has {self.runs.columns['y']!r}; lower the cut")
        direct, rows = below.direct(), {}
        at = dict(zip(self.law.form.inputs, np.exp(test.inputs(self.law.form))))
        for name, law, boot in (("two-step", below, below.bootstrap(draws, seed=seed)),
                                ("direct", direct, bootstrap(direct, draws, seed=seed))):
            error, (low, high) = law.predict(**at) - test.y, boot.predict(**at, level=level)
            rows[name] = {"n_fit": len(law.y), "n_test": len(test), "error": np.abs(error).mean(),
                          "bias": error.mean(), "coverage": ((low <= test.y) & (test.y <= high)).mean()}
        return pd.DataFrame.from_dict(rows, orient="index")


def two_step(runs, law: str | Form = "chinchilla", link: str | Form = "downstream", *, metric: str,
             law_options: Mapping | None = None, link_options: Mapping | None = None) -> TwoStep:
    """Fit a law to the loss of runs, and a link from their loss to a metric.

    runs: Runs, a table's path or a DataFrame; y is the loss. metric: the column of an error, which falls as
    the loss does. A run takes part in each step that it has all the numbers for, so the metric may be empty
    where it was not measured, and N where a run is only there for the link. link: a form in L, such as
    "downstream" or "sigmoid". law_options, link_options: arguments of `fit`; links are fitted by least
    squares unless told otherwise.

    Raises LawError where either step cannot be fitted.
    """
    runs = as_runs(runs)
    if metric not in runs.frame:
        there = ", ".join(map(str, runs.frame))
        raise LawError(f"no column {metric!r} for the metric; the columns are {there}")
    options = {"law": law, "link": link, "metric": metric, "law_options": dict(law_options or {}),
               "link_options": dict(link_options or {})}
    measured = np.isfinite(runs.y)
    of_law = measured & np.isfinite([runs.values(name) for name in get_form(law).inputs]).all(0)
    both = _renamed(runs, y=metric, L=runs.columns["y"])
    of_link = measured & np.isfinite(both.y)
    for mask, step in ((of_law, "the law's inputs and the loss"), (of_link, f"the loss and {metric}")):
        if not mask.any():
            raise LawError(f"no run has {step}: two steps need runs for the law and runs for the link")
    first = fit(runs.select(of_law, "no loss, or not all inputs"), law, **options["law_options"])
    second = fit(both.select(of_link, f"no loss, or no {metric}"), link,
                         **({"loss": "mse"} | options["link_options"]))
    if second.form.inputs != ("L",):
        raise LawError(f"{second.form.name} is no link: a link has the one input L, the loss")
    place = np.where(of_law, np.cumsum(of_law) - 1, -1)
    return TwoStep(first, second, both, place[of_link], options)


def _renamed(runs: Runs, **columns: str) -> Runs:
    return dataclasses.replace(runs, columns={**runs.columns, **columns})
