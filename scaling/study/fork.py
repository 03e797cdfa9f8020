"""--fork: a new study in a new workdir keeps the finished runs that it shares with an older study.

A copied run has the same record, parameters and curve, so it gives the same bits as if it had been trained again. Packs
that the older study has under way go on from their checkpoints. The forecast stays behind: the new study makes its own.
"""

import contextlib
import os
import shutil
import uuid

from etils import epath

from scaling.store import files
from scaling.study import belonging
from scaling.sweeps import trunks
from scaling.sweeps.plan import Pack, Plan
from scaling.sweeps.runner import Runner


def check_fork(old: epath.Path, new: epath.Path) -> None:
    """Raises WorkdirError unless `old` holds a study and `new` is empty, or was begun by the same --fork."""
    if not old.is_dir():
        raise files.WorkdirError(f"--fork={os.fspath(old)} is not a directory: name the workdir of an earlier study")
    if files.is_local(old) and files.is_local(new) and os.path.realpath(old) == os.path.realpath(new):
        raise files.WorkdirError(f"--fork={os.fspath(old)} is the --workdir itself: name a new --workdir for the new study")
    if not (old / "records").exists() and not (old / belonging.FILE).exists():
        raise files.WorkdirError(f"--fork={os.fspath(old)} holds no study: there are no records/ and no {belonging.FILE}")
    begun = belonging.read_study_file(new) or {}
    held = begun or (new / "records").exists()
    if held and begun.get("forked_from") != full_path(old):
        raise files.WorkdirError(f"--fork starts a study in an empty workdir, and {os.fspath(new)!r} holds one already: "
                                 "choose another --workdir, or leave out --fork to go on with that study")


def full_path(old: epath.Path) -> str:
    """The older workdir as study.json names it: an absolute path, or an address in a store."""
    return os.path.realpath(old) if files.is_local(old) else os.fspath(old)


def shared_runs(old: Runner, plan: Plan) -> list[str]:
    """The runs of a plan that the older workdir has finished. A former target is trained again, unless it is only begun
    with."""
    return [run.fingerprint for run in plan.all_runs if old.records.finished(run.fingerprint)
            and (run.role == "start" or old.records.read(run.fingerprint).get("role") in (run.role, "start"))]


def copy_shared(old: Runner, new: Runner, plan: Plan) -> int:
    """Copies what both plans share, each record last, and returns the number of runs that were copied.

    It may be killed at any moment and called again. Runs that are being trained in either workdir are left alone.
    """
    copied, roles = 0, {run.fingerprint: run.role for run in plan.all_runs}
    for fingerprint in shared_runs(old, plan):
        claim = new.records.claim(fingerprint)
        if claim is None:  # it is there, or being trained there
            continue
        try:
            for name in (f"params/{fingerprint}", f"curves/{fingerprint}.jsonl", f"scores/{fingerprint}.npz"):
                _copy(old.workdir / name, new.workdir / name)
            new.records.write(old.records.read(fingerprint) | {"role": roles[fingerprint]})
            copied += 1
        finally:
            claim.release()
    for source, target in trunks.copied(plan, old, new):
        _copy(source, target)
    under_way = set(old.under_way())
    for pack in plan.packs:
        if pack.name in under_way:
            _copy_checkpoints(old, new, pack)
    return copied


def _copy_checkpoints(old: Runner, new: Runner, pack: Pack) -> None:
    """Copies the checkpoints and logs of a pack that nobody is training."""
    folder = f"checkpoints/{pack.name}"
    with contextlib.ExitStack() as claims:
        for run in pack.runs:
            for runner in (old, new):
                try:
                    claim = runner.records.claim(run.fingerprint)
                except OSError:  # nobody can train in a workdir that is read-only
                    continue
                if claim is not None:
                    claims.callback(claim.release)
                elif not runner.records.done(run.fingerprint):
                    return
        for run in pack.runs:
            for log in sorted((old.workdir / "logs").glob(f"{run.fingerprint}-*.jsonl")):
                _copy(log, new.workdir / "logs" / log.name)
        _copy(old.workdir / folder, new.workdir / folder)


def _copy(source: epath.Path, target: epath.Path) -> None:
    """Copies a file or a folder unless the target is there. A local folder appears whole or not at all."""
    if target.exists() or not source.exists():
        return
    if not source.is_dir():
        files.atomic_write(target, source.read_bytes())
    elif files.is_local(source) and files.is_local(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
        with files.disk_full(target):
            try:
                shutil.copytree(source, whole)
                os.rename(whole, target)
            finally:
                shutil.rmtree(whole, ignore_errors=True)
    else:
        for child in source.iterdir():
            _copy(child, target / child.name)
