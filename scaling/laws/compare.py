"""Which law, of several: by how it predicts what it was not fitted to.

    print(compare(runs, ["power", "saturating_power", "m4", "bnsl"]))
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws import diagnose, forms
from scaling.laws.fitting import Fit, fit, refit
from scaling.laws.forms import LawError
from scaling.laws.holdout import Holdout, axis, contenders, default_axis, default_cuts, holdout, records
from scaling.laws.runs import Runs


@dataclass(frozen=True, eq=False)
class Comparison:
    """table: one row a law, best first, with columns

    law; parameters, how many are fitted;
    tied: whether its held-out error is within one standard error of the lowest;
    mape, bias, rmse, coverage: of held-out runs, averaged over the cuts (see Holdout);
    cv_mape: mape of runs whose whole size (or cluster) was left out;
    aicc, bic: differences to the lowest of each, only where the objective is a likelihood.

    Laws tied with the best are ordered by cv_mape, the others by mape. notes: what else to know, in sentences.
    """
    table: pd.DataFrame
    holdout: Holdout
    fits: dict[str, Fit]
    notes: list[str] = field(default_factory=list)

    @property
    def best(self) -> str:
        return str(self.table.law.iloc[0])

    def to_json(self) -> dict:
        return {"table": records(self.table), "notes": list(self.notes), "holdout": self.holdout.to_json()}

    def __str__(self) -> str:
        return "\n".join([self.table.to_string(index=False, float_format=lambda v: f"{v:.4g}"), *self.notes])


def compare(runs, laws: Iterable | None = None, *, cuts: Iterable[float] | None = None, by: str | None = None,
            folds: int = 5, cluster: str | None = None, level: float = 0.9, draws: int = 400,
            **options) -> Comparison:
    """Rank laws on the same runs: by held-out error first, then by cross-validation.

    runs, cuts, by, level, draws and options are those of `holdout`; without cuts, those of its that leave every law
    enough runs. laws: names or Forms, by default all whose inputs the runs have. Cross-validation leaves out whole
    clusters (a column), by default whole model sizes (whole levels of `by` where there is no N), spread over `folds`.
    Laws whose held-out errors differ by less than the standard error of that difference are tied (the rule of
    Breiman et al. 1984, section 3.4.3), and cross-validation decides. AICc and BIC (Burnham and Anderson 2002) join
    only under an objective that is a likelihood.
    """
    if laws is None and not isinstance(runs, Fit):
        laws = _possible(runs)
    runs, named, shared = contenders(runs, laws, options)
    if len(named) < 2:
        raise LawError("a comparison needs at least two laws: laws=['power', 'saturating_power', ...]")
    by = by or default_axis(runs, named)
    most = max(len(form.free) for form in named.values())
    if cuts is None:
        values = axis(runs, by)
        possible = default_cuts(values)
        cuts = [cut for cut in possible if (values < cut).sum() > most + 1] or possible[-1:]
    scored = holdout(runs, cuts=cuts, laws=named.values(), by=by, level=level, draws=draws, cluster=cluster, **shared)
    fits = {name: fit(runs, form, **shared) for name, form in named.items()}
    labels, groups = _folds(runs, by, folds, cluster)
    table = scored.table.groupby("law", sort=False)[
        [c for c in ("mape", "bias", "rmse", "coverage") if c in scored.table]].mean().reset_index()
    table.insert(1, "parameters", [len(named[name].free) for name in table.law])
    table["cv_mape"] = [cross_validate(fits[name], labels) for name in table.law]
    table.insert(2, "tied", table.law.isin(_tied(scored)))
    notes = [f"cross-validation left out whole {groups}, {labels.max() + 1} folds of them"]
    spec = next(iter(fits.values())).spec
    if spec.is_likelihood:
        table[["aicc", "bic"]] = [criteria(fits[name]) for name in table.law]
        table[["aicc", "bic"]] -= table[["aicc", "bic"]].min()
    else:
        notes.append(f"no AICc or BIC: the {spec} is not a likelihood; fit with loss='mse_log' to have them")
    key = np.where(table.tied, table.cv_mape, table.mape)
    table = table.iloc[np.lexsort((key, ~table.tied))].reset_index(drop=True)
    if table.tied.sum() > 1:
        notes.append(f"{', '.join(table.law[table.tied])} predict held-out runs equally well, within one standard "
                     "error: these data do not tell them apart")
    return Comparison(table, scored, fits, notes)


def _possible(runs) -> list[str]:
    """Laws whose inputs are all columns of the runs."""
    from scaling.laws import runs as tables
    forms.get("power")  # all that come with the package are registered by now
    roles = set(tables.of(runs).columns)
    return [name for name, form in forms.FORMS.items() if set(form.inputs) <= roles]


def _tied(scored: Holdout) -> list[str]:
    """Laws whose held-out error is within one standard error, of the paired difference, of the lowest."""
    points = scored.points
    by_law = points.assign(error=(points.predicted / points.observed - 1).abs()).pivot(
        index=["cut", "row"], columns="law", values="error")
    means = by_law.groupby("cut").mean().mean()
    best = means.idxmin()
    gap = by_law.sub(by_law[best], axis=0)
    cells = gap.groupby("cut")
    spread = np.sqrt((cells.var() / cells.count().clip(lower=2)).mean())
    return [law for law in means.index if means[law] - means[best] <= spread[law]]


def _folds(runs: Runs, by: str, folds: int, cluster: str | None) -> tuple[np.ndarray, str]:
    """(fold of each run, what is left out whole). Groups in order of size go to the folds in turn, so that every
    fold has small and large ones."""
    if folds < 2:
        raise LawError(f"cross-validation needs at least 2 folds, got {folds}")
    if cluster is not None:
        if cluster not in runs.frame.columns:
            raise LawError(f"no column {cluster!r} to cluster by; the columns are "
                           f"{', '.join(map(str, runs.frame.columns))}")
        labels, name = pd.factorize(runs.frame[cluster], use_na_sentinel=False)[0], f"clusters of {cluster}"
        order = pd.Series(axis(runs, by)).groupby(labels).median().rank(method="first").to_numpy(int) - 1
        labels = order[labels]
    else:
        role = "N" if "N" in runs.columns else by
        labels, name = diagnose.level_of(np.log(axis(runs, role))), f"levels of {role}"
    if labels.max() < 1:
        raise LawError(f"there is a single one of the {name}, so none can be left out")
    return labels % min(folds, labels.max() + 1), name


def cross_validate(law: Fit, labels: np.ndarray) -> float:
    """Mean |predicted / observed - 1| of each run under the fit to all folds but its own; NaN where a fold leaves
    fewer runs than parameters."""
    held = labels[None] == np.arange(labels.max() + 1)[:, None]
    if (~held).sum(1).min() < len(law.form.free):
        return float("nan")
    found = refit(law, law.y, law.weights * ~held)
    predicted = law.form.predict(found.vectors, law.logs)[labels, np.arange(len(labels))]
    return float(np.abs(predicted / law.y - 1).mean())


def criteria(law: Fit) -> tuple[float, float]:
    """(AICc, BIC) of a least-squares fit with normal noise of unknown size, which counts as a parameter; AICc is
    infinite where there are too few runs for its correction."""
    n, k = int((law.weights > 0).sum()), len(law.form.free) + 1
    deviance = n * np.log(max(law.objective, 1e-300) / n)
    correction = 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf
    return float(deviance + 2 * k + correction), float(deviance + k * np.log(n))
