"""Fit a scaling law to a table of runs: parameters with intervals, warnings, figures.

    python -m experiments.fit --points=points.csv --output=fits/chinchilla

reads points.csv (or .parquet, .jsonl, .tsv; one row a run), finds the parameters, tokens and loss by their
usual column names, and fits L = E + A N^-alpha + B D^-beta with the default objective (sum of Huber of log
residuals, delta 1e-3). It prints the parameters with 90% intervals and every warning. fits/chinchilla gets
fit.json (parameters, objective, standard errors, intervals, modes, diagnostics, and a manifest to cite) and
the figures.

    python -m experiments.fit --points=points.csv --law=chinchilla --y=loss --params=model_params \\
        --data=train_tokens --where='kept and flops < 1e21' --bootstrap=4000 --cluster=group --profile \\
        --holdout_compute=3e20 --compare=kaplan,tied_chinchilla --frontier=1e21,1e24 --output=fits/careful

names the columns and the rows; resamples whole groups (rows that share a run); profiles every parameter; fits
again below 3e20 FLOPs and scores the other runs; ranks other laws by their error there; and gives the best size
and data for two budgets. Parameters can be held, tied or bounded: --fix=E=1.69 --tie=beta=alpha
--bounds=alpha=0.1:1.

--law=list prints the laws with their formulas. Any flag can come from the environment, such as SCALING_POINTS;
the command line wins. Results are written at the end, each file whole or not at all. A directory that holds
another fit is refused unless --overwrite is given. Exit status: 0; 1 when the data or the request cannot be
fitted; 2 for flags. The reason is one sentence on standard error.
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
from scaling.store import files

_OUTPUT = flags.DEFINE_string("output", None, "Directory for fit.json and figures; without it, tables are only printed.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace another fit in --output.")
_FIGURES = flags.DEFINE_bool("figures", True, "Draw figures into --output.")
_QUANTILE = flags.DEFINE_float("quantile", 0.5, "Share of runs that lie below the law; 0.1 fits a lower envelope.")
_AVERAGE = flags.DEFINE_bool("average", False, "Average runs with equal inputs, and weight the mean by their number.")
_STARTS = flags.DEFINE_integer("starts", None, "Starts of the search; by default the number that the form needs.")
_METHOD = flags.DEFINE_string("method", "auto", "How to resample: auto, case, cluster, noise or wild.")
_PROFILE = flags.DEFINE_bool("profile", False, "Profile the objective over every fitted parameter.")
_HOLDOUT = flags.DEFINE_list("holdout_compute", [], "Cuts in FLOPs: fit the runs below each, score the others.")
_COMPARE = flags.DEFINE_list("compare", [], "Other laws to rank beside --law.")
_ISOFLOP = flags.DEFINE_bool("isoflop", False, "Minima of slices of equal compute, and the powers they follow.")
_FRONTIER = flags.DEFINE_list("frontier", [], "Budgets in FLOPs to allocate between N and D.")
_COST = flags.DEFINE_enum("cost", "6ND", ["6ND", "counted"], "FLOPs of --frontier: 6 N D, or as the runs counted them.")
_BY = flags.DEFINE_string("by", None, "Column that colours residuals; by default that of --cluster.")
flags.DEFINE_alias("inputs", "columns")
flags.adopt_module_key_flags(_points)

FIGURES = ("fit", "residuals", "parameters", "profiles", "holdout", "comparison", "isoflop", "frontier")


class Part(NamedTuple):
    """What one option adds: a key of fit.json, its content, its text, and a function that draws its figure."""
    name: str
    content: object
    text: str
    draw: Callable | None = None


def main():
    if _points.law() == "list":
        print(_points.listing())
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
    if _PROFILE.value:  # then the warnings name parameters whose profile has no end
        fitted = dataclasses.replace(fitted, diagnostics=laws.examine(fitted, _points.level()))
    boot = laws.bootstrap(fitted, method=_METHOD.value, **draws) if draws["draws"] else None
    print(laws.table(fitted, boot, _points.level()), flush=True)
    parts = []
    for part in _parts(fitted, boot):
        print(f"\n{part.text}", flush=True)
        parts.append(part)
    if output is not None:
        drawings = {"fit": lambda: laws.plots.fit(fitted, boot, _points.level()),
                    "residuals": lambda: laws.plots.residuals(fitted, by)}
        if boot is not None:
            drawings["parameters"] = lambda: laws.plots.bootstrap(boot, _points.level())
        drawings |= {part.name: part.draw for part in parts if part.draw}
        _write(output, _content(fitted, boot, parts), drawings)


def _numbers(values, flag: str) -> list[float]:
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise flags.Error(f"--{flag} takes numbers separated by commas: {error}") from None


def _output() -> epath.Path | None:
    """The directory of --output, not made yet. Refused before any work if it is a file."""
    if not _OUTPUT.value:
        return None
    path = epath.Path(_OUTPUT.value).expanduser()
    if path.exists() and not path.is_dir():
        raise files.WorkdirError(f"--output={_OUTPUT.value} is a file: name a directory (it is made when "
                                 "missing)")
    return path


def _parts(fitted: laws.Fit, boot) -> Iterator[Part]:
    """The parts that the options add to the fit, in the order in which they are printed."""
    level, cluster, seed = _points.level(), _points.resampling()["cluster"], _points.resampling()["seed"]
    if _PROFILE.value:
        found = [laws.profile(fitted, name, level=level) for name in fitted.form.free]
        yield Part("profiles", [one.to_json() for one in found], _intervals(found),
                   lambda: laws.plots.profile(found))
    cuts, held = _numbers(_HOLDOUT.value, "holdout_compute") or None, None
    if _COMPARE.value:
        ranked = laws.compare(fitted, _COMPARE.value, cuts=cuts, level=level, cluster=cluster)
        held = ranked.holdout
        yield Part("comparison", ranked.to_json(), f"laws, best first\n{ranked}")
    elif cuts:
        held = laws.holdout(fitted, cuts=cuts, level=level, cluster=cluster)
    if held:
        yield Part("holdout", held.to_json(), str(held), lambda: laws.plots.holdout(held))
    if _ISOFLOP.value:
        slices = laws.isoflop(fitted.runs, level=level, seed=seed)
        yield Part("isoflop", slices.to_json(), f"slices of equal compute\n{slices}",
                   lambda: laws.plots.isoflop(slices))
    if _FRONTIER.value:
        budgets = sorted(_numbers(_FRONTIER.value, "frontier"))
        cost = laws.counted(fitted.runs) if _COST.value == "counted" else None
        table = laws.frontier(fitted, budgets, cost, boot, level)

        def draw():
            ends = min(budgets[0], fitted.runs.flops.min()), max(budgets[-1], fitted.runs.flops.max())
            dense = laws.frontier(fitted, np.geomspace(*ends, 25), cost, boot, level)
            return laws.plots.frontier(dense, fitted)
        text = table.to_string(index=False, float_format="{:.4g}".format)
        yield Part("frontier", table.to_dict("records"),
                   f"compute-optimal allocation, FLOPs {_COST.value}\n{text}", draw)


def _intervals(profiles) -> str:
    lines = [f"profiles: values that fit equally well within noise, {profiles[0].level:.0%}"]
    for one in profiles:
        low, high = one.interval
        flat = "   not identified: the profile is flat up to a bound" if one.flat else ""
        lines.append(f"  {one.parameter:<12} [{low:.5g}, {high:.5g}]{flat}")
    return "\n".join(lines)


def _content(fitted: laws.Fit, boot, parts: list[Part]) -> dict:
    """fit.json without when and how it was made: the content that `laws.load_fit` reads, and the parts."""
    best = fitted.objective or 1.0
    modes = [{"params": {name: row[name] for name in fitted.form.names}, "objective": row["objective"],
              "above_best": row["objective"] / best - 1} for row in fitted.optima.to_dict("records")]
    asked = {part.name: part.content for part in parts}
    return store.fit_content(fitted, boot, level=_points.level()) | {"modes": modes} | asked


def _write(output: epath.Path, content: dict, drawings: dict[str, Callable]) -> None:
    """Write fit.json and then the figures into `output`. Refused if that holds another fit."""
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
            laws.plots.save(output / f"{name}.png", draw())
    stale = set(FIGURES) - set(drawings if _FIGURES.value else ()) if other else ()
    for name in stale:  # these figures show the fit that was here before
        (output / f"{name}.png").unlink(missing_ok=True)
    print(f"\nwritten: {', '.join(sorted(each.name for each in output.iterdir()))} in {output}")


def _same(path: epath.Path, content: dict) -> bool:
    """Whether fit.json at `path` has this content, whenever it was made."""
    try:
        there = files.read_json(path)
    except ValueError:
        return False
    return {k: v for k, v in there.items() if k != "made"} == files.loads(files.dumps(content))


if __name__ == "__main__":
    _points.run(main)
