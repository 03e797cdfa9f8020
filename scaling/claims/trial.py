"""The trial of a claim: its rules are registered, its runs are trained, and its verdict is written."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence

import pandas as pd
from etils import epath

from scaling.claims import registry
from scaling.claims.claim import BUDGETS, Claim, Finding, Panel, Part, Trained, joint_verdict
from scaling.devices import hosts
from scaling.fields import ConfigError, leaves, nearest
from scaling.results import records
from scaling.store import strict_json
from scaling.study.definition import Definition
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions


def parse_changes(pairs: Sequence[str]) -> dict[str, object]:
    """{field: value} of texts such as "data.name=pycode/stdlib". Raises ConfigError for other texts."""
    found: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals and text):
            raise ConfigError(f"--set={pair} is no change; write a field of the runs and its value, such as "
                              "--set=data.name=pycode/stdlib")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


class Trial:
    """One claim at one budget in one workdir, which has a folder of runs for each part.

    changes: {field: value} of all runs that have the field, such as {"data.name": "pycode/stdlib"}. only: names of parts;
    all by default. Everything that can be refused is refused here, before anything is created.
    """

    def __init__(self, claim: Claim, budget: str, workdir, options: TrainingOptions, changes: Mapping | None = None,
                 only: Sequence[str] = (), pack: int = 0, command: str = ""):
        if budget not in claim.cost:
            raise ConfigError(f"claim {claim.id} has no runs for --budget={budget}; it has {', '.join(claim.cost)}"
                              if budget in BUDGETS else f"--budget={budget}: {nearest(budget, BUDGETS)}")
        self.claim, self.budget, self.workdir = claim, budget, epath.Path(workdir).expanduser()
        self.changes, self.command = dict(changes or {}), command
        parts = claim.parts(budget)
        if missing := [name for name in only if name not in parts]:
            raise ConfigError(f"claim {claim.id} has no part {missing[0]}: {nearest(missing[0], parts)}")
        self.parts = {name: _changed(part, self.changes) for name, part in parts.items() if not only or name in only}
        fields = {name for part in parts.values() for name in _fields(part)}
        if unknown := [name for name in self.changes if name not in fields]:
            raise ConfigError(f"--set={unknown[0]}: no run of claim {claim.id} has this field: "
                              f"{nearest(unknown[0], fields)}")
        self.wanted = registry.content(claim, budget, self.changes, self.parts)
        self.verdict = registry.read_verdict(self.workdir)
        self.studies = {} if self.verdict else {
            name: Study(Definition(f"{claim.statement} ({name})", part.metric, list(part.sweep), None, fits=False),
                        self.workdir / name, options, pack, command) for name, part in self.parts.items() if part.sweep}

    def describe(self) -> str:
        """What will be trained, for each part."""
        return "\n\n".join(study.describe() for study in self.studies.values())

    def run(self, say=print) -> dict:
        """Registers the rules, trains what is missing, and returns the verdict, which is written once."""
        held = registry.register_rules(self.workdir, self.wanted)
        if self.verdict is not None:
            say(f"{self.claim.id}: the verdict of {self.verdict['date']} stands; another trial takes another --workdir")
            return self.verdict
        for study in self.studies.values():
            study.prepare()
            say(study.describe())
            study.train()
        self.verdict = self._decide(held)
        registry.write_verdict(self.workdir, self.verdict)
        return self.verdict

    def trained(self, name: str) -> Trained:
        """The finished runs of a part."""
        if name not in self.studies:
            return Trained(pd.DataFrame(columns=["flops", "seconds"]), os.fspath(self.workdir / name))
        wanted = {run.fingerprint for run in self.studies[name].plan.runs}
        table = records.load_records(self.workdir / name)
        table = table[table["fingerprint"].isin(wanted)]
        lost = table["diverged"].fillna(False).astype(bool)
        return Trained(table[~lost].reset_index(drop=True), os.fspath(self.workdir / name), int(lost.sum()))

    def _decide(self, held: Mapping) -> dict:
        """The verdict, by the rules that were registered as `held`."""
        claim, parts, cost = self.claim, {}, {"runs": 0, "flops": 0.0, "seconds": 0.0}
        for name in self.parts:
            trained = self.trained(name)
            found = claim.analyse(name, trained)
            parts[name] = _as_values(claim, found) | {"verdict": claim.decide(found), "runs": len(trained.runs),
                                                      "diverged": trained.lost}
            cost["runs"] += len(trained.runs)
            for column in ("flops", "seconds"):
                cost[column] += float(trained.runs[column].sum())
        fixed = ("id", "statement", "source", "published", "rules", "budget", "changes")
        return {name: self.wanted[name] for name in fixed} | {
            "verdict": joint_verdict(part["verdict"] for part in parts.values()), "parts": parts, "more": claim.more,
            "cost": cost, "date": registry.now(), "machine": hosts.machine(), "command": self._portable_command(),
            "versions": records.versions(), "git_commit": records.git_commit(),
            "registered": {"hash": held["hash"], "time": held["time"]}}

    def _portable_command(self) -> str:
        """The command with another --workdir, since verdicts are read on other machines."""
        folder = re.escape(os.fspath(self.workdir.parent))
        return re.sub(rf"(--workdir[= ]){folder}(?=[\s/']|$)", r"\1runs/claims", self.command)


def _changed(part: Part, changes: Mapping) -> Part:
    return dataclasses.replace(part, sweep=[run.replace({name: value for name, value in changes.items()
                                                         if name in _fields(part)}) for run in part.sweep])


def _fields(part: Part) -> set[str]:
    return set(leaves(part.sweep[0])) if part.sweep else set()


def _as_values(claim: Claim, found: Finding) -> dict:
    estimates = {}
    for name, estimate in found.estimates.items():
        rule = claim.rules[name]
        numbers = {key: strict_json.finite(value) for key, value in (
            ("value", estimate.value), ("low", estimate.low), ("high", estimate.high), ("power", rule.power(estimate)))}
        estimates[name] = numbers | {"runs": estimate.runs, "note": estimate.note, "verdict": rule.decide(estimate)}
    return {"estimates": estimates, "panel": found.panel and _panel_as_values(found.panel), "said": found.said}


def _panel_as_values(panel: Panel) -> dict:
    lines = [dataclasses.asdict(line) | {key: [strict_json.finite(number) for number in getattr(line, key)]
                                         for key in ("x", "y", "low", "high")} for line in panel.lines]
    return dataclasses.asdict(panel) | {"lines": lines}
