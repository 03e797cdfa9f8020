"""A sampler finds the best rate of a bracketed cell in fewer runs than a grid, in the budget, and the same after a kill."""

import math

import numpy as np
import pytest
import tiny_study
from launcher import results
from planted_runner import METRIC, Bar, Killed, PlantedRunner

from scaling.experiment import grid
from scaling.fields import ConfigError
from scaling.results import records, tuned
from scaling.study import belonging
from scaling.study.bracketing import Bracketing
from scaling.study.definition import Definition
from scaling.study.sampling import SAMPLERS, Sampler, check_sampler, sampler

optuna = pytest.importorskip("optuna")

RATES = (1e-3, 4e-3, 1.6e-2)
TOKENS = (2560, 5120, 7680)
TRIALS = 8
# Within this factor the best rate is found in nine of ten cells.
TOLERANCE = {"optuna:tpe": 1.12, "optuna:cmaes": 1.4}


def proposals(name, best, seed=0, trials=TRIALS, noise=0.0):
    """The rates that a sampler proposes where the loss is a parabola in log rate about `best`."""
    rng, asked = np.random.default_rng(seed), []

    def loss(rate):
        return 2 + 0.05 * math.log(rate / best)**2 + noise * rng.standard_normal()
    tried = {rate: loss(rate) for rate in RATES}
    while (rate := Sampler(name, trials).propose(f"cell {seed}", tried, asked)) is not None:
        asked.append((rate, loss(rate)))
    return asked, tried


def away(name, seeds, **more):
    """(the log distances of the best rates that were found from the best ones, in many cells; the most runs of a cell)."""
    rng, found, runs = np.random.default_rng(7), [], 0
    for seed in range(seeds):
        best = float(RATES[1] * np.exp(rng.uniform(-0.5, 0.5) * math.log(4)))  # where the middle one of RATES wins
        asked, tried = proposals(name, best, seed, **more)
        losses = tried | dict(asked)
        found.append(abs(math.log(min(losses, key=losses.get) / best)))
        runs = max(runs, len(losses))
        assert all(RATES[0] <= rate <= RATES[2] for rate, _ in asked) and len(asked) <= TRIALS
    return np.asarray(found), runs


def of_grid(factor):
    """The runs of a grid over RATES that holds a rate within a factor of every rate."""
    return 1 + math.ceil(math.log(RATES[2] / RATES[0]) / (2 * math.log(factor)))


def test_tpe_finds_the_best_rate_in_fewer_runs_than_a_grid_takes():
    far, runs = away("optuna:tpe", 20)
    assert np.quantile(far, 0.9) <= math.log(TOLERANCE["optuna:tpe"])
    assert runs <= 11 < of_grid(TOLERANCE["optuna:tpe"]) == 14


@pytest.mark.slow
def test_cmaes_is_no_better_than_a_grid_along_one_field():
    """It learns how fields vary together, and here is one. A grid promises as much with fewer runs."""
    far, runs = away("optuna:cmaes", 40)
    assert np.quantile(far, 0.9) <= math.log(TOLERANCE["optuna:cmaes"]) and runs == 11 > of_grid(TOLERANCE["optuna:cmaes"])


@pytest.mark.slow
def test_noise_of_losses_costs_precision_and_no_more():
    """Noise of 0.001 in the loss, by which rates a factor of 1.15 apart differ, shuts none of them out for good."""
    far, _ = away("optuna:tpe", 40, noise=1e-3)
    assert np.median(far) < math.log(1.15) and np.quantile(far, 0.9) < math.log(1.3)


def test_a_proposal_depends_on_its_cell_and_on_what_was_found_there_alone():
    asked, tried = proposals("optuna:tpe", 5e-3)
    assert proposals("optuna", 5e-3)[0] == asked  # the same sampler
    turned = dict(reversed(tried.items()))
    again = [Sampler("optuna:tpe", TRIALS).propose("cell 0", turned, asked[:at]) for at in range(len(asked))]
    assert again == [rate for rate, _ in asked]
    assert proposals("optuna:tpe", 5e-3, seed=1)[0][0] != asked[0]


def test_rates_that_diverged_are_left_alone():
    """The upper half of the space diverges."""
    tried, asked = {1e-3: 2.2, 4e-3: 2.0, 1.6e-2: math.inf}, []
    while (rate := Sampler("optuna:tpe", 20).propose("cell", tried, asked)) is not None:
        asked.append((rate, math.inf if rate > 5e-3 else 2 + 0.05 * math.log(rate / 4.5e-3)**2))
    assert min(asked, key=lambda one: one[1])[0] == pytest.approx(4.5e-3, rel=0.1)
    assert len(asked) < 20  # it is close enough to end


# ----- rounds


@pytest.fixture
def tuning(corpus, tmp_path, monkeypatch):
    """Makes a planted runner that has finished a sweep, and what asks a sampler after it."""
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))

    def make(name="runs", best=5.3e-3, share=20.0, left=None, which="optuna:tpe", trials=2, seeds=(0,), diverges=math.inf,
             swept=RATES):
        config = tiny_study.get_config()
        config.data.name, config.tokens, config.learning_rates = f"text:{corpus}/*.txt", TOKENS, swept
        runner = PlantedRunner(tmp_path / name)
        runner.best, runner.diverges = lambda n, d: best, diverges
        plan = runner.plan(grid(tiny_study.sweep(config), {"seed": list(seeds)}), 8)
        study = Definition("", METRIC, [run.experiment for run in plan.runs], None)
        belonging.enter(runner.records.workdir, belonging.define(study, plan, None, runner), {})
        runner.run(plan, Bar())
        runner.trained, runner.left = [], left
        return runner, Bracketing(runner, plan, METRIC, share, 8, sampler(which, trials))
    return make


def rates(runner):
    return tuned.learning_rates(tuned.clean(records.load_records(runner.workdir), METRIC), METRIC)


def test_bracketed_cells_ask_the_sampler_and_cells_at_an_edge_the_grid_first(tuning):
    runner, found = tuning(best=2.4e-2)
    kinds = []
    for one in found.rounds():
        kinds.append({ask.edge for ask in one.granted})
        assert one.spent <= found.budget
        runner.run(one.plan, Bar())
    assert kinds == [{"highest"}, {"between"}, {"between"}]
    table = rates(runner)
    assert (table["edge"] == "").all() and (table["tried"] == len(RATES) + 1 + 2).all()
    assert np.mean(np.abs(np.log(table["best"] / 2.4e-2)) < math.log(2.4e-2 / RATES[2]) - 0.01) > 0.5  # most beat the grid


def test_without_a_sampler_bracketed_cells_ask_for_nothing(tuning):
    runner, found = tuning(which="grid")
    found.train(Bar())
    assert not runner.trained and sampler("grid", 8) is None


def test_a_small_budget_is_kept(tuning):
    runner, found = tuning(share=0.3)
    spent = 0.0
    for one in found.rounds():
        assert (spent := one.spent) <= found.budget
        runner.run(one.plan, Bar())
    assert runner.trained and spent > 0.5 * found.budget


@pytest.mark.slow
def test_all_seeds_of_a_cell_get_the_proposed_rate(tuning):
    runner, found = tuning(seeds=(0, 1))
    for one in found.rounds():
        assert {run.experiment.seed for run in one.plan.runs} == {0, 1} and len(one.plan.runs) == 2 * len(one.granted)
        runner.run(one.plan, Bar())
    assert len(runner.trained) == 2 * 6 * 2


@pytest.mark.parametrize("which", ["optuna:tpe", pytest.param("optuna:cmaes", marks=pytest.mark.slow)])
def test_tuning_that_is_killed_after_any_run_proposes_the_same_rates(tuning, which):
    whole, found = tuning("whole", which=which)
    found.train(Bar())
    assert len(whole.trained) == 2 * len(TOKENS) * 2
    for _ in whole.trained:
        runner, again = tuning("killed", which=which, left=8)  # another process
        try:
            again.train(Bar())
            break
        except Killed:
            continue
    assert results(runner.records.workdir) == results(whole.records.workdir)
    study = belonging.read_study_file(runner.records.workdir)["bracketing"]
    assert study == belonging.read_study_file(whole.records.workdir)["bracketing"]
    assert study["sampler"] == {"name": which, "version": optuna.__version__, "trials": 2} and len(study["runs"]) == 12
    runner, again = tuning("killed", which=which)
    assert any("12 runs of asked rates are done" in line for line in again.describe())
    again.train(Bar())
    assert not runner.trained


def test_another_version_of_optuna_proposes_nothing_more_and_says_so(tuning, monkeypatch):
    runner, found = tuning(left=5)
    with pytest.raises(Killed):
        found.train(Bar())
    monkeypatch.setattr(Sampler, "about", lambda self: {"name": "optuna:tpe", "version": "99.0", "trials": 2})
    runner, again = tuning()
    again.train(Bar())
    assert not runner.trained
    said = "\n".join(again.describe())
    assert f"proposed by optuna:tpe of optuna {optuna.__version__}, so no more are" in said


def test_a_dry_run_says_what_the_sampler_is_for_and_what_comes_next(tuning):
    _, found = tuning()
    said = found.describe()
    assert "up to 2 rates between its neighbours" in said[1] and "next, 6 cells with the best learning rate betw" in said[2]
    assert "6 get a proposed rate (" in said[2]


def test_a_sampler_that_has_nothing_to_refine_is_told(tuning):
    runner, found = tuning(swept=RATES[:1])
    found.train(Bar())
    [said] = found.describe()
    assert not runner.trained and "no cell of the sweep has several learning rates" in said and "sweep three" in said


@pytest.mark.parametrize(("name", "trials", "share", "says"), [
    ("tpe", 8, 0.25, "write one of grid, optuna, optuna:tpe, optuna:cmaes"), ("optuna", 0, 0.25, "tune_trials=0"),
    ("optuna", True, 0.25, "tune_trials=True"), ("optuna", 8, 0.0, "write tune=0.5")])
def test_a_sampler_that_cannot_be_used_is_refused(name, trials, share, says):
    with pytest.raises(ConfigError, match=says):
        check_sampler(name, trials, share)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in SAMPLERS[1:]:
        with pytest.raises(ConfigError, match=r"pip install 'scaling\[tune\]'"):
            check_sampler(name, 8, 0.25)
    check_sampler("grid", 8, 0.25)
