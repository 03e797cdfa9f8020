"""Exponents of the optimal allocation, N* ~ C^a and D* ~ C^b, from the same data by the ways that the
literature has.

law       from a fitted law, locally at a budget and over a range of budgets (Hoffmann et al. 2022,
          arXiv:2203.15556, approach 3; a law that is no sum of powers of N and D has exponents that change
          with C)
isoflop   from the minima of slices of equal compute (approach 2)
envelope  from the runs that no cheaper or equally cheap run beats (Kaplan et al. 2020, arXiv:2001.08361,
          figure 14, and approach 1, both with the points of learning curves as runs); a lucky run is chosen
          before a typical one

Whether N and C count embeddings changes an exponent at small scale from near 0.5 to near 0.75 (Pearce and
Song 2024, arXiv:2406.12907; Porian et al. 2024, arXiv:2406.19146): so every row says what N and C count, and
`also` adds rows in which both are counted in another way.
"""
from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from scaling.laws.fitting.fit import Fit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals.uncertainty import Bootstrap
from scaling.laws.optimum.allocation import optima, recount
from scaling.laws.optimum.isoflop import isoflop
from scaling.laws.runs import Runs

EXPONENTS = ("a", "b", "loss")
POINTS = 9     # budgets at which a law is looked at over a range
STEP = 0.1     # of log C, to either side, for a local exponent


def exponents(fit: Fit, compute=None, cost=None, boot: Bootstrap | None = None, also: tuple[str, ...] = (),
              level: float = 0.9, draws: int = 1000, cluster: str | None = None, seed: int = 0,
              **given) -> pd.DataFrame:
    """One row for each approach and count: approach, N and C (what they count), flops_low and flops_high (the
    budgets that it is about), a, b and loss with _low and _high, and note (why a row is empty).

    a, b: of N* and D*; loss: of L* ~ C^-loss, a straight line without the irreducible loss, as Kaplan's.
    compute: (low, high) in FLOPs, by default the range of the runs. cost, boot, given: as in `frontier`;
    without `boot` a law's rows have no interval. also: columns that count parameters in another way; there C
    is 6 times it times D for the law and the envelope, while slices stay those of the runs' own C. cluster: a
    column whose runs (points of one learning curve) are resampled together for the envelope. seed and draws
    are those of the slices' and the envelope's intervals.
    """
    runs, rows = fit.runs, []
    own = {"N": runs.columns.get("N", "N"), "C": "6 N D" if cost is None else "cost(N, D)"}
    counted = runs.columns.get("C", "6 N D")
    for column in (None, *also):
        about, swept, these, price, count = own, runs, runs, cost, None
        if column is not None:
            count = recount(runs, column)
            about = {"N": column, "C": f"6 {column} D"}
            swept = dataclasses.replace(runs, columns={**runs.columns, "N": column})
            these = dataclasses.replace(swept, columns={k: v for k, v in swept.columns.items() if k != "C"})
            price = _six_times(count)
        low, high = compute or (these.flops.min(), these.flops.max())
        if not 0 < low < high:
            raise LawError(f"compute must be (low, high) in FLOPs with 0 < low < high, got ({low}, {high})")
        for at in ((low, high), (low, low), (np.sqrt(low * high),) * 2, (high, high)):
            rows.append(_row("law", about, *_of_law(fit, at, price, boot, count, given), level))
        rows.append(_row("isoflop", about | {"C": counted}, *_of_slices(swept, draws, seed), level))
        rows.append(_row("envelope", about if column else about | {"C": counted},
                         *_of_envelope(these, draws, cluster, seed), level))
    return pd.DataFrame(rows)


def _six_times(count):
    return lambda N, D: 6.0 * count(N) * D


def _row(approach, about, flops, values, drawn, note, level) -> dict:
    """values [3], drawn [draws, 3], None where they are not known."""
    row = {"approach": approach, **about, "flops_low": flops[0], "flops_high": flops[1]}
    low, high = (np.full(3, np.nan),) * 2 if drawn is None else np.nanquantile(
        drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    for i, name in enumerate(EXPONENTS):
        row |= {name: np.nan if values is None else float(values[i]), f"{name}_low": float(low[i]),
                f"{name}_high": float(high[i])}
    return row | {"note": note}


def _of_law(fit, flops, cost, boot, count, given):
    """Of budgets between flops (low, high); of one where they are equal."""
    low, high = flops
    budgets = np.geomspace(low, high, POINTS) if high > low else low * np.exp([-STEP, STEP])

    def slopes(vectors):
        found = optima(fit, budgets, vectors, cost, **given)
        params = found.log_params if count is None else np.log(count(np.exp(found.log_params)))
        many = np.stack([params, found.log_data, -np.log(found.loss)], axis=-1)
        many = np.where(found.inside.all(1)[:, None, None], many, np.nan)
        return _line(np.log(budgets), np.ones((len(vectors), len(budgets))), many)
    try:
        values = slopes(fit.vector[None])[0]
        drawn = None if boot is None else slopes(boot.draws[list(fit.form.names)].to_numpy())
    except LawError as error:
        return flops, None, None, str(error)
    if np.isnan(values).any():
        return flops, None, None, "the fit shows no trade-off of N against D here; see fit.diagnostics"
    lost = 0.0 if drawn is None else float(np.isnan(drawn[:, 0]).mean())
    return flops, values, drawn, f"{lost:.1%} of refits have no trade-off and are left out" if lost else ""


def _of_slices(runs: Runs, draws, seed):
    try:
        found = isoflop(runs, draws=draws, seed=seed)
    except LawError as error:
        return (np.nan, np.nan), None, None, str(error)
    used = found.table[found.table["used"]]
    names = ["a", "b", "loss_exponent"]
    biased = any(said.code == "approach-2-bias" for said in found.diagnostics)
    note = "biased: see isoflop(runs).diagnostics" if biased else ""
    return (used["flops"].min(), used["flops"].max()), [getattr(found, name) for name in names], \
        found.draws[names].to_numpy(), note


def _of_envelope(runs: Runs, draws, cluster, seed):
    flops = runs.positive("C")
    order = np.lexsort([runs.y, flops])
    x, loss = np.log(flops[order]), runs.positive("y")[order]
    many = np.stack([*(np.log(runs.positive(role))[order] for role in ("N", "D")), -np.log(loss)], axis=-1)
    if cluster is not None and cluster not in runs.frame:
        raise LawError(f"no column {cluster!r} to resample by; the columns are "
                       f"{', '.join(map(str, runs.frame))}")
    labels = np.arange(len(x)) if cluster is None else runs.frame[cluster]
    group = pd.factorize(labels, use_na_sentinel=False)[0][order]
    count = group.max() + 1
    chosen = np.random.default_rng([seed, 3]).integers(count, size=(draws, count))
    there = np.zeros((draws + 1, count), bool)
    there[0] = True
    there[1 + np.arange(draws)[:, None], chosen] = True
    seen = np.where(there[:, group], loss, np.inf)
    best = np.minimum.accumulate(seen, axis=1)
    first = seen < np.concatenate([np.full((draws + 1, 1), np.inf), best[:, :-1]], axis=1)
    if first[0].sum() < 3 or np.ptp(x[first[0]]) == 0:
        return (flops.min(), flops.max()), None, None, \
            f"{first[0].sum()} runs are on the lower envelope; 3 are needed"
    slopes = _line(x, first.astype(float), many)
    return tuple(np.exp(x[first[0]][[0, -1]])), slopes[0], slopes[1:], f"{first[0].sum()} runs"


def _line(x, weights, y) -> np.ndarray:
    """Slopes [batch, k] of y [n, k] or [batch, n, k] on x [n] with weights [batch, n]; NaN with a single
    x."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = weights / weights.sum(1, keepdims=True)
        d = x - (share @ x)[:, None]
        spread = np.einsum("bn,bn->b", share, d * d)
        return np.einsum("bn,bnk->bk", share * d, np.broadcast_to(y, (len(weights), *y.shape[-2:]))) \
            / np.where(spread > 1e-12, spread, np.nan)[:, None]
