"""Which of several laws: they are ranked by how well they predict runs that they were not fitted to.

    print(compare(runs, ["power", "saturating_power", "bnsl"]))
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnose import level_of
from scaling.laws.fitting.fit import Fit, refit
from scaling.laws.fitting.search import fit
from scaling.laws.forms.catalogue import FORMS
from scaling.laws.forms.form import LawError
from scaling.laws.runs import Runs, as_runs
from scaling.laws.scores.holdout import Holdout, axis, contenders, default_axis, default_cuts, holdout, plain_rows

CLOSE = 0.01   # share of the lowest error: a smaller difference is none, whatever its standard error
CHANCE = 0.01  # with which a law that is as good as the best fitting one would be called refuted


@dataclass(frozen=True, eq=False)
class Comparison:
    """A ranking of laws.

    table: one row a law, best first, with columns

    law; parameters: how many are fitted;
    refuted: whether the runs that it was fitted to tell it from the law that fits best (see `refuted`);
    tied: whether it isn't, and its held-out error is within one standard error of the lowest of such laws;
    mape, bias, rmse, coverage: of held-out runs, averaged over the cuts (see `Holdout`);
    cv_mape: mape of cross-validation, which leaves out whole sizes (or clusters);
    aicc, bic: differences to the lowest of each, only where the objective is a likelihood.

    Laws that tie with the best in the held-out error and in cv_mape come first, by their number of parameters.
    Then come the other laws that tie in the held-out error, by cv_mape, and then all others, by mape, refuted ones last.
    notes: remarks in whole sentences.
    """
    table: pd.DataFrame
    holdout: Holdout
    fits: dict[str, Fit]
    notes: list[str] = field(default_factory=list)

    @property
    def best(self) -> str:
        return str(self.table.law.iloc[0])

    def to_json(self) -> dict:
        return {"table": plain_rows(self.table), "notes": list(self.notes), "holdout": self.holdout.to_json()}

    def __str__(self) -> str:
        return "\n".join([self.table.to_string(index=False, float_format=lambda v: f"{v:.4g}"), *self.notes])


def compare(runs, laws: Iterable | None = None, *, cuts: Iterable[float] | None = None, by: str | None = None,
            folds: int = 5, cluster: str | None = None, level: float = 0.9, draws: int = 400, method: str = "auto",
            correlation: float = 0.5, quick: bool = False, **options) -> Comparison:
    """Rank laws on the same runs: by held-out error first, then by cross-validation.

    runs, cuts, by, level, draws, method, correlation and options are those of `holdout`. Without cuts, the default
    cuts that leave every law enough runs are used. laws: names or Forms, by default all whose inputs the runs have.
    quick: fits are quick ones, and those of later cuts start from the optima of others (`near` of `holdout`).
    Cross-validation leaves out whole clusters (a column), by default whole model sizes (whole levels of `by`
    where there is no N), spread over `folds`.

    Laws whose held-out errors differ by less than the standard error of that difference are tied, and
    cross-validation decides between them. Where it ties too, the law with the fewest parameters leads (the rule
    of Breiman et al. 1984, section 3.4.3). AICc and BIC (Burnham and Anderson 2002) join under a likelihood.
    """
    if laws is None and not isinstance(runs, Fit):
        laws = candidates(runs)
    runs, named, shared = contenders(runs, laws, options)
    if len(named) < 2:
        raise LawError("a comparison needs at least two laws: laws=['power', 'saturating_power', ...]")
    by = by or default_axis(runs, named)
    most = max(len(form.free) for form in named.values())
    if cuts is None:
        values = axis(runs, by)
        possible = default_cuts(values)
        cuts = [cut for cut in possible if (values < cut).sum() > most + 1] or possible[-1:]
    labels, groups = _folds(runs, by, folds, cluster)
    fits = {name: fit(runs, form, quick=quick, **shared) for name, form in named.items()}
    scored = holdout(runs, cuts=cuts, laws=named.values(), by=by, level=level, draws=draws, cluster=cluster,
                     method=method, correlation=correlation, near=fits if quick else None, **shared)
    held = scored.points.assign(error=(scored.points.predicted / scored.points.observed - 1).abs()).pivot(
        index=["cut", "row"], columns="law", values="error")[list(named)]
    left = pd.DataFrame({name: np.abs(cross_validate(law, labels) / law.y - 1) for name, law in fits.items()})
    table = scored.table.groupby("law", sort=False)[
        [c for c in ("mape", "bias", "rmse", "coverage") if c in scored.table]].mean()
    table.insert(0, "parameters", [len(named[name].free) for name in table.index])
    table.insert(1, "refuted", refuted(fits))
    standing = ~table.refuted
    table.insert(2, "tied", False)
    table.loc[standing, "tied"] = tied(held.loc[:, standing], held.index.get_level_values("cut"))
    table["cv_mape"] = left.mean(skipna=False)
    notes = [f"cross-validation left out whole {groups}, in {labels.max() + 1} folds"]
    spec = next(iter(fits.values())).spec
    if spec.is_likelihood:
        table[["aicc", "bic"]] = [criteria(fits[name]) for name in table.index]
        table[["aicc", "bic"]] -= table[["aicc", "bic"]].min()
    else:
        notes.append(f"no AICc or BIC: the {spec} is not a likelihood; fit with loss='mse_log' to have them")
    both = table.tied.copy()
    both[both] = tied(left[both.index[both]], np.zeros(len(left)))
    key = np.where(both, table.parameters, np.where(table.tied, table.cv_mape, table.mape))
    table = table.iloc[np.lexsort((table.cv_mape, key, ~both, ~table.tied, table.refuted))].reset_index()
    if table.refuted.any():
        notes.append(f"{', '.join(table.law[table.refuted])}: refuted by the fitted runs, since residuals are larger than "
                     f"those of the law that fits best, by more than chance ({CHANCE:.0%}, variance ratio)")
    if table.tied.sum() > 1:
        notes.append(f"{', '.join(table.law[table.tied])} predict held-out runs equally well, within one "
                     "standard error: these data do not tell them apart")
    return Comparison(table, scored, fits, notes)


def candidates(runs) -> list[str]:
    """Names of the laws whose inputs are all columns of the runs."""
    roles = set(as_runs(runs).columns)
    return [name for name, form in FORMS.items() if set(form.inputs) <= roles]


def tied(errors: pd.DataFrame, cuts) -> np.ndarray:
    """[laws] whether a law's mean error is within one standard error of the lowest. The standard error is that
    of the paired difference. errors [runs, laws] are averaged within each cut, then over cuts."""
    means = errors.groupby(cuts).mean().mean()
    if means.isna().all():  # there are too few runs for any law to leave some out
        return np.ones(len(means), bool)
    gap = errors.sub(errors[means.idxmin()], axis=0).groupby(cuts)
    spread = np.sqrt((gap.var() / gap.count()).mean().fillna(0.0))
    return (means - means.min() <= spread + CLOSE * means.min()).to_numpy()


def refuted(fits: dict[str, Fit]) -> np.ndarray:
    """[laws] whether the runs tell a law from the one whose residuals have the lowest variance, by the ratio of both
    variances (the F test). Laws see the same noise, which brings the ratio nearer to 1 than it assumes, so a law is refuted
    too seldom rather than too often. A law without more runs than parameters is never refuted, and refutes none."""
    from scipy import stats  # in a third of a second, and only where laws are compared

    free = np.array([law.degrees_of_freedom for law in fits.values()])
    sums = np.array([float((law.weights * law.residuals ** 2).sum()) for law in fits.values()])
    variance = np.divide(sums, free, out=np.full(len(free), np.inf), where=free > 0)
    least = int(np.argmin(variance))
    if not 0 < variance[least] < np.inf:
        return np.zeros(len(free), bool)
    chance = stats.f.sf(variance / variance[least], np.maximum(free, 1), free[least])
    return (free > 0) & (chance < CHANCE)


def _folds(runs: Runs, by: str, folds: int, cluster: str | None) -> tuple[np.ndarray, str]:
    """(fold of each run, name of the groups). Groups are never split. In order of size they go to the folds in
    turn, so that every fold has small and large ones."""
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
        labels, name = level_of(np.log(axis(runs, role))), f"levels of {role}"
    if labels.max() < 1:
        raise LawError(f"there is a single one of the {name}, so cross-validation cannot leave one out")
    return labels % min(folds, labels.max() + 1), name


def cross_validate(law: Fit, labels: np.ndarray) -> np.ndarray:
    """The prediction of each run [n] by the fit to all folds but its own. All NaN if a fold leaves fewer runs
    than the law has parameters."""
    held = labels[None] == np.arange(labels.max() + 1)[:, None]
    if (~held).sum(1).min() < len(law.form.free):
        return np.full(len(labels), np.nan)
    found = refit(law, law.y, law.weights * ~held)
    return law.form.predict(found.vectors, law.logs)[labels, np.arange(len(labels))]


def criteria(law: Fit) -> tuple[float, float]:
    """(AICc, BIC) of a least-squares fit with normal noise, whose unknown size counts as a parameter. AICc is
    infinite where there are too few runs for its correction."""
    n, k = int((law.weights > 0).sum()), len(law.form.free) + 1
    deviance = n * np.log(max(law.objective, 1e-300) / n)
    correction = 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf
    return float(deviance + 2 * k + correction), float(deviance + k * np.log(n))
