"""Training the run of a record again, elsewhere or later, and comparing what comes out with the record.

    record = reproducing.read_result("records/031f0c.jsonl")
    print(reproducing.differences(record))          # what was different then
    again = reproducing.train_again(record, "runs/again")
    found = reproducing.compare_records(record, again)
    found.agrees

On the machine and with the versions of the record, a run has the same bits if it trained alone, and nearly so after a pack.
Elsewhere numbers are rounded differently, and training amplifies that: the losses of a few hundred steps differ by up to
half a percent between processors, and those of two players by more.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from etils import epath

from scaling import experiment as experiments
from scaling.devices import hosts
from scaling.results import metrics, records
from scaling.store import files
from scaling.store.progress import Progress
from scaling.sweeps.runner import Runner, TrainingOptions

# The relative differences that are put down to rounding, by what differs; a game of several players has ten times as much.
SAME_MACHINE, OTHER_MACHINE, GAME = 0.005, 0.02, 10
UNKNOWN = "not recorded"


class NotReproducible(files.WorkdirError):
    """A record whose run cannot be trained again here; the message says why."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """A run and its record: the metric that is judged, {metric: (recorded, found)} of all, and the relative difference."""

    metric: str
    values: Mapping[str, tuple[float, float]]
    difference: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.difference <= self.tolerance


def read_result(path) -> dict:
    """The record of a run, or the verdict on a claim, in a JSON file or on the last line of a .jsonl file.

    Raises NotReproducible for a file that is missing, damaged or holds something else.
    """
    path = epath.Path(path).expanduser()
    try:
        found = files.loads_line(path.read_bytes().splitlines()[-1]) if path.suffix == ".jsonl" else files.read_json(path)
    except (OSError, IndexError) as error:
        raise NotReproducible(f"{os.fspath(path)} cannot be read: {error}") from None
    except files.DamagedFile as error:
        raise NotReproducible(f"{os.fspath(path)} is no JSON, or was altered: {error}") from None
    if not isinstance(found, dict) or not ("experiment" in found or "rules" in found):
        raise NotReproducible(f"{os.fspath(path)} is neither the record of a run nor the verdict on a claim; name a file "
                              "of WORKDIR/records, or one of docs/claims")
    return found


def differences(record: Mapping) -> dict[str, tuple[str, str]]:
    """{what: (then, now)} of the versions, compiler flags, machine and commit that differ from those of the record."""
    then = {**record.get("versions", {}), "commit": record.get("git_commit")}
    then.setdefault("machine", record.get("machine"))
    now = {**records.built_with(), "machine": hosts.machine(), "commit": records.git_commit()}
    return {name: (str(then.get(name) or UNKNOWN), str(now.get(name) or UNKNOWN)) for name in [*now, *(then.keys() - now)]
            if then.get(name) != now.get(name)}


def train_again(record: Mapping, workdir, options: TrainingOptions | None = None) -> dict:
    """Trains the run of a record in `workdir`, from the start, and returns its new record. It resumes where it was stopped.

    Raises NotReproducible where this code has no such experiment, where the data here are others, or where `workdir` has
    the record itself, and what training raises.
    """
    try:
        experiment = experiments.from_dict(record["experiment"])
    except (KeyError, TypeError, ValueError) as error:
        raise NotReproducible(f"the experiment of the record is not one that this version of scaling knows: {error}; take "
                              "the code of the record, with --checkout") from None
    runner = Runner(files.open_workdir(workdir), options or TrainingOptions())
    _check_data(record, runner.source(experiment).fingerprint, experiment)
    plan = runner.plan([experiment], 1, record.get("role", "sweep"))
    name = plan.runs[0].fingerprint
    if runner.records.finished(name) and runner.records.read(name).get("finished") == record.get("finished"):
        raise NotReproducible(f"{os.fspath(runner.records.path(name))} is the record itself; write another --workdir")
    with Progress(runner.work(plan), silent=not hosts.is_lead()) as progress:
        runner.run(plan, progress)
    return runner.records.read(name)


def _check_data(record: Mapping, here: str, experiment) -> None:
    then = record.get("data_fingerprint")
    if then not in (None, here):
        raise NotReproducible(f"the data {experiment.data.name!r} are others here: their fingerprint is {here}, and that "
                              f"of the record {then}. Data of installed packages follow their versions, so install those "
                              "of the record, or copy the data to where the name points")


def compare_records(record: Mapping, again: Mapping, tolerance: float | None = None) -> Compared:
    """The metrics of a run and of its record. The first metric that is known is judged, by `tolerance`, relative, or by
    what rounding does: half a percent on the same machine, two on another one, ten times that for several players.

    Raises NotReproducible where the run diverged in one of them alone, or the record holds no metric.
    """
    if bool(record.get("diverged")) != bool(again.get("diverged")):
        when = [f"diverged at step {one['diverged_step']}" if one.get("diverged") else "did not diverge"
                for one in (record, again)]
        raise NotReproducible(f"the run of the record {when[0]}, and this one {when[1]}")
    names = [name for name in metrics.metric_columns(record) if isinstance(record[name], int | float) and name in again]
    judged = next((name for name in metrics.METRICS if name in names), None)
    if judged is None:
        raise NotReproducible("the record holds no metric to compare")
    values = {name: (float(record[name]), float(again[name])) for name in [judged, *(n for n in names if n != judged)]}
    then, now = values[judged]
    difference = abs(now - then) / abs(then) if then else float(now != then)
    return Compared(judged, values, difference, _rounding(record, again) if tolerance is None else tolerance)


def _rounding(record: Mapping, again: Mapping) -> float:
    machines = [one.get("versions", {}).get("machine") for one in (record, again)]
    players = len(experiments.from_dict(record["experiment"]).family.players())
    return (SAME_MACHINE if machines[0] == machines[1] else OTHER_MACHINE) * (GAME if players > 1 else 1)
