"""Which study a workdir belongs to. study.json says it from the first start on, and every later start is compared with it.

A study may grow: more sizes, amounts of data, seeds or rates. Fields that change no result may change too. Anything else
would mix two studies in the figures, tables and fits of one page. It is refused, and the fields that differ are named.
"""

import contextlib
import dataclasses
import datetime
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from scaling import experiment as experiments
from scaling import families, laws
from scaling.figures import words
from scaling.results import records
from scaling.store import files, locks
from scaling.store.files import WorkdirError
from scaling.study.definition import Definition
from scaling.sweeps.plan import Plan
from scaling.sweeps.runner import Runner

FILE = "study.json"
NOMINAL_RATE = 1e-3  # of a target whose rate is not known yet: any rate has the same cost
# Fields of a config that change no result.
HARMLESS = ("title", "prompts", "beside", "tune", "tune_sampler", "tune_trials", "fit_edges")
SHOWN = 4  # differences that a refusal lists


def define(definition: Definition, plan: Plan, goal: Plan | None, runner: Runner) -> dict[str, Any]:
    """What makes the study: the part of study.json that later starts are compared with. Values are those of JSON.

    goal: the plan of the target at the nominal rate, or None.
    """
    first = definition.sweep[0]
    data = {}
    for run in [*plan.all_runs, *(goal.all_runs if goal else ())]:
        source, name = runner.source(run.experiment), run.experiment.data.name
        data[name, source.fingerprint] = {
            "name": name, "fingerprint": source.fingerprint, "contents": getattr(source, "contents", None) or {}}
    target = goal and {"nominal": goal.runs[0].fingerprint, "experiment": experiments.to_dict(goal.runs[0].experiment)}
    return files.loads(files.dumps({
        "title": definition.title, "config": definition.config, "metric": definition.metric, "unit": first.data.unit,
        "law": definition.law, "beside": definition.beside, "family": families.name(first.family),
        "runs": sorted(run.fingerprint for run in plan.runs), "target": target, "data": list(data.values()),
        "results_version": max(map(experiments.results_version, definition.sweep)),
        **({"fix": definition.fix} if definition.fix else {})}))


def check_older(plan: Plan, runner: Runner) -> None:
    """Raises WorkdirError for a workdir that an older version left unfinished, where the rest would have other results.

    Such a workdir names its runs as that version did.
    """
    older = [run for run in plan.runs if run.fingerprint != experiments.fingerprint(run.experiment,
                                                                                    runner.content(run.experiment))]
    left = [run for run in plan.runs if not runner.records.finished(run.fingerprint)]
    if older and any(experiments.results_version(run.experiment) > LAST_ALIKE for run in left):
        raise WorkdirError(f"the workdir {os.fspath(runner.workdir)!r} was begun by an older version of scaling, and the "
                           f"{words.plural(len(left), 'run')} that it lacks would have other results now: finish it with "
                           "that version, or choose another --workdir")


LAST_ALIKE = 3  # the last results version whose results are those of the versions before it
OLDER_LAW = "chinchilla"  # the default of versions that had no rules


def read_study_file(workdir: epath.Path) -> dict | None:
    """study.json, None where there is none. WorkdirError, which says what to do, where it is damaged."""
    return _read(workdir / FILE)


def admit(workdir: epath.Path, now: dict) -> list[str]:
    """Sentences about what `now`, of `define`, changes in the study of `workdir`; [] where nothing changes.

    Raises WorkdirError where the workdir belongs to another study. A workdir of a version that did not list its runs
    belongs to the study of its forecast, and to any study before it has one.
    """
    before, forecast = read_study_file(workdir) or {}, _read(workdir / "forecast.json")
    old = _sweep(before) if "runs" in before else set((forecast or {}).get("records") or ())
    lost = old - set(now["runs"])
    if lost:
        fields, data = _why_lost(before, now), _data_changes(workdir, before, now, lost)
        if not fields and not data:
            fields = [f"the sweep of the config file leaves out {len(lost)} of the study's {len(old)} runs"]
        _refuse(workdir, fields, data, len(old) - len(lost))
    elif forecast:
        was = before if "runs" in before else {"metric": forecast.get("metric"), "law": forecast.get("form")}
        if now["law"] in laws.RULES and was.get("law") == OLDER_LAW:  # `judging.law_of` keeps that of the forecast
            was = {**was, "law": None}
        wrong = [_change(name, was[name], now[name]) for name in ("metric", "law")
                 if (was.get(name) or now[name]) != now[name]]
        if (held := before.get("fix") or {}) != (now.get("fix") or {}):
            wrong.append(_change("fix", held, now.get("fix") or {}))
        _refuse(workdir, wrong + _target_changes(before, forecast, now), [], len(old))
    if "runs" not in before:
        return []
    added = len(set(now["runs"]) - old)
    said = [f"{added} runs were added"] if added else []
    plain = [name for name in now if name not in ("config", "runs", "data", "target")]
    said += [_change(name, before.get(name), now[name]) for name in plain if before.get(name) != now[name]]
    return said + _config_changes(before.get("config"), now["config"], ("title", "beside", "metric", "law", "fix"))


def enter(workdir: epath.Path, now: dict, about: dict) -> None:
    """Writes study.json before anything is trained, or compares the study with the one that is there.

    about: what is recorded beside the definition, such as the command, and what `list_runs` says under "planned". The
    history says when the study grew.
    """
    with _alone(workdir):
        said, before = admit(workdir, now), read_study_file(workdir) or {}
        planned = {**(before.get("planned") or {}), **(about.get("planned") or {})}
        if before.get("runs") and not said and planned == (before.get("planned") or {}):
            return
        about = {**about, "planned": planned} if planned else about
        line = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "changes": said}
        history = [*(before.get("history") or []), *([line] if said else [])]
        both = _with_asked({**before, **now, **about}, set(now["runs"]), asked_runs(before))
        files.write_json(workdir / FILE, {**both, **({"history": history} if history else {})})


def enter_asked(workdir: epath.Path, runs: Mapping[str, dict], about: dict) -> None:
    """Lists runs that the cells of the sweep asked for as planned ones, before they are trained (see `bracketing`).

    runs: what `list_runs` says of them. about: what is recorded beside them, such as the budget. Runs of earlier commands
    stay.
    """
    with _alone(workdir):
        before = read_study_file(workdir) or {}
        after = _with_asked({**before, "bracketing": {**(before.get("bracketing") or {}), **about},
                             "planned": {**(before.get("planned") or {}), **runs}}, _sweep(before),
                            asked_runs(before) | set(runs))
        if after != before:
            files.write_json(workdir / FILE, after)


def asked_runs(study: dict) -> set[str]:
    """The runs in the content of study.json that the sweep of the config does not have: its cells asked for them."""
    return set((study.get("bracketing") or {}).get("runs") or ())


def _sweep(study: dict) -> set[str]:
    """The runs in the content of study.json that the sweep of the config has."""
    return set(study["runs"]) - asked_runs(study)


def _with_asked(study: dict, sweep: set[str], asked: set[str]) -> dict:
    """The content of study.json with the runs of the `sweep` and those `asked` for, unless the sweep has them now."""
    asked = asked - sweep
    if not asked:
        return {name: value for name, value in study.items() if name != "bracketing"} | {"runs": sorted(sweep)}
    return {**study, "runs": sorted(sweep | asked), "bracketing": {**study["bracketing"], "runs": sorted(asked)}}


def add_measured(workdir: epath.Path, now: dict, measured: dict) -> None:
    """Adds what a finished command measured to study.json, unless the study has grown meanwhile in another process."""
    with _alone(workdir):
        before = read_study_file(workdir) or {}
        if "runs" not in before or _sweep(before) == set(now["runs"]):
            study = {**before, **now, **measured}
            files.write_json(workdir / FILE, _with_asked(study, set(now["runs"]), asked_runs(before)))


def check_usable(workdir: epath.Path) -> None:
    """Raises the WorkdirError that `files.open_workdir` would, as far as that can be told without creating anything."""
    shown = os.fspath(workdir)
    if not files.is_local(workdir):
        return
    above = next(path for path in (workdir, *workdir.parents) if path.exists())
    if not above.is_dir():
        raise WorkdirError(f"workdir {shown!r} is a file, or lies inside one: name a directory; it is created when it does "
                           "not exist")
    if not os.access(above, os.W_OK | os.X_OK):
        raise WorkdirError(f"workdir {shown!r} cannot be written: choose another --workdir or change its permissions")


# ------------------------------------------------------------------------------------------- differences


def _refuse(workdir, fields: list[str], data: list[str], shared: int) -> None:
    """Raises the WorkdirError about fields or data that differ, if any do. shared: runs that both studies have."""
    wrong = [*fields, *data]
    if not wrong:
        return
    shown = "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
    where = os.fspath(workdir)
    begun = f"workdir {where!r} belongs to another study" if fields else f"the data of the study in {where!r} have changed"
    undo = "write these as they were" if fields else "restore the data"
    kept = f", and keeps the {shared} runs that both share" if shared else ""
    raise WorkdirError(f"{begun}: {shown}. Either {undo}, or choose another --workdir; --workdir=NEW --fork={where} starts "
                       f"a new study in NEW{kept}")


def _why_lost(before: dict, now: dict) -> list[str]:
    """Why planned runs are no longer in the plan, as far as the config or the code says it."""
    wrong = _config_changes(before.get("config"), now["config"], (*HARMLESS, *_how_fields(now)))
    version = before.get("results_version", now["results_version"] if "runs" in before else 3)
    if version != now["results_version"]:
        wrong.append(f"{_change('results version', version, now['results_version'])}, so that runs have other results")
    return wrong


def _config_changes(before, now: Mapping, left_out=()) -> list[str]:
    """A sentence for each field that two configs give different values. Fields that one of them lacks come last."""
    if not isinstance(before, Mapping):
        return []
    old, new = (dict(_flat(config)) for config in (before, now))
    names = [name for name in {**new, **old} if name not in left_out and old.get(name) != new.get(name)]
    names.sort(key=lambda name: name not in old or name not in new)
    return [_change(name, old.get(name), new.get(name)) for name in names]


def _data_changes(workdir, before: dict, now: dict, lost: set[str]) -> list[str]:
    """A sentence for each data set whose content has changed; where study.json does not list data, from the records."""
    listed = before.get("data")
    if not listed:
        held = records.Records(workdir)
        found = sorted({held.read(name).get("data_fingerprint") or "" for name in sorted(lost) if held.done(name)} - {""})
        listed = [{"name": each["name"], "fingerprint": name} for each in now["data"] for name in found]
    fields = _config_changes(before.get("config"), now["config"], _how_fields(now))
    said = []
    for each in [] if any(change.startswith("data.") for change in fields) else now["data"]:
        old = [one for one in listed if one["name"] == each["name"]]
        if not old or any(one["fingerprint"] == each["fingerprint"] for one in old):
            continue
        was, found = (dict(_flat(one.get("contents") or {})) for one in (old[0], each))
        changes = [_change(name, was[name], found[name]) for name in was
                   if name in found and was[name] != found[name] and not name.startswith("examples.")]
        python = [(of or {}).get("python") for of in (before.get("versions"), records.versions())]
        if each["name"].startswith("pycode/") and python[0] and python[0] != python[1]:
            changes.insert(0, f"Python {python[0]} -> {python[1]}, whose source the data are")
        changes = changes[:SHOWN] or [_change("fingerprint", old[0]["fingerprint"], each["fingerprint"])]
        said.append(f"{each['name']}: {', '.join(changes)}")
    return said


def _target_changes(before: dict, forecast: dict, now: dict) -> list[str]:
    """Sentences about a target that is not the one of the registered forecast."""
    new, registered = now["target"], (forecast.get("target") or {}).get("experiment")
    old = before.get("target") or (registered and {"experiment": registered})  # of a version that did not list it
    if not old or old.get("nominal") == (new or {}).get("nominal"):
        return []  # equal, or it differs only in how it is computed
    if new is None:
        return ["the config has no target, and the forecast of one is registered"]
    was, wanted = (dict(_flat(one["experiment"])) for one in (old, new))
    ignored = ("optim.learning_rate", *_how_fields(now))
    said = [_change(f"target's {name}", was[name], wanted[name]) for name in was
            if name in wanted and was[name] != wanted[name] and name not in ignored]
    return said or (["the content of the target's data has changed"] if "nominal" in old else [])


def _how_fields(now: dict) -> list[str]:
    """Paths of the fields of a config that do not enter a run's name."""
    family = families.find(now["family"])
    parts = [("", experiments.Experiment), ("optim.", experiments.Optim), ("family.", family),
             *(("data.", experiments.find_kind(kind)) for kind in families.reads(family))]
    return [prefix + f.name for prefix, part in parts for f in dataclasses.fields(part) if f.metadata.get("how")]


def _change(name: str, before, now) -> str:
    return f"{name} {_short(before)} -> {_short(now)}"


def _short(value, most: int = 80) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text if len(text) <= most else f"{text[:most // 2]}...{text[-most // 2:]}"


def _flat(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# ------------------------------------------------------------------------------------------------- files


def _read(path) -> dict | None:
    try:
        return files.read_json(path) if path.exists() else None
    except ValueError as error:
        raise WorkdirError(str(error)) from None


@contextlib.contextmanager
def _alone(workdir):
    """Holds the lock on study.json, which processes that start together write one after another."""
    while (lock := locks.acquire(workdir / "locks" / FILE)) is None:
        time.sleep(0.1)
    try:
        yield
    finally:
        lock.release()
