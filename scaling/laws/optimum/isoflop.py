"""IsoFLOP analysis (Hoffmann et al. 2022, arXiv:2203.15556, approach 2): runs of equal compute form a slice,
each slice has a best size, and best sizes follow a power of compute.

    found = isoflop("runs.csv", method="parabola")
    found.table, found.a, found.interval("a"), found.predict(1e24)

The loss of a slice is a curve in log N (and, separately, in log D): a parabola or a cubic by least squares, or
Akima's interpolation (Akima 1970; used for slices by Porian et al. 2024, arXiv:2406.19146). Least squares then
fit log10 N* = a0 + a log10 C and log10 D* = b0 + b log10 C.

`flags` in the table name the flaws of a slice. A slice with a FATAL flag has no optimum, and the lines leave it
out unless keep="all"; other flags are warnings. Parabolas are biased where slices are wide and the law is not
symmetric in N and D (Czech et al. 2026, arXiv:2603.22339). A diagnostic then says so, with the exponent that
cubics give.

Intervals: the runs of a slice are resampled by their residuals (from the parabola, or from a cubic for the other
two methods). Where optima scatter about the line by more than that, each is moved further by the excess, a random
effect of budgets. The size of this effect is drawn from the chi-square distribution, so few budgets give wide
intervals.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnose import LEVELS_APART, count_levels
from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit, refit
from scaling.laws.fitting.search import fit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals.uncertainty import percentiles
from scaling.laws.optimum.slices import (
    DEGREE,
    FATAL,
    FLAGS,
    Slice,
    find_flaws,
    group_slices,
    lowest_points,
    slice_optimum,
    slice_outliers,
)
from scaling.laws.runs import Runs, as_runs

WIDE = 4.0          # beyond this factor from its minimum a slice is no parabola
MAD = 0.6745        # median absolute deviation of the standard normal distribution


@dataclass(frozen=True, eq=False)
class IsoFlop:
    """Slices, their minima, and the lines through these.

    table: one row a budget, with columns flops, runs, sizes (distinct N), params, data and loss at the minimum,
    each with _low and _high (NaN where a flag is FATAL), outliers (row numbers in the source), flags (words
    joined by "; "), and used (whether the lines rest on this budget).

    The lines are log10 params = a0 + a log10 flops and log10 data = b0 + b log10 flops; loss falls as
    flops^-loss_exponent, without an irreducible loss. draws: [draws] of each of these five numbers. loss: the
    law of the minima in flops, a Fit of saturating_power (of power for three budgets, None below three), with
    loss_draws [draws, P].
    """
    runs: Runs
    slices: list[Slice]
    method: str
    keep: str
    level: float
    table: pd.DataFrame
    a: float
    b: float
    a0: float
    b0: float
    loss_exponent: float
    draws: pd.DataFrame
    loss: Fit | None
    loss_draws: np.ndarray | None
    diagnostics: list[Diagnostic]

    def interval(self, name: str, level: float | None = None) -> tuple[float, float]:
        """Percentile interval of a, b, a0, b0 or loss_exponent."""
        if name not in self.draws:
            raise LawError(f"no number {name!r}; there are {', '.join(self.draws)}")
        return percentiles(self.draws[name].to_numpy(), level or self.level)

    def predict(self, compute) -> pd.DataFrame:
        """The optimum at budgets in FLOPs, one row each: flops, params, data and loss, each with _low and _high.
        The loss is NaN where there is no law of it."""
        compute = np.atleast_1d(np.asarray(compute, float))
        if not np.all(np.isfinite(compute) & (compute > 0)):
            raise LawError("compute budgets must be positive and finite")
        x, columns = np.log10(compute), {"flops": compute}
        for role, slope, intercept in (("params", "a", "a0"), ("data", "b", "b0")):
            starts = self.draws[intercept].to_numpy()[:, None]
            powers = self.draws[slope].to_numpy()[:, None]
            values = 10.0 ** starts * compute ** powers
            here = 10.0 ** (getattr(self, intercept) + getattr(self, slope) * x)
            columns |= _banded(role, here, values, self.level)
        here, values = np.full(len(x), np.nan), np.full((1, len(x)), np.nan)
        if self.loss is not None:
            here, values = (self.loss.form.predict(v, np.log(compute)[None])
                            for v in (self.loss.vector[None], self.loss_draws))
        return pd.DataFrame(columns | _banded("loss", np.ravel(here), values, self.level))

    def curve(self, row: int, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """(N, loss): the fitted curve of one row of the table over its own sizes, for drawing."""
        part = self.slices[row]
        x = np.linspace(part.logs["N"].min(), part.logs["N"].max(), points)
        return np.exp(x), part.curve(self.method, "N", x)

    def to_json(self) -> dict:
        """All but the runs and the draws, as plain JSON values."""
        plain = self.table.astype(object).where(self.table.notna(), None)
        law = None if self.loss is None else {"form": self.loss.form.name, "params": self.loss.params}
        return {"method": self.method, "keep": self.keep, "level": self.level,
                "table": plain.to_dict("records"),
                "params": {name: float(getattr(self, name)) for name in self.draws},
                "intervals": {name: list(self.interval(name)) for name in self.draws},
                "draws": len(self.draws), "loss": law,
                "diagnostics": [said.to_json() for said in self.diagnostics],
                "manifest": self.runs.manifest()}

    def __str__(self) -> str:
        lines = [self.table.to_string(index=False, float_format="{:.4g}".format)]
        for name in ("a", "b"):
            low, high = self.interval(name)
            lines.append(f"{'N*' if name == 'a' else 'D*'} ~ C^{name}: {name} = {getattr(self, name):.4g}   "
                         f"{self.level:.0%} [{low:.4g}, {high:.4g}]")
        return "\n".join([*lines, *(f"! {said}" for said in self.diagnostics)])


def isoflop(runs, method: str = "parabola", budgets=None, tolerance: float = 0.1, keep: str = "sound",
            drop_outliers: bool = False, draws: int = 1000, level: float = 0.9, seed: int = 0,
            **columns) -> IsoFlop:
    """Minima of slices of equal compute, and the powers of compute that they follow.

    runs: Runs, a DataFrame or a path; `columns` as in Runs (y, params, data, compute). Compute is the column
    C, else 6 N D. Where N or D has no column it is C / (6 D) or C / (6 N).

    budgets: None groups three or more runs whose compute is within a factor 1 + tolerance of one another, the
    largest group first. FLOPs are budgets, and runs within that factor join the nearest. A column's name makes
    a slice of each of its values. keep: "sound" uses budgets without a FATAL flag; "all" uses every budget that
    has a minimum or a maximum, as published analyses often do. drop_outliers leaves out runs that lie farther
    off the curve than a slice's largest residual would in 1% of slices.

    Raises LawError when fewer than two budgets can be used, and names the flaws of each.
    """
    if method not in DEGREE:
        raise LawError(f"method must be one of {', '.join(DEGREE)}, got {method!r}")
    if keep not in ("sound", "all"):
        raise LawError(f"keep must be 'sound' or 'all', got {keep!r}")
    if draws < 2 or not 0 < level < 1:
        raise LawError(f"draws must be at least 2 and level between 0 and 1, got {draws} and {level}")
    runs, rng = as_runs(runs, **columns), np.random.default_rng([seed, 2])
    slices = group_slices(runs, budgets, tolerance)
    alone = len(runs) - sum(len(part.rows) for part in slices)
    odd = [slice_outliers(part.logs["N"], part.loss, DEGREE[method]) for part in slices]
    rows = [[int(row) for row in part.rows[mask]] for part, mask in zip(slices, odd)]
    if drop_outliers:
        slices = [part.without(mask) for part, mask in zip(slices, odd)]
    found = [slice_optimum(part, method, draws, rng) | {"odd": these} for part, these in zip(slices, rows)]
    flags = [find_flaws(one, part, method) for one, part in zip(found, slices)]
    usable = [np.isfinite([one["params"], one["data"], one["loss"]]).all() for one in found]
    used = [ok and (keep == "all" or not set(said) & set(FATAL)) for ok, said in zip(usable, flags)]
    if sum(used) < 2:
        bad = [f"{part.flops:.3g} ({', '.join(said)})" for part, said in zip(slices, flags) if said][:6]
        raise LawError(f"a power of compute needs two budgets with a minimum inside, but {sum(used)} of "
                       f"{len(slices)} have one: {'; '.join(bad)}; add sizes around the minima, or set "
                       "budgets= or tolerance=")
    table = pd.DataFrame([_row(*each, level) for each in zip(found, slices, flags, used)])
    kept = [one for one, ok in zip(found, used) if ok]
    log_compute = np.log(table["flops"][table["used"]].to_numpy())
    if np.ptp(log_compute) < LEVELS_APART:
        raise LawError(f"the {len(kept)} usable slices have one compute, {np.exp(log_compute[0]):.3g} FLOPs; "
                       "a power of compute needs several")
    z = rng.standard_normal((len(kept), draws))
    lines, drawn = _lines(kept, log_compute, z, rng)
    law, law_draws = _loss_law(kept, log_compute, z, rng)
    said = _diagnose(table, slices, found, lines, method, keep, alone)
    return IsoFlop(runs, slices, method, keep, level, table, **lines, draws=pd.DataFrame(drawn), loss=law,
                   loss_draws=law_draws, diagnostics=said)


def _row(one: dict, part: Slice, flags: list[str], used: bool, level: float) -> dict:
    row = {"flops": part.flops, "runs": len(part.rows), "sizes": count_levels(part.logs["N"])}
    for name in ("params", "data", "loss"):
        row |= _banded(name, float(np.exp(one[name])), np.exp(one[f"{name}_draws"]), level)
        if set(flags) & set(FATAL):
            row |= {f"{name}_low": np.nan, f"{name}_high": np.nan}
    return row | {"outliers": one["odd"], "flags": "; ".join(flags), "used": used}


def _scattered(here, fitted, draws, z, parameters: int, rng) -> np.ndarray:
    """Draws [budgets, draws] of optima, moved by z times the excess scatter of `here` about `fitted`: the part
    that the draws do not have already."""
    spare = len(here) - parameters
    if spare < 1:
        return draws
    off = np.abs(draws - np.median(draws, axis=1, keepdims=True))
    within = np.mean((np.median(off, axis=1) / MAD) ** 2)
    total = np.sum((here - fitted) ** 2) / rng.chisquare(spare, draws.shape[1])
    return draws + np.sqrt(np.maximum(total - within, 0.0)) * z


def _lines(kept: list[dict], log_compute, z, rng) -> tuple[dict, dict]:
    """({a, a0, b, b0, loss_exponent}, draws of each): straight lines through the logarithms of the optima."""
    lines, drawn = {}, {}
    for name, sign in (("params", 1.0), ("data", -1.0), ("loss", 1.0)):  # a larger N* means a smaller D*
        here = np.stack([one[name] for one in kept])
        line = np.polyfit(log_compute, here, 1)
        many = np.stack([one[f"{name}_draws"] for one in kept])
        many = _scattered(here, np.polyval(line, log_compute), many, sign * z, 2, rng)
        for (slope, start), out in ((line, lines), (np.polyfit(log_compute, many, 1), drawn)):
            if name == "loss":
                out["loss_exponent"] = -slope
            else:
                power, intercept = ("a", "a0") if name == "params" else ("b", "b0")
                out[power], out[intercept] = slope, start / np.log(10)
    return lines, drawn


def _loss_law(kept: list[dict], log_compute, z, rng) -> tuple[Fit | None, np.ndarray | None]:
    """The law of the minima's loss in compute, and its refits [draws, P]; None below three budgets."""
    if len(kept) < 3:
        return None, None
    here = np.array([one["loss"] for one in kept])
    law = fit(pd.DataFrame({"x": np.exp(log_compute), "loss": np.exp(here)}),
              "power" if len(kept) == 3 else "saturating_power", loss="mse_log")
    spread = _scattered(here, np.log(law.predicted), np.stack([one["loss_draws"] for one in kept]), z,
                        len(law.form.free), rng)
    return law, refit(law, np.exp(spread).T, law.weights).vectors


def _diagnose(table, slices, found, lines, method, keep, alone) -> list[Diagnostic]:
    said, used = [], table["used"].to_numpy()
    if alone:
        said.append(Diagnostic(f"{alone} runs have no budget in common with two others and "
                               "are left out.", "no-slice", ("C",)))
    flags = table["flags"].str.split("; ")
    for flag, meaning in FLAGS.items():
        flagged = table["flops"][[flag in row for row in flags]]
        if flagged.empty:
            continue
        code, done = flag, ""
        if flag in FATAL:
            code, done = ("refused", "; left out") if keep == "sound" else ("kept", "; used because keep='all'")
        said.append(Diagnostic(f"{len(flagged)} of {len(table)} budgets have {meaning}: "
                               f"{', '.join(f'{c:.3g}' for c in flagged)}{done}.", code, ("N", "D")))
    if used.sum() < 4:
        said.append(Diagnostic(f"The lines rest on {used.sum()} budgets: the data hardly check their "
                               "slopes.", "degrees-of-freedom", ("a", "b")))
    parts = [(part, one) for part, one, ok in zip(slices, found, used) if ok]
    reach = float(np.median([np.abs(part.logs["N"] - one["params"]).max() for part, one in parts]))
    if method == "parabola" and np.exp(reach) > WIDE:
        cubic = np.array([lowest_points("cubic", part.logs["N"], part.loss[:, None]).where[0] for part, _ in parts])
        good, at = np.isfinite(cubic), np.log([part.flops for part, _ in parts])
        other = f" (cubics give a = {np.polyfit(at[good], cubic[good], 1)[0]:.4g})" if good.sum() > 1 else ""
        said.append(Diagnostic(f"The slices reach a factor of {np.exp(reach):.3g} from their minima. Parabolas "
                               "are biased there: in N* and, unless all slices are centred alike, in a = "
                               f"{lines['a']:.4g}{other}. Prefer a law fitted to all runs.",
                               "approach-2-bias", ("a", "b")))
    return said


def _banded(name: str, here, draws, level: float) -> dict:
    low, high = percentiles(draws, level)
    return {name: here, f"{name}_low": low, f"{name}_high": high}
