"""What is written about a claim in its workdir: the rules before the runs, and the verdict after them, each once.

`registered.json` holds the statement, the rules, the names of all runs and a digest of the analysis, with a hash over
everything. It is written before the first run, and a claim whose rules have changed since is refused. `verdict.json` is
written when the last run has finished, and never again: a second look at more runs would be another test.
"""

from __future__ import annotations

import datetime
import hashlib
import inspect
import math
import os
import sys
from collections.abc import Mapping

from etils import epath

from scaling import experiment as experiments
from scaling.claims.claim import Claim, Part
from scaling.results import records
from scaling.store import files, strict_json

REGISTERED, VERDICT = "registered.json", "verdict.json"


class ClaimError(files.WorkdirError):
    """A claim that cannot be decided as it was registered; the message says why."""


def content(claim: Claim, budget: str, changes: Mapping, parts: Mapping[str, Part]) -> dict:
    """What is fixed before the runs, as plain values."""
    module = sys.modules[claim.analyse.__module__]
    return {
        "id": claim.id, "statement": claim.statement, "source": claim.source, "published": dict(claim.published),
        "rules": {name: {"quantity": rule.quantity, "low": strict_json.finite(rule.low),
                         "high": strict_json.finite(rule.high), "why": rule.why} for name, rule in claim.rules.items()},
        "budget": budget, "changes": dict(changes),
        "runs": {name: sorted(strict_json.digest(experiments.to_dict(run)) for run in part.sweep)
                 for name, part in parts.items()},
        "analysis": hashlib.sha256(inspect.getsource(module).encode()).hexdigest()}


def register_rules(workdir: epath.Path, wanted: dict) -> dict:
    """Writes the registration, or returns the one that is there. Raises ClaimError if that has other rules or runs."""
    path = workdir / REGISTERED
    if path.exists():
        held = files.read_json(path)
        if changed := [name for name, value in wanted.items() if held.get(name) != value]:
            raise ClaimError(f"{os.fspath(path)} registered claim {wanted['id']} on {held.get('time')}, and its "
                             f"{' and '.join(changed)} differ now: rules are fixed before the runs. Restore what was "
                             "registered, or choose another --workdir, where the claim is tried anew")
        return held
    held = wanted | {"hash": strict_json.digest(wanted), "time": now(), "versions": records.versions(),
                     "git_commit": records.git_commit()}
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(path, held)
    return held


def read_verdict(workdir: epath.Path) -> dict | None:
    """The verdict in a claim's workdir, or None. Raises ClaimError if it is not of what was registered there."""
    path = workdir / VERDICT
    if not path.exists():
        return None
    found, held = files.read_json(path), files.read_json(workdir / REGISTERED)
    fixed = {name: value for name, value in held.items() if name not in ("hash", "time", "versions", "git_commit")}
    if found.get("registered", {}).get("hash") != held.get("hash") or held.get("hash") != strict_json.digest(fixed):
        raise ClaimError(f"{os.fspath(path)} does not belong to {REGISTERED} beside it, or one of them was edited; restore "
                         "them, or try the claim anew in another --workdir")
    return found


def write_verdict(workdir: epath.Path, verdict: dict) -> None:
    files.write_json(workdir / VERDICT, verdict)


def compare_verdicts(verdict: Mapping, again: Mapping) -> dict[str, tuple[Mapping, Mapping, bool]]:
    """{part and number: (estimate then, estimate now, whether their intervals overlap)} of two verdicts on a claim.

    A bound that is None is infinite. Raises ClaimError where the verdicts are on other numbers.
    """
    found = {}
    numbers = [[(part, sorted(held["estimates"])) for part, held in sorted(one["parts"].items())]
               for one in (verdict, again)]
    if verdict["id"] != again["id"] or numbers[0] != numbers[1]:
        raise ClaimError(f"the verdicts on {verdict['id']} and {again['id']} are on other numbers: {numbers[0]} and "
                         f"{numbers[1]}; take the code of the first one's commit")
    for part, held in verdict["parts"].items():
        for name, then in held["estimates"].items():
            now = again["parts"][part]["estimates"][name]
            lows, highs = ([infinite if one[end] is None else one[end] for one in (then, now)]
                           for end, infinite in (("low", -math.inf), ("high", math.inf)))
            found[f"{part}: {name}"] = then, now, max(lows) <= min(highs)
    return found


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
