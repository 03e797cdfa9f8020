"""The distinct local optima of a form on data: the optimiser's units, many starts, and the optima that they reach."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from scaling.laws.fitting import newton, projection
from scaling.laws.fitting.objectives import Objective
from scaling.laws.forms.form import Form, LawError

STARTS = {0: 16, 1: 16, 2: 16, 3: 64, 4: 96}  # Newton starts by the number of nonlinear parameters that are searched
MANY = 192       # Newton starts for five parameters and more
DIRECT = 24      # starts that are minimised without least squares first
# Two rounds for starts that have not converged: how many go on, for how many iterations, and how many times the best
# objective theirs may be.
POLISH = ((24, 300, 1e3), (4, 3000, 2.0))
# The same for a quick search, such as that of a law that is only scored: its predictions are right before it has converged.
QUICK_STARTS, QUICK_ITERATIONS, QUICK_POLISH = 24, 40, ((4, 160, 2.0),)
FOLLOWED = 8     # starts that are followed to a delta far below the noise
ROUGH = 100.0    # times delta: residuals from which delta is far below the noise
SAME = 1e-5      # optima are one if their predictions nowhere differ by more than this share


class Scale:
    """The optimiser's units: logarithms of inputs centred at 0 (if the form allows it) and losses about 1."""

    def __init__(self, form: Form, logs, y, objective: Objective):
        self.form, self.centre = form, form.centre(logs)
        self.unit = 1.0 if objective.shift else float(np.exp(np.log(np.abs(y) + 1e-300).mean()))
        linear = objective.space == "linear"
        self.objective = objective.with_delta(objective.delta / self.unit) if linear else objective
        self.factor = 1.0 if not linear else self.unit if objective.kind == "absolute" else self.unit ** 2
        self.logs, self.y = logs - self.centre[:, None], np.asarray(y) / self.unit
        amplitudes = [a.name for a in form.amplitudes]
        bounds = {a.name: (a.low / self.unit, a.high / self.unit) for a in form.amplitudes}
        for p in form.nonlinear:
            if p.unit:
                change = np.exp(-self.centre[form.inputs.index(p.unit)])
                bounds[p.name] = p.low * change, p.high * change
        fixed = {name: value / self.unit for name, value in form.fixed.items() if name in amplitudes}
        self.inner = form.with_fixed(fixed).bounded(bounds)

    def restore(self, vectors: np.ndarray) -> np.ndarray:
        """Parameter vectors [batch, P] in the units of the data."""
        return self.form.rescale(vectors, -self.centre) * self._units()

    def enter(self, vectors: np.ndarray) -> np.ndarray:
        """The inverse of restore."""
        return self.form.rescale(vectors / self._units(), self.centre)

    def minimise(self, start, y, weights, objective: Objective | None = None, **options) -> newton.Result:
        """newton.minimise for losses y in the units of the data, from vectors in the optimiser's units."""
        return newton.minimise(self.inner, start, self.logs, np.asarray(y) / self.unit, weights,
                               objective=objective or self.objective, **options)

    def _units(self) -> np.ndarray:
        return np.where(np.arange(len(self.form.names)) < len(self.form.amplitudes), self.unit, 1.0)


@np.errstate(all="ignore")  # far from an optimum a law may overflow, and such a start loses
def optimise(form: Form, logs, y, weights, objective: Objective, starts: int | None = None, seed: int | None = None,
             at: np.ndarray | None = None, quick: bool = False):
    """Distinct local optima, best first: (vectors [m, P] in the units of logs, objectives [m], a description).

    starts: how many; by default as many as the form needs. With a seed they are random. at [s, P]: parameter vectors in the
    units of logs to start from, instead of a search. quick: fewer starts and iterations. Raises LawError if no start
    reaches a finite objective.
    """
    scale = Scale(form, logs, y, objective)
    wanted = starts or STARTS.get(sum(p.name in form.free for p in form.nonlinear), MANY)
    wanted = min(wanted, QUICK_STARTS) if quick else wanted
    start = scale.enter(at) if at is not None else projection.starts(
        scale.inner, scale.logs, scale.y, weights, scale.objective, wanted, seed)
    if not len(start):
        raise LawError(f"no start of {form.name} reached a finite objective")
    # A small delta makes the objective rough, with a local optimum wherever the curve passes through enough points. So the
    # best of many starts begin where least squares takes them.
    if len(start) > DIRECT and scale.objective.kind == "huber":
        squares = replace(scale.objective, kind="mse", delta=np.inf)
        eased = scale.minimise(start, y, weights, squares, iterations=60)
        order = np.argsort(np.where(np.isfinite(eased.objective), eased.objective, np.inf), kind="stable")
        further = eased.vectors[order[:len(start) // 4]]
        start = np.concatenate([start[:DIRECT], further]) if seed is None else eased.vectors
    start = np.concatenate([start, _from_the_noise(scale, start, y, weights)])
    found = scale.minimise(start, y, weights, iterations=QUICK_ITERATIONS if quick else 100)
    if not np.isfinite(found.objective).any():
        raise LawError(f"no start of {form.name} reached a finite objective")
    # narrow curved valleys, such as those of breaks beyond the data, take longer
    for many, iterations, near in QUICK_POLISH if quick else POLISH:
        late = np.flatnonzero(~found.converged & (found.objective <= near * found.objective.min()))
        late = late[np.argsort(found.objective[late], kind="stable")[:many]]
        if late.size:
            again = scale.minimise(found.vectors[late], y, weights, iterations=iterations)
            found.vectors[late], found.objective[late], found.converged[late] = again[:3]
    kept: list[int] = []
    curves = scale.inner.predict(found.vectors, scale.logs)
    for i in np.argsort(found.objective, kind="stable"):
        finished = found.converged[i] or not kept
        new = all(np.abs(curves[i] / curves[j] - 1).max() > SAME for j in kept)
        if finished and new and np.isfinite(found.objective[i]):
            kept.append(i)
    best = found.objective[kept[0]]
    about = {"method": "variable projection, then damped Newton" if at is None else
             "damped Newton from the optima of other fits", "starts": len(start),
             "converged": int(found.converged.sum()), "best_converged": bool(found.converged[kept[0]]),
             "reached_best": int((found.objective <= best * (1 + 1e-6) + 1e-300).sum())}
    return scale.restore(found.vectors[kept]), found.objective[kept] * scale.factor, about


def _from_the_noise(scale: Scale, start: np.ndarray, y, weights) -> np.ndarray:
    """More starts for a Huber delta far below the noise, [m, P]; none for another objective.

    Newton's method stalls where hardly a residual lies within delta. So the fit is followed from least squares through
    deltas that fall by a factor of ten, from the size of the residuals on.
    """
    def least(vectors):
        predicted = scale.inner.predict(vectors, scale.logs)
        return float(np.nanmin(np.median(np.abs(scale.objective.residuals(scale.y, predicted)), axis=1)))

    if scale.objective.kind != "huber" or not least(start) > ROUGH * scale.objective.delta:
        return start[:0]
    squares = replace(scale.objective, kind="mse", delta=np.inf)
    eased = scale.minimise(start, y, weights, squares, iterations=60)
    order = np.argsort(np.where(np.isfinite(eased.objective), eased.objective, np.inf), kind="stable")[:FOLLOWED]
    vectors = eased.vectors[order]
    if not (gap := least(vectors[:1])) > ROUGH * scale.objective.delta:
        return start[:0]
    for delta in scale.objective.delta * 10.0 ** np.arange(int(np.log10(gap / scale.objective.delta)), 0, -1):
        vectors = scale.minimise(vectors, y, weights, scale.objective.with_delta(delta)).vectors
    return vectors
