"""The ladder of a recipe: its runs by rung, from the workdir of a study or from a table of losses.

A rung is one amount of compute, or one cell (a size on an amount of data) where a sweep has several cells of one size. Its
runs are the seeds at the best learning rate of the cell.
"""
from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.forms.form import LawError
from scaling.laws.runs import Runs
from scaling.results import metrics, records
from scaling.results.tuned import merge_levels
from scaling.store import files

MERGED = 0.02  # amounts closer than this are one, as in `tuned.merge_levels`


@dataclass(frozen=True, eq=False)
class Ladder:
    """The runs of one recipe.

    frame: a row for each run, with the columns rung (a number from 0, by compute), flops, loss, seed, and N and D where
    they are known. seeded: whether the column `seed` names seeds, so that runs can be paired by it. label: a label that the
    table gave each rung, {rung: text}; {} without labels. said: what was left out, in sentences.
    """
    name: str
    metric: str
    frame: pd.DataFrame
    seeded: bool
    label: dict[int, str]
    said: tuple[str, ...] = ()

    @functools.cached_property
    def cells(self) -> pd.DataFrame:
        """One row for each rung: the geometric means of its runs, and their number `seeds`."""
        groups = self.frame.groupby("rung")
        numbers = [name for name in ("flops", "loss", "N", "D") if name in self.frame]
        return np.exp(np.log(self.frame[numbers]).groupby(self.frame["rung"]).mean()).assign(seeds=groups.size())

    @functools.cached_property
    def grid(self) -> bool:
        """Whether N and D vary apart: there are several sizes, and some of them have several amounts of data."""
        cells = self.cells
        if not {"N", "D"} <= set(cells):
            return False
        data = cells["D"].groupby(merge_levels(cells["N"]))
        return data.ngroups > 1 and bool((data.max() > (1 + MERGED) * data.min()).any())


def ladder_of_workdir(path, name: str, y: str | None = None) -> Ladder:
    """The tuned runs of a finished study, by cell, with all seeds of the best learning rate of each cell.

    y: the metric, a column of the records; by default that of the study. Raises LawError for a workdir without such runs.
    """
    runs = Runs.from_workdir(path, y)
    metric = runs.columns["y"]
    if metrics.find_metric(metric).rises:
        raise LawError(f"{metric} rises as models get better, and a speed-up needs a metric that falls; "
                       "name one by y=, such as bits_per_byte, bits_per_dim or fd_infinity")
    cells = runs.frame[["fingerprints"]].assign(rung=np.arange(len(runs)))
    named = cells.explode("fingerprints").rename(columns={"fingerprints": "fingerprint"})
    table = named.merge(records.load_records(path), on="fingerprint")
    of = {"flops": runs.columns["C"], "loss": metric, "N": runs.columns["N"], "D": runs.columns["D"], "seed": "seed"}
    frame = pd.DataFrame({"rung": table["rung"]} | {new: pd.to_numeric(table[old]) for new, old in of.items()})
    said = [f"{name}: {len(why)} {'cell is' if len(why) == 1 else 'cells are'} left out, since {why[0]}"
            for why in _grouped(runs.dropped)]
    diverged = int((runs.frame["seeds_diverged"] > 0).sum()) if "seeds_diverged" in runs.frame else 0
    if diverged:
        said.append(f"{name}: some seed diverged at {diverged} of {len(runs)} cells, whose means hold the others alone")
    return make_ladder(name, metric, frame, True, {}, said)


def ladders_of_table(path, recipes: Sequence[str] | None = None, **columns: str) -> tuple[Ladder, Ladder]:
    """(base, change) of a table with one row a run and a column `recipe`; columns as for `Runs.from_csv`.

    recipes: the two values of that column, the base first; by default "base" and "change". Columns `seed` (runs of two
    recipes with the same seed are paired) and `rung` (which rungs belong together) are used where they are there. Raises
    LawError, which says what to write.
    """
    runs = Runs.from_csv(path, **columns)
    if "recipe" not in runs.frame:
        raise LawError(f"no column 'recipe' in {os.fspath(path)}, which would say which recipe a run is of; the columns "
                       f"are {', '.join(map(str, runs.frame.columns))}")
    there = [str(value) for value in runs.frame["recipe"].dropna().unique()]
    wanted = list(recipes) if recipes else ["base", "change"]
    if len(wanted) != 2 or not set(wanted) <= set(there) or wanted[0] == wanted[1]:
        raise LawError(f"the column 'recipe' has the values {', '.join(there)}: name two of them, the base first, by "
                       f"recipes={','.join(there[:2]) if len(there) > 1 else 'base,change'}")
    base, change = (_of_table(runs.select((runs.frame["recipe"].astype(str) == each).to_numpy(), ""), each)
                    for each in wanted)
    return base, change


def _of_table(runs: Runs, name: str) -> Ladder:
    if "y" not in runs.columns:
        raise LawError(f"which column is the loss? Say y=<column>; the columns are {', '.join(map(str, runs.frame))}")
    value = runs.y
    bad = int((~np.isfinite(value)).sum())
    said = [f"{name}: {bad} {'run has' if bad == 1 else 'runs have'} no finite loss and "
            f"{'is' if bad == 1 else 'are'} left out"] if bad else []
    runs = runs.select(np.isfinite(value), "no finite loss")
    frame = pd.DataFrame({"flops": runs.positive("C"), "loss": runs.positive("y")})
    for role in ("N", "D"):
        if role in runs.columns:
            frame[role] = runs.positive(role)
    given = runs.frame["rung"].astype(str) if "rung" in runs.frame else None
    frame["rung"] = given if given is not None else _merged(frame)
    order = frame.groupby("rung")["flops"].mean().sort_values().index
    frame["rung"] = frame["rung"].map({value: place for place, value in enumerate(order)})
    seeded = "seed" in runs.frame
    frame["seed"] = runs.frame["seed"] if seeded else frame.groupby("rung").cumcount()
    label = {} if given is None else dict(enumerate(map(str, order)))
    return make_ladder(name, runs.columns["y"], frame, seeded, label, said)


def make_ladder(name: str, metric: str, frame: pd.DataFrame, seeded: bool = True, label: Mapping[int, str] | None = None,
                said: Sequence[str] = ()) -> Ladder:
    """A `Ladder` of a frame with its columns, whose rungs may have any labels: they are numbered by compute.

    Raises LawError for values that have no logarithm, and for two runs of one seed at one rung.
    """
    if frame.empty:
        raise LawError(f"{name} has no run with a finite {metric}")
    if not (frame[["flops", "loss"]] > 0).all(axis=None):
        raise LawError(f"{name} has values of {metric} or FLOPs that are not positive, and speed-ups need their logarithms")
    if frame.duplicated(["rung", "seed"]).any():
        twice = frame[frame.duplicated(["rung", "seed"])].iloc[0]
        raise LawError(f"{name} has two runs of seed {twice['seed']:g} at {twice['flops']:.3g} FLOPs: give each run its "
                       "own seed, or leave the column seed out where runs share none")
    order = frame.groupby("rung")["flops"].mean().sort_values(kind="stable").index
    place = {rung: i for i, rung in enumerate(order)}
    label = {place[rung]: text for rung, text in (label or {}).items()}
    frame = frame.assign(rung=frame["rung"].map(place)).sort_values(["rung", "seed"], ignore_index=True)
    return Ladder(name, metric, frame, seeded, label, tuple(said))


def shared_metric(paths: Sequence) -> str:
    """The metric of all studies in the workdirs `paths`. Raises LawError where their metrics differ."""
    named = []
    for path in paths:
        study = os.path.join(os.fspath(path), "study.json")
        about = files.read_json(study) if os.path.exists(study) else {}
        named.append(about.get("metric") or "loss")
    if len(set(named)) == 1:
        return named[0]
    common = set.intersection(*(set(metrics.metric_columns(records.load_records(path).dropna(axis=1, how="all")))
                                for path in paths))
    falling = sorted(name for name in common if not metrics.find_metric(name).rises)
    raise LawError(f"the studies have no common metric: {named[0]} in {os.fspath(paths[0])}, {named[1]} in "
                   f"{os.fspath(paths[1])}; " + (f"both have measured {', '.join(falling)}, name one by y="
                                                 if falling else "no metric that falls is in the records of both"))


def _merged(frame: pd.DataFrame) -> pd.Series:
    """A number for each run: runs of about the same compute (and N and D, where they are known) are one rung."""
    return frame.groupby([merge_levels(frame[name]) for name in ("flops", "N", "D") if name in frame]).ngroup()


def _grouped(dropped: list[dict]) -> list[list[str]]:
    """The reasons of dropped runs, equal ones together."""
    found: dict[str, list[str]] = {}
    for each in dropped:
        found.setdefault(each["why"], []).append(each["why"])
    return list(found.values())
