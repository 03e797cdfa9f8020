"""Which law a forecast is made by: a rule that is written down before the runs, over laws scored on held-out runs.

    chosen = choose_law(runs, "best")          # or "stacked", "median", or the name of a law
    print(chosen.law, chosen.weights, chosen.factor)

Every law is fitted to the runs below each of several cuts in compute and predicts the runs above ("rolling origin";
Tashman 2000). "best" takes the law of lowest held-out error, and among laws that tie with it the one of fewest parameters,
without those that the fitted runs refute (see `compare`). "stacked" averages the predictions of all others. "median" takes
the median of the predictions of all laws, refuted ones too: laws err to both sides, and it needs no weights, which a
back-test of few cuts cannot give (Clemen 1989; Stock and Watson 2004). A name takes that law whatever its error is.

No rule mends runs that no law describes. So two things are taken from the same back-test, whatever the rule is: weights of
all laws that the fitted runs do not refute, whose spread is a part of the interval, and the factor by which intervals have
to be wider to hold the held-out runs (as in conformal prediction; Vovk, Gammerman and Shafer 2005; Lei et al. 2018). A law
that is a little worse at three times the compute may be the better one at thirty times, so it stays in the spread. So do
refuted laws where seeds show that the best one is wrong too.
"""
from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws.fitting.fit import Fit
from scaling.laws.fitting.search import fit
from scaling.laws.forms.catalogue import RULES, get_form
from scaling.laws.forms.form import Form, LawError
from scaling.laws.runs import Runs, as_runs
from scaling.laws.scores.compare import CHANCE, Comparison, compare
from scaling.laws.scores.holdout import axis, default_axis, plain_rows

RIVALS = ("chinchilla", "tied_chinchilla", "kaplan", "interaction", "power_mean", "bounded")
USUAL = "chinchilla"                   # the law where no runs can be held out
CUTS = (0.5, 0.6, 0.7, 0.8, 0.9)       # quantiles of compute that the runs are cut at
SPARE = 2                              # runs more than parameters that a law needs below the first cut
HELD = 4                               # runs above the first cut without which nothing is said about laws
LEAST = 0.01                           # times the largest weight: laws of less are left out of a mean
MEANS = ("stacked", "median")          # rules by which several laws make the prediction
DRAWS = 60                             # refits behind each interval of a held-out run


@dataclass(frozen=True, eq=False)
class Selection:
    """The choice of a law, and what the back-test says about its intervals.

    rule: a rule of RULES, or the name of a law. law: the law of most weight in the mean, or the one of lowest held-out
    error behind a median. weights {law: share} of the laws whose mean, or median, is the prediction. spread {law: share}:
    weights of the laws that the fitted runs do not refute, by `stacking`; the law that was chosen or named has the
    largest. factor: by which intervals are widened. tested: the number of predictions of held-out runs behind it (of a run
    below several cuts, several). covered: the share of them that intervals of the factor 1 hold, and those of `factor`; NaN
    without any. fits: every law that was fitted to all runs. comparison: None where no runs could be held out.
    """
    rule: str
    law: str
    weights: dict[str, float]
    spread: dict[str, float]
    factor: float
    tested: int
    covered: tuple[float, float]
    level: float
    fits: dict[str, Fit]
    comparison: Comparison | None
    notes: list[str] = field(default_factory=list)

    @property
    def fit(self) -> Fit:
        return self.fits[self.law]

    def together(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """The prediction from those of the laws that have a weight: their mean, or under "median" their median."""
        return combine(self.rule, self.weights, values)

    def table(self) -> pd.DataFrame:
        """One row a law, best first: its scores (see `Comparison`), and its weight in the prediction."""
        if self.comparison is None:
            return pd.DataFrame({"law": list(self.fits), "parameters": [len(f.form.free) for f in self.fits.values()]})
        kept = ["law", "parameters", "refuted", "tied", "mape", "bias", "rmse", "coverage", "width", "cv_mape"]
        found = self.comparison.table[[name for name in kept if name in self.comparison.table]]
        return found.assign(weight=[self.weights.get(law, 0.0) for law in found.law])

    def to_json(self, brief: bool = False) -> dict:
        """As plain JSON values; brief: without what the comparison says about single runs."""
        held = {} if self.comparison is None else self.comparison.to_json()
        if brief:
            held = {"table": plain_rows(self.table())}
        return held | {"rule": self.rule, "law": self.law, "weights": self.weights, "spread": self.spread,
                       "factor": self.factor, "tested": self.tested, "level": self.level,
                       "covered": [None if math.isnan(share) else share for share in self.covered],
                       "notes": [*held.get("notes", []), *self.notes]}

    def __str__(self) -> str:
        lines = []
        if self.comparison is not None:
            shown = self.table()
            for name in ("mape", "bias", "rmse", "coverage", "width", "cv_mape", "weight"):
                if name in shown:
                    shown[name] = shown[name].map("{:.0%}".format if name in ("coverage", "weight") else "{:.2%}".format)
            lines = [f"laws, fitted below {self.comparison.holdout.table.cut.nunique()} cuts of "
                     f"{self.comparison.holdout.by} and scored above", shown.to_string(index=False)]
        return "\n".join([*lines, *self.sentences()])

    def sentences(self) -> list[str]:
        """The choice and the calibration, and every note, in sentences."""
        if self.comparison is None:
            return [f"The law is {self.law}: no runs could be held out, so that intervals are not calibrated.", *self.notes]
        how = {"best": "has the lowest held-out error, or ties with it and has fewer parameters",
               "stacked": "has the largest weight in the mean of all laws",
               "median": "has the lowest held-out error of the laws whose median is the forecast"}.get(
                   self.rule, "was named before the runs")
        before, after = self.covered
        widened = (f"are {self.factor:.3g} times as wide, and then hold {after:.0%}" if self.factor > 1
                   else "are not widened")
        table = self.comparison.table
        refuted = list(table.law[table.refuted])
        told = [f"{', '.join(refuted)} {'are' if refuted[1:] else 'is'} refuted by the fitted runs."] if refuted else []
        return [f"The law is {self.law}, which {how}.", *told,
                f"{self.level:.0%} intervals held {before:.0%} of {self.tested} predictions of held-out runs; those of the "
                f"forecast {widened}.", *self.notes]


def choose_law(runs, law: str | Form = "best", rivals: Iterable[str | Form] = RIVALS, *, cluster: str | None = None,
               correlation: float = 0.5, level: float = 0.9, draws: int = DRAWS, fix: Mapping[str, float] | None = None,
               pure: tuple[float, int] | None = None, **options) -> Selection:
    """Score laws on held-out runs, and choose one by a rule.

    runs: as `fit` takes them. law: a rule of RULES, or a law, which is scored beside the rivals. cluster: a column of
    the runs, such as the trunk that they share, for the intervals of held-out runs; `correlation` is the part of the
    variance of their errors that they share (see `bootstrap`). fix: parameters that every law holds at a value, such as E
    at the entropy of a source that knows it; a rival without such a parameter is left out, with a note. pure: the variance
    of the residual of a run of weight 1, as seeds show it, and its degrees of freedom; laws that the runs refute stay in
    the spread where no law fits to within it. options: those of `fit` that all laws share.

    Cuts leave enough runs for the law that was asked for (under a rule, for chinchilla). A rival that has too many
    parameters for the runs below the first cut, or inputs that the runs lack, is left out, with a note. Where no two laws
    can be scored, the one that was asked for is fitted, and nothing is calibrated. Raises LawError where it cannot be.
    """
    runs = as_runs(runs)
    named = law if isinstance(law, str) else law.name
    forms = {get_form(one).name: get_form(one) for one in (USUAL if named in RULES else law, *rivals)}
    first, notes, fix = next(iter(forms)), [], dict(fix or {})
    forms = {name: form.with_fixed(fix) for name, form in forms.items() if name == first or {*fix} <= {*form.names}}
    if fix:
        notes.append(f"every law has {', '.join(f'{name} = {value:g}' for name, value in fix.items())}, as the study asks; "
                     "laws without such a parameter are left out")
    known = {name: form for name, form in forms.items() if _has_inputs(runs, form)}
    known.setdefault(first, forms[first])
    values = axis(runs, default_axis(runs, {first: forms[first]}))
    needed = len(forms[first].free) + SPARE
    cuts = [cut for cut in rolling_cuts(values) if (values < cut).sum() >= needed]
    cuts = cuts if cuts and (values >= cuts[0]).sum() >= HELD else []
    fewest = int((values < cuts[0]).sum()) if cuts else 0
    able = {name: form for name, form in known.items() if len(form.free) + SPARE <= fewest}
    if left_out := [name for name in known if name not in able]:
        notes.append(f"{', '.join(left_out)}: not scored, since {fewest or len(runs)} runs "
                     f"{'below the first cut ' if cuts else ''}are too few for so many parameters")
    noise = {"method": "noise", "correlation": correlation} if cluster else {}
    if len(able) > 1 and (first in able or named in RULES):
        try:
            compared = compare(runs, able.values(), cuts=cuts, level=level, draws=draws, cluster=cluster, quick=True,
                               **noise, **options)
            chosen = apply_rule(compared, named if named in RULES else first, level, notes, pure)
            chosen.fits.update({name: fit(runs, able[name], near=[chosen.fits[name]], **options)  # to the last digit
                                for name in chosen.weights})
            return chosen
        except LawError as error:
            notes.append(f"no law was scored on held-out runs: {error}")
    return Selection(named, first, {first: 1.0}, {first: 1.0}, 1.0, 0, (math.nan, math.nan), level,
                     {first: fit(runs, forms[first], **options)}, None, notes)


def _has_inputs(runs: Runs, form: Form) -> bool:
    try:
        logs = runs.inputs(form)
    except LawError:
        return False
    return all(name in form.constant or np.ptp(values) > 1e-9 for name, values in zip(form.inputs, logs))


def rolling_cuts(values: np.ndarray, quantiles: Sequence[float] = CUTS) -> list[float]:
    """Cuts at quantiles of the values, ascending, each with a run below and a run from it on."""
    levels = np.unique(values)
    cuts = {float(levels[np.searchsorted(levels, q)]) for q in np.quantile(values, quantiles)}
    return sorted(cut for cut in cuts if cut > levels[0])


def apply_rule(compared: Comparison, rule: str = "best", level: float = 0.9, notes: Sequence[str] = (),
               pure: tuple[float, int] | None = None) -> Selection:
    """The choice of a rule, or of the law of that name, among laws that were compared with intervals of this level.

    notes and pure are as `choose_law` has them."""
    points = compared.holdout.points
    standing, notes = list(compared.table.law[~compared.table.refuted]), list(notes)
    named = [] if rule in MEANS else [compared.best if rule == "best" else rule]
    if pure is not None and (times := _beyond(compared.fits[compared.best], *pure)):
        standing = list(compared.table.law)
        notes.append(f"{compared.best} misses the runs by {times:.1f} times what their seeds scatter by, so no law is "
                     "right, and those that are refuted stay in the spread of laws")
    spread = stacking(points[points.law.isin([*standing, *named])])
    spread |= dict.fromkeys(named, max(spread.values()))
    spread = {name: weight / sum(spread.values()) for name, weight in spread.items()}
    every = dict.fromkeys(compared.table.law, 1 / len(compared.table))  # best first, so that the leading law is the best
    weights = dict.fromkeys(named, 1.0) or (every if rule == "median" else spread)
    z = standardised(points, rule, weights, spread, level)
    factor, usual = calibration(np.abs(z), level)
    return Selection(rule, max(weights, key=weights.__getitem__), weights, spread, factor, len(z),
                     (float(np.mean(np.abs(z) <= usual)), float(np.mean(np.abs(z) <= factor * usual))), level,
                     compared.fits, compared, notes)


def _beyond(law: Fit, variance: float, degrees: int) -> float | None:
    """The size of a law's residuals over that of the scatter of seeds, None where seeds explain them (F test of the lack of
    fit against pure error; Draper and Smith 1998, section 2.1)."""
    from scipy import stats
    free = law.degrees_of_freedom
    ratio = float((law.weights * law.residuals ** 2).sum()) / free / variance if free > 0 and variance > 0 else 0.0
    return ratio ** 0.5 if stats.f.sf(ratio, max(free, 1), degrees) < CHANCE else None


def combine(rule: str, weights: dict[str, float], values: dict[str, np.ndarray]) -> np.ndarray:
    """The mean of the values {law: any shape} by weights of sum 1, or their median under the rule "median"."""
    if rule == "median":
        return np.median([values[name] for name in weights], axis=0)
    return np.sum([weight * values[name] for name, weight in weights.items()], axis=0)


def stacking(points: pd.DataFrame) -> dict[str, float]:
    """{law: weight} from held-out errors, `Holdout.points`: inverse to the mean square over cuts (Bates and Granger 1969).

    A likelihood would take the power -m / 2 of it for m cuts, and so give nearly all weight to one law, although runs that
    are held out by several cuts are nearly the same runs.
    """
    errors = points.assign(square=_gap(points) ** 2)
    mean = errors.groupby(["law", "cut"], sort=False).square.mean().groupby("law", sort=False).mean()
    inverse = mean.min() / mean
    kept = inverse[inverse > LEAST]
    return {str(law): float(weight) for law, weight in (kept / kept.sum()).items()}


def standardised(points: pd.DataFrame, rule: str, weights: dict[str, float], spread: dict[str, float],
                 level: float) -> np.ndarray:
    """The errors of held-out predictions over the standard deviations that were given for them, [cuts x held-out runs].

    points: `Holdout.points` with intervals. The deviation has the uncertainty of the laws, the noise of a run, and the
    spread of the laws, as `Calibrated` has them.
    """
    logs = "log" if (points[["predicted", "low", "high", "observed"]] > 0).all(axis=None) else "linear"
    space = points.assign(**{name: np.log(points[name]) if logs == "log" else points[name]
                             for name in ("predicted", "low", "high", "observed")})
    table = space.assign(own=(space.high - space.low) / (2 * usual_quantile(level))).pivot(
        index=["cut", "row"], columns="law", values=["predicted", "own", "observed"])
    centre = combine(rule, weights, {law: table["predicted", law] for law in weights})
    variance = sum(weight * table["own", law] ** 2 for law, weight in weights.items())
    variance += sum(weight * (table["predicted", law] - centre) ** 2 for law, weight in spread.items())
    return ((table["observed"].iloc[:, 0] - centre) / np.sqrt(variance)).to_numpy()


def calibration(sizes: np.ndarray, level: float) -> tuple[float, float]:
    """(the factor by which intervals are widened, the standardised error at their end without it).

    sizes: of standardised held-out errors. The factor brings the end to their quantile, of rank ceil((m + 1) level) of m
    as in split conformal prediction, or the largest where there are fewer. It is at least 1: a back-test reaches less far
    than the forecast, and so is no reason for narrower intervals.
    """
    usual = usual_quantile(level)
    rank = min(math.ceil((len(sizes) + 1) * level), len(sizes))
    return max(1.0, float(np.sort(sizes)[rank - 1]) / usual), usual


def usual_quantile(level: float) -> float:
    """The end of the central interval of a standard normal variable."""
    return statistics.NormalDist().inv_cdf((1 + level) / 2)


def _gap(points: pd.DataFrame) -> np.ndarray:
    predicted, observed = (points[name].to_numpy(float) for name in ("predicted", "observed"))
    positive = (predicted > 0).all() and (observed > 0).all()
    return np.log(predicted / observed) if positive else predicted - observed
