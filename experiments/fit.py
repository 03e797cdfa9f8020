"""Fit a scaling law to a table of runs: parameters with intervals, every warning, figures.

    python -m experiments.fit --points=points.csv --output=fits/chinchilla

reads points.csv (or .parquet, .jsonl, .tsv; one row a run), finds the parameters, tokens and loss by their
usual column names, fits L = E + A N^-alpha + B D^-beta with the default objective (sum of Huber of log
residuals, delta 1e-3), and prints the parameters with 90% intervals and every reason to doubt them.
fits/chinchilla gets fit.json (parameters, objective, standard errors, intervals, modes, diagnostics, and a
manifest to cite) and the figures.

    python -m experiments.fit --points=points.csv --law=chinchilla --y=loss --params=model_params \\
        --data=train_tokens --where='kept and flops < 1e21' --bootstrap=4000 --cluster=group --profile \\
        --holdout_compute=3e20 --compare=kaplan,tied_chinchilla --frontier=1e21,1e24 --output=fits/careful

names the columns and the rows; resamples whole groups (rows that share a run); profiles every parameter; fits
again below 3e20 FLOPs to score the rest; ranks other laws by their error there; and gives the best size and
data for two budgets. Parameters can be held or tied: --fix=E=1.69 --tie=beta=alpha --bounds=alpha=0.1:1.

--law=list prints the laws with their formulas. Any flag can come from the environment, as SCALING_POINTS and
the like; the command line wins. Results are written at the end, each file whole or not at all,
and a directory that holds another fit is refused unless --overwrite is given. Exit status: 0, 1 when the data
or the request cannot be fitted, 2 for flags; the reason is one sentence on standard error.
"""

import dataclasses
import datetime
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from absl import flags
from etils import epath

from experiments import _points
from scaling import laws
from scaling.laws import store
from scaling.laws.checks.examine import examine
from scaling.laws.figures import plots
from scaling.laws.intervals.profile import profile
from scaling.laws.optimum.isoflop import isoflop
from scaling.laws.scores.holdout import holdout
from scaling.store import files

_OUTPUT = flags.DEFINE_string("output", None, "Directory for fit.json and figures; else tables are printed.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace another fit in --output.")
_FIGURES = flags.DEFINE_bool("figures", True, "Draw figures into --output.")
_QUANTILE = flags.DEFINE_float("quantile", 0.5, "Share of runs below the law; 0.1 fits a lower envelope.")
_AVERAGE = flags.DEFINE_bool("average", False, "Runs with equal inputs become one, weighted by their number.")
_STARTS = flags.DEFINE_integer("starts", None, "Starts of the search; by default as many as the form needs.")
_METHOD = flags.DEFINE_string("method", "auto", "How to resample: case, cluster, noise or wild.")
_PROFILE = flags.DEFINE_bool("profile", False, "Profile the objective over every fitted parameter.")
_HOLDOUT = flags.DEFINE_list("holdout_compute", [], "FLOPs, one or more: fit runs below, score the others.")
_COMPARE = flags.DEFINE_list("compare", [], "Other laws to rank beside --law.")
_ISOFLOP = flags.DEFINE_bool("isoflop", False, "Minima of slices of equal compute, and their powers.")
_FRONTIER = flags.DEFINE_list("frontier", [], "Budgets in FLOPs to allocate between N and D.")
_COST = flags.DEFINE_enum("cost", "6ND", ["6ND", "counted"], "FLOPs of --frontier: 6 N D, or the runs' own.")
_BY = flags.DEFINE_string("by", None, "Column that colours residuals; by default that of --cluster.")
flags.DEFINE_alias("inputs", "columns")
flags.adopt_module_key_flags(_points)

FIGURES = ("fit", "residuals", "parameters", "profiles", "holdout", "comparison", "isoflop", "frontier")


class Part(NamedTuple):
    """What one option adds: a key of fit.json, its content, its text, and how its figure is drawn (None: no
    figure)."""
    name: str
    content: object
    text: str
    draw: Callable | None = None


def main():
    if _points.law() == "list":
        print(listing())
        return
    output = _output()
    runs = _points.runs()
    options = _points.options() | {"quantile": _QUANTILE.value, "starts": _STARTS.value}
    if _AVERAGE.value:
        runs = runs.averaged()
        options["weights"] = options["weights"] or "seeds"
    fitted = laws.fit(runs, _points.law(), **options)
    draws = _points.resampling()
    by = _BY.value or draws["cluster"]
    if by is not None and by not in runs.frame.columns:
        raise laws.LawError(f"no column {by!r} to colour residuals by; the columns are "
                            f"{', '.join(runs.frame.columns)}")
    if _PROFILE.value:  # a parameter without an end to its profile is among the warnings then
        fitted = dataclasses.replace(fitted, diagnostics=examine(fitted, _points.level()))
    boot = laws.bootstrap(fitted, method=_METHOD.value, **draws) if draws["draws"] else None
    print(laws.table(fitted, boot, _points.level()), flush=True)
    parts = []
    for part in _parts(fitted, boot):
        print(f"\n{part.text}", flush=True)
        parts.append(part)
    if output is not None:
        drawings = {"fit": lambda: plots.fit(fitted, boot, _points.level()),
                    "residuals": lambda: plots.residuals(fitted, by)}
        if boot is not None:
            drawings["parameters"] = lambda: plots.bootstrap(boot, _points.level())
        drawings |= {part.name: part.draw for part in parts if part.draw}
        _write(output, _content(fitted, boot, parts), drawings)


def listing() -> str:
    """Every form: name, formula, inputs, parameters, source."""
    lines = []
    for name, form in laws.FORMS.items():
        lines += [f"{name}: {form.formula}", f"    {form.source}",
                  f"    inputs {', '.join(form.inputs)}; parameters {', '.join(form.names)}"]
    return "\n".join([*lines, "bnsl2, bnsl3, ...: bnsl with so many breaks"])


def _numbers(values, flag: str) -> list[float]:
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise flags.Error(f"--{flag} takes numbers separated by commas: {error}") from None


def _output() -> epath.Path | None:
    """The directory of --output, not yet made; refused now, before any work, where it cannot be one."""
    if not _OUTPUT.value:
        return None
    path = epath.Path(_OUTPUT.value).expanduser()
    if path.exists() and not path.is_dir():
        raise files.WorkdirError(f"--output={_OUTPUT.value} is a file: name a directory (it is made when "
                                 "missing)")
    return path


def _parts(fitted: laws.Fit, boot) -> Iterator[Part]:
    """What the options ask for beyond the fit, in the order in which it is printed."""
    level, cluster, seed = _points.level(), _points.resampling()["cluster"], _points.resampling()["seed"]
    if _PROFILE.value:
        found = [profile(fitted, name, level=level) for name in fitted.form.free]
        yield Part("profiles", [one.to_json() for one in found], _intervals(found),
                   lambda: plots.profile(found))
    cuts, held = _numbers(_HOLDOUT.value, "holdout_compute") or None, None
    if _COMPARE.value:
        ranked = laws.compare(fitted, _COMPARE.value, cuts=cuts, level=level, cluster=cluster)
        held = ranked.holdout
        yield Part("comparison", ranked.to_json(), f"laws, best first\n{ranked}")
    elif cuts:
        held = holdout(fitted, cuts=cuts, level=level, cluster=cluster)
    if held:
        yield Part("holdout", held.to_json(), str(held), lambda: plots.holdout(held))
    if _ISOFLOP.value:
        slices = isoflop(fitted.runs, level=level, seed=seed)
        yield Part("isoflop", slices.to_json(), f"slices of equal compute\n{slices}",
                   lambda: plots.isoflop(slices))
    if _FRONTIER.value:
        budgets = sorted(_numbers(_FRONTIER.value, "frontier"))
        cost = laws.counted(fitted.runs) if _COST.value == "counted" else None
        table = laws.frontier(fitted, budgets, cost, boot, level)

        def draw():
            ends = min(budgets[0], fitted.runs.flops.min()), max(budgets[-1], fitted.runs.flops.max())
            dense = laws.frontier(fitted, np.geomspace(*ends, 25), cost, boot, level)
            return plots.frontier(dense, fitted)
        text = table.to_string(index=False, float_format="{:.4g}".format)
        yield Part("frontier", table.to_dict("records"),
                   f"compute-optimal allocation, FLOPs {_COST.value}\n{text}", draw)


def _intervals(profiles) -> str:
    lines = [f"profiles: values that fit as well within noise, {profiles[0].level:.0%}"]
    for one in profiles:
        low, high = one.interval
        flat = "   flat up to a bound: not identified" if one.flat else ""
        lines.append(f"  {one.parameter:<12} [{low:.5g}, {high:.5g}]{flat}")
    return "\n".join(lines)


def _content(fitted: laws.Fit, boot, parts: list[Part]) -> dict:
    """All of fit.json but when and how it was made: what `laws.load_fit` reads, and what the options asked
    for."""
    best = fitted.objective or 1.0
    modes = [{"params": {name: row[name] for name in fitted.form.names}, "objective": row["objective"],
              "above_best": row["objective"] / best - 1} for row in fitted.optima.to_dict("records")]
    asked = {part.name: part.content for part in parts}
    return store.fit_content(fitted, boot, level=_points.level()) | {"modes": modes} | asked


def _write(output: epath.Path, content: dict, drawings: dict[str, Callable]) -> None:
    """fit.json, then the figures, into `output`; refused where that holds another fit."""
    path = output / "fit.json"
    other = path.exists() and not _same(path, content)
    if other and not _OVERWRITE.value:
        raise files.WorkdirError(f"{path} holds another fit: name another --output, or replace it with "
                                 "--overwrite")
    files.open_workdir(output)
    made = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": "python -m experiments.fit " + " ".join(map(shlex.quote, sys.argv[1:]))}
    files.write_json(path, content | {"made": made})
    if _FIGURES.value:
        for name, draw in drawings.items():
            plots.save(output / f"{name}.png", draw())
    stale = set(FIGURES) - set(drawings if _FIGURES.value else ()) if other else ()
    for name in stale:  # they are of the fit that was here before
        (output / f"{name}.png").unlink(missing_ok=True)
    print(f"\nwritten: {', '.join(sorted(each.name for each in output.iterdir()))} in {output}")


def _same(path: epath.Path, content: dict) -> bool:
    """Whether fit.json at `path` has this content, made whenever."""
    try:
        there = files.read_json(path)
    except ValueError:
        return False
    return {k: v for k, v in there.items() if k != "made"} == files.loads(files.dumps(content))


if __name__ == "__main__":
    _points.run(main)
