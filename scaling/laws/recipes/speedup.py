"""The effective speed-up of a change: the compute that the base needs for the loss of the change, over that of the change.

At rung i the base reaches the loss L_b at C_b, and the change L_c at C_c. A law of the base, fitted to its runs by least
squares in log loss, says how many times C_b would bring the base from L_b to L_c; this compute over C_c is the speed-up. So
the law gives only the slope around the rung, and what the two recipes share there (the luck of a seed, the evaluation
set) cancels. A rung that only the change has is read off the law itself.

Noise: the log losses of one rung scatter by seed, with one variance for all rungs. With common seeds it is that of the
differences of pairs; otherwise that of runs, taken as equal in both recipes. Where the line (see `trend`) fits, its
residuals are pooled with the seeds. Intervals are percentiles of draws: of the noise's size (chi-square with its degrees
of freedom), of the noise itself, and of the base's law, refitted to its runs with the same noise.
tests/laws/test_recipe_coverage.py measures how often 90% intervals hold the truth: 89 to 92% of the time.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from scaling.laws.fitting.fit import Fit, refit
from scaling.laws.fitting.search import fit as fit_law
from scaling.laws.forms.catalogue import get_form
from scaling.laws.forms.form import LawError
from scaling.laws.intervals.uncertainty import residual_spread
from scaling.laws.recipes.ladder import Ladder
from scaling.laws.runs import Runs

NEAR = 1.5        # factor by which C (on a grid N and D) of two rungs may differ for them to be one rung of the ladder
FURTHEST = 1e4    # speed-ups beyond this factor, or below one over it, are not told apart
STEPS = 401       # of the search for a speed-up, between these ends
BEND = 3          # rungs of the base from which its law may level off (E + A C^-alpha)
SPARE = 1         # degrees of freedom that its fit must leave for that


class Noise(NamedTuple):
    """The standard deviation of the log loss difference of one pair of runs, and its degrees of freedom (inf if assumed).

    source: "seeds", "line" (the scatter of the speed-ups about it), "both" or "assumed"; "" where nothing is known.
    """
    size: float
    freedom: float
    source: str


class Rungs(NamedTuple):
    """The rungs of the change, [R] each. counts: the pairs of runs that each log loss difference is worth."""
    flops: np.ndarray
    gap: np.ndarray       # log loss of the change minus that of the base; NaN where the base has no such rung
    own: np.ndarray       # log loss of the change
    logs: np.ndarray      # inputs of the base's law where the search starts, [inputs, R]
    ratio: np.ndarray     # log of the compute where it starts over that of the change
    counts: np.ndarray
    shared: np.ndarray    # correlation of the gap's noise with that of the base's mean, with its sign
    base_runs: np.ndarray  # share of each run of the base in its mean at the rung, [R, runs]
    seeds: Noise          # what the seeds say
    paired: bool
    table: pd.DataFrame
    said: list[str]


def base_law(base: Ladder, law=None) -> Fit:
    """The law of the base's runs in log loss, by least squares: of C on a ladder, of N and D on a grid.

    law: a form, or its name, in x (compute) or in N and D. By default chinchilla on a grid. On a ladder it is
    saturating_power, or a power law where there are too few rungs or runs for that.
    """
    frame, rungs = base.frame, base.frame["rung"].nunique()
    if law is None:
        levels = rungs >= BEND and len(frame) >= SPARE + 3
        law = "chinchilla" if base.grid else "saturating_power" if levels else "power"
    form = get_form(law)
    if form.inputs not in (("x",), ("N", "D")):
        raise LawError(f"the law of the base must be in compute (x) or in N and D, and {form.name} is in "
                       f"{', '.join(form.inputs)}; law=saturating_power is one of compute")
    runs = Runs.from_dataframe(frame, "loss", compute="flops", x="flops")
    return fit_law(runs, form, loss="mse_log", quick=True)


def match_rungs(base: Ladder, change: Ladder) -> list[tuple[int, int]]:
    """(rung of the base, rung of the change) of each rung that both have: by label, or else the nearest within NEAR."""
    if base.label and change.label:
        there = {text: rung for rung, text in base.label.items()}
        return [(there[text], rung) for rung, text in change.label.items() if text in there]
    names = ["N", "D"] if base.grid and change.grid else ["flops"]
    logs = [np.log(each.cells[names].to_numpy()) for each in (base, change)]
    apart = np.abs(logs[0][:, None] - logs[1][None])
    near = (apart <= np.log(NEAR)).all(-1)
    rows, columns = linear_sum_assignment(np.where(near, (apart ** 2).sum(-1), 1e6))
    return sorted((int(row), int(column)) for row, column in zip(rows, columns) if near[row, column])


def shared_rungs(base: Ladder, change: Ladder) -> list[int]:
    """The rungs of the change that the base has too, or whose compute it spans. Raises LawError for fewer than two."""
    pairs = {there for _, there in match_rungs(base, change)}
    cells, flops = change.cells, base.cells["flops"]
    low, high = flops.min() / NEAR, flops.max() * NEAR
    used = [rung for rung in cells.index if rung in pairs or low <= cells["flops"][rung] <= high]
    if not used:
        raise LawError(f"the ladders do not overlap: {base.name} spans {flops.min():.3g} to {flops.max():.3g} FLOPs and "
                       f"{change.name} {cells['flops'].min():.3g} to {cells['flops'].max():.3g}; train both on rungs of "
                       "about the same compute")
    if len(used) < 2 or len(flops) < 2:
        raise LawError(f"{base.name} and {change.name} share one rung, at {cells['flops'][used[0]]:.3g} FLOPs, and a trend "
                       "needs two or more; train both at another amount of compute too")
    return used


def find_rungs(base: Ladder, change: Ladder, law: Fit) -> Rungs:
    """The rungs of the change beside those of the base. Raises LawError as `shared_rungs` does."""
    pairs, cells = {there: here for here, there in match_rungs(base, change)}, change.cells
    used = shared_rungs(base, change)
    runs = [_by_seed(base, pairs.get(rung)) for rung in used], [_by_seed(change, rung) for rung in used]
    paired = base.seeded and change.seeded and all(
        set(a.index) <= set(b.index) or set(b.index) <= set(a.index) for a, b in zip(*runs)) and len(pairs) >= len(used)
    rows = []
    for rung, a, b in zip(used, *runs):
        both = a.index.intersection(b.index) if paired else []
        pair = (b[both] - a[both]).to_numpy() if paired else np.empty(0)
        inside = [pair] if paired else [a.to_numpy(), b.to_numpy()]
        here = a[both] if paired else a
        partner = pairs.get(rung)
        rows.append({
            "rung": rung, "partner": partner, "flops": cells["flops"][rung], "change": np.exp(b.mean()),
            "base": np.exp(a.mean()) if len(a) else np.nan, "pairs": len(pair), "base_runs": len(a), "change_runs": len(b),
            "gap": pair.mean() if paired else b.mean() - a.mean() if len(a) else np.nan,
            "count": len(pair) if paired else 2 / (1 / len(a) + 1 / len(b)) if len(a) else 2 * len(b),
            "square": sum(((each - each.mean()) ** 2).sum() for each in inside if len(each)) * (1 if paired else 2),
            "freedom": sum(max(len(each) - 1, 0) for each in inside),
            "weights": np.isin(base.frame["seed"], here.index) & (base.frame["rung"] == partner).to_numpy()})
    table = pd.DataFrame(rows)
    freedom = int(table["freedom"].sum())
    noise = Noise(float(np.sqrt(table["square"].sum() / freedom)), freedom, "seeds") if freedom else Noise(np.nan, 0, "")
    weights = np.stack(table["weights"]).astype(float)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1)
    return Rungs(table["flops"].to_numpy(), table["gap"].to_numpy(float), np.log(table["change"].to_numpy()),
                 *_starts(base, change, law, table), table["count"].to_numpy(float), _shared(table, law, noise, paired),
                 weights, noise, paired, table, _left_out(base, change, pairs, used))


def _by_seed(ladder: Ladder, rung: int | None) -> pd.Series:
    """The log losses of a rung by seed; none without a rung."""
    here = ladder.frame[ladder.frame["rung"] == rung]
    return pd.Series(np.log(here["loss"].to_numpy(float)), index=here["seed"].to_numpy())


def _starts(base: Ladder, change: Ladder, law: Fit, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(logs of the law's inputs [inputs, R], log of their compute over that of the change [R]) where searches start."""
    points = [base.cells.loc[int(partner)] if pd.notna(partner) else change.cells.loc[rung]
              for rung, partner in zip(table["rung"], table["partner"])]
    columns = law.runs.columns
    logs = np.log([[point[columns[name]] for point in points] for name in law.form.inputs])
    return logs, np.log([point["flops"] for point in points]) - np.log(table["flops"].to_numpy())


def _shared(table: pd.DataFrame, law: Fit, noise: Noise, paired: bool) -> np.ndarray:
    """The correlation of a gap's noise with that of the base's mean, where both recipes have equal noise.

    Without pairs the base's mean is one of two independent parts. With pairs, cov(c - b, b) = -var(c - b) / 2.
    """
    if not paired:
        count = table["base_runs"].to_numpy(float)
        return -np.where(count > 0, np.sqrt(1 / np.maximum(count, 1) / (2 / table["count"].to_numpy())), 0.0)
    one = residual_spread(law) if law.degrees_of_freedom > 0 else np.nan
    return np.full(len(table), -float(np.clip(np.nan_to_num(noise.size / (2 * one), nan=0.7), 0.0, 0.95)))


def _left_out(base: Ladder, change: Ladder, pairs: dict, used: list) -> list[str]:
    """Sentences about rungs that only one recipe has."""
    said, cells = [*base.said, *change.said], change.cells["flops"]
    if out := [f"{value:.3g}" for rung, value in cells.items() if rung not in used]:
        said.append(f"{change.name} at {', '.join(out)} FLOPs is left out, since {base.name} has nothing near it")
    if alone := [f"{cells[rung]:.3g}" for rung in used if rung not in pairs]:
        said.append(f"{base.name} has no rung of {change.name}'s {', '.join(alone)} FLOPs, so these are read off its law")
    if more := [f"{value:.3g}" for rung, value in base.cells["flops"].items() if rung not in pairs.values()]:
        said.append(f"{base.name} at {', '.join(more)} FLOPs serves its law alone")
    return said


def solve_speedups(law: Fit, vectors: np.ndarray, rungs: Rungs, gap: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Log speed-ups [draws, R] for parameters of the base's law [draws, P], gaps and own log losses [draws, R].

    N and D grow by equal factors on a grid. Where the base never reaches the loss, the value is that of FURTHEST.
    """
    m = np.linspace(-np.log(FURTHEST), np.log(FURTHEST), STEPS)
    along = (m if len(law.form.inputs) == 1 else m / 2)[None, None] + rungs.logs[:, :, None]  # [inputs, R, steps]
    curves = np.log(law.form.predict(vectors, along.reshape(len(along), -1))).reshape(len(vectors), -1, STEPS)
    level = np.where(np.isfinite(gap), curves[:, :, STEPS // 2] + np.nan_to_num(gap), own)
    at = np.clip((curves > level[:, :, None]).sum(-1), 1, STEPS - 1)[:, :, None]  # curves fall
    before, after = np.take_along_axis(curves, at - 1, 2)[..., 0], np.take_along_axis(curves, at, 2)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.nan_to_num((before - level) / (before - after), nan=0.0, posinf=1.0, neginf=0.0)
    found = m[at[..., 0] - 1] + np.clip(part, 0.0, 1.0) * (m[1] - m[0])
    return found + rungs.ratio


def steepness(law: Fit, rungs: Rungs) -> np.ndarray:
    """-d log loss / d log compute of the base's law at each rung, [R]."""
    step = 1e-3
    moved = [rungs.logs + side * step / (2 * len(law.form.inputs)) for side in (-1, 1)]
    low, high = (np.log(law.form.predict(law.vector[None], logs)[0]) for logs in moved)
    return np.maximum((low - high) / step, 1e-12)


def draw(law: Fit, rungs: Rungs, noise: Noise, run_noise: tuple[float, float], draws: int, seed: int) -> np.ndarray:
    """Draws of the log speed-ups, [draws, R]. run_noise: (standard deviation of one run about the law, its freedom)."""
    rng = np.random.default_rng([seed, 2])
    size, one = (noise_sizes(value, freedom, draws, rng) for value, freedom in ((noise.size, noise.freedom), run_noise))
    z = rng.standard_normal((draws, len(law.y)))
    found = refit(law, law.predicted * np.exp(one[:, None] * z), law.weights)
    weights = rungs.base_runs
    mean = z @ weights.T / np.sqrt(np.maximum((weights ** 2).sum(1), 1e-300))
    other = rng.standard_normal(mean.shape)
    moved = rungs.shared * mean + np.sqrt(1 - rungs.shared ** 2) * other
    moved *= size[:, None] / np.sqrt(rungs.counts)
    fine = np.isfinite(found.vectors).all(1)
    return solve_speedups(law, found.vectors[fine], rungs, rungs.gap + moved[fine], rungs.own + moved[fine])


def noise_sizes(value: float, freedom: float, draws: int, rng) -> np.ndarray:
    """Draws [draws] of a standard deviation that was estimated as `value` with degrees of freedom (inf: known)."""
    if not np.isfinite(freedom):
        return np.full(draws, value)
    return value * np.sqrt(freedom / rng.chisquare(freedom, draws))
