"""Train the run of a record again, or try a claim again, and compare what comes out.

    python -m experiments.reproduce --record=runs/quickstart/records/031f0c6c.jsonl --workdir=runs/again
    python -m experiments.reproduce --record=docs/claims/size.json --workdir=runs/again
    python -m experiments.reproduce --record=031f0c6c.jsonl --workdir=runs/again --checkout=runs/then

--record, or the word without a flag, is the record of a run or the verdict on a claim. What differs from the versions, the
compiler flags, the machine and the commit of the record is printed first. The data must have the record's fingerprint. Then
the run trains in --workdir, or resumes there, and its metrics are printed beside those of the record.

The first metric is judged. On the same machine and with the same versions a run has nearly the same bits. Elsewhere
numbers are rounded differently, so that half a percent is put down to rounding where the machine is of the same kind, two
percent on another one, and ten times that for the players of a GAN; --tolerance=0.01 sets another share. A claim agrees
where its verdict is the same and the intervals of its numbers overlap.

--checkout takes the code of the record's commit: it becomes a git worktree in that folder, which stays for inspection, and
the command runs there. The commit must have this command.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0; 1 when the record
cannot be read or trained again; 2 for wrong flags; 3 when the results differ; 75 "start me again" after SIGTERM.
"""

import os
import pathlib
import subprocess
import sys

from scaling.devices.layouts import one_cpu_device_per_core

one_cpu_device_per_core()  # before JAX starts

from absl import app, flags, logging  # noqa: E402

from experiments import _environment, claims  # noqa: E402
from experiments._errors import ending_well  # noqa: E402
from experiments._json import answering  # noqa: E402
from scaling.claims import Trial, registry  # noqa: E402
from scaling.devices import exits  # noqa: E402
from scaling.devices.compilation import keep_compiled  # noqa: E402
from scaling.figures import words  # noqa: E402
from scaling.study import reproducing  # noqa: E402
from scaling.sweeps.runner import TrainingOptions  # noqa: E402

_RECORD = flags.DEFINE_string("record", None, "The record of a run, or the verdict on a claim.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The directory that gets the new run.")
_TOLERANCE = flags.DEFINE_float("tolerance", None, "The relative difference that counts as none.", 0.0)
_CHECKOUT = flags.DEFINE_string("checkout", None, "A folder for the code of the record's commit, which is then used.")
_JSON = flags.DEFINE_bool("json", False, "Print the comparison as one line of JSON.")
DIFFERS = 3  # the exit status


def main(argv):
    given = argv[1:] + ([_RECORD.value] if _RECORD.value else [])
    if len(given) != 1:
        raise app.UsageError("name one record, such as runs/a/records/031f0c6c.jsonl" + (
            f", not {len(given)}: {' '.join(given)}" if given else ""))
    flags.FLAGS.record = given[0]
    with ending_well(), answering(_JSON.value) as answer:
        record = reproducing.read_result(_RECORD.value)
        if _CHECKOUT.value:
            sys.exit(as_then(record, pathlib.Path(_CHECKOUT.value)))
        differs = reproducing.differences(record)
        print("".join(f"{name}: {then} in the record, {now} here\n" for name, (then, now) in differs.items())
              or "versions, machine and commit are those of the record", flush=True)
        keep_compiled()
        exits.listen_for_signals()
        agrees, found, said = (again_claim if "rules" in record else again_run)(record)
        print(said)
        answer |= {"differences": differs, "agrees": agrees, **found}
    if not agrees:
        sys.exit(DIFFERS)


def again_run(record) -> tuple[bool, dict, str]:
    """Trains the run of a record: (whether it agrees, the comparison as values, the comparison as text)."""
    found = reproducing.compare_records(record, reproducing.train_again(record, _WORKDIR.value), _TOLERANCE.value)
    width = max(map(len, found.values))
    rows = [f"  {name:<{width}}  {words.with_error(then, record.get(f'{name}_se'))} in the record, "
            f"{words.with_error(now, record.get(f'{name}_se'))} here ({now - then:+.2g})"
            for name, (then, now) in found.values.items()]
    differs = f"{found.metric} differs by {found.difference:.2g} of its value"
    verdict = (f"reproduced: {differs}, and {found.tolerance:g} counts as none" if found.agrees else
               f"not reproduced: {differs}, more than {found.tolerance:g}")
    values = {"metric": found.metric, "difference": found.difference, "tolerance": found.tolerance,
              "values": {name: list(pair) for name, pair in found.values.items()}}
    return found.agrees, values, "\n".join([*rows, verdict])


def again_claim(verdict) -> tuple[bool, dict, str]:
    """Tries a claim at the budget of a verdict: as `again_run`."""
    folder = pathlib.Path(_WORKDIR.value) / verdict["id"]
    trial = Trial(claims.find(verdict["id"]), verdict["budget"], folder, TrainingOptions(), verdict["changes"],
                  list(verdict["parts"]), command=f"python -m experiments.reproduce --record={_RECORD.value}")
    again = trial.run(lambda text: print(text, flush=True))
    found = registry.compare_verdicts(verdict, again)
    rows = [f"  {name}  {_interval(then)} in the record, {_interval(now)} here{'' if overlaps else ': they differ'}"
            for name, (then, now, overlaps) in found.items()]
    if same_rules := verdict["registered"]["hash"] == again["registered"]["hash"]:
        rows.append("  the rules, the runs and the analysis are those of the record")
    else:
        rows.append("  the rules, the runs or the analysis of this claim have changed; --checkout takes those of then")
    agrees = again["verdict"] == verdict["verdict"] and all(overlaps for *_, overlaps in found.values())
    said = f"{'reproduced' if agrees else 'not reproduced'}: {again['verdict']} here, {verdict['verdict']} in the record"
    return agrees, {"verdicts": [verdict["verdict"], again["verdict"]], "same_rules": same_rules,
                    "estimates": {name: [then, now] for name, (then, now, _) in found.items()}}, "\n".join([*rows, said])


def _interval(estimate) -> str:
    low, high = ("open" if estimate[end] is None else f"{estimate[end]:.3g}" for end in ("low", "high"))
    value = "none" if estimate["value"] is None else f"{estimate['value']:.3g}"
    return f"{value} [{low}, {high}]"


def as_then(record, folder: pathlib.Path) -> int:
    """Runs this command with the code of the record's commit, in a git worktree at `folder`; returns its exit status."""
    commit = record.get("git_commit") or ""
    if not commit or commit.endswith("-dirty"):
        raise reproducing.NotReproducible(
            "the record names no commit, so that its code is not known; leave out --checkout" if not commit else
            f"the code of the record was changed after commit {commit.removesuffix('-dirty')}, and the change is nowhere; "
            "leave out --checkout")
    if not folder.exists():
        here = pathlib.Path(__file__).parent
        made = subprocess.run(["git", "-C", here, "worktree", "add", "--detach", folder.absolute(), commit],
                              capture_output=True, text=True)
        if made.returncode:
            raise reproducing.NotReproducible(f"git has no worktree of {commit}: {made.stderr.strip().splitlines()[-1]}")
    elif _commit_of(folder) != commit:
        raise reproducing.NotReproducible(f"--checkout={folder} exists and is not commit {commit}; name a new folder")
    if not (folder / "experiments" / "reproduce.py").exists():
        raise reproducing.NotReproducible(f"commit {commit} is older than this command; its code is in {folder} now: start "
                                          "the study of the record there")
    given = {"record": os.path.abspath(_RECORD.value), "workdir": os.path.abspath(_WORKDIR.value),
             "tolerance": _TOLERANCE.value, "json": _JSON.value}
    command = [f"--{name}={value}" for name, value in given.items() if value is not None]
    environment = {name: value for name, value in os.environ.items() if name != _environment.variable("checkout")}
    return subprocess.run([sys.executable, "-m", "experiments.reproduce", *command], cwd=folder,
                          env=environment | {"PYTHONPATH": str(folder.absolute())}).returncode


def _commit_of(folder: pathlib.Path) -> str:
    found = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)
