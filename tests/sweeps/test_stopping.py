"""Early stopping gives up learning rates that shorter runs show to be hopeless, and never changes which rate is best."""

import json
import shutil

import pytest
import tiny_study

import scaling
from scaling import experiment
from scaling.experiment import grid
from scaling.report import caveats
from scaling.report.reading import read_study
from scaling.report.run_table import table_rows
from scaling.results import tuned
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.sweeps.stopping import StopRule, is_hopeless

RATES = [4e-4, 4e-3, 1.6e-2, 6.4e-2, 2.56e-1]
TOKENS = [5120, 10240, 15360]
METRIC = "bits_per_byte"


class Bar:
    def update(self, amount=0.0, text=None):
        pass

    print = update


@pytest.mark.parametrize(("found", "hopeless"), [
    ({1: 2.0, 2: 2.1, 3: 2.2, 4: 2.3}, [3, 4]),
    ({1: 2.1, 2: 2.0, 3: 2.2, 4: 2.3}, [4]),  # 3 is worse than the median but next to the best
    ({1: 2.0, 2: float("inf"), 3: 2.2, 4: float("inf")}, [4]),
    ({1: 2.0, 4: 9.0}, []),  # too few to judge by
    ({1: 2.0, 3: 2.0, 4: 2.0}, [])])  # none is worse
def test_the_rule_spares_the_better_half_and_the_neighbours_of_the_best(found, hopeless):
    assert [rate for rate in (1, 2, 3, 4) if is_hopeless(rate, found, {1, 2, 3, 4})] == hopeless


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """{whether runs are stopped early: (workdir, the runner that trained a sweep there)}."""
    config = tiny_study.get_config()
    base = experiment.from_config(config).replace({"family": experiment.family_at(config, 5e3), "data.batch": 8})
    sweep, programs, out = grid(base, {"optim.learning_rate": RATES, "data.tokens": TOKENS}), {}, {}
    for early in (False, True):
        workdir = tmp_path_factory.mktemp("early" if early else "whole")
        runner = Runner(workdir, TrainingOptions(stop_early=StopRule("median", METRIC) if early else None))
        runner.programs.kept = programs
        runner.run(runner.plan(sweep, 1), Bar())
        out[early] = workdir, runner, sweep
    return out


@pytest.mark.slow
def test_the_best_rates_are_those_without_early_stopping(swept):
    whole, early = (tuned.clean(scaling.load(swept[stopped][0]), METRIC) for stopped in (False, True))
    cells = [tuned.tuned_cells(frame, METRIC)[["data", "learning_rate", METRIC]] for frame in (whole, early)]
    assert cells[0].equals(cells[1])
    assert swept[True][1].trained_flops < 0.9 * swept[False][1].trained_flops


@pytest.mark.slow
def test_a_stopped_run_is_recorded_with_its_step_and_reason_and_has_no_result(swept):
    workdir, _, sweep = swept[True]
    frame = scaling.load(workdir)
    stopped = frame[frame["stopped_step"].notna()]
    assert len(frame) == len(sweep) and 0 < len(stopped) < len(sweep) / 2
    assert not stopped["diverged"].any() and stopped[METRIC].isna().all() and (stopped["tokens_seen"] > TOKENS[0]).all()
    assert stopped["stopped_because"].str.contains("the median of").all()
    assert not (workdir / "records" / f"{stopped['fingerprint'].iloc[0]}.jsonl").exists()
    kept = tuned.clean(frame, METRIC).set_index("fingerprint").loc[stopped["fingerprint"], METRIC]
    assert kept.isna().all()


@pytest.mark.slow
def test_without_the_rule_stopped_runs_are_trained_to_their_end(swept, tmp_path):
    (stopped, early, sweep), (whole, _, _) = swept[True], swept[False]
    workdir = shutil.copytree(stopped, tmp_path / "again")
    before = set(scaling.load(workdir)["fingerprint"][scaling.load(workdir)["stopped_step"].notna()])
    runner = Runner(workdir, TrainingOptions())
    runner.programs.kept = early.programs.kept
    plan = runner.plan(sweep, 1)
    assert all(early.records.done(run.fingerprint) for run in plan.runs) and not runner.done(plan.runs)
    runner.run(plan, Bar())
    frame = scaling.load(workdir)
    assert "stopped_step" not in frame or frame["stopped_step"].isna().all()
    for name in before:
        ours, theirs = (json.loads((place / "records" / f"{name}.jsonl").read_text()) for place in (workdir, whole))
        assert ours[METRIC] == theirs[METRIC] and ours["curve"] == theirs["curve"]


@pytest.mark.slow
def test_the_page_shows_what_was_stopped_and_why(swept):
    study = read_study(swept[True][0])
    rows = [row["cells"][0][0] for row in table_rows(study)]
    stopped = [text for text in rows if "stopped early at step " in text and "the median of" in text]
    assert stopped and len(stopped) == study.runs["stopped_step"].notna().sum()
    said = " ".join(caveats.caveats(study))
    assert "were stopped early because shorter runs of their rate were poor" in said and "was not measured" not in said
