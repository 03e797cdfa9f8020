"""A study at this moment, for whoever watches it from outside: its runs, its figures, and the law so far.

    sight = Watcher("runs/quickstart").look()
    print(describe_sight(sight))

The workdir is only read.
"""

from __future__ import annotations

import dataclasses
import time
from concurrent import futures
from dataclasses import dataclass

import numpy as np
from etils import epath

from scaling import laws
from scaling.figures import words
from scaling.laws.store import fit_content
from scaling.report import fitting
from scaling.report.reading import StudyFiles, read_study
from scaling.results import planned, records, tuned, underway
from scaling.results.underway import RunNow, Underway
from scaling.store import files
from scaling.study import judging

SPARED = 5.0  # a law is fitted again after so many times the seconds that fitting it took
SHOWN = 12  # runs of one state that a text lists


@dataclass(frozen=True)
class Sight:
    """What a look at a workdir saw. `study.fit` is the law so far, and `note` says what it is of, or why there is none."""
    workdir: str
    study: StudyFiles
    now: Underway
    note: str

    @property
    def title(self) -> str:
        return (self.study.study or {}).get("title") or "Scaling study"

    @property
    def problems(self) -> list[str]:
        """A sentence for each file that is there and cannot be used, and for each part of the study that failed."""
        return [*self.study.damaged, *self.study.failed]


class Watcher:
    """Looks at one workdir again and again. `wait`: a look waits until the law of the finished runs is fitted, which takes
    seconds; else an earlier law is shown meanwhile."""

    def __init__(self, workdir, wait: bool = False):
        self.workdir = epath.Path(workdir).expanduser()
        self._logs, self._fits, self._wait = underway.Logs(self.workdir), _Fits(), wait

    def look(self) -> Sight:
        """What there is now. Raises WorkdirError where the workdir is no directory."""
        study = read_study(self.workdir)
        about = study.study or {}
        targets = planned.forecast_targets(self.workdir)
        now = underway.find_underway(self._table(study), about, targets, study.unit.name, study.metric, self._logs)
        fit, note = self._fits.find(study, self._wait)
        return Sight(str(self.workdir), dataclasses.replace(study, fit=fit), now, note)

    def _table(self, study: StudyFiles):
        """The records of the study, and of the runs that others begin with."""
        listed = (study.study or {}).get("planned") or {}
        others = {name for name, about in listed.items() if about.get("role") == "start"} - set(study.runs["fingerprint"])
        if not others:
            return study.runs
        table = records.load_records(self.workdir)
        table = table[table["fingerprint"].isin({*others, *study.runs["fingerprint"]})]
        return tuned.clean(table, study.metric, study.unit)


class _Fits:
    """The law of the runs that have finished, as the study itself would fit it, made in a thread of its own."""

    def __init__(self):
        self._pool = futures.ThreadPoolExecutor(1, "fit")
        self._work: futures.Future | None = None
        self._key: frozenset | None = None  # the runs whose law is being fitted, or was last
        self._made: tuple[dict | None, str] = (None, "")
        self._again = 0.0

    def find(self, study: StudyFiles, wait: bool) -> tuple[dict | None, str]:
        """(the content of fit.json for the runs of `study`, a sentence about it), or (None, why there is none yet)."""
        if study.cells.empty:
            return None, "No law can be fitted yet, because no run of the sweep has a result."
        about = study.study or {}
        law, config = about.get("law") or "chinchilla", about.get("config")
        edges = bool(config.get("fit_edges")) if isinstance(config, dict) else True
        cells = judging.with_edges(study.runs, study.cells, law, edges)
        key = frozenset(cells.loc[cells["left_out"] == "", "fingerprints"].explode())
        if study.fit is not None and {point.get("fingerprint") for point in study.fit.get("points") or ()} == {
                *cells.loc[cells["left_out"] == "", "fingerprint"]}:
            return study.fit, "This is the law of fit.json."
        if key != self._key and time.monotonic() >= self._again and (self._work is None or self._work.done()):
            self._key, self._work = key, self._pool.submit(self._make, study, cells, law)
        if self._work is not None and (wait or self._work.done()):
            self._work.result()
        fit, note = self._made
        fresh = self._key == key and self._work is not None and self._work.done()
        return fit, note if fresh else f"{note} The law of the runs there are now is being fitted.".strip()

    def _make(self, study, cells, law):
        began = time.monotonic()
        try:
            points = judging.points_of(cells, study.metric, study.unit.name)
            judged = judging.judge(points, law, study.runs, cells, fix=(study.study or {}).get("fix"))
            flops = cells["flops"]
            frontier = _frontier(judged, np.geomspace(flops.min(), 2 * flops.max(), 25))
            found = fit_content(judged.selection.fit, judged.leading, frontier, selection=judged.selection)
            of = words.plural(len(points), "tuned run")
            self._made = files.loads(files.dumps(found)), f"This is the law of the {of} so far."
        except laws.LawError as error:
            self._made = None, f"No law can be fitted yet: {error}."
        except Exception as error:  # the rest of the page is worth more than the law
            self._made = None, f"The law of the runs so far could not be fitted ({type(error).__name__}: {error})."
        self._again = time.monotonic() + SPARED * (time.monotonic() - began)


def _frontier(judged, budgets):
    try:
        return laws.frontier(judged.selection.fit, budgets, laws.counted(judged.selection.fit.runs), judged.leading)
    except laws.LawError:
        return None


# ---------------------------------------------------------------------------------------------------- as text and as JSON


def headline(now: Underway) -> str:
    """How many runs are in which state, in one line."""
    said = [f"{now.count(state)} {state}" for state in underway.STATES if now.count(state)]
    return f"{words.plural(len(now.runs), 'run')}: {', '.join(said)}" if said else "no runs are known yet"


def time_left(now: Underway) -> str:
    """A sentence about what is left of the training."""
    done = "" if now.share is None else f"{words.percent(now.share)} of the training is done"
    if now.seconds_left is None:
        return "; ".join(filter(None, [done, now.basis]))
    left = f"about {words.duration(now.seconds_left)} are left, " if now.seconds_left else ""
    return "; ".join(filter(None, [done, left + now.basis]))


def law_lines(sight: Sight) -> list[str]:
    """The law so far: its formula, its parameters with intervals, its back-test, and what it is of."""
    fit = sight.study.fit
    if not fit:
        return [sight.note]
    rows = [f"{row['name']} = {row['value']} ({row['interval']})" for row in fitting.law_rows(fit)]
    best = next(iter((fit.get("selection") or {}).get("table") or []), {})
    error = f"; error on held-out runs {words.percent(best['mape'])}" if best.get("mape") else ""
    return [sight.note, f"{fit.get('formula') or fit['form']}: {', '.join(rows)}{error}"]


def describe_sight(sight: Sight) -> str:
    """A look as text for a terminal."""
    unit = sight.study.unit.name
    lines = [f"{sight.title} ({sight.workdir})", headline(sight.now), time_left(sight.now), "",
             f"{'state':<9} {'N':>8} {unit:>9} {'rate':>9} {'seed':>5} {'step':>17} {'loss':>8} {sight.study.metric:>14}"]
    for state in underway.STATES:
        runs = [run for run in sight.now.runs if run.state == state]
        lines += [_line(run) for run in runs[:SHOWN]]
        lines += [f"{'':<9} and {len(runs) - SHOWN} more that are {state}"] if len(runs) > SHOWN else []
    return "\n".join([*lines, "", *law_lines(sight), *[f"note: {said}" for said in sight.problems]])


def _line(run: RunNow) -> str:
    of = "" if run.steps is None else f"/{run.steps:,}"
    step = of.lstrip("/") if run.step is None else f"{run.step:,}{of}" if run.state != "finished" else f"{run.step:,}"
    cells = [words.count(run.params), words.count(run.data), words.short(run.learning_rate),
             words.NOTHING if run.seed is None else str(run.seed), step, words.number(run.loss), words.number(run.value)]
    widths = (8, 9, 9, 5, 17, 8, 14)
    text = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{run.state:<9} {text}  {run.fingerprint[:10]}  {remark(run)}".rstrip()


def remark(run: RunNow) -> str:
    """Why a run failed, or since when nothing was heard of it."""
    if run.says:
        return run.says
    return f"its log last grew {words.duration(run.quiet)} ago" if run.state == "silent" else ""


def as_json(sight: Sight) -> dict:
    """A look as plain JSON values."""
    fit = sight.study.fit
    kept = ("form", "formula", "params", "intervals", "level", "selection", "diagnostics")
    law = None if not fit else {name: fit.get(name) for name in kept} | {"runs": len(fit.get("points") or [])}
    now = {name: getattr(sight.now, name) for name in ("share", "seconds_left", "basis")}
    return {"workdir": sight.workdir, "title": sight.title, "metric": sight.study.metric, "unit": sight.study.unit.name,
            "states": {state: sight.now.count(state) for state in underway.STATES}, **now,
            "runs": [dataclasses.asdict(run) for run in sight.now.runs],
            "fit": law, "fit_note": sight.note, "problems": sight.problems}
