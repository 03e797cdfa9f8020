"""A fitted law: its parameters, its predictions, its refits to other losses and weights, and its Jacobian."""
from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting import newton
from scaling.laws.fitting.objectives import DEFAULT, Objective
from scaling.laws.fitting.optimise import Scale
from scaling.laws.fitting.problem import basis_of
from scaling.laws.forms.form import Form, LawError
from scaling.laws.runs import Runs
from scaling.results.records import versions

EFFICIENT = 1.345  # Huber's delta in noise standard deviations: 95% efficient under normal noise


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law.

    Parameters are in the units of the data. Residuals are observed minus predicted in the objective's space, which is the
    log of the loss unless another was chosen.
    """
    form: Form                        # with the bounds, fixed and tied parameters that were used
    params: dict[str, float]          # all parameters, fixed and tied ones too
    objective: float
    spec: Objective
    runs: Runs
    weights: np.ndarray
    noise: float                      # robust standard deviation of the residuals, see noise_scale
    optima: pd.DataFrame              # distinct local optima found, best first: parameters and objective
    settings: dict                    # keyword arguments of `fit` that repeat the fit on other runs
    search: dict                      # how the optima were found: method, starts, how many reached the best
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def vector(self) -> np.ndarray:
        """Parameters in the order of form.names."""
        return np.array([self.params[name] for name in self.form.names])

    @property
    def logs(self) -> np.ndarray:
        """Natural logarithms of the inputs, [inputs, points]."""
        return self.runs.inputs(self.form)

    @property
    def y(self) -> np.ndarray:
        return self.runs.y

    @property
    def predicted(self) -> np.ndarray:
        return self.form.predict(self.vector[None], self.logs)[0]

    @property
    def residuals(self) -> np.ndarray:
        return self.spec.residuals(self.y, self.predicted)

    @property
    def degrees_of_freedom(self) -> int:
        return int((self.weights > 0).sum()) - len(self.form.free)

    @property
    def derived(self) -> dict[str, float]:
        """Parameters of the literature that follow from the fitted ones."""
        return {name: float(value) for name, value in self.form.derive(self.params).items()}

    def predict(self, *inputs, **named):
        """The predicted loss at the form's inputs (Chinchilla: N, D), which broadcast. Scalars give a float."""
        logs, shape = input_logs(self.form, inputs, named)
        value = self.form.predict(self.vector[None], logs)[0].reshape(shape)
        return float(value) if shape == () else value

    @property
    def manifest(self) -> dict:
        """Everything that is needed to repeat or to cite the fit."""
        return {**self.runs.manifest(), "sha256": _digest(self), "law": self.form.name, "formula": self.form.formula,
                "law_source": self.form.source, "objective": str(self.spec), "loss": self.spec.name,
                "delta": self.spec.delta, "quantile": self.spec.quantile,
                "weights": "equal" if np.ptp(self.weights) == 0 else "given",
                "bounds": {p.name: [p.low, p.high] for p in (*self.form.amplitudes, *self.form.nonlinear)},
                "fixed": dict(self.form.fixed), "tied": dict(self.form.tied), "search": self.search,
                "versions": versions(("scaling", "numpy", "pandas"))}

    def to_json(self) -> dict:
        """Everything but the points, as plain JSON values."""
        return {
            "form": self.form.name, "formula": self.form.formula, "source": self.form.source,
            "params": {name: float(value) for name, value in self.params.items()}, "derived": self.derived,
            "objective": float(self.objective), "loss": self.spec.name, "delta": float(self.spec.delta),
            "quantile": self.spec.quantile, "space": self.spec.space, "noise": float(self.noise),
            "degrees_of_freedom": self.degrees_of_freedom,
            "columns": {role: self.runs.columns[role] for role in (*self.form.inputs, "y") if role in self.runs.columns},
            "bounds": {p.name: [p.low, p.high] for p in self.form.nonlinear},
            "fixed": dict(self.form.fixed), "tied": dict(self.form.tied),
            "optima": self.optima.to_dict("records"), "residuals": [float(r) for r in self.residuals],
            "diagnostics": [said.to_json() for said in self.diagnostics], "manifest": self.manifest,
        } | ({"form_file": dict(self.form.file)} if self.form.file else {})


def input_logs(form: Form, inputs: tuple, named: Mapping) -> tuple[np.ndarray, tuple[int, ...]]:
    """(logs [I, n], broadcast shape) of inputs given by position or by name. Raises LawError unless each is given once."""
    given = dict(zip(form.inputs, inputs)) | dict(named)
    once = len(inputs) <= len(form.inputs) and len(given) == len(inputs) + len(named)
    if not once or set(given) != set(form.inputs):
        raise LawError(f"{form.name} takes the inputs {', '.join(form.inputs)}, once each")
    arrays = np.broadcast_arrays(*(np.asarray(given[name], float) for name in form.inputs))
    if not all(np.all(np.isfinite(a) & (a > 0)) for a in arrays):
        raise LawError(f"the inputs {', '.join(form.inputs)} must be positive and finite")
    return np.log(np.stack([a.ravel() for a in arrays])), arrays[0].shape


def noise_scale(residuals: np.ndarray, parameters: int) -> float:
    """A robust standard deviation of the noise: the median |residual| over 0.6745, without the smallest few.

    A fit with a small delta passes through about as many points as it has parameters, so the smallest `parameters`
    residuals say nothing about the noise and are left out (Koenker 2005, section 3.4; McKean and Schrader 1987).
    """
    size = np.sort(np.abs(residuals))[min(parameters, len(residuals) - 1):]
    return float(np.median(size) / 0.6745)


@np.errstate(all="ignore")
def refit(law: Fit, y, weights, iterations: int = 300) -> newton.Result:
    """Fit the same points with other losses and weights, each [batch, n] or [n]. Vectors are in the units of the data.

    Starts from the fit's three best optima (those within a factor 2 of the best objective) and keeps the best result.
    Few points and a small delta make the objective rough, so those fits first solve the smoother problem with ten times
    the delta, which takes fewer steps. A delta far below the noise is reached from the noise, in steps of ten. About one
    resample in a hundred ends in an optimum up to 1% worse than its best.
    """
    form, logs = law.form, law.logs
    scale = Scale(form, logs, law.y, law.spec)
    rivals = law.optima[law.optima["objective"] <= 2 * law.optima["objective"].iloc[0]].head(3)
    batch = max(len(np.atleast_2d(y)), len(np.atleast_2d(weights)))
    far = np.log10(max(law.noise, 1e-300) / law.spec.delta) if law.spec.kind == "huber" else 0.0
    few = law.spec.kind == "huber" and logs.shape[1] < 20 * len(form.free)
    steps = int(min(far, 12.0)) if far > 2 else int(few)
    best = None
    for start in scale.enter(rivals[list(form.names)].to_numpy(float)):
        vectors = np.tile(start, (batch, 1))
        for step in range(steps, 0, -1):
            smooth = scale.objective.with_delta(10.0 ** step * scale.objective.delta)
            vectors = scale.minimise(vectors, y, weights, smooth, iterations=iterations,
                                     tolerance=1e-4 if steps == 1 else 1e-12).vectors
        found = scale.minimise(vectors, y, weights, iterations=iterations)
        best = found if best is None else best.better(found)
    return best._replace(vectors=scale.restore(best.vectors), objective=best.objective * scale.factor)


def jacobian(law: Fit) -> np.ndarray:
    """The derivatives of the prediction, in the objective's space, by the free parameters, [n, free]."""
    return jacobian_at(law.form, law.vector, law.logs, law.spec)


def jacobian_at(form: Form, vector, logs, objective: Objective = DEFAULT) -> np.ndarray:
    """Like `jacobian`, at any parameter vector [P] and any logs of the inputs [I, n]."""
    count = len(form.amplitudes)
    vector = np.asarray(vector, float)
    jets = form.jets(vector[None, count:], logs)
    features = form.features(vector[None, count:], logs)[0]
    out = np.zeros((len(form.names), logs.shape[1]))
    out[:count] = features
    for j, jet in enumerate(jets):
        for k, d in jet.first.items():
            out[count + k] += vector[j] * features[j] * np.broadcast_to(d, (1, logs.shape[1]))[0]
    if objective.space != "linear":
        out /= vector[:count] @ features + objective.shift
    return out.T @ basis_of(form)[0]


def _digest(law: Fit) -> str:
    """SHA-256 of the numbers that were fitted: inputs, losses and weights, in order."""
    values = np.concatenate([law.logs, law.y[None], law.weights[None]])
    return hashlib.sha256(np.ascontiguousarray(values, "<f8").tobytes()).hexdigest()
