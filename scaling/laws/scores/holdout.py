"""Held-out scores: fit a law to the small runs, predict the large ones, and measure the error.

    table = holdout(runs, cuts=[1e20, 3e20], laws=["chinchilla", "tied_chinchilla"]).table
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit
from scaling.laws.fitting.optimise import QUICK_ITERATIONS
from scaling.laws.fitting.search import fit
from scaling.laws.forms.catalogue import FORMS, get_form
from scaling.laws.forms.form import Form, LawError
from scaling.laws.intervals.uncertainty import bootstrap
from scaling.laws.runs import Runs, as_runs

SHORT = 3.0                             # coverage is short if it is this many standard errors below its level
OWN = ("law", "fix", "tie", "bounds")   # settings of one law; all laws share the other settings
SCORES = ("law", "cut", "n_fit", "n_test", "mape", "bias", "rmse", "coverage", "width")


@dataclass(frozen=True, eq=False)
class Holdout:
    """Scores of laws on held-out runs.

    table: one row a law and cut, with columns

    law, cut, n_fit, n_test;
    mape: mean |predicted / observed - 1|; bias: mean (predicted / observed - 1);
    rmse: root mean square of log(predicted / observed);
    coverage: share of held-out runs inside their prediction intervals at `level`; width: the median of
    high / low - 1 of these intervals, since very wide intervals cover too;
    the parameters of each fit, and a, the exponent of N* ~ C^a under C = 6 N D, where the law has one.

    points: one row a held-out run, with columns law, cut, row (its number in the source), at (its value of
    `by`), observed, predicted, low, high. fits: {(law, cut): Fit}.
    """
    table: pd.DataFrame
    points: pd.DataFrame
    fits: dict[tuple[str, float], Fit]
    by: str
    level: float

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """A warning for every law whose intervals, over all cuts, held clearly fewer runs than their level."""
        said = []
        for law, mine in self.points.dropna(subset=["low", "high"]).groupby("law", sort=False):
            share = mine.observed.between(mine.low, mine.high).mean()
            if self.level - share > SHORT * np.sqrt(self.level * (1 - self.level) / len(mine)):
                said.append(Diagnostic(
                    f"{law}: {self.level:.0%} prediction intervals held {share:.0%} of {len(mine)} held-out "
                    "runs. Beyond the fitted runs its error is larger than these intervals say.",
                    "under-coverage", law))
        return said

    def to_json(self) -> dict:
        return {"by": self.by, "level": self.level, "table": plain_rows(self.table),
                "points": plain_rows(self.points), "diagnostics": [one.to_json() for one in self.diagnostics]}

    def __str__(self) -> str:
        scores = self.table[[c for c in SCORES if c in self.table]]
        lines = scores.to_string(index=False, float_format=lambda v: f"{v:.4g}")
        return "\n".join([f"fitted below each cut of {self.by}, scored from it on", lines,
                          *(f"  ! {said}" for said in self.diagnostics)])


def plain_rows(frame: pd.DataFrame) -> list[dict]:
    """The rows as plain JSON values, with None where a number is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
            for row in plain.to_dict("records")]


def contenders(runs, laws: Iterable | None, options: Mapping) -> tuple[Runs, dict[str, Form], dict]:
    """(runs, {name: form}, settings that all fits share), from the arguments of `holdout` and `compare`.

    A Fit brings its runs, its settings, and its law with its fixed, tied and bounded parameters. Other laws
    join it.
    """
    if isinstance(runs, Fit):
        shared = {k: v for k, v in runs.settings.items() if k not in OWN}
        own = get_form(runs.settings["law"]).bounded(runs.settings["bounds"])
        forms = [own.with_fixed(runs.settings["fix"]).with_tied(runs.settings["tie"])]
        runs = runs.runs
    else:
        runs, shared, forms = as_runs(runs), {}, []
    shared = {**shared, **options}
    if isinstance(laws, (str, Form)):
        laws = [laws]
    elif laws is None and not forms:
        laws = ["chinchilla"]
    laws = list(laws or [])
    if not laws and not forms:
        raise LawError("name at least one law, laws=['chinchilla']")
    for name in OWN:
        if name in shared:
            raise LawError(f"{name} belongs to one law: pass the law itself, "
                           "laws=[laws.get_form(...).with_fixed(...)], or a Fit made with it")
    if shared.get("weights") is not None and not isinstance(shared["weights"], str):
        raise LawError("weights must be the name of a column here, so that each part of the runs keeps its "
                       "own weights")
    named: dict[str, Form] = {}
    for form in [*forms, *map(get_form, laws)]:
        known = named.setdefault(form.name, form)
        if form != known:
            named[_label(form)] = form
    return runs, named, shared


def _label(form: Form) -> str:
    """A law's name with its restrictions, to tell it from the unrestricted law."""
    ends = {p.name: f"{p.name} in [{p.low:g}, {p.high:g}]" for p in (*form.amplitudes, *form.nonlinear)
            if p != get_form(form.name).parameter(p.name)} if form.name in FORMS else {}
    told = ({name: f"{name} = {other}" for name, other in form.tied.items()}
            | {name: f"{name} = {value:g}" for name, value in form.fixed.items()} | ends)
    return f"{form.name} ({', '.join(told.values()) or 'as it comes'})"


def default_axis(runs: Runs, forms: Mapping[str, Form]) -> str:
    """What runs are cut by: compute where it is known, else the first input of the first law."""
    known = "C" in runs.columns or {"N", "D"} <= set(runs.columns)
    return "flops" if known else next(iter(forms.values())).inputs[0]


def axis(runs: Runs, by: str) -> np.ndarray:
    """The values [n] that runs are cut by. by: "flops", the role of an input, or a column of numbers."""
    there = runs.frame.columns
    if by in ("C", "M", *runs.columns) or by == "flops" and by not in there:
        values = runs.values("C" if by == "flops" else by)
    elif by not in there:
        raise LawError(f"cannot cut by {by!r}: say 'flops', an input ({', '.join(runs.columns)}) or a column "
                       f"({', '.join(map(str, there))})")
    else:
        values = pd.to_numeric(runs.frame[by], errors="coerce").to_numpy(float)
    if (bad := np.flatnonzero(np.isnan(values))).size:
        raise LawError(f"cannot cut by {by!r}: it is not a number in {bad.size} of {len(values)} runs "
                       f"(first: row {runs.rows[bad[0]]})")
    return values


def default_cuts(values: np.ndarray) -> list[float]:
    """Three cuts that hold out about the largest half, third and sixth of the runs."""
    levels = np.unique(values)
    cuts = [levels[np.searchsorted(levels, np.quantile(values, q))] for q in (0.5, 2 / 3, 5 / 6)]
    return sorted({float(cut) for cut in cuts if cut > levels[0]})


def holdout(runs, cut: float | None = None, cuts: Iterable[float] | None = None, laws: Iterable | None = None,
            by: str | None = None, *, level: float = 0.9, draws: int = 400, cluster: str | None = None,
            method: str = "auto", correlation: float = 0.5, near: Mapping[str, Fit] | None = None,
            **options) -> Holdout:
    """Fit each law to the runs below each cut, and score it on the runs at or above the cut.

    runs: as `fit` takes them, or a Fit, whose law and settings are then used. cut or cuts: values of `by`;
    without them the largest half, third and sixth are held out. by: "flops", an input or a column; by default
    compute where it is known, else the law's first input. laws: names or Forms. draws: draws of the bootstrap
    that makes the prediction intervals; 0 leaves out coverage. cluster, method, correlation: of that bootstrap.
    near: {law: its fit to all runs}; then fits are quick, only the first cut of a law is searched, and the fits of
    later cuts start from the optima of the cut before and of this one. options: options of `fit` (loss,
    delta, weights=<column>, ...).

    Raises LawError where a cut leaves too few runs below it to fit every law, or none above it.
    """
    runs, forms, shared = contenders(runs, laws, options)
    by = by or default_axis(runs, forms)
    values = axis(runs, by)
    if cut is not None and cuts is not None:
        raise LawError("give cut or cuts, not both")
    if cut is not None:
        chosen = [cut]
    elif cuts is None:
        chosen = default_cuts(values)
    else:
        chosen = list(np.ravel(cuts))
    for one in chosen:
        for name, form in forms.items():
            _refuse(values, float(one), by, name, len(form.free))
    rows, points, fits = [], [], {}
    resampling = {"draws": draws, "cluster": cluster, "method": method, "correlation": correlation,
                  **({"iterations": QUICK_ITERATIONS} if near else {})}
    before: dict[str, Fit] = {}
    for one in map(float, chosen):
        below = runs.select(values < one, f"{by} >= {one:g}")
        above = runs.select(values >= one, f"{by} < {one:g}")
        for name, form in forms.items():
            try:
                starts = [before[name], near[name]] if near and name in before else []
                law = fits[name, one] = before[name] = fit(below, form, near=starts, quick=bool(near), **shared)
            except LawError as error:
                raise LawError(f"the runs with {by} below {one:g} cannot be fitted: {error}") from None
            found = _scored(law, above, level, resampling)
            rows.append({"law": name, "cut": one, "n_fit": len(below), "n_test": len(above), **_errors(found),
                         **_exponent(law), **law.params})
            points.append(found.assign(law=name, cut=one, row=above.rows, at=values[values >= one]))
    table = pd.DataFrame(rows)
    if not draws:
        table = table.drop(columns=["coverage", "width"])
    points = pd.concat(points, ignore_index=True)
    points = points[["law", "cut", "row", "at", "observed", "predicted", "low", "high"]]
    return Holdout(table, points, fits, by, level)


def _exponent(law: Fit) -> dict[str, float]:
    """{"a": exponent of N* ~ C^a under C = 6 N D} for a sum of a power of N and one of D; {} for other laws."""
    if law.form.name not in ("chinchilla", "tied_chinchilla"):
        return {}
    alpha = law.params["alpha"]
    beta = law.params.get("beta", alpha)
    return {"a": beta / (alpha + beta)}


def _refuse(values: np.ndarray, cut: float, by: str, law: str, free: int) -> None:
    below, above = int((values < cut).sum()), int((values >= cut).sum())
    if below > free and above:
        return
    ordered = np.sort(values)
    if len(ordered) <= free + 1:
        raise LawError(f"{len(ordered)} runs are too few to hold any out: {law} has {free} parameters and "
                       f"needs {free + 1} to be fitted")
    low = np.nextafter(ordered[free], np.inf)
    problem = (f"leaves {below} runs below it, and {law} with its {free} parameters needs {free + 1}" if above
               else "holds out no run")
    raise LawError(f"the cut {by} = {cut:g} {problem}; choose one above {low:.4g} and at most "
                   f"{ordered[-1]:.4g}")


def _scored(law: Fit, above: Runs, level: float, resampling: Mapping) -> pd.DataFrame:
    """The observed and predicted value of each held-out run, and its prediction interval (NaN without draws)."""
    logs = above.inputs(law.form)
    frame = pd.DataFrame({"observed": above.y, "predicted": law.form.predict(law.vector[None], logs)[0],
                          "low": np.nan, "high": np.nan})
    if resampling["draws"]:
        boot = bootstrap(law, **resampling)
        low, high = boot.predict(**dict(zip(law.form.inputs, np.exp(logs))), level=level, noise=True)
        frame["low"], frame["high"] = low, high
    return frame


def _errors(found: pd.DataFrame) -> dict[str, float]:
    """mape, bias, rmse, coverage and width of scored runs; see `Holdout`."""
    ratio = found.predicted / found.observed - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        log = np.log(found.predicted / found.observed)
    return {"mape": float(ratio.abs().mean()), "bias": float(ratio.mean()),
            "rmse": float(np.sqrt((log ** 2).mean(skipna=False))),
            "coverage": float(found.observed.between(found.low, found.high).mean()),
            "width": float((found.high / found.low - 1).median())}
