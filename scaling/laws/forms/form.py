"""What a law is: inputs, amplitudes that enter linearly, nonlinear parameters with bounds, and a formula.

    loss = sum_j sign_j * amplitude_j * exp(g_j(parameters, log inputs))

Given the nonlinear parameters, the amplitudes have an exact solution (`projection`). The derivatives that the
optimiser needs follow from the formula itself (`jets`). A law of your own is a few lines:

    laws.register(laws.Form(
        name="logarithmic", formula="E + A / (1 + c log x)", source="my notebook", inputs=("x",),
        amplitudes=(laws.Amplitude("E"), laws.Amplitude("A")), nonlinear=(laws.Parameter("c", 1e-3, 1e3, scale="log"),),
        terms=lambda p, log: (0.0, -np.log1p(p.c * log.x)), centred=()))

`terms(p, log)` returns the logarithm g_j of every amplitude's feature, written in NumPy. `p` holds the nonlinear
parameters and `log` the natural logarithms of the inputs. `catalogue` has the laws that come with the package;
docs/laws-forms.md has more examples.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np

from scaling.laws.forms.jets import Jet


class LawError(ValueError):
    """No law can be fitted to these data or this request. The message says what is wrong and what to do."""


@dataclass(frozen=True)
class Amplitude:
    """A linear parameter in [low, high]. `low` is 0 or -inf. A sign of -1 subtracts its term."""
    name: str
    low: float = 0.0
    high: float = np.inf
    sign: float = 1.0


@dataclass(frozen=True)
class Parameter:
    """A nonlinear parameter and the closed interval that it is searched in.

    scale: the optimiser's coordinate: "linear"; "log", for positive values; or "symlog" (asinh of 10 times the value),
    for values of either sign that span orders of magnitude. unit: the input in whose unit the parameter is measured, if
    any. relative: the bounds are multiples of the smallest and the largest value of that input, until `Form.placed`
    turns them into numbers.
    """
    name: str
    low: float
    high: float
    scale: str = "linear"
    unit: str = ""
    relative: bool = False

    @property
    def log(self) -> bool:
        return self.scale == "log"

    def coordinate(self, value):
        """The optimiser's coordinate of a value."""
        if self.scale == "symlog":
            return np.arcsinh(10.0 * value)
        return np.log(value) if self.log else np.asarray(value)

    def value(self, coordinate):
        """The inverse of `coordinate`."""
        if self.scale == "symlog":
            return 0.1 * np.sinh(coordinate)
        return np.exp(coordinate) if self.log else np.asarray(coordinate)

    def jet(self, coordinate, k: int) -> Jet:
        """The value at a coordinate, with its derivatives by that coordinate, which is parameter k."""
        value = self.value(coordinate)
        if self.scale == "linear":
            return Jet(value, {k: np.ones(())})
        return Jet(value, {k: value if self.log else 0.1 * np.cosh(coordinate)}, {(k, k): value})


@dataclass(frozen=True)
class Form:
    """A law.

    fixed {name: value} and tied {name: other name}: parameters that are not fitted; `free` lists the others.
    centred: the inputs whose unit does not matter to the law, because another unit only changes amplitudes and the
    parameters that are measured in it. The optimiser centres their logarithms, which makes fits independent of units.
    None means all inputs. anchors {input: value}: values that the formula itself divides an input by.
    shift(values, centre): maps {name: nonlinear value} for the inputs to the values for inputs / exp(centre), with centre
    {input: number}. A law needs it where dividing the parameters that have a `unit` is not enough. shifted: the
    parameters that `shift` changes; their bounds hold for centred inputs.
    constant: inputs that may have a single value. derived(values) -> {name: value}: more parameters of the literature,
    computed from the fitted ones. file: the path and SHA-256 of the Python file that made the form, if it was read by
    `own.own_form`.
    """
    name: str
    formula: str
    source: str
    inputs: tuple[str, ...]
    amplitudes: tuple[Amplitude, ...]
    nonlinear: tuple[Parameter, ...]
    terms: Callable
    centred: tuple[str, ...] | None = None
    shift: Callable | None = None
    shifted: tuple[str, ...] = ()
    anchors: Mapping[str, float] = field(default_factory=dict)
    constant: tuple[str, ...] = ()
    derived: Callable | None = None
    fixed: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    file: Mapping[str, str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in the order of vectors: amplitudes, then nonlinear parameters."""
        return tuple(p.name for p in (*self.amplitudes, *self.nonlinear))

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the parameters that are fitted."""
        return tuple(name for name in self.names if name not in self.fixed and name not in self.tied)

    @property
    def low(self) -> np.ndarray:
        return np.array([p.low for p in (*self.amplitudes, *self.nonlinear)])

    @property
    def high(self) -> np.ndarray:
        return np.array([p.high for p in (*self.amplitudes, *self.nonlinear)])

    def derive(self, values: Mapping[str, float | np.ndarray]) -> dict[str, np.ndarray]:
        """The derived parameters at {name: value}; values may be arrays. One that is too large for a float64 is inf."""
        if self.derived is None:
            return {}
        with np.errstate(over="ignore", invalid="ignore"):
            found = self.derived({name: np.asarray(value, float) for name, value in values.items()})
        return {name: np.asarray(value) for name, value in found.items()}

    def parameter(self, name: str) -> Amplitude | Parameter:
        for p in (*self.amplitudes, *self.nonlinear):
            if p.name == name:
                return p
        raise LawError(f"{self.name} has no parameter {name!r}; it has {', '.join(self.names)}")

    # ------------------------------------------------------------------------------- the same law, restricted

    def bounded(self, bounds: Mapping[str, tuple[float, float]]) -> Form:
        """The same form with other bounds on some parameters, {name: (low, high)}. Raises LawError for bad bounds."""
        for name, (low, high) in bounds.items():
            p = self.parameter(name)
            if not low < high:
                raise LawError(f"bounds of {name!r} must be (low, high) with low < high, got ({low}, {high})")
            if getattr(p, "scale", "") == "log" and low <= 0:
                raise LawError(f"{name!r} is positive: its lower bound must be above 0, got {low}")

        def change(p):
            if p.name not in bounds:
                return p
            low, high = map(float, bounds[p.name])
            extra = {"relative": False} if isinstance(p, Parameter) else {}
            return replace(p, low=low, high=high, **extra)
        # bounds that a user gives hold for the inputs as they are, so those are no longer centred
        centred = () if set(bounds) & set(self.shifted) else self.centred
        return replace(self, amplitudes=tuple(map(change, self.amplitudes)),
                       nonlinear=tuple(map(change, self.nonlinear)), centred=centred)

    def with_fixed(self, values: Mapping[str, float]) -> Form:
        """The same form with some parameters held at values, {name: value}."""
        for name, value in values.items():
            self.parameter(name)
            if not np.isfinite(value):
                raise LawError(f"cannot fix {name!r} at {value}")
            if getattr(self.parameter(name), "scale", "") == "log" and value <= 0:
                raise LawError(f"{name!r} is positive; it cannot be fixed at {value:g}")
        return replace(self, fixed={**self.fixed, **{k: float(v) for k, v in values.items()}})

    def with_tied(self, pairs: Mapping[str, str]) -> Form:
        """The same form where each parameter in `pairs`, {name: other name}, equals the other one."""
        for name, other in pairs.items():
            one, two = self.parameter(name), self.parameter(other)
            if name == other or other in pairs or other in self.tied:
                raise LawError(f"cannot tie {name!r} to {other!r}: {other!r} must be a free or fixed parameter")
            if getattr(one, "scale", None) != getattr(two, "scale", None):
                raise LawError(f"cannot tie {name!r} to {other!r}: one is searched on another scale than the other")
        return replace(self, tied={**self.tied, **pairs})

    def placed(self, logs: np.ndarray) -> Form:
        """The same form with relative bounds turned into numbers, for logs of the inputs [I, n]."""
        def place(p: Parameter) -> Parameter:
            if not (p.unit and p.relative):
                return p
            values = logs[self.inputs.index(p.unit)]
            return replace(p, low=p.low * float(np.exp(values.min())), high=p.high * float(np.exp(values.max())),
                           relative=False)
        return replace(self, nonlinear=tuple(map(place, self.nonlinear)))

    def opened(self, logs: np.ndarray) -> Form:
        """The same form without the bounds that hold only for centred inputs, for logs of the inputs [I, n]."""
        if not np.any(self.centre(logs)):
            return self
        return replace(self, nonlinear=tuple(
            replace(p, low=0.0 if p.log else -np.inf, high=np.inf) if p.name in self.shifted else p
            for p in self.nonlinear))

    # ------------------------------------------------------------------------------------------------ values

    def predict(self, vectors: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """The loss [batch, n] of parameter vectors [batch, J + K] at natural logarithms of the inputs, logs [I, n]."""
        count = len(self.amplitudes)
        return np.einsum("bj,bjn->bn", vectors[:, :count], self.features(vectors[:, count:], logs))

    def features(self, theta: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """The signed features that the amplitudes multiply, [batch, J, n], at nonlinear parameters theta [batch, K]."""
        g = np.stack([np.broadcast_to(g, (len(theta), logs.shape[1])) for g in self._terms(theta, logs)], axis=1)
        return np.array([a.sign for a in self.amplitudes])[:, None] * np.exp(g)

    def jets(self, theta: np.ndarray, logs: np.ndarray, coordinates: bool = False) -> list[Jet]:
        """The g_j with their derivatives by the nonlinear parameters theta [batch, K], at logs [I, n].

        coordinates: theta holds the optimiser's coordinates, and the derivatives are by those.
        """
        p = {}
        for k, parameter in enumerate(self.nonlinear):
            column = theta[:, k, None]
            p[parameter.name] = parameter.jet(column, k) if coordinates else Jet(column, {k: np.ones(())})
        terms = self.terms(SimpleNamespace(**p), SimpleNamespace(**dict(zip(self.inputs, logs))))
        return [g if isinstance(g, Jet) else Jet(np.asarray(g, float)) for g in terms]

    def _terms(self, theta: np.ndarray, logs: np.ndarray) -> list[np.ndarray]:
        p = {parameter.name: theta[:, k, None] for k, parameter in enumerate(self.nonlinear)}
        terms = self.terms(SimpleNamespace(**p), SimpleNamespace(**dict(zip(self.inputs, logs))))
        if not isinstance(terms, (tuple, list)):
            raise LawError(f"{self.name}'s formula must give a tuple of terms, one for each of its {len(self.amplitudes)} "
                           "amplitudes")
        if len(terms) != len(self.amplitudes):
            raise LawError(f"{self.name} has {len(self.amplitudes)} amplitudes but its formula gives {len(terms)} terms")
        return [np.asarray(g, float) for g in terms]

    # ----------------------------------------------------------------------------------------- other units

    def centre(self, logs: np.ndarray) -> np.ndarray:
        """What the optimiser subtracts from logs [I, n]: [I]. Zero if a fixed, tied or bounded parameter has a unit."""
        bounded = [a.name for a in self.amplitudes if a.low not in (0.0, -np.inf) or a.high < np.inf]
        touched = {*self.fixed, *self.tied, *self.tied.values(), *bounded}
        moved = () if not self.shift else self.shifted or tuple(p.name for p in self.nonlinear)
        united = {p.name for p in self.nonlinear if p.unit} | set(moved)
        with np.errstate(all="ignore"):
            ratio = self._ratios(np.ones((1, len(self.nonlinear))), np.ones(len(logs)))[1]
        united |= {a.name for a, of in zip(self.amplitudes, ratio.T) if not abs(of - 1.0) < 1e-9}
        if touched & united:
            return np.zeros(len(logs))
        inputs = self.inputs if self.centred is None else self.centred
        return np.array([values.mean() - np.log(self.anchors.get(name, 1.0)) if name in inputs else 0.0
                         for name, values in zip(self.inputs, logs)])

    def rescale(self, vectors: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """The parameter vectors [batch, P] that predict at logs - centre [I] what `vectors` predict at logs."""
        if not np.any(centre):
            return vectors
        count = len(self.amplitudes)
        theta, ratio = self._ratios(vectors[:, count:], centre)
        return np.concatenate([vectors[:, :count] * ratio, theta], axis=1)

    def _ratios(self, theta: np.ndarray, centre) -> tuple[np.ndarray, np.ndarray]:
        """(nonlinear parameters [batch, K], factors of the amplitudes [batch, J]) for logs - centre [I] instead of logs."""
        named = dict(zip(self.inputs, map(float, centre)))
        moved = theta.copy()
        if self.shift:
            values = self.shift({p.name: theta[:, k] for k, p in enumerate(self.nonlinear)}, named)
            moved = np.stack([values[p.name] for p in self.nonlinear], axis=1)
        else:
            for k, p in enumerate(self.nonlinear):
                if p.unit:
                    moved[:, k] *= np.exp(-named[p.unit])
        before = self._terms(theta, np.asarray(centre, float)[:, None])
        after = self._terms(moved, np.zeros((len(centre), 1)))
        ratio = [np.broadcast_to(np.exp(b - a), (len(theta), 1))[:, 0] for b, a in zip(before, after)]
        return moved, np.stack(ratio, axis=1)
