"""Warnings about a fit, in words: what its data cannot show.

Every fit runs `diagnose`, which is cheap. `examine` adds a profile of every parameter. `locate` tells whether
published values are an optimum of these data, and `extrapolation` how far a prediction reaches beyond them.
Tests of the residuals are in `structure`.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.checks.sensitivity import condition_number, is_at_bound, relative_errors, relative_spread
from scaling.laws.checks.structure import lack_of_fit, residual_structure
from scaling.laws.fitting.fit import Fit, input_logs
from scaling.laws.fitting.optimise import Scale
from scaling.laws.forms.form import LawError

NOTHING = 1e-6         # of the loss: a term that is nowhere larger is absent
LEVELS_APART = 0.01    # inputs closer than 1% are one level
CONFOUNDED = 0.95      # |correlation| of two inputs' logarithms
ILL_CONDITIONED = 1e3  # condition number of the Jacobian with unit columns: effects agree to three digits
UNSURE = 0.5           # relative standard error from which a parameter is hardly known
APART = 0.1            # optima differ when a nonlinear parameter differs by more than this share of itself
FAR = 6.0              # noise standard deviations from which a run is an outlier
WEAK = 4.0             # an interval whose ends differ by more than this factor says little
ROUNDING = 0.5         # of the objective a degree of freedom: how much values rounded in print may lose


def diagnose(fit: Fit) -> list[Diagnostic]:
    """Warnings about a fit, one sentence each. The list is empty if there is nothing to warn of."""
    if not (counted := fit.weights > 0).all():  # runs of weight zero are no evidence
        fit = replace(fit, runs=fit.runs.select(counted, "weight 0"), weights=fit.weights[counted])
    checks = (_not_converged, _vanishing, _at_bound, _few_levels, _confounded, _duplicates, _degrees_of_freedom,
              _rival_optima, _ill_conditioned, _undetermined, _outliers, residual_structure, lack_of_fit)
    return [said for check in checks for said in check(fit)]


# ------------------------------------------------------------------------------------------------- the data

def level_of(logs: np.ndarray) -> np.ndarray:
    """The level of each run, [n], counted from 0 at the lowest, for the logarithms of an input [n].

    Sorted values that are closer than 1% to the one before share its level.
    """
    order = np.argsort(logs, kind="stable")
    index = np.zeros(len(logs), int)
    index[order[1:]] = np.cumsum(np.diff(logs[order]) > LEVELS_APART)
    return index


def count_levels(logs: np.ndarray) -> int:
    """The number of distinct levels of an input, for its logarithms [n]."""
    return int(level_of(logs).max()) + 1


def _few_levels(fit: Fit) -> Iterator[Diagnostic]:
    for name, values in zip(fit.form.inputs, fit.logs):
        if name not in fit.form.constant and (count := count_levels(values)) < 4:
            yield Diagnostic(f"{name} has {count} distinct levels: a constant and a power of {name} need at "
                             "least 3, and 4 to show misfit.", "few-levels", name)


def _confounded(fit: Fit) -> Iterator[Diagnostic]:
    varied = [(name, values) for name, values in zip(fit.form.inputs, fit.logs) if count_levels(values) > 1]
    for i, (first, one) in enumerate(varied):
        for second, other in varied[i + 1:]:
            if abs(r := np.corrcoef(one, other)[0, 1]) > CONFOUNDED:
                yield Diagnostic(
                    f"{first} and {second} are confounded (correlation of logarithms {r:.3f}): their terms "
                    "cannot be told apart; vary one at a fixed value of the other.",
                    "confounded", (first, second))


def _duplicates(fit: Fit) -> Iterator[Diagnostic]:
    """A warning of rows that are equal in every input and in the loss: two trainings never agree to the last bit."""
    table = pd.DataFrame(np.vstack([fit.logs, fit.y]).T)
    again = np.flatnonzero(table.duplicated())
    if again.size:
        first = np.flatnonzero((table == table.iloc[again[0]]).all(axis=1))[0]
        row, original = fit.runs.rows[again[0]], fit.runs.rows[first]
        yield Diagnostic(f"{again.size} of {len(table)} rows repeat another in every input and in the "
                         f"measurement (row {row} is row {original}): a run that counts twice makes "
                         "intervals too narrow.", "duplicates")


def _degrees_of_freedom(fit: Fit) -> Iterator[Diagnostic]:
    spare, free = fit.degrees_of_freedom, len(fit.form.free)
    if spare < max(free, 5):
        what = ("the noise is hardly known, and intervals rest on very little" if spare > 0 else
                "the law passes through any such points, so nothing is known about its error")
        yield Diagnostic(f"{spare} {'degree' if spare == 1 else 'degrees'} of freedom ({len(fit.y)} points, "
                         f"{free} parameters): {what}.", "degrees-of-freedom")


# ------------------------------------------------------------------------------------------- the parameters

def _not_converged(fit: Fit) -> Iterator[Diagnostic]:
    if not fit.search.get("best_converged", True):
        advice = "; a larger delta makes the search easier" if fit.spec.kind == "huber" else ""
        yield Diagnostic("The search for the best parameters did not converge: a better fit may exist, with other "
                         f"parameters{advice}.", "not-converged", fit.form.free)


def _vanishing(fit: Fit) -> Iterator[Diagnostic]:
    count = len(fit.form.amplitudes)
    features = fit.form.features(fit.vector[None, count:], fit.logs)[0]
    for amplitude, value, feature in zip(fit.form.amplitudes, fit.vector, features):
        if amplitude.name in fit.form.free and (np.abs(value * feature) <= NOTHING * np.abs(fit.predicted)).all():
            where = "at its bound 0" if fit.params[amplitude.name] == 0 else "practically 0"
            exponent = ", nor an exponent that only this term has" if np.ptp(feature) > 0 else ""
            yield Diagnostic(f"{amplitude.name} is {where}: the data do not show this term{exponent}.", "vanishes",
                             amplitude.name)


def _at_bound(fit: Fit) -> Iterator[Diagnostic]:
    for name in fit.form.free:
        p, value = fit.form.parameter(name), fit.params[name]
        absent = p in fit.form.amplitudes and value == 0  # `_vanishing` warns of these
        if is_at_bound(p, value) and not absent:
            yield Diagnostic(f"{name} = {value:.4g} is at a bound of [{p.low:.4g}, {p.high:.4g}]: not "
                             "identified by these data.", "at-bound", name)


def _ill_conditioned(fit: Fit) -> Iterator[Diagnostic]:
    if (condition := condition_number(fit.form, fit.vector, fit.logs)) > ILL_CONDITIONED:
        yield Diagnostic(f"The parameters are poorly determined together (condition number {condition:.2g}): "
                         "predictions inside the data may be good, single parameters and far extrapolation "
                         "are not.", "ill-conditioned", fit.form.free)


def _undetermined(fit: Fit) -> Iterator[Diagnostic]:
    """A warning of amplitudes and positive nonlinear parameters that have zero within two standard errors."""
    unsure = {name: ratio for name, ratio in relative_errors(fit).items() if ratio > UNSURE and (
        (p := fit.form.parameter(name)) in fit.form.amplitudes or p.low >= 0)}
    if unsure:
        values = ", ".join(f"{name} = {fit.params[name]:.3g} (standard error {ratio:.0%} of it)"
                           for name, ratio in unsure.items())
        yield Diagnostic(f"Zero lies within two standard errors, by the curvature of the fit, of {values}.", "undetermined",
                         unsure)


def _differ(fit: Fit, one: Mapping, other: Mapping) -> list[str]:
    """The free nonlinear parameters in which two optima differ."""
    return [p.name for p in fit.form.nonlinear if p.name in fit.form.free
            and abs(one[p.name] - other[p.name]) > APART * max(abs(one[p.name]), abs(other[p.name]))]


def _unit(fit: Fit) -> float:
    """The objective per degree of freedom. Differences below 3 times this are within noise (an F-like ratio)."""
    return fit.objective / max(fit.degrees_of_freedom, 1)


def _rival_optima(fit: Fit) -> Iterator[Diagnostic]:
    best = fit.optima.iloc[0]
    near = fit.optima[fit.optima["objective"] - best["objective"] < 3 * _unit(fit)].iloc[1:]
    rivals = [(row, names) for _, row in near.iterrows() if (names := _differ(fit, row, best))]
    if rivals:
        row, names = rivals[0]
        values = ", ".join(f"{name} = {row[name]:.3g} instead of {best[name]:.3g}" for name in names)
        found = "1 other optimum found is" if len(rivals) == 1 else f"{len(rivals)} other optima found are"
        yield Diagnostic(f"{found} as good within noise (the nearest has {values}, objective "
                         f"{row['objective']:.6g} against {best['objective']:.6g}): the parameters are not "
                         "identified by these data.", "rival-optima", names)


def _outliers(fit: Fit) -> Iterator[Diagnostic]:
    size = np.abs(fit.residuals)
    if fit.noise > 1e-12 and (count := int((size > FAR * fit.noise).sum())):
        worst = int(np.argmax(size))
        residual = f"{fit.residuals[worst]:{'+.3g' if fit.spec.space == 'linear' else '+.2%'}}"
        yield Diagnostic(f"{count} of {len(size)} points lie more than {FAR:.0f} noise standard deviations "
                         f"off; the farthest is row {fit.runs.rows[worst]} (residual {residual}).",
                         "outliers")


# ---------------------------------------------------------------------------------- questions a user may ask

def locate(fit: Fit, values: Mapping[str, float]) -> Diagnostic:
    """Tells whether given (published) parameter values are an optimum of this fit's data and objective.

    It descends from them. Codes: "global-optimum": they are the best optimum found, to rounding; "local-optimum": they
    are an optimum, but not the best; "no-optimum": the objective falls from there. Raises LawError unless every free
    parameter is given.
    """
    form = fit.form
    if missing := [name for name in form.free if name not in values]:
        raise LawError(f"locate needs a value of {', '.join(missing)} too: every free parameter of "
                       f"{form.name}")
    if unknown := [name for name in values if name not in form.names]:
        raise LawError(f"{form.name} has no parameter {unknown[0]!r}; it has {', '.join(form.names)}")
    given = {**fit.params, **{name: float(values[name]) for name in form.free}}
    given |= {name: given[other] for name, other in form.tied.items()}
    vector = np.clip([given[name] for name in form.names], form.low, form.high)
    predicted = form.predict(vector[None], fit.logs)[0]
    before = float(fit.spec.value(fit.spec.residuals(fit.y, predicted), fit.weights))
    scale = Scale(form, fit.logs, fit.y, fit.spec)
    found = scale.minimise(scale.enter(vector[None]), fit.y, fit.weights)
    end = dict(zip(form.names, scale.restore(found.vectors)[0]))
    after, unit = float(found.objective[0]) * scale.factor, _unit(fit)
    best, least = (fit.params, fit.objective) if fit.objective <= after else (end, after)

    def text(params):
        return ", ".join(f"{name} = {params[name]:.4g}" for name in form.free)

    if before - after > ROUNDING * unit or _differ(fit, given, end):
        further = f", and the best found is {least:.6g}" if after > least + ROUNDING * unit else ""
        return Diagnostic(f"{text(given)} is no optimum of these data: from there the objective falls from "
                          f"{before:.6g} to {after:.6g} at {text(end)}{further}.", "no-optimum", form.free)
    if not _differ(fit, end, best):
        return Diagnostic(f"{text(given)} is the best optimum found (objective {after:.6g}).",
                          "global-optimum", form.free)
    how = "within noise" if after - least < 3 * unit else "beyond noise"
    return Diagnostic(f"{text(given)} is only a local optimum: its objective is {after:.8g}, but "
                      f"{text(best)} has {least:.8g} (better {how}).", "local-optimum", form.free)


def extrapolation(fit: Fit, **inputs: float) -> Diagnostic | None:
    """A warning if a prediction reaches beyond the runs that were fitted, or None.

    It does if an input lies outside its range, or if the law's standard error (by the Jacobian) is more than 1.5 times
    its largest at a fitted run. The latter means that no run was near this combination of inputs.
    """
    at = input_logs(fit.form, (), inputs)[0][:, :1]
    beyond = []
    for name, value, values in zip(fit.form.inputs, at[:, 0], fit.logs):
        for gap, word in ((value - values.max(), "largest"), (values.min() - value, "smallest")):
            if gap > LEVELS_APART:
                end = np.exp(values.max() if word == "largest" else values.min())
                beyond.append(f"{name} = {np.exp(value):.3g} is a factor {np.exp(gap):.3g} past the {word} "
                              f"fitted, {end:.3g}")
    ratio = float(relative_spread(fit, at)[0])
    if not beyond and ratio <= 1.5:
        return None
    where = "; ".join(beyond) if beyond else "no fitted run is near this combination of inputs"
    error = (f"The law's standard error there is {ratio:.2g} times its largest at a fitted run, if the form still holds."
             if ratio == ratio else "The law's standard error there is not known, since it predicts 0 at a run.")
    return Diagnostic(f"{where}. {error}", "extrapolation", fit.form.inputs)
