"""The compute-optimal frontier: the N*, D* and loss that a fitted law calls best for a budget C.

    frontier(law, [1e21, 1e22])                             # C = 6 N D
    frontier(law, 1e22, cost=counted(runs), boot=boot)      # FLOPs as the runs counted them, with intervals
    frontier(law, 1e22, U=1e11)                             # a law of repeated data with 1e11 unique tokens
    frontier(law, 1e24, lambda N, D: 6 * N * D + 2 * N * 1e13)      # the model will generate 1e13 tokens

The law may be in N and D, or in C and M = D / N. Other inputs of the law must be given.

The search is by hand because it is batched: it finds the optima of thousands of refits at once, where
scipy.optimize takes one at a time.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling.laws.fitting.fit import Fit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals.uncertainty import Bootstrap, percentiles
from scaling.laws.optimum.counts import counted, six_n_d

WITHIN = 1e-3         # share of the optimal loss that a size may lose and still count as good
GRID = 129            # values of log N in one zoom of the search
FOLLOW = ("N", "D", "C", "M")  # inputs that follow from N and D
FAR = 80.0            # how far outside the runs' data, in logarithms, the search for an affordable D reaches
BEYOND = np.log(1e6)  # how far outside the runs' sizes the search for an optimum reaches, at the runs' budgets


def frontier(fit: Fit, compute, cost: Callable | None = None, boot: Bootstrap | None = None,
             level: float = 0.9, **given) -> pd.DataFrame:
    """The compute-optimal allocation at each budget in `compute` (FLOPs), one row each.

    Columns are flops, params, data, loss, and params_within_low and params_within_high: the sizes between
    which the loss stays within 0.1% of the best at the same cost (NaN where no affordable size in the search
    loses more). With a Bootstrap, params_low, params_high, data_low, ..., loss_high are percentile intervals
    of the law's own optimum, without the noise of a single run. For 6 N D and the additive law the optimum is
    Hoffmann et al. 2022 (arXiv:2203.15556), equation 4.

    cost(N, D) -> FLOPs takes arrays and must grow with D; by default it is 6 N D. given: other inputs of the
    law, such as U=..., each one number or one for each budget.

    The search reaches a factor 1e6 beyond the runs' sizes, and farther where the budget lies beyond theirs.
    Raises LawError where no optimum is found, and for laws that do not depend on N and D.
    """
    budgets = _budgets(compute)
    surface = _Surface(fit, len(budgets), cost or six_n_d, given)
    rows = []
    for i, budget in enumerate(budgets):
        place = surface.at(budget, i)
        best = place.optimum(fit.vector[None])
        if not np.isfinite(best.loss[0]):
            raise LawError(f"no model costs as little as {budget:.3g} FLOPs by the given cost; raise the budget")
        if not best.inside[0]:
            raise LawError(f"the fit shows no trade-off of N against D at {budget:.3g} FLOPs (a term is zero, "
                           "or one term always wins), so no allocation is optimal; see fit.diagnostics")
        row = {"flops": budget} | {name: values[0] for name, values in best.named().items()}
        row["params_within_low"], row["params_within_high"] = place.within(fit.vector[None], best)
        if boot is not None:
            drawn = place.optimum(boot.draws[list(fit.form.names)].to_numpy())
            for name, values in drawn.named().items():
                row[f"{name}_low"], row[f"{name}_high"] = percentiles(values, level)
        rows.append(row)
    return pd.DataFrame(rows)


def optima(fit: Fit, compute, vectors: np.ndarray, cost: Callable | None = None, **given) -> Optimum:
    """The optima of parameter vectors [batch, P] as an Optimum of arrays [batch, budgets]. Arguments are those
    of `frontier`."""
    budgets = _budgets(compute)
    surface = _Surface(fit, len(budgets), cost or six_n_d, given)
    found = [surface.at(budget, i).optimum(vectors) for i, budget in enumerate(budgets)]
    return Optimum(*(np.stack(values, axis=-1) for values in zip(*found)))


def _budgets(compute) -> np.ndarray:
    budgets = np.atleast_1d(np.asarray(compute, float))
    if budgets.ndim != 1 or not np.all(np.isfinite(budgets) & (budgets > 0)):
        raise LawError("compute budgets must be positive and finite")
    return budgets


class Optimum(NamedTuple):
    """log N*, log D* and the loss there. Where `inside` is False there is no minimum, and the values are those
    at the better end of the search."""
    log_params: np.ndarray
    log_data: np.ndarray
    loss: np.ndarray
    inside: np.ndarray

    def named(self) -> dict[str, np.ndarray]:
        return {"params": np.exp(self.log_params), "data": np.exp(self.log_data), "loss": self.loss}


class _Surface:
    """A law as loss over log N and log D, with the cost of each pair."""

    def __init__(self, fit: Fit, budgets: int, cost: Callable, given: Mapping):
        self.form, self.cost, runs = fit.form, cost, fit.runs
        further = [name for name in self.form.inputs if name not in FOLLOW]
        if len(self.form.inputs) - len(further) < 2:
            raise LawError(f"a frontier needs a law in N and D (or in C and M); {self.form.name} is in "
                           f"{', '.join(self.form.inputs)}")
        if set(given) != set(further):
            wanted = ", ".join(further) or "nothing else"
            got = ", ".join(given) or "nothing else"
            raise LawError(f"a frontier of {self.form.name} takes {wanted} beside the budget, but {got} was given; "
                           f"write frontier(fit, compute{''.join(f', {name}=...' for name in further)})")
        self.given = {name: np.asarray(values, float) for name, values in given.items()}
        for name, values in self.given.items():
            if not np.all(np.isfinite(values) & (values > 0)) or values.size not in (1, budgets):
                raise LawError(f"{name} must be positive and finite, one number or one for each of {budgets} "
                               "budgets")
        if {"N", "D"} <= set(runs.columns):
            self.sizes, self.seen = np.log(runs.positive("N")), np.log(runs.positive("D"))
        else:
            product, ratio = np.log(runs.positive("C") / 6.0), np.log(runs.positive("M"))
            self.sizes, self.seen = (product - ratio) / 2, (product + ratio) / 2
        known = "C" in self.form.inputs and {"C", "N", "D"} <= set(runs.columns)
        self.training = counted(runs) if known else six_n_d  # the C of the law

    def at(self, budget: float, index: int) -> _Budget:
        given = {name: float(np.log(values.flat[index % values.size])) for name, values in self.given.items()}
        return _Budget(self, float(np.log(budget)), given)


class _Budget:
    """The law along N at one cost. D follows from N. The loss is infinite where no D is cheap enough."""

    def __init__(self, surface: _Surface, log_compute: float, given: dict):
        self.surface, self.log_compute, self.given = surface, log_compute, given
        with np.errstate(all="ignore"):
            own = np.log(surface.cost(np.exp(surface.sizes), np.exp(surface.seen)))
        # an optimum moves by at most the factor by which compute changes
        self.low = surface.sizes.min() - BEYOND - max(own.min() - log_compute, 0.0)
        self.high = surface.sizes.max() + BEYOND + max(log_compute - own.max(), 0.0)

    def affordable(self, log_params: np.ndarray) -> np.ndarray:
        """log D with cost(N, D) = C, NaN where even a vanishing D costs more.

        Newton's method in logarithms, which takes one step where the cost is proportional to D, inside a
        bracket that shrinks.
        """
        def gap(x):
            with np.errstate(all="ignore"):
                cost = self.surface.cost(np.exp(log_params), np.exp(np.broadcast_to(x, log_params.shape)))
                return np.log(cost) - self.log_compute
        seen = self.surface.seen
        x = np.full(log_params.shape, seen.mean())
        low, high = np.full(x.shape, seen.min() - FAR), np.full(x.shape, seen.max() + FAR)
        first, last = gap(low), gap(high)
        possible = first < 0
        if not (np.all(last > first) and np.all(last[possible] > 0)):
            raise LawError("the cost could not be solved for D: cost(N, D) must be positive and grow with D, "
                           "for arrays N and D")
        here = gap(x)
        step = x - here
        for _ in range(100):
            x = np.where((step > low) & (step < high), step, 0.5 * (low + high))
            here = gap(x)
            if np.abs(here[possible]).max(initial=0.0) < 1e-12:
                break
            low, high = np.where(here < 0, x, low), np.where(here < 0, high, x)
            with np.errstate(all="ignore"):
                step = x - here * 1e-4 / (gap(x + 1e-4) - here)
        return np.where(possible, x, np.nan)

    def loss(self, vectors: np.ndarray, log_params: np.ndarray, log_data: np.ndarray) -> np.ndarray:
        """The loss [batch, n] of parameter vectors; infinite where log_data is NaN."""
        known = np.isfinite(log_data)
        n, d = log_params[known], log_data[known]
        logs = {"N": n, "D": d, "M": d - n}
        logs |= {name: np.full(len(n), value) for name, value in self.given.items()}
        if "C" in self.surface.form.inputs:
            logs["C"] = np.log(self.surface.training(np.exp(n), np.exp(d)))
        inputs = np.stack([logs[name] for name in self.surface.form.inputs])
        out = np.full((len(vectors), len(log_params)), np.inf)
        with np.errstate(all="ignore"):
            out[:, known] = self.surface.form.predict(vectors, inputs)
        return np.where(np.isnan(out), np.inf, out)

    def optimum(self, vectors: np.ndarray) -> Optimum:
        """The optimum of every parameter vector [batch, P]. log N* is exact to 1e-8 for one vector and to 1e-5
        for many."""
        return self._search(vectors, self.low, self.high, zooms=3 if len(vectors) == 1 else 2)

    def _search(self, vectors, low, high, zooms) -> Optimum:
        log_params = np.linspace(low, high, GRID)
        value = self.loss(vectors, log_params, self.affordable(log_params))
        middle = value[:, 1:-1]
        dips = (middle < value[:, :-2]) & (middle <= value[:, 2:]) & np.isfinite(middle)
        inside = dips.any(1)
        best = np.where(inside, 1 + np.where(dips, middle, np.inf).argmin(1), value.argmin(1))
        if zooms > 1:  # vectors whose optimum lies between the same two sizes share the next, finer grid
            out = Optimum(*(np.empty(len(vectors)) for _ in range(3)), inside)
            for i in np.unique(best):
                same = best == i
                ends = log_params[max(i - 1, 0)], log_params[min(i + 1, GRID - 1)]
                finer = self._search(vectors[same], *ends, zooms - 1)
                out.log_params[same], out.log_data[same] = finer.log_params, finer.log_data
                out.loss[same] = finer.loss
            return out
        left, here, right = (np.take_along_axis(value, np.clip(best + k, 0, GRID - 1)[:, None], 1)[:, 0]
                             for k in (-1, 0, 1))  # the vertex of the parabola through three neighbours
        with np.errstate(all="ignore"):
            bend = left - 2 * here + right
            offset = np.where(inside & (bend > 0) & np.isfinite(bend), 0.5 * (left - right) / bend, 0.0)
            here = here - np.where(offset == 0, 0.0, 0.25 * (left - right) * offset)
        found = log_params[best] + offset * (log_params[1] - log_params[0])
        return Optimum(found, self.affordable(found), here, inside)

    def within(self, vector: np.ndarray, best: Optimum) -> tuple[float, float]:
        """The sizes below and above N* at which the loss exceeds its optimum by WITHIN; NaN where it never
        does."""
        ends = []
        for side in (self.low, self.high):
            inner, outer = best.log_params[0], side
            for _ in range(4):  # find the first crossing on a grid, then again between its neighbours
                x = np.linspace(inner, outer, GRID)
                above = self.loss(vector, x, self.affordable(x))[0] > (1 + WITHIN) * best.loss[0]
                if not above.any():
                    inner = np.nan
                    break
                first = int(above.argmax())
                inner, outer = x[max(first - 1, 0)], x[first]
            ends.append(float(np.exp(inner)))
        return ends[0], ends[1]
