"""Whether a forecast, its score, the log and the records fit together, so that "held" may be said of it."""
from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Iterator, Mapping

import numpy as np
from etils import epath

from scaling.laws.forecasts import evidence, registry, sealed
from scaling.laws.forecasts.score import score
from scaling.laws.forms.form import LawError
from scaling.results.planned import target_names
from scaling.results.records import Records

AGREE = 1e-9  # relative difference of a number in a score of an older version, which carries no hash


@dataclasses.dataclass(frozen=True)
class Verification:
    """The result of `verify`, in sentences. problems: why no verdict may be given. notes: what a reader should know.

    registrations: the log's entries of this forecast's file, {"time", "forecast", "predicted", "interval", ...} each.
    """
    problems: list[str]
    notes: list[str]
    registrations: list[dict]

    @property
    def ok(self) -> bool:
        """True if nothing speaks against a verdict."""
        return not self.problems

    @property
    def sentences(self) -> list[str]:
        return [*self.problems, *self.notes]


def score_path(path) -> epath.Path:
    """The file of the score of the forecast at `path`."""
    path = epath.Path(path)
    return path.parent / f"{path.stem}_check.json"


def read(path) -> dict:
    """The forecast at `path`. Raises LawError if any byte of the file was changed since it was written."""
    return sealed.read_sealed(path, "forecast")


def read_check(path) -> dict:
    """The score of the forecast at `path`. Raises LawError if it was changed, or is no score.

    Scores of older versions carry no hash; `verify` computes them again.
    """
    beside = score_path(path)
    text, content = sealed.parse(beside, "score of a forecast")
    if isinstance(content, dict) and {"hash", "registration"} & content.keys():
        return sealed.read_sealed(beside, "score of a forecast")
    if not isinstance(content, dict) or not {"observed", "forecast_hash"} <= content.keys():
        raise LawError(f"{os.fspath(beside)} is not a score of a forecast; restore or delete it")
    return content


def verify(path, records=None) -> Verification:
    """Compares the forecast at `path` with its hash, the log, its score, and the records that it was made from.

    records: as for `forecast.check`; by default those of the folder if it is a workdir, or those where the fitted runs came
    from. Records that are nowhere are a note. The target's record of a workdir is compared with the score.
    """
    path = epath.Path(path)
    log = registry.read_log(path.parent)
    registrations = log.registered(path.name)
    try:
        content = read(path)
    except LawError as error:
        problems = [_sentence(error, path)] + ([f"{log.broken}."] if log.broken else [])
        if not path.exists():
            problems += [f"{registry.FILE} says that {path.name} was registered at {entry['time']} and predicted "
                         f"{entry['predicted']:.6g}." for entry in registrations]
        return Verification(problems, [], registrations)
    problems, notes = list(_of_log(path, content, log)), list(marks(content))
    if "registration" not in content:
        notes.append(f"{path.name} was registered without a log, by an older version of scaling.")
    if late := content.get("registered_late"):
        problems.append(f"{path.name} was registered late, which makes it no forecast: {late['reason']}.")
    found = None
    try:
        found = read_check(path) if score_path(path).exists() else None
        problems += _of_check(path, content, found, log)
    except LawError as error:
        problems.append(_sentence(error, path))
    for into, sentence in _of_records(path, content, found, records):
        (problems if into else notes).append(sentence)
    return Verification(problems, notes, registrations)


def _sentence(error, path) -> str:
    return f"{str(error).replace(f'{os.fspath(path.parent)}/', '')}."


def _of_log(path, content: Mapping, log: registry.Registry) -> Iterator[str]:
    if log.broken:
        yield f"{log.broken}."
    if "registration" not in content:
        if log.registered(path.name):
            yield f"{registry.FILE} holds another forecast under the name {path.name}: the file was replaced."
    elif not log.exists:
        yield f"{registry.FILE}, in which {path.name} was registered, is gone."
    else:
        entry = log.at(content["registration"])
        if (entry.get("event"), entry.get("forecast"), entry.get("file")) != ("registered", content["hash"], path.name):
            yield (f"{registry.FILE} does not hold {path.name} in line {content['registration']['line']}, where it was "
                   "registered: the log or the file was replaced.")
        elif newer := [e for e in log.registered(path.name) if e["forecast"] != content["hash"]
                       and log.entries.index(e) >= content["registration"]["line"]]:
            yield f"{path.name} was registered again at {newer[-1]['time']} with another forecast than this one."


def marks(content: Mapping) -> Iterator[str]:
    """What the forecast itself says against it, short of being no forecast."""
    for entry in content.get("registered_again") or []:
        yield (f"This forecast was registered again: {entry['file']} had been registered at {entry['time']} and predicted "
               f"{entry['predicted']:.6g}.")
    if larger := content.get("larger_runs"):
        runs, there = larger["runs"], larger.get("as_target")
        of = f" and {there} of at least the target's" if there else ""
        yield (f"{runs} {'run' if runs == 1 else 'runs'} of more compute than the fitted ones{of} had finished on the same "
               f"data before this forecast, with up to {larger['compute_ratio']:.3g} times the largest fitted compute: its "
               "author could have seen the results.")


def _of_check(path, content: Mapping, found: Mapping | None, log: registry.Registry) -> Iterator[str]:
    beside = score_path(path).name
    if found is None:
        for entry in log.scored(content["hash"])[-1:]:
            yield f"{beside} is gone: {registry.FILE} says that {entry['observed']:.6g} was observed at {entry['time']}."
        return
    if found["forecast_hash"] != content["hash"]:
        yield f"{beside} is the score of another forecast than {path.name}."
        return
    yield from found.get("withheld") or []
    if "registration" in found:
        entry = log.at(found["registration"])
        if (entry.get("event"), entry.get("check")) != ("scored", found["hash"]):
            yield f"{registry.FILE} does not hold {beside} in line {found['registration']['line']}, where it was written."
    elif log.scored(content["hash"]):
        yield f"{registry.FILE} holds another score of {path.name} than {beside}."
    if "distribution" in content and not _agrees(content, found):
        yield f"{beside} was changed after it was written: another score follows from {path.name} and the observed value."


def _agrees(content: Mapping, found: Mapping) -> bool:
    """True if the score follows from the forecast and the observed value. Words are not compared."""
    try:
        again = json.loads(json.dumps(score(content, found["observed"])))
        own = {"verdict", "time", "forecast_hash", "registration", "hash", "withheld", "nonfinite"}
        datetime.datetime.fromisoformat(found["time"])
        return (found.keys() - own <= again.keys() and isinstance(found["verdict"], str)
                and all(_same(found[name], again[name]) for name in ("observed", "predicted", "interval", "level", "error",
                                                                     "relative_error", "inside", "z", "rank")))
    except (LawError, KeyError, TypeError, ValueError):
        return False


def _same(one, other) -> bool:
    if isinstance(one, bool) or one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=AGREE, atol=0, equal_nan=True))


def _of_records(path, content: Mapping, found: Mapping | None, records) -> Iterator[tuple[bool, str]]:
    """(True for a problem or False for a note, sentence) about the runs it was made from, and about the target's record."""
    named = content.get("record_columns") is None
    home = path.parent if named and (path.parent / "records").is_dir() else None
    source = home or (content.get("source") or {}).get("path")
    if records is None:
        records = source
    if records is None or (not isinstance(records, Mapping) and not _there(records)):
        yield False, "The runs that it was made from are not here, so that they were not compared."
    elif not isinstance(records, Mapping) or records:
        try:
            known, _, _ = evidence.gather_records(records, content["measured"], content["record_columns"],
                                                  content["records"], content.get("records_without") or ())
            if gone := evidence.lost(content["records"], known):
                yield True, f"The runs that it was made from are not as they were ({gone})."
        except LawError as error:
            yield True, f"The runs that it was made from cannot be read: {error}."
    if home is not None:
        for sentence in _of_target(path, content, found, Records(home)):
            yield True, sentence


def _there(records) -> bool:
    return not isinstance(records, (str, os.PathLike)) or epath.Path(records).exists()


def _of_target(path, content: Mapping, found: Mapping | None, store: Records) -> Iterator[str]:
    names = target_names(content["target"])  # one for each seed; the forecast is of their mean
    if not names or not all(map(store.done, names)):
        return
    target = [store.read(name) for name in names]
    lost = next((record for record in target if record.get("diverged")), None)
    values = [record.get(content["metric"]) for record in target]
    value = None if None in values else float(np.mean(values)) if values[1:] else values[0]
    if lost is not None:
        yield f"The target diverged at step {lost.get('diverged_step')}, so that the forecast cannot be scored."
    elif found is not None and found["observed"] != value:
        have = f"records of the target have a mean {content['metric']} of" if values[1:] else (
            f"record of the target has {content['metric']} =")
        yield (f"The {have} {value if value is None else f'{value:.6g}'}, and "
               f"{score_path(path).name} {found['observed']:.6g}: one of them was changed.")
    for record in target:
        if "registered_late" not in content and _before(record.get("finished"), content["time"]):
            yield f"The target finished at {record['finished']}, before {path.name} was written."
            return


def _before(one, other) -> bool:
    try:
        return datetime.datetime.fromisoformat(one) < datetime.datetime.fromisoformat(other)
    except (TypeError, ValueError):
        return False
