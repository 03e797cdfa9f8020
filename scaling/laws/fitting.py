"""Fitting a law: starts by variable projection over a grid of exponents, then Newton to convergence.

Default objective: the sum over runs of Huber(log predicted - log observed) with delta = 1e-3 (Hoffmann et al.
2022, appendix D.3). The sum, not the mean: with a mean, quasi-Newton codes stop early (Besiroglu et al. 2024,
arXiv:2404.10102).
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling.laws import diagnose, newton
from scaling.laws.forms import Form, LawError, get
from scaling.laws.projection import grid_starts

STARTS = 16          # Newton starts a fit: local minima of the grid, and its best points
EFFICIENT = 1.345    # Huber's delta, in noise standard deviations, that is 95% efficient under normal noise


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law. Parameters are in the units of the data; residuals are log(observed / predicted)."""
    form: Form
    params: dict[str, float]
    objective: float
    delta: float                      # of the Huber loss, in the residual's own unit
    space: str                        # residuals minimised: "log" or "linear"
    columns: dict[str, str]           # role -> column: the form's inputs, and "loss"
    points: pd.DataFrame              # what was fitted, as given
    weights: np.ndarray
    noise: float                      # robust standard deviation of log residuals, see noise_scale
    optima: pd.DataFrame              # distinct local optima found, best first: parameters and objective
    diagnostics: list[str] = field(default_factory=list)

    @property
    def vector(self) -> np.ndarray:
        """Parameters in the order of form.names."""
        return np.array([self.params[name] for name in self.form.names])

    @property
    def logs(self) -> np.ndarray:
        """Natural logarithms of the inputs, [inputs, points]."""
        columns = [self.columns[name] for name in self.form.inputs]
        return np.log(self.points[columns].to_numpy(float).T)

    @property
    def loss(self) -> np.ndarray:
        return self.points[self.columns["loss"]].to_numpy(float)

    @property
    def residuals(self) -> np.ndarray:
        return np.log(self.loss / self.form.predict(self.vector[None], self.logs)[0])

    @property
    def degrees_of_freedom(self) -> int:
        return len(self.points) - len(self.form.names)

    def predict(self, *inputs, **named):
        """Predicted loss at the form's inputs (Chinchilla: N, D), which broadcast; a float for scalars."""
        logs, shape = input_logs(self.form, inputs, named)
        value = self.form.predict(self.vector[None], logs)[0].reshape(shape)
        return float(value) if shape == () else value

    def to_json(self) -> dict:
        """Everything but the points, as plain JSON values."""
        return {
            "form": self.form.name, "formula": self.form.formula, "source": self.form.source,
            "params": {name: float(value) for name, value in self.params.items()},
            "objective": float(self.objective), "delta": float(self.delta), "space": self.space,
            "noise": float(self.noise), "columns": dict(self.columns),
            "bounds": {p.name: [p.low, p.high] for p in self.form.nonlinear},
            "optima": self.optima.to_dict("records"), "residuals": [float(r) for r in self.residuals],
            "diagnostics": list(self.diagnostics),
        }


def input_logs(form: Form, inputs: tuple, named: Mapping) -> tuple[np.ndarray, tuple[int, ...]]:
    """Inputs given by position or name -> (logs [I, n], broadcast shape)."""
    given = dict(zip(form.inputs, inputs)) | dict(named)
    once = len(inputs) <= len(form.inputs) and len(given) == len(inputs) + len(named)
    if not once or set(given) != set(form.inputs):
        raise LawError(f"{form.name} takes the inputs {', '.join(form.inputs)}, once each")
    arrays = np.broadcast_arrays(*(np.asarray(given[name], float) for name in form.inputs))
    if not all(np.all(np.isfinite(a) & (a > 0)) for a in arrays):
        raise LawError(f"the inputs {', '.join(form.inputs)} must be positive and finite")
    return np.log(np.stack([a.ravel() for a in arrays])), arrays[0].shape


def _frame(points, columns: Mapping[str, str], parameters: int) -> pd.DataFrame:
    """The points as a DataFrame with a fresh index, refused if they cannot be fitted."""
    frame = pd.DataFrame(points).reset_index(drop=True)
    for role, column in columns.items():
        if column not in frame.columns:
            there = ", ".join(map(str, frame.columns))
            raise LawError(f"no column {column!r} for {role}; the columns are {there}")
    if len(frame) < parameters:
        raise LawError(f"{len(frame)} points cannot determine {parameters} parameters; add runs or "
                       "choose a smaller form")
    for role, column in columns.items():
        try:
            values = frame[column].to_numpy(float)
        except (TypeError, ValueError):
            raise LawError(f"column {column!r} is not numeric") from None
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if bad.size:
            raise LawError(f"column {column!r} must be positive and finite to take its logarithm, but "
                           f"{bad.size} of {len(values)} values are not (first: {values[bad[0]]} in row "
                           f"{bad[0]}); drop those rows (diverged runs?) before fitting")
        if role != "loss" and np.ptp(np.log(values)) < 1e-9:
            raise LawError(f"column {column!r} has a single value, {values[0]:g}: a law in {role} needs "
                           "several levels of it")
    return frame


class Scale(NamedTuple):
    """Where the optimiser works: logarithms of inputs about 0 (if the form allows it) and losses about 1."""
    centre: np.ndarray    # [I], subtracted from logs
    unit: float           # of the loss: its geometric mean
    delta: float          # Huber's delta in that unit
    objective: float      # what the objective is to be multiplied by

    @classmethod
    def of(cls, form: Form, logs, loss, delta: float, space: str) -> Scale:
        centre = logs.mean(1) if form.scale_free else np.zeros(len(logs))
        unit = float(np.exp(np.log(loss).mean()))
        return cls(centre, unit, delta, 1.0) if space == "log" else cls(centre, unit, delta / unit, unit ** 2)

    def restore(self, form: Form, vectors: np.ndarray) -> np.ndarray:
        """Parameter vectors [batch, P] in the units of the data."""
        return form.rescale(vectors, self.centre) * self._units(form)

    def apply(self, form: Form, vectors: np.ndarray) -> np.ndarray:
        """The inverse of restore."""
        return form.rescale(vectors / self._units(form), -self.centre)

    def _units(self, form: Form) -> np.ndarray:
        return np.where(np.arange(len(form.names)) < len(form.amplitudes), self.unit, 1.0)


def optimise(form: Form, logs, loss, weights, delta: float, space: str, starts: int = STARTS):
    """Distinct local optima, best first: (vectors [m, P] in the units of logs, objective [m])."""
    scale = Scale.of(form, logs, loss, delta, space)
    logs, loss = logs - scale.centre[:, None], loss / scale.unit
    start = grid_starts(form, logs, loss, weights, scale.delta, space, starts)
    found = newton.minimise(form, start, logs, loss, weights, delta=scale.delta, space=space)
    if not np.isfinite(found.objective).any():
        raise LawError(f"no start of {form.name} reached a finite objective")
    kept: list[int] = []
    for i in np.argsort(found.objective, kind="stable"):
        nonlinear = found.vectors[:, len(form.amplitudes):]
        new = all(np.abs(nonlinear[i] - nonlinear[j]).max() > 1e-3 for j in kept)
        if new and np.isfinite(found.objective[i]):
            kept.append(i)
    return scale.restore(form, found.vectors[kept]), found.objective[kept] * scale.objective


def noise_scale(residuals: np.ndarray, parameters: int) -> float:
    """Standard deviation of the noise: the median of |residual|, leaving out as many as there are parameters.

    A fit with a small delta interpolates about as many points as it has parameters, so the smallest
    `parameters` residuals say nothing of the noise and are left out (Koenker 2005, section 3.4; McKean and
    Schrader 1987).
    """
    size = np.sort(np.abs(residuals))[min(parameters, len(residuals) - 1):]
    return float(np.median(size) / 0.6745)


def fit(points, form: str | Form = "chinchilla", params: str = "params_non_embedding",
        data: str = "tokens_seen", loss: str = "bits_per_byte", delta: float | str = 1e-3, space: str = "log",
        x: str = "flops", columns: Mapping[str, str] | None = None,
        bounds: Mapping[str, tuple[float, float]] | None = None, weights=None, starts: int = STARTS) -> Fit:
    """Fit a law to points (a DataFrame or a dict of arrays), one row a run.

    params, data and x name the columns of the inputs N, D and x; `columns` names those of any other input.
    delta is the Huber loss's, or "noise-scaled": 1.345 times the noise estimated from a first fit. space
    "log" (residuals log predicted - log observed) or "linear"; delta=inf makes it least squares. bounds:
    {exponent: (low, high)}. weights: [points], nonnegative; a weight of 2 counts a run twice.

    Raises LawError for missing columns, values that are not positive, fewer points than parameters, or one
    level of an input.
    """
    form = get(form).bounded(bounds or {})
    known = {"N": params, "D": data, "x": x} | dict(columns or {})
    missing = [name for name in form.inputs if name not in known]
    if missing:
        raise LawError(f"{form.name} needs a column for {', '.join(missing)}: pass "
                       f"columns={{{missing[0]!r}: ...}}")
    if space not in ("log", "linear"):
        raise LawError(f"space must be 'log' or 'linear', got {space!r}")
    chosen = {name: known[name] for name in form.inputs} | {"loss": loss}
    frame = _frame(points, chosen, len(form.names))
    logs = np.log(np.stack([frame[chosen[name]].to_numpy(float) for name in form.inputs]))
    observed = frame[loss].to_numpy(float)
    weights = np.ones(len(frame)) if weights is None else np.asarray(weights, float)
    if weights.shape != observed.shape or not np.all(weights >= 0) or not np.isfinite(weights).all():
        raise LawError(f"weights must be {len(frame)} finite nonnegative numbers, one a point")

    def residual(vector):
        predicted = form.predict(vector[None], logs)[0]
        return np.log(observed / predicted) if space == "log" else observed - predicted

    if delta == "noise-scaled":
        delta = 1e-3
        for _ in range(3):
            vectors, objective = optimise(form, logs, observed, weights, delta, space, starts)
            delta = max(EFFICIENT * noise_scale(residual(vectors[0]), len(form.names)), 1e-9)
    elif not (isinstance(delta, Real) and delta > 0):
        raise LawError(f"delta must be a positive number or 'noise-scaled', got {delta!r}")
    vectors, objective = optimise(form, logs, observed, weights, delta, space, starts)
    best = vectors[0]
    result = Fit(
        form=form, params=dict(zip(form.names, map(float, best))), objective=float(objective[0]),
        delta=float(delta), space=space, columns=chosen, points=frame, weights=weights,
        noise=noise_scale(np.log(observed / form.predict(best[None], logs)[0]), len(form.names)),
        optima=pd.DataFrame(vectors, columns=list(form.names)).assign(objective=objective))
    result.diagnostics.extend(diagnose.diagnose(result))
    return result
