"""What the options of experiments.fit add to a fit: profiles, scores, slices of equal compute, budgets.

An option that fails is one sentence, and the others go on. A command imports this module and adopts its flags.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from absl import flags

from experiments import _points
from scaling import laws

_PROFILE = flags.DEFINE_bool("profile", False, "Profile the objective over every fitted parameter.")
_HOLDOUT = flags.DEFINE_list("holdout_compute", [], "Cuts in FLOPs: fit the runs below each, score the others.")
_COMPARE = flags.DEFINE_list("compare", [], "Other laws to rank beside --law.")
_ISOFLOP = flags.DEFINE_bool("isoflop", False, "Minima of slices of equal compute, and the powers they follow.")
_CURVE = flags.DEFINE_enum("isoflop_curve", "parabola", ["parabola", "cubic", "akima"], "With --isoflop: a slice's curve.")
_TOLERANCE = flags.DEFINE_float("isoflop_tolerance", 0.1, "With --isoflop: how far compute may differ within a slice.",
                                lower_bound=1e-6)
_BUDGETS = flags.DEFINE_string("isoflop_budgets", None, "With --isoflop: the budgets in FLOPs, or the column that names "
                               "them; by default they are found.")
_KEEP = flags.DEFINE_enum("isoflop_keep", "sound", ["sound", "all"], "With --isoflop: which slices the lines rest on.")
_DROP = flags.DEFINE_bool("isoflop_drop_outliers", False, "With --isoflop: leave out runs that lie far off their slice.")
_FRONTIER = flags.DEFINE_list("frontier", [], "Budgets in FLOPs to allocate between N and D.")
_COST = flags.DEFINE_enum("cost", "6ND", ["6ND", "counted"], "FLOPs of --frontier: 6 N D, or as the runs counted them.")

NAMES = ("profiles", "comparison", "holdout", "isoflop", "frontier")


class Part(NamedTuple):
    """What one option adds: a key of fit.json, its content, its text, and a function that draws its figure."""
    name: str
    content: object
    text: str
    draw: Callable | None = None


class Failure(NamedTuple):
    """An option that could not be followed, and why."""
    flag: str
    why: str


def profiles() -> bool:
    """Whether the warnings name parameters whose profile has no end."""
    return _PROFILE.value


def check() -> None:
    """Refuses what no run can follow, before any work. Raises flags.Error or LawError."""
    for name, values in (("holdout_compute", _HOLDOUT.value), ("frontier", _FRONTIER.value)):
        _numbers(values, name)
    for name in _COMPARE.value:
        laws.get_form(name)
    asked = [name for name in ("isoflop_curve", "isoflop_tolerance", "isoflop_budgets", "isoflop_keep",
                               "isoflop_drop_outliers") if flags.FLAGS[name].present]
    if asked and not _ISOFLOP.value:
        raise flags.Error(f"--{asked[0]} goes with --isoflop")


def _numbers(values, flag: str) -> list[float]:
    try:
        found = [float(value) for value in values]
        if not all(0 < value < np.inf for value in found):
            raise ValueError(f"{', '.join(values)} are not all positive and finite")
        return found
    except ValueError as error:
        raise flags.Error(f"--{flag} takes numbers separated by commas: {error}") from None


def parts(fitted: laws.Fit, boot) -> Iterator[Part | Failure]:
    """What the options add to the fit, in the order in which it is printed."""
    for flag, wanted, follow in (("profile", _PROFILE.value, _profiles), ("compare", _COMPARE.value, _comparison),
                                 ("holdout_compute", _HOLDOUT.value and not _COMPARE.value, _held),
                                 ("isoflop", _ISOFLOP.value, _slices), ("frontier", _FRONTIER.value, _budgets)):
        if wanted:
            try:
                yield from follow(fitted, boot)
            except laws.LawError as error:
                yield Failure(flag, str(error))


def _profiles(fitted, boot) -> Iterator[Part]:
    found = [laws.profile(fitted, name, level=_points.level()) for name in fitted.form.free]
    lines = [f"profiles: values that fit equally well within noise, {found[0].level:.0%}"]
    for one in found:
        low, high = one.interval
        flat = "   not identified: the profile is flat up to a bound" if one.flat else ""
        lines.append(f"  {one.parameter:<12} [{low:.5g}, {high:.5g}]{flat}")
    yield Part("profiles", [one.to_json() for one in found], "\n".join(lines), lambda: laws.plots.profile(found))


def _scoring() -> dict:
    return {"cuts": _numbers(_HOLDOUT.value, "holdout_compute") or None, "level": _points.level(),
            "cluster": _points.resampling()["cluster"]}


def _comparison(fitted, boot) -> Iterator[Part]:
    ranked = laws.compare(fitted, _COMPARE.value, **_scoring())
    yield Part("comparison", ranked.to_json(), f"laws, best first\n{ranked}")
    if ranked.holdout:
        yield Part("holdout", ranked.holdout.to_json(), str(ranked.holdout), lambda: laws.plots.holdout(ranked.holdout))


def _held(fitted, boot) -> Iterator[Part]:
    held = laws.holdout(fitted, **_scoring())
    yield Part("holdout", held.to_json(), str(held), lambda: laws.plots.holdout(held))


def _slices(fitted, boot) -> Iterator[Part]:
    budgets = _BUDGETS.value
    if budgets is not None and budgets not in fitted.runs.frame.columns:
        try:
            budgets = [float(value) for value in budgets.split(",")]
        except ValueError:
            raise laws.LawError(f"--isoflop_budgets takes FLOPs separated by commas, or a column, and {budgets!r} is "
                                f"neither; the columns are {', '.join(map(str, fitted.runs.frame.columns))}") from None
    found = laws.isoflop(fitted.runs, _CURVE.value, budgets, _TOLERANCE.value, _KEEP.value, _DROP.value,
                         level=_points.level(), seed=_points.resampling()["seed"])
    yield Part("isoflop", found.to_json(), f"slices of equal compute\n{found}", lambda: laws.plots.isoflop(found))


def _budgets(fitted, boot) -> Iterator[Part]:
    budgets, level = sorted(_numbers(_FRONTIER.value, "frontier")), _points.level()
    cost = laws.counted(fitted.runs) if _COST.value == "counted" else None
    table = laws.frontier(fitted, budgets, cost, boot, level)

    def draw():
        ends = min(budgets[0], fitted.runs.flops.min()), max(budgets[-1], fitted.runs.flops.max())
        dense = laws.frontier(fitted, np.geomspace(*ends, 25), cost, boot, level)
        return laws.plots.frontier(dense, fitted)
    lines = [f"compute-optimal allocation, FLOPs {_COST.value}"]
    if cost is not None:
        lines[0] += f", by a function of N times D that reproduces those of the runs within {max(cost.error, 1e-6):.2g}"
    lines += [table.to_string(index=False, float_format="{:.4g}".format)]
    lines += [f"! {said}" for said in (cost.diagnostics if cost else [])]
    yield Part("frontier", table.to_dict("records"), "\n".join(lines), draw)
    if {"N", "D"} <= set(fitted.form.inputs):
        ways = laws.size_exponents(fitted, boot, level)
        yield Part("exponents", ways.to_json(), str(ways))
