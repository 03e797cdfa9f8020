"""Cells whose best learning rate is at the edge ask for the next one: within a budget, and the same after any kill."""

import itertools

import numpy as np
import pytest
import tiny_study
from launcher import results
from planted_runner import METRIC, Bar, Killed, PlantedRunner

from scaling import experiment as experiments
from scaling.experiment import grid
from scaling.results import records, tuned
from scaling.study import belonging
from scaling.study.asks import NEAR, next_rate
from scaling.study.bracketing import Bracketing
from scaling.study.budget import flops_of
from scaling.study.definition import Definition
from scaling.sweeps.plan import make_plan

RATES = (4e-3, 8e-3)
TOKENS = (2560, 5120, 7680)


@pytest.fixture
def bracketing(corpus, tmp_path, monkeypatch):
    """Makes a planted runner that has finished a sweep, and what brackets that sweep.

    best: the best rate at (N, D).
    """
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))

    def make(name="runs", best=lambda n, d: 6e-3, share=10.0, diverges=float("inf"), seeds=(0,), rates=RATES, left=None):
        config = tiny_study.get_config()
        config.data.name, config.tokens, config.learning_rates = f"text:{corpus}/*.txt", TOKENS, rates
        sweep = grid(tiny_study.sweep(config), {"seed": list(seeds)})
        runner = PlantedRunner(tmp_path / name)
        runner.best, runner.diverges = best, diverges
        plan = runner.plan(sweep, 2)
        study = Definition("", METRIC, sweep, None)
        belonging.enter(runner.records.workdir, belonging.define(study, plan, None, runner), {})
        runner.run(plan, Bar())
        runner.trained, runner.left = [], left
        return runner, Bracketing(runner, plan, METRIC, share, 2)
    return make


def table(runner, names=None):
    frame = records.load_records(runner.workdir)
    return tuned.clean(frame if names is None else frame[frame["fingerprint"].isin(names)], METRIC)


def random_best(seed, low=5e-4, high=6e-2):
    """A best rate at each (N, D) that has nothing to do with its neighbours'."""
    return lambda n, d: float(np.exp(np.random.default_rng([seed, int(n), int(d)]).uniform(np.log(low), np.log(high))))


# ----- the next rate


@pytest.mark.parametrize(("tried", "edge", "known", "rate"), [
    ((4e-3, 8e-3), "highest", (), 1.6e-2), ((4e-3, 8e-3), "lowest", (), 2e-3),
    ((1e-3, 1e-2, 1e-1), "lowest", (), 1e-4),
    ((4e-3, 8e-3), "highest", (1.5e-2, 1.62e-2, 3e-2), 1.62e-2),  # other cells have it, exactly
    ((4e-3, 8e-3), "highest", (1.2e-2, 2.2e-2), 1.6e-2),  # too far for the step of this grid
    ((8e-3, 1.3e-2, 2e-2, 3.2e-2), "highest", (8e-3, 3.2e-2), 5.08e-2),
    ((1.0, 1.0001), "highest", (), 1.0001**2)])  # three digits would be no step
def test_the_next_rate_is_a_step_of_the_grid_beyond_its_edge(tried, edge, known, rate):
    assert next_rate(tried, edge, known) == pytest.approx(rate, rel=1e-9)
    assert next_rate(tried[::-1], edge, [*known, *tried]) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_next_rate_lies_beyond_all_that_were_tried_by_about_a_step(seed):
    rng = np.random.default_rng(seed)
    tried = np.exp(np.cumsum(rng.uniform(0.05, 2, rng.integers(2, 6)))) * 1e-4
    step = np.ptp(np.log(tried)) / (len(tried) - 1)
    for edge, end, sign in (("lowest", tried.min(), -1), ("highest", tried.max(), 1)):
        found = next_rate(tried, edge, np.exp(rng.uniform(-12, 2, 30)))
        assert 1 - NEAR - 1e-9 <= sign * np.log(found / end) / step <= 1 + NEAR + 1e-9


# ----- rounds


@pytest.mark.parametrize(("seed", "share"), [(0, 0.1), (1, 0.25), (2, 0.5), (3, 1.0), (4, 10.0)])
def test_rounds_end_within_the_budget_and_ask_a_cell_for_one_rate_beyond_its_edge(bracketing, seed, share):
    runner, found = bracketing(best=random_best(seed), share=share, seeds=(0, 1))
    names, cost, spent = set(found.runs), make_plan(list(found.runs.values()), runner.content, 8).flops(), 0.0
    assert found.budget == pytest.approx(share * cost)
    for one in found.rounds():
        before = table(runner, names)
        edges = tuned.learning_rates(before, METRIC).set_index([tuned.PARAMS, "data"])["edge"]
        assert sorted((ask.size, ask.data) for ask in one.asks) == sorted(edges.index[edges != ""])
        assert {ask[:2] for ask in one.granted} <= {ask[:2] for ask in one.asks}
        for ask in one.asks:
            tried = before.loc[(before[tuned.PARAMS] == ask.size) & (before["data"] == ask.data), "learning_rate"]
            assert ask.edge == edges[ask.size, ask.data]
            assert ask.rate < tried.min() if ask.edge == "lowest" else ask.rate > tried.max()
        runs = {run.fingerprint: run.experiment for run in one.plan.runs}
        assert len(runs) == sum(len(ask.runs) for ask in one.granted) and not runs.keys() & names
        assert {e.seed for e in runs.values()} == {0, 1}
        spent += make_plan(list(runs.values()), runner.content, 8).flops()
        assert one.spent == pytest.approx(spent) and spent <= found.budget * (1 + 1e-9)
        runner.run(one.plan, Bar())
        names |= runs.keys()
    left = tuned.learning_rates(table(runner), METRIC)
    assert spent > 0 and (share < 10 or (left["edge"] == "").all())


def test_a_bracketed_cell_has_the_best_rate_of_its_grid(bracketing):
    best = random_best(7)
    runner, found = bracketing(best=best)
    found.train(Bar())
    cells = tuned.learning_rates(table(runner), METRIC)
    assert (cells["edge"] == "").all()
    for cell in cells.itertuples():
        assert abs(np.log(cell.best / best(cell.params_non_embedding, cell.data))) <= np.log(2) / 2 + 1e-6


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_the_cheapest_cells_come_first_and_no_refused_one_fits_beside_them(bracketing, share):
    runner, found = bracketing(best=lambda n, d: 1.0, share=share)
    [one] = itertools.islice(found.rounds(), 1)
    flops = {(row[tuned.PARAMS], row["data"]): row["flops"] for _, row in table(runner).iterrows()}
    order = [flops[ask[:2]] for ask in one.granted]
    refused = [ask for ask in one.asks if ask not in one.granted]
    assert order == sorted(order) and order[0] == min(flops.values()) and refused
    granted = [run.experiment for run in one.plan.runs]
    for ask in refused:
        more = [found.runs[name].replace({"optim.learning_rate": ask.rate}) for name in ask.runs]
        assert flops_of([*granted, *more]) > found.budget >= flops_of(granted)


def test_a_rate_that_diverged_was_tried(bracketing):
    """The best rate lies above those that do not diverge: the cell is bracketed as soon as one has diverged."""
    runner, found = bracketing(best=lambda n, d: 1.0, diverges=2e-2)
    found.train(Bar())
    assert {run.experiment.optim.learning_rate for run in runner.trained} == {1.6e-2, 3.2e-2}
    assert (tuned.learning_rates(table(runner), METRIC)["edge"] == "").all()


@pytest.mark.parametrize(("more", "why"), [({"rates": (4e-3,)}, "a cell with one rate has no edge"),
                                          ({"share": 0.0}, "tune=0 asks for nothing")])
def test_nothing_is_asked_for(bracketing, more, why):
    runner, found = bracketing(best=lambda n, d: 1.0, **more)
    found.train(Bar())
    assert not runner.trained and not list(found.rounds()) and found.describe() == [], why


def test_rates_of_a_rule_for_each_size_are_no_edges(bracketing, corpus):
    """Two batches, each with the rate of its own, in one cell."""
    runner, _ = bracketing()
    base = experiments.from_config(tiny_study.get_config()).replace({"data.name": f"text:{corpus}/*.txt"})
    sweep = [base.replace({"data.batch": b, "data.tokens": 5120, "optim.learning_rate": 1e-3 * b**0.5}) for b in (4, 8)]
    plan = runner.plan(sweep, 1)
    runner.run(plan, Bar())
    found = Bracketing(runner, plan, METRIC, 10.0, 1)
    assert not found.budget and tuned.learning_rates(table(runner, set(found.runs)), METRIC).empty


# ----- kills, other processes, and later commands


def test_a_study_that_is_killed_after_any_run_resumes_to_the_same_records(bracketing):
    best = random_best(11)
    whole, found = bracketing("whole", best=best, share=1.0)
    found.train(Bar())
    assert len(whole.trained) > 4
    runner, again = bracketing("killed", best=best, share=1.0, left=1)
    for _ in whole.trained[1:]:
        with pytest.raises(Killed):
            again.train(Bar())
        runner, again = bracketing("killed", best=best, share=1.0, left=1)  # another process
    again.train(Bar())
    assert results(runner.records.workdir) == results(whole.records.workdir)
    planned = [set(belonging.read_study_file(each.records.workdir)["runs"]) for each in (whole, runner)]
    assert planned[0] == planned[1] >= {run.fingerprint for run in whole.trained}


def test_the_same_command_again_trains_nothing(bracketing):
    best = random_best(5)
    _, found = bracketing(best=best)
    found.train(Bar())
    runner, again = bracketing(best=best)
    bar = Bar()
    again.train(bar)
    assert not runner.trained and not bar.said and not bar.total


def test_asked_runs_train_in_the_programs_of_the_sweep(bracketing):
    """A single run beside a copy of itself, where the sweep trained two side by side."""
    _, found = bracketing(best=lambda n, d: 1.0 if d == TOKENS[0] else 6e-3)
    programs = {pack.program for pack in found.sweep.packs}
    for one in itertools.islice(found.rounds(), 1):
        assert {pack.program for pack in one.plan.packs} <= programs and {pack.fillers for pack in one.plan.packs} == {1}


def test_the_cost_is_that_of_a_plan_from_the_start(bracketing):
    runner, found = bracketing()
    runs = list(found.runs.values())
    for some in (runs, runs[::2], runs[:1], [run.replace({"optim.schedule": "cosine"}) for run in runs]):
        assert flops_of(some) == pytest.approx(make_plan(some, runner.content, 4).flops())


# ----- what is said before


def test_a_dry_run_says_the_budget_and_what_finished_cells_ask_for(bracketing):
    runner, found = bracketing(best=lambda n, d: 1.0, share=0.5)
    before = sorted(runner.workdir.rglob("*"))
    budget, following = found.describe()
    assert f"{found.budget:.3g} FLOPs" in budget and "50% of the sweep's" in budget
    assert "next, 6 cells with the best learning rate at the edge" in following and "0.016" in following
    assert sorted(runner.workdir.rglob("*")) == before
    lost = [run for run in found.runs if found.runs[run].data.tokens == TOKENS[0]]
    runner.records.path(lost[0]).unlink()  # its cell waits for it
    assert "next, 5 cells" in found.describe()[1]
    for name in found.runs.keys() - {lost[0]}:
        runner.records.path(name).unlink()
    assert found.describe() == [budget]


def test_a_dry_run_says_what_was_done(bracketing):
    runner, found = bracketing(share=1.0, best=lambda n, d: 1.2e-2)
    found.train(Bar())
    assert any(f"{len(runner.trained)} runs of asked rates are done" in line for line in found.describe())
