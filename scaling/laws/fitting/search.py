"""Fitting a law: starts by variable projection over the nonlinear parameters, then Newton to convergence.

    law = fit(Runs.from_csv("points.csv"), "chinchilla")

The default objective is the sum over runs of Huber(log observed - log predicted) with delta = 1e-3 (Hoffmann et al.
2022, appendix D.3).
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnose import diagnose
from scaling.laws.fitting.fit import EFFICIENT, Fit, noise_scale
from scaling.laws.fitting.objectives import Objective, parse_objective
from scaling.laws.fitting.optimise import optimise
from scaling.laws.forms.catalogue import get_form
from scaling.laws.forms.form import Form, LawError
from scaling.laws.runs import Runs, as_runs, with_column

NEAR = 3  # optima of each fit that another one starts from


def fit(runs, law: str | Form = "chinchilla", *, loss: str | Objective = "huber_log", delta: float | str = 1e-3,
        quantile: float = 0.5, weights=None, fix: Mapping[str, float] | None = None,
        tie: Mapping[str, str] | None = None, bounds: Mapping[str, tuple[float, float]] | None = None,
        starts: int | None = None, seed: int | None = None, near: Sequence[Fit] = (), quick: bool = False) -> Fit:
    """Fit a law to runs: Runs, a DataFrame, or the path of a table.

    law: a name in `laws.FORMS` or a Form. loss: the name of an objective (objectives.NAMES). delta: Huber's, in the unit
    of the residuals, or "noise" for 1.345 standard deviations of the residuals. quantile: below 0.5 for a lower envelope.
    weights: one a run, or the column that holds them (seeds); a weight of two counts a run twice. fix={"alpha": 0.34},
    tie={"beta": "alpha"} and bounds={"alpha": (0.1, 1)} restrict parameters. starts: how many. seed: starts are random
    instead of searched. near: fits of the same law to other runs, from whose optima this one starts; without a search it is
    many times faster, and as good as the optima are. quick: ends before the last digits of parameters are sure, which
    predictions hardly feel, and without diagnostics. Raises LawError, in one sentence, if no fit is possible.
    """
    runs = as_runs(runs)
    settings = {"law": law, "loss": loss, "delta": delta, "quantile": quantile, "weights": weights, "fix": dict(fix or {}),
                "tie": dict(tie or {}), "bounds": dict(bounds or {}), "starts": starts, "seed": seed}
    spec, measured = parse_objective(loss, delta, quantile)
    form = get_form(law).bounded(bounds or {}).with_fixed(fix or {}).with_tied(tie or {})
    if not form.free:
        raise LawError(f"every parameter of {form.name} is fixed; leave at least one to be fitted")
    logs, y = runs.inputs(form), runs.y
    y = runs.positive("y") if spec.space == "log" else y
    if not np.isfinite(spec.transform(y)).all():
        what, low = ("not above -1", "-1") if spec.space == "log1p" else ("not finite", "-inf")
        keep = runs.usable("y", positive=False).replace("-inf", low)
        raise LawError(f"column {runs.columns['y']!r} has values that are {what}; drop those rows, where='{keep}'")
    if len(runs) < len(form.free):
        raise LawError(f"{len(runs)} points cannot determine {len(form.free)} parameters; add runs or choose a form with "
                       "fewer")
    for name, values in zip(form.inputs, logs):
        if name not in form.constant and np.ptp(values) < 1e-9:
            raise LawError(f"column {runs.columns.get(name, name)!r} has a single value, {np.exp(values[0]):g}: a law in "
                           f"{name} needs several levels of it")
    weights = _weights(runs, weights)
    form = form.placed(logs)

    optima = [other.optima[list(form.names)].head(NEAR).to_numpy(float) for other in near]
    at = np.concatenate(optima) if optima else None
    if measured and near:
        spec = near[0].spec
    for _ in range((1 if near else 3) if measured else 0):
        vectors, _, _ = optimise(form, logs, y, weights, spec, starts, seed, at, quick)
        at = vectors[:NEAR] if at is None and quick else at
        residuals = spec.residuals(y, form.predict(vectors[:1], logs)[0])
        spec = spec.with_delta(max(EFFICIENT * noise_scale(residuals, len(form.free)), 1e-9))
    vectors, objective, search = optimise(form, logs, y, weights, spec, starts, seed, at, quick)
    residuals = spec.residuals(y, form.predict(vectors[:1], logs)[0])
    form = form.opened(logs)
    result = Fit(
        form=form, params=dict(zip(form.names, map(float, vectors[0]))), objective=float(objective[0]), spec=spec,
        runs=runs, weights=weights, noise=noise_scale(residuals, len(form.free)),
        optima=pd.DataFrame(vectors, columns=list(form.names)).assign(objective=objective), settings=settings,
        search=search)
    result.diagnostics.extend([] if quick else diagnose(result))
    return result


def fit_again(law: Fit, runs, /, **changes) -> Fit:
    """The same kind of fit to other runs. A delta that follows the noise is measured again."""
    return fit(runs, **{**law.settings, **changes})


def _weights(runs: Runs, weights) -> np.ndarray:
    if isinstance(weights, str):
        frame, name = with_column(runs.frame, weights, "of weights")
        weights = dataclasses.replace(runs, frame=frame, columns={"weights": name}).values("weights")
    values = np.ones(len(runs)) if weights is None else np.asarray(weights, float)
    if values.shape != (len(runs),) or not np.isfinite(values).all() or not np.all(values >= 0) or not values.any():
        raise LawError(f"weights must be {len(runs)} finite nonnegative numbers, one a run, and not all zero")
    return values
