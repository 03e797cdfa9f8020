"""Forecasts with everything that is known about their error: law, noise, evaluation, other laws, and the back-test.

    chosen = choose_law(runs, "best", cluster="trunk")
    boot = calibrate(chosen)
    boot.predict(N=1e7, D=1e9), boot.parts(N=1e7, D=1e9)

A `Calibrated` stands in the place of a `Bootstrap` wherever a forecast is made.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit, input_logs
from scaling.laws.intervals.uncertainty import Bootstrap, bootstrap, percentiles
from scaling.laws.scores.choose import Selection

HALF = (0.158655, 0.841345)  # quantiles of a normal variable one standard deviation from its middle


@dataclass(frozen=True, eq=False)
class Stacked(Fit):
    """The fit of the leading law of a selection, whose predictions are the mean or the median of several laws."""
    selection: Selection | None = None

    def predict(self, *inputs, **named):
        logs, shape = input_logs(self.form, inputs, named)
        value = self._together(lambda one: one.form.predict(one.vector[None], _inputs(one, self, logs))[0]).reshape(shape)
        return float(value) if shape == () else value

    @property
    def predicted(self) -> np.ndarray:
        return self._together(lambda one: one.predicted)

    def _together(self, of: Callable[[Fit], np.ndarray]) -> np.ndarray:
        """What the laws that have a weight say together, in logarithms where all are positive."""
        values = {name: of(self.selection.fits[name]) for name in self.selection.weights}
        if all((each > 0).all() for each in values.values()):
            return np.exp(self.selection.together({name: np.log(each) for name, each in values.items()}))
        return self.selection.together(values)


def _inputs(one: Fit, of: Fit, logs: np.ndarray) -> np.ndarray:
    """The rows of logs, inputs of the law `of`, that the law `one` takes."""
    return logs[[of.form.inputs.index(name) for name in one.form.inputs]]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The predictive distribution of a run, in place of the Bootstrap of its law.

    boots {law: Bootstrap} of the laws that make the prediction. seed_noise: the variance that a run of one seed has beyond
    the noise of the fitted points, which may be means over seeds. evaluation: the standard deviation that the target's
    result has because it is evaluated on other examples than the fitted runs. Both are in the space of the residuals.
    """
    fit: Fit
    boots: dict[str, Bootstrap]
    selection: Selection
    seed_noise: float = 0.0
    evaluation: float = 0.0
    seed: int = 0
    notes: tuple[Diagnostic, ...] = field(default=())

    @property
    def leading(self) -> Bootstrap:
        return self.boots[self.selection.law]

    @property
    def diagnostics(self) -> list[Diagnostic]:
        return [*self.leading.diagnostics, *self.notes]

    def samples(self, *inputs, noise: bool = False, **named) -> np.ndarray:
        """Draws at the form's inputs, [draws, *broadcast shape]: of a new run's result, or of the law alone without noise.

        Of a new run they contain all parts and the factor. Points of one curve move together.
        """
        logs, shape = input_logs(self.fit.form, inputs, named)
        log, centre, drawn = self._drawn(logs)
        moved = drawn["parameters"]
        if noise:
            moved = self.selection.factor * sum(drawn.values())
        values = centre + moved
        return (np.exp(values) if log else values).reshape(len(values), *shape)

    def predict(self, *inputs, level: float = 0.9, noise: bool = True, **named):
        """(low, high) of the loss at the form's inputs, for one new run, or for the law itself if noise is False."""
        return percentiles(self.samples(*inputs, noise=noise, **named), level)

    def parts(self, **at) -> dict:
        """How large each part of the interval at one point is, as standard deviations in the space of the residuals.

        parameters: of the fitted law; noise: of one run; evaluation; forms: the spread of the laws that the fitted
        runs do not refute. total is of their sum, times factor. predicted {law: value} has every law that was fitted.
        """
        logs, _ = input_logs(self.fit.form, (), at)
        log, _, drawn = self._drawn(logs)
        size = {name: float(np.ptp(np.quantile(values[:, 0], HALF))) / 2 for name, values in drawn.items()
                if name != "forms"}
        size["forms"] = float(np.sqrt((drawn["forms"][:, 0] ** 2).mean()))
        total = self.selection.factor * float(np.ptp(np.quantile(sum(drawn.values())[:, 0], HALF))) / 2
        return {"space": "log" if log else "linear", **size, "factor": self.selection.factor, "total": total,
                "predicted": {name: float(self._at(one, logs)[0]) for name, one in self.selection.fits.items()}}

    def _at(self, one: Fit, logs: np.ndarray) -> np.ndarray:
        return one.form.predict(one.vector[None], _inputs(one, self.fit, logs))[0]

    def _drawn(self, logs: np.ndarray) -> tuple[bool, np.ndarray, dict[str, np.ndarray]]:
        """(whether in logarithms, centre [m], {part: its draws [draws, m or 1]}) at logs of the inputs."""
        chosen = self.selection
        draws = min(len(boot.draws) for boot in self.boots.values())
        rng = np.random.default_rng([self.seed, 3])
        ends = {name: self._at(one, logs) for name, one in chosen.fits.items() if name in chosen.weights | chosen.spread}
        refits = {name: boot.fit.form.predict(boot.draws.to_numpy()[:draws], _inputs(boot.fit, self.fit, logs))
                  for name, boot in self.boots.items()}
        log = self.fit.spec.space != "linear" and all((values > 0).all() for values in [*ends.values(), *refits.values()])
        if log:
            ends, refits = ({name: np.log(values) for name, values in each.items()} for each in (ends, refits))
        centre = chosen.together(ends)
        names, shares = list(chosen.weights), np.array(list(chosen.weights.values()))
        which = rng.choice(len(names), draws, p=shares / shares.sum())
        moved = (chosen.together(refits) - centre if chosen.rule == "median" else
                 np.stack([refits[name] - ends[name] for name in names])[which, np.arange(draws)])
        noise = np.stack([self.boots[name].noise[:draws] for name in names])[which, np.arange(draws)]
        noise = np.sqrt(noise ** 2 + self.seed_noise) * rng.standard_normal(draws)
        others, shares = list(chosen.spread), np.array(list(chosen.spread.values()))
        other = rng.choice(len(others), draws, p=shares / shares.sum())
        apart = np.stack([ends[name] - centre for name in others])[other] * rng.choice([-1.0, 1.0], draws)[:, None]
        evaluation = self.evaluation * rng.standard_normal(draws)
        return log, centre, {"parameters": moved, "noise": noise[:, None], "evaluation": evaluation[:, None],
                             "forms": apart}

    def to_json(self, level: float = 0.9) -> dict:
        """The bootstrap of the leading law, and what was added to it."""
        return self.leading.to_json(level) | {"calibrated": {
            "factor": self.selection.factor, "seed_noise": self.seed_noise, "evaluation": self.evaluation}}


def calibrate(chosen: Selection, draws: int = 1000, cluster: str | None = None, correlation: float = 0.5, seed: int = 0,
              seed_noise: float = 0.0, evaluation: float = 0.0) -> Calibrated:
    """The predictive distribution of a selection. Other arguments are those of `bootstrap`, and fields of `Calibrated`."""
    method = {"cluster": cluster, "method": "noise", "correlation": correlation} if cluster else {}
    boots = {name: bootstrap(chosen.fits[name], draws, seed=seed, **method) for name in chosen.weights}
    fit = chosen.fit
    if len(chosen.weights) > 1:
        plain = {each.name: getattr(fit, each.name) for each in dataclasses.fields(Fit)}
        fit = Stacked(**plain, selection=chosen)
    notes = [] if chosen.comparison is not None else [Diagnostic(
        "No runs could be held out, so the interval is not calibrated on any.", "not-calibrated")]
    return Calibrated(fit, boots, chosen, seed_noise, evaluation, seed, tuple(notes))


def describe_parts(parts: Mapping) -> str:
    """The parts of an interval as one line of text."""
    def shown(name: str) -> str:
        return f"{parts[name]:.2%}" if parts["space"] == "log" else f"{parts[name]:.3g}"
    said = ", ".join(f"{words} {shown(name)}" for name, words in (
        ("parameters", "parameters"), ("noise", "noise of a run"), ("evaluation", "evaluation"),
        ("forms", "spread of the laws")))
    return f"standard deviations: {said}; together {shown('total')}" + (
        f", widened {parts['factor']:.3g} times by the back-test" if parts["factor"] > 1 else "")
