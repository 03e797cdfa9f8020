"""Which law a study reports and forecasts by, and the error of its forecast, by a rule of the config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from scaling import laws
from scaling.results import edges, seeds

if TYPE_CHECKING:
    import pandas as pd

# Runs of a few minutes miss the law by more than Huber's usual delta. A delta of the size of the noise weighs them as a
# normal error would, and still discounts outliers.
HOW = {"delta": "noise", "weights": "seeds"}


def law_of(law: str, forecast: epath.Path) -> str:
    """The law or rule of a config; but under a rule, where a forecast was made by a law without one, that law.

    Such a forecast is of a version that had no rules. It is never made again, and the fit beside it should be its own.
    """
    if law not in laws.RULES or not forecast.exists():
        return law
    try:
        written = laws.forecast.read(forecast)
    except laws.LawError:
        return law  # whoever compares the forecast says what is wrong with it
    return law if "chosen" in written else written["form"]


def with_edges(runs: pd.DataFrame, cells: pd.DataFrame, law: str, fit_edges: bool) -> pd.DataFrame:
    """`cells`, the tuned cells of `runs`, with a column `left_out` that says which the fit leaves out; see
    `edges.left_out`."""
    form = laws.FORMS.get(law, laws.FORMS["chinchilla"])
    return cells.assign(left_out=edges.left_out(runs, cells, len(form.free), fit_edges))


def points_of(cells: pd.DataFrame, metric: str, unit: str) -> laws.Runs:
    """The cells of `with_edges` as runs for a fit, with the names of N, D, C and the metric in the records, and the size of
    each."""
    source = {"kind": "workdir", "runs": len(cells)}
    return laws.Runs.from_dataframe(
        cells.assign(**{seeds.SIZE: seeds.size_labels(cells)}), metric, params="params_non_embedding",
        data=f"{unit}_seen", compute="flops", unique=f"{unit}_unique", source=source).without_edges(cells["left_out"])


def judge(points: laws.Runs, law: str, runs: pd.DataFrame, cells: pd.DataFrame, target=None,
          target_seeds: int = 1, fix: Mapping[str, float] | None = None) -> laws.Calibrated:
    """The law that the rule, or name, `law` chooses for the tuned runs, scored beside its rivals, with its bootstrap.

    points: of `cells`, with a column `seeds.SIZE`. runs: those that the cells are means of. target: the experiment that is
    forecast, if any, as the mean of `target_seeds` runs. fix: parameters that every law holds at a value. Raises LawError
    for too few runs.
    """
    metric = points.columns["y"]
    log = bool((points.y > 0).all())
    noise = seeds.seed_noise(runs, cells, metric, log)
    clustered = {"cluster": seeds.SIZE if points.frame[seeds.SIZE].nunique() > 1 else None, "correlation": noise.shared}
    chosen = laws.choose_law(points, law, fix=fix, pure=(noise.variance, noise.degrees) if noise.measured else None,
                             **clustered, **HOW)
    chosen.notes.append(_said(noise, clustered["cluster"]))
    usual = float(cells["seeds"].mean()) if "seeds" in cells else 1.0
    # The law's scatter holds the noise of a mean over `usual` seeds; what the target has beyond that is added.
    beyond = 0.0 if np.isnan(noise.variance) else max(0.0, noise.variance * (1 / target_seeds - 1 / usual))
    return laws.calibrate(chosen, **clustered, seed_noise=beyond, evaluation=evaluation_error(cells, metric, target, log))


def _said(noise: seeds.SeedNoise, clustered) -> str:
    if not clustered:
        return "runs are taken for independent, since there is a single size"
    how = f"as measured from {noise.degrees} degrees of freedom between seeds" if noise.measured else (
        "an assumption, since too few seeds show it")
    return f"runs of one size share {noise.shared:.0%} of the variance of their errors, {how}"


def evaluation_error(cells: pd.DataFrame, metric: str, target, log: bool = True) -> float:
    """The standard deviation of the target's result that comes from evaluating it on other examples than the fitted runs.

    Runs that are evaluated on the same examples share their error, and the law goes through it. A target that is evaluated
    on m examples, where the cells have the first n of them, differs by the variance se^2 |1 - n / m|, with se the standard
    error of the cells. It is relative if `log`. Zero where records hold no standard error.
    """
    errors = cells.get(f"{metric}_se")
    if target is None or errors is None or "evaluated" not in cells or not errors.notna().any():
        return 0.0
    usual = float((errors / cells[metric].abs() if log else errors).median())
    return usual * abs(1 - float(cells["evaluated"].median()) / target.data.evaluated) ** 0.5
