"""The compute-optimal frontier: for a budget C, the N*, D* and loss that a law fitted in N and D calls
best."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from scaling.laws.fitting import Fit
from scaling.laws.forms import Form, LawError
from scaling.laws.uncertainty import Bootstrap, percentiles

NAMES = ("params", "data", "loss")
GRID = 129   # values of log N looked at in one zoom
ZOOMS = 7    # each narrows the search some sixtyfold for one law, or to the spread of a bootstrap's optima


def six_n_d(N, D):
    """Training FLOPs of a dense model by the usual count, 6 N D (Kaplan et al. 2020, arXiv:2001.08361,
    section 2.1)."""
    return 6.0 * N * D


def _affordable(cost: Callable, log_params: np.ndarray, log_compute: float) -> np.ndarray:
    """log D with cost(N, D) = C, by Newton in logarithms: one step where the cost is linear in D."""
    x = log_compute - np.log(6.0) - log_params
    with np.errstate(all="ignore"):
        for _ in range(60):
            gap = np.log(cost(np.exp(log_params), np.exp(x))) - log_compute
            if np.isfinite(gap).all() and np.abs(gap).max() < 1e-11:
                return x
            slope = (np.log(cost(np.exp(log_params), np.exp(x + 1e-4))) - log_compute - gap) / 1e-4
            if not (np.isfinite(gap) & (slope > 0)).all():
                break
            x = x - gap / slope
    raise LawError("the cost could not be solved for D: cost(N, D) must be positive and grow with D, "
                   "for arrays N and D")


def _optimum(form: Form, vectors: np.ndarray, compute: float, cost: Callable):
    """(log N*, log D*, loss) of every parameter vector [batch, P] at one budget.

    Along a budget the loss falls with N through one term and rises through the other, so it has one minimum;
    all laws share each grid of N, and the next grid spans their optima.
    """
    low, high = 0.0, float(np.log(compute))
    for _ in range(ZOOMS):
        log_params = np.linspace(low, high, GRID)
        log_data = _affordable(cost, log_params, np.log(compute))
        logs = {"N": log_params, "D": log_data}
        value = form.predict(vectors, np.stack([logs[name] for name in form.inputs]))
        inner = np.clip(value.argmin(1), 1, GRID - 2)
        step = log_params[1] - log_params[0]
        low, high = log_params[inner.min() - 1], log_params[inner.max() + 1]
        if step < 1e-7 or high - low > 0.5 * step * (GRID - 1):
            break
    left, middle, right = (np.take_along_axis(value, (inner + k)[:, None], 1)[:, 0] for k in (-1, 0, 1))
    bend = left - 2 * middle + right
    offset = np.clip(np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1.0), 0.0), -1, 1)
    log_params = log_params[inner] + offset * step
    return log_params, _affordable(cost, log_params, np.log(compute)), middle - 0.25 * (left - right) * offset


def frontier(fit: Fit, compute, cost: Callable | None = None, boot: Bootstrap | None = None,
             level: float = 0.9) -> pd.DataFrame:
    """Compute-optimal allocation at each budget in `compute` (FLOPs): one row each, with columns flops,
    params, data, loss.

    cost(N, D) -> FLOPs, for arrays, growing with D; by default 6 N D. With a Bootstrap, percentile intervals
    of the law's own optimum (not of a single noisy run) follow as params_low, params_high, data_low, ...,
    loss_high. For 6 N D this is Hoffmann et al. 2022, equation 4.

    Raises LawError if the law's inputs are not N and D, or if the fit shows no effect of one of them.
    """
    form = fit.form
    if set(form.inputs) != {"N", "D"}:
        raise LawError(f"a frontier needs a law in N and D; {form.name} is in {', '.join(form.inputs)}")
    budgets = np.atleast_1d(np.asarray(compute, float))
    if not np.all(np.isfinite(budgets) & (budgets > 0)):
        raise LawError("compute budgets must be positive and finite")
    cost = cost or six_n_d
    rows = []
    for budget in budgets:
        log_params, log_data, loss = _optimum(form, fit.vector[None], budget, cost)
        if not 0.01 < log_params[0] < np.log(budget) - 0.01:
            raise LawError("the fit shows no trade-off of N against D (a term is zero), so no "
                           "allocation is optimal; see fit.diagnostics")
        row = {"flops": budget} | dict(zip(NAMES, (np.exp(log_params[0]), np.exp(log_data[0]), loss[0])))
        if boot is not None:
            drawn = _optimum(form, boot.draws.to_numpy(), budget, cost)
            for name, values in zip(NAMES, (np.exp(drawn[0]), np.exp(drawn[1]), drawn[2])):
                row[f"{name}_low"], row[f"{name}_high"] = percentiles(values, level)
        rows.append(row)
    return pd.DataFrame(rows)
