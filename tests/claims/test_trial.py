"""A claim is tried once, by the rule that was registered before its runs."""

import dataclasses
import functools
import json
import re

import numpy as np
import pytest
import tiny_study

from experiments import claims
from scaling import experiment
from scaling.claims import (
    BUDGETS,
    REFUTED,
    REPRODUCED,
    UNDECIDED,
    Claim,
    ClaimError,
    Criterion,
    Estimate,
    Finding,
    Line,
    Panel,
    Part,
    Trial,
    pages,
    parse_changes,
    registry,
)
from scaling.fields import ConfigError
from scaling.store.files import DamagedFile
from scaling.sweeps.runner import TrainingOptions


def analyse(name, part):
    runs = part.runs.sort_values("tokens_seen")
    loss = list(runs["bits_per_byte"])
    gain = loss[0] - loss[-1]
    panel = Panel("tokens", "bits per byte", [Line("all", list(runs["tokens_seen"]), loss)])
    return Finding({"gain": Estimate(gain, gain - 0.01, gain + 0.01, len(runs), "")}, panel, "What was seen.")


@pytest.fixture
def claim(corpus):
    def parts(budget):
        config = tiny_study.get_config()
        config.data.name, config.data.batch = f"text:{corpus}/*.txt", 8
        base = experiment.from_config(config)
        runs = experiment.grid(base, {"data.tokens": [2560, 10240] if budget == "5m" else [2560]})
        return {"transformer": Part(runs, "bits_per_byte")}

    return Claim(id="more", statement="More tokens are better.", source="Everyone", published={"": "yes"},
                 rules={"gain": Criterion("the gain in bits per byte", low=0.0, why="It is a gain.")}, parts=parts,
                 analyse=analyse, cost={"5m": "two runs"}, more="Other data.")


@pytest.fixture
def tried(claim, tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))

    def start(claim=claim, budget="5m", workdir=tmp_path / "more", **given):
        return Trial(claim, budget, workdir, TrainingOptions(), **given)
    return start


@pytest.mark.parametrize("low,high,verdict", [
    (0.1, 0.3, REPRODUCED), (0.0, 1.0, REPRODUCED), (-0.3, -0.1, REFUTED), (1.1, 2, REFUTED), (-0.1, 0.1, UNDECIDED),
    (0.9, 1.1, UNDECIDED), (-1, 2, UNDECIDED), (float("nan"), 0.5, UNDECIDED), (float("-inf"), float("inf"), UNDECIDED)])
def test_an_interval_decides_where_it_lies_on_one_side_of_the_bounds(low, high, verdict):
    assert Criterion("a number", 0.0, 1.0).decide(Estimate(0.5, low, high, 3)) == verdict


def test_what_is_printed_of_the_runs_of_a_claim_says_nothing_of_a_law(tried):
    said = tried().describe()
    assert "2 runs in" in said and "law" not in said


@pytest.mark.parametrize("given", ["--workdir={at} --run=more", "--run=more --workdir {at}", "'--workdir={at}'"])
def test_a_verdict_names_no_folder_of_the_machine_that_decided_it(tried, tmp_path, given):
    trial = tried(command=given.format(at=tmp_path))
    assert trial._portable_command() == given.format(at="runs/claims") and str(tmp_path) in trial.command


def test_a_rule_that_decides_nothing_and_a_claim_without_one_are_refused(claim):
    for bounds in ((), (1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ConfigError, match="decides nothing"):
            Criterion("a number", *bounds)
    with pytest.raises(ConfigError, match="no rule, so nothing could refute it"):
        dataclasses.replace(claim, rules={})
    with pytest.raises(ConfigError, match="gave other, and the rules are about gain"):
        claim.decide(Finding({"other": Estimate(1, 0, 2, 3)}))


def test_rules_are_registered_before_the_runs_and_the_verdict_stands(tried, claim, tmp_path, capsys, monkeypatch):
    said, workdir = [], tmp_path / "runs" / "claims" / "more"
    tried = functools.partial(tried, workdir=workdir)
    verdict = tried().run(said.append)
    assert verdict["verdict"] == REPRODUCED and verdict["cost"]["runs"] == 2 and verdict["cost"]["flops"] > 0
    registered = json.loads((workdir / "registered.json").read_text())
    assert registered["time"] <= verdict["date"] and registered["hash"] == verdict["registered"]["hash"]
    first = min(path.stat().st_mtime for path in (workdir / "transformer" / "records").iterdir())
    assert (workdir / "registered.json").stat().st_mtime < first
    again = tried()
    assert not again.studies and again.run(said.append) == registry.read_verdict(workdir)
    assert "the verdict of" in said[-1] and "stands" in said[-1]
    for changed in ({"rules": {"gain": Criterion("the gain", low=-1.0)}}, {"statement": "Less is better."}):
        with pytest.raises(ClaimError, match="differ now: rules are fixed before the runs"):
            tried(dataclasses.replace(claim, **changed)).run()

    text = pages.page(verdict)
    for words in ("# More tokens are better.", "Everyone", "**reproduced**", "above 0", "Other data.", "--run=more"):
        assert words in text
    [cell] = re.findall("^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(claims, "find", lambda name: claim if name == "more" else None)
    exec(cell, {})  # which finds the verdict
    assert pages.verdict_table([verdict]) in capsys.readouterr().out
    assert pages.write([verdict], tmp_path / "docs")[0].read_text().count("](../figures/claims/more.png)") == 1
    for figure in ("more", "more-numbers"):
        assert (tmp_path / "docs" / "figures" / "claims" / f"{figure}.png").stat().st_size > 2000
    readme = f"# A package\n\n{pages.MARKS[0]}\nold\n{pages.MARKS[1]}\n\nThe end.\n"
    once = pages.with_table(readme, [verdict])
    assert "More tokens" in once and "old" not in once and once.endswith("The end.\n")
    assert pages.with_table(once, [verdict]) == once

    path = workdir / "verdict.json"
    path.write_text(path.read_text().replace(REPRODUCED, REFUTED))
    with pytest.raises(DamagedFile):
        tried()


def test_a_trial_that_was_interrupted_goes_on_with_the_registered_rules(tried, claim, tmp_path, monkeypatch):
    trial = tried()
    registry.register_rules(trial.workdir, trial.wanted)
    with pytest.raises(ClaimError, match="rules differ now"):
        other = dataclasses.replace(claim, rules={"gain": Criterion("the gain", low=5.0)})
        tried(other).run()
    assert not (tmp_path / "more" / "transformer" / "records").exists()
    assert tried().run(lambda text: None)["verdict"] == REPRODUCED


def test_wrong_budgets_parts_and_fields_are_refused_and_nothing_is_created(tried, tmp_path):
    for given, says in [({"budget": "30m"}, "no runs for --budget=30m; it has 5m"), ({"budget": "5min"}, "nearest: 5m"),
                        ({"only": ["vae"]}, "has no part vae"), ({"changes": {"data.nme": "x"}}, "nearest: data.name")]:
        with pytest.raises(ConfigError, match=says):
            tried(**given)
    with pytest.raises(ConfigError, match="write a field of the runs and its value"):
        parse_changes(["data.name"])
    assert parse_changes(["data.tokens=4096", "data.name=a=b"]) == {"data.tokens": 4096, "data.name": "a=b"}
    assert not (tmp_path / "more").exists()


def test_rows_of_a_page_say_once_what_was_published_of_their_part():
    number = {"value": 0.3, "low": 0.2, "high": 0.4, "verdict": REPRODUCED, "power": 0.1, "runs": 3, "note": "Noted."}
    rule = {"quantity": "a number", "low": 0.0, "high": None, "why": ""}
    found = {"id": "more", "statement": "More.", "budget": "5m", "machine": "one", "date": "2026-01-01", "source": "All",
             "verdict": REPRODUCED, "published": {"vae": "one half"}, "rules": {"a": rule, "b": rule}, "more": "",
             "changes": {"data.name": "x"}, "cost": {"runs": 1, "flops": 1.0, "seconds": 1.0}, "versions": {},
             "registered": {"time": "now", "hash": "0"}, "git_commit": None,
             "parts": {"vae": {"estimates": {"a": number, "b": number}, "said": "Well.", "diverged": 1, "panel": None}}}
    rows = [line for line in pages.page(found).splitlines() if "a number" in line and line.startswith("|")]
    assert [row.split(" | ")[:2] for row in rows] == [["| vae", "one half"], ["| ", ""]]
    assert "changes={'data.name': 'x'})" in pages.page(found)
    assert "**vae.** Well. Noted. 1 run diverged and left no number.\n" in pages.page(found)


def test_the_table_shows_the_number_that_decided_a_part():
    held, open_ = ({"value": value, "low": value - 0.1, "high": value + 0.1, "verdict": verdict}
                   for value, verdict in ((0.7, REPRODUCED), (0.4, UNDECIDED)))
    parts = {"vae": {"verdict": UNDECIDED, "estimates": {"a": held, "b": open_}},
             "gan": {"verdict": REPRODUCED, "estimates": {"a": held}}}
    table = pages.verdict_table([{"statement": "More.", "id": "more", "published": {}, "parts": parts, "budget": "5m",
                                  "rules": {"a": {"quantity": "the gain"}}, "verdict": UNDECIDED}])
    assert ("| *the gain*<br>vae: 0.70 [0.60, 0.80], decided by 0.40 [0.30, 0.50]<br>gan: 0.70 [0.60, 0.80] (reproduced) |"
            in table)


def test_a_change_reaches_the_runs_and_the_verdict(tried):
    trial = tried(changes={"seed": 3, "data.tokens": 2560})
    assert {run.seed for part in trial.parts.values() for run in part.sweep} == {3}
    assert trial.wanted["changes"] == {"seed": 3, "data.tokens": 2560}
    assert trial.wanted["runs"] != tried().wanted["runs"]


def test_numbers_that_no_run_gives_are_shown_as_such():
    found = {"value": float(np.float64(0.3)), "low": None, "high": None, "verdict": UNDECIDED, "power": None, "runs": 1,
             "note": ""}
    assert "0.3, without an interval" in pages._number(found)
    assert pages._number(found | {"value": None}) == "no number"


@pytest.mark.slow
@pytest.mark.parametrize("name", claims.names())
def test_every_budget_of_a_claim_has_runs_that_differ_and_says_what_they_are(name):
    claim = claims.find(name)
    assert list(claim.cost) == [budget for budget in BUDGETS if budget in claim.cost] and "gpu" in claim.cost
    for budget in claim.cost:
        for part in claim.parts(budget).values():
            assert len({str(run) for run in part.sweep}) == len(part.sweep)
