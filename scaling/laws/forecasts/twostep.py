"""A downstream metric in two steps: a law predicts the loss, and a link predicts the metric at that loss.

Gadre et al. 2024 (arXiv:2403.08540), sections 2 and 4: the loss from N and D, then top-1 error =
epsilon - k exp(-gamma loss). Intervals hold the uncertainty of both steps: every draw of the law goes through
a draw of the link, and runs that both were fitted to are resampled together (see `twostep_draws`).

    two = two_step("runs.csv", "chinchilla", "downstream", metric="error")
    two.bootstrap().predict(N=1e9, D=2e10)
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit
from scaling.laws.fitting.objectives import Objective
from scaling.laws.fitting.search import fit, fit_again
from scaling.laws.forecasts.twostep_draws import Steps, TwoStepBootstrap, resample_steps
from scaling.laws.forms.catalogue import get_form
from scaling.laws.forms.form import Form, LawError
from scaling.laws.runs import as_runs


@dataclass(frozen=True, eq=False)
class TwoStep(Steps):
    """A law of the loss L and a link from L to the metric (see `Steps`). It predicts the metric as a Fit does."""

    @property
    def form(self) -> Form:
        """The law's form, named after both steps."""
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
        """The law's form fitted to the metric itself in one step, with the objective of the link."""
        rows = self.link.runs.select(self.shared >= 0, "no inputs of the law")
        return fit_again(self.link, rows, law=self.law.settings["law"], fix={}, bounds={},
                         tie=self.law.settings["tie"])

    def bootstrap(self, draws: int = 1000, method: str = "auto", cluster: str | None = None,
                  seed: int = 0) -> TwoStepBootstrap:
        """Refit both steps to `draws` resamples. Methods are those of `laws.bootstrap`; see `twostep_draws`."""
        return resample_steps(self, draws, method, cluster, seed)


def two_step(runs, law: str | Form = "chinchilla", link: str | Form = "downstream", *, metric: str,
             law_options: Mapping | None = None, link_options: Mapping | None = None) -> TwoStep:
    """Fit a law to the loss of runs, and a link from their loss to a metric.

    runs: Runs, the path of a table, or a DataFrame; y is the loss. metric: the column of an error, which falls
    as the loss does. A run takes part in each step for which it has all the numbers: the metric may be empty
    where it was not measured, and N where a run serves the link only. link: a form in L, such as "downstream"
    or "sigmoid". law_options, link_options: arguments of `fit`. Links are fitted by least squares by default.

    Raises LawError where either step cannot be fitted.
    """
    runs = as_runs(runs)
    if metric not in runs.frame:
        there = ", ".join(map(str, runs.frame))
        raise LawError(f"no column {metric!r} for the metric; the columns are {there}")
    measured = np.isfinite(runs.y)
    of_law = measured & np.isfinite([runs.values(name) for name in get_form(law).inputs]).all(0)
    both = dataclasses.replace(runs, columns={**runs.columns, "y": metric, "L": runs.columns["y"]})
    of_link = measured & np.isfinite(both.y)
    for mask, step in ((of_law, "the law's inputs and the loss"), (of_link, f"the loss and {metric}")):
        if not mask.any():
            raise LawError(f"no run has {step}: two steps need runs for the law and runs for the link")
    first = fit(runs.select(of_law, "no loss, or not all inputs"), law, **(law_options or {}))
    second = fit(both.select(of_link, f"no loss, or no {metric}"), link, **{"loss": "mse", **(link_options or {})})
    if second.form.inputs != ("L",):
        raise LawError(f"{second.form.name} is no link: a link has the one input L, the loss")
    place = np.where(of_law, np.cumsum(of_law) - 1, -1)
    return TwoStep(first, second, both, place[of_link])
