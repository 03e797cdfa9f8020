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

    python -m experiments.fit --points=points.csv --y='1 - acc' --form=my_law.py --each=family --output=fits/each

fits a law of your own, which my_law.py makes (docs/laws-forms.md), to an expression in columns, once for every value
of the column family. fits/each gets a folder for each, one table of the parameters, and a figure that compares them.

--json prints the content of fit.json as one line of JSON, with --each that of every fit, and text to standard error.
--law=list prints the laws with their formulas. With --workdir the law, the objective, delta and weights are those of
the study; flags change them. Any flag can come from the environment, such as SCALING_POINTS; the command line wins.
Results are written at the end, each file whole or not at all. A directory that holds another fit is refused unless
--overwrite is given. Exit status: 0; 1 when the data or the request cannot be fitted; 2 for flags. The reason is one
sentence on standard error. An option that fails beside a fit that succeeds, such as a frontier that does not exist,
is one sentence too: the fit is written without it, and the exit status is 1.
"""

import dataclasses
import datetime
import os
import re
import shlex
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
from absl import flags
from etils import epath

from experiments import _fit_parts, _points
from experiments._json import answering
from scaling import laws
from scaling.laws import store
from scaling.store import files

_OUTPUT = flags.DEFINE_string("output", None, "Directory for fit.json and figures; without it, tables are only printed.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace another fit in --output.")
_FIGURES = flags.DEFINE_bool("figures", True, "Draw figures into --output.")
_QUANTILE = flags.DEFINE_float("quantile", None, "Share of runs that lie below the law; by default 0.5, or the study's. "
                               "0.1 fits a lower envelope.")
_AVERAGE = flags.DEFINE_bool("average", False, "Average runs with equal inputs, and weight the mean by their number.")
_STARTS = flags.DEFINE_integer("starts", None, "Starts of the search; by default the number that the form needs.",
                               lower_bound=1)
_METHOD = flags.DEFINE_enum("method", "auto", ["auto", "case", "cluster", "noise", "noise cluster",
                                                "wild", "wild cluster"],
                            "How to resample.")
_EACH = flags.DEFINE_string("each", None, "Column: a fit for every one of its values.")
_JSON = flags.DEFINE_bool("json", False, "Print the content of fit.json as one line of JSON, and text to standard error.")
_BY = flags.DEFINE_string("by", None, "Column that colours residuals; by default that of --cluster.")
flags.DEFINE_alias("inputs", "columns")
flags.adopt_module_key_flags(_points)
flags.adopt_module_key_flags(_fit_parts)

FIGURES = ("fit", "residuals", "parameters", *_fit_parts.NAMES)


def main():
    with answering(_JSON.value) as answer:
        failed = _fit_runs(answer)
    if failed:
        sys.exit(1)


def _fit_runs(answer: dict) -> bool:
    """Does what the flags ask for, and fills the answer of --json; returns whether some part failed."""
    if _points.law() == "list":
        print(_points.listing())
        answer["laws"] = _points.listed()
        return False
    output = _output()
    _check()
    runs = _points.runs()
    if _EACH.value is None:
        *_, failed = fit_one(runs, output, answer)
        return failed
    return fit_each(runs, output, answer)


def _check() -> None:
    """Refuses what no table can follow, before any work."""
    _points.check()
    _fit_parts.check()
    if _QUANTILE.value is not None and not 0 < _QUANTILE.value < 1:
        raise flags.Error(f"--quantile must lie between 0 and 1, got {_QUANTILE.value:g}")


def _options() -> dict:
    found = _points.options() | {"starts": _STARTS.value}
    if _QUANTILE.value is not None:
        found["quantile"] = _QUANTILE.value
    return found


def fit_one(runs: laws.Runs, output: epath.Path | None, answer: dict) -> tuple[laws.Fit, laws.Bootstrap | None, bool]:
    """Fits, prints and writes one fit: (the fit, its bootstrap or None, whether some option failed). `answer` gets the
    content of fit.json."""
    options, draws = _options(), _points.resampling()
    by = _BY.value or draws["cluster"]
    for name, purpose in ((by, "colour residuals by"), (draws["cluster"], "cluster by")):
        if name is not None and name not in runs.frame.columns:
            raise laws.LawError(f"no column {name!r} to {purpose}; the columns are "
                                f"{', '.join(map(str, runs.frame.columns))}")
    if _AVERAGE.value:
        runs = runs.averaged()
        options["weights"] = options.get("weights") or "seeds"
    chosen = _points.selected(runs, **options)
    fitted, boot, failed = chosen.fit if chosen else laws.fit(runs, _points.law(), **options), None, False
    if chosen:
        print(f"{_points.in_flags(str(chosen))}\n", flush=True)
    if _fit_parts.profiles():
        fitted = dataclasses.replace(fitted, diagnostics=laws.examine(fitted, _points.level()))
    if draws["draws"]:
        try:
            boot = laws.bootstrap(fitted, method=_METHOD.value, **draws)
        except laws.LawError as error:
            failed = _complain("--bootstrap", error)
    print(_points.in_flags(laws.table(fitted, boot, _points.level())), flush=True)
    parts = []
    for part in _fit_parts.parts(fitted, boot):
        if isinstance(part, _fit_parts.Failure):
            failed = _complain(f"--{part.flag}", part.why)
        else:
            print(f"\n{_points.in_flags(part.text)}", flush=True)
            parts.append(part)
    answer |= _content(fitted, boot, parts)
    if output is not None:
        drawings = {"fit": lambda: laws.plots.fit(fitted, boot, _points.level()),
                    "residuals": lambda: laws.plots.residuals(fitted, by)}
        if boot is not None:
            drawings["parameters"] = lambda: laws.plots.bootstrap(boot, _points.level())
        drawings |= {part.name: part.draw for part in parts if part.draw}
        _write(output, answer, drawings)
    return fitted, boot, failed


def _complain(what: str, why) -> bool:
    print(f"error: {what}: {_points.in_flags(str(why))}", file=sys.stderr, flush=True)
    return True


def fit_each(runs: laws.Runs, output: epath.Path | None, answer: dict) -> bool:
    """A fit for every value of --each; returns whether one of them failed. Raises LawError if all did. `answer` gets the
    content of each.json and, as "fits", that of every fit.json."""
    name = _EACH.value
    if name not in runs.frame.columns:
        raise laws.LawError(f"no column {name!r} for a fit of each of its values; the columns are "
                            f"{', '.join(map(str, runs.frame.columns))}")
    labels, failed = runs.frame[name], False
    if count := int(labels.isna().sum()):
        print(f"{count} of {len(runs)} runs have no {name} and are left out\n")
    fits, boots, folders, contents = {}, {}, {}, {}
    for value in sorted(labels.dropna().unique(), key=lambda each: (isinstance(each, str), each)):
        label = f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)
        folder = re.sub(r"[^\w.+-]+", "_", label).strip(".") or "_"
        while folder.lower() in {other.lower() for other in folders.values()}:
            folder += "_"
        folders[label] = folder
        print(f"{name} = {label}")
        try:
            part = runs.select((labels == value).to_numpy(bool), f"{name} is not {label}")
            content: dict = {}
            fits[label], boots[label], wrong = fit_one(part, None if output is None else output / folders[label], content)
            contents[label] = content
            failed |= wrong
        except laws.LawError as error:
            failed = _complain(f"{name} = {label}", error)
        print()
    if not fits:
        raise laws.LawError(f"no value of {name!r} has runs that can be fitted")
    rows = _rows(fits, boots)
    print(f"each {name}\n{rows.to_string(index=False, float_format='{:.4g}'.format)}")
    together = {"column": name, "level": _points.level(), "folders": folders, "table": rows.to_dict("records")}
    answer |= together | {"fits": contents}
    if output is not None:
        files.write_json(output / "each.json", together)
        if _FIGURES.value:
            laws.plots.save(output / "each.png", laws.plots.groups(fits, boots, _points.level()))
        answer["written"] = _say_written(output)
    return failed


def _rows(fits: dict, boots: dict) -> pd.DataFrame:
    """One row a group and parameter: the value and its interval."""
    rows = []
    for group, fitted in fits.items():
        boot = boots[group]
        for name in fitted.form.free:
            low, high = (np.nan, np.nan) if boot is None or boot.withheld else boot.interval(name, _points.level())
            rows.append({"group": group, "runs": len(fitted.runs), "parameter": name, "value": fitted.params[name],
                         "low": low, "high": high})
    return pd.DataFrame(rows).sort_values("parameter", kind="stable", key=lambda names: names.map(
        {name: place for place, name in enumerate(dict.fromkeys(row["parameter"] for row in rows))}))


def _output() -> epath.Path | None:
    """The directory of --output, not made yet. Refused before any work if it is a file."""
    if not _OUTPUT.value:
        return None
    path = epath.Path(_OUTPUT.value).expanduser()
    if path.exists() and not path.is_dir():
        raise files.WorkdirError(f"--output={_OUTPUT.value} is a file: name a directory (it is made when "
                                 "missing)")
    return path


def _content(fitted: laws.Fit, boot, parts: list[_fit_parts.Part]) -> dict:
    """fit.json without when and how it was made: the content that `laws.load_fit` reads, and the parts."""
    best = fitted.objective or 1.0
    modes = [{"params": {name: row[name] for name in fitted.form.names}, "objective": row["objective"],
              "above_best": row["objective"] / best - 1} for row in fitted.optima.to_dict("records")]
    asked = {part.name: part.content for part in parts}
    return store.fit_content(fitted, boot, level=_points.level()) | {"modes": modes} | asked


def _write(output: epath.Path, content: dict, drawings: dict[str, Callable]) -> None:
    """Writes fit.json and then the figures into `output`, and notes in `content` when, how and what. Refused if that
    holds another fit."""
    path = output / "fit.json"
    other = path.exists() and not _same(path, content)
    if other and not _OVERWRITE.value:
        raise files.WorkdirError(f"{path} holds another fit: name another --output, or replace it with "
                                 "--overwrite")
    files.open_workdir(output)
    made = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": "python -m experiments.fit " + " ".join(map(shlex.quote, sys.argv[1:]))}
    content["made"] = made
    files.write_json(path, content)
    if _FIGURES.value:
        for name, draw in drawings.items():
            laws.plots.save(output / f"{name}.png", draw())
    stale = set(FIGURES) - set(drawings if _FIGURES.value else ()) if other else ()
    for name in stale:  # these figures show the fit that was here before
        (output / f"{name}.png").unlink(missing_ok=True)
    content["written"] = _say_written(output)


def _say_written(output: epath.Path) -> list[str]:
    """Prints what is in `output`, and returns the paths."""
    found = sorted(output.iterdir())
    print(f"\nwritten: {', '.join(each.name for each in found)} in {output}")
    return list(map(os.fspath, found))


def _same(path: epath.Path, content: dict) -> bool:
    """Whether fit.json at `path` has this content, whenever it was made."""
    try:
        there = files.read_json(path)
    except ValueError:
        return False
    return {k: v for k, v in there.items() if k != "made"} == files.loads(files.dumps(content))


if __name__ == "__main__":
    _points.run(main)
