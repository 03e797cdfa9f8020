"""Halving trains hopeless rates on no more data. It keeps the best one, says what it stopped, and is the same after a kill.

Where the ranks of rates are the same on every amount of data it never stops the best one. Where they change it follows the
best rate from neighbour to neighbour, and loses one that lies behind worse rates.
"""

import itertools

import numpy as np
import pytest
import tiny_study
from launcher import results
from planted_runner import METRIC, Bar, Killed, PlantedRunner

from scaling import experiment, laws
from scaling.experiment import grid
from scaling.results import records, tuned
from scaling.study import halving
from scaling.study.halving import Halving, neighbours, survivors
from scaling.sweeps.runner import Runner, TrainingOptions

RATES = tuple(1e-3 * 2.0**i for i in range(7))
TOKENS = (2560, 5120, 7680, 10240)


@pytest.fixture
def sweep_of(corpus, tmp_path, monkeypatch):
    """Makes a planted runner and the halving of a sweep of two sizes on four amounts of data."""
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))

    def make(name="runs", surface=None, rates=RATES, part=2, seeds=(0,), left=None, diverges=float("inf")):
        config = tiny_study.get_config()
        config.data.name, config.tokens, config.learning_rates = f"text:{corpus}/*.txt", TOKENS, rates
        runner = PlantedRunner(tmp_path / name, halving.options_of("halving", METRIC, TrainingOptions()))
        runner.surface, runner.left, runner.diverges = surface, left, diverges
        plan = runner.plan(grid(tiny_study.sweep(config), {"seed": list(seeds)}), 8)
        return runner, Halving(runner, plan, METRIC, part, 8)
    return make


def train(runner, found):
    found.train(Bar())
    frame = records.load_records(runner.workdir)
    assert set(frame["fingerprint"]) == {run.fingerprint for run in found.sweep.runs}  # each run has a record of its fate
    return tuned.clean(frame, METRIC)


def best_rates(table):
    cells = tuned.tuned_cells(table, METRIC)
    return {(cell[tuned.PARAMS], cell["data"]): cell["learning_rate"] for _, cell in cells.iterrows()}


def true_best(surface, table, rates=RATES):
    cells = set(zip(table[tuned.PARAMS], table["data"]))
    return {(n, d): min(rates, key=lambda rate: surface(n, d, rate)) for n, d in cells}


def place(rate):
    return round(float(np.log2(rate / RATES[0])))


def ranked(seed):
    """Losses of rates in any order, the same order on every amount of data."""
    order = {}

    def surface(n, d, rate):
        losses = order.setdefault(n, np.random.default_rng([seed, int(n)]).permutation(len(RATES)))
        return 2 + 50 / d**0.5 + 0.1 * losses[place(rate)]
    return surface


def moving(seed):
    """Losses with one minimum along the rates, which is anywhere on every amount of data, so that curves cross."""
    def surface(n, d, rate):
        best = np.random.default_rng([seed, int(n), int(d)]).uniform(-0.4, len(RATES) - 0.6)
        return 2 + 50 / d**0.5 + 0.1 * (place(rate) - best)**2
    return surface


def crossing(n, d, rate):
    """The highest rate is poor on little data and best on more, and those between are poor on all."""
    best = 1 if d == TOKENS[0] else 6
    return 2 + 50 / d**0.5 + (0.0 if place(rate) == best else 0.2 if place(rate) < 3 else 0.5)


# ----- the rule


def test_the_better_part_goes_on_and_the_neighbours_of_the_best():
    found = {1.0: 3.0, 2.0: 2.0, 3.0: 2.5, 4.0: 4.0, 5.0: float("inf"), 6.0: 2.4}
    assert survivors(found, found, 2) == {1.0, 2.0, 3.0, 6.0} and survivors(found, found, 6) == {1.0, 2.0, 3.0}
    assert survivors({2.0: 1.0}, [1.0, 2.0, 9.0], 2) == {1.0, 2.0, 9.0} and survivors({}, [1.0, 2.0], 2) == {1.0, 2.0}
    assert neighbours(1.0, [1.0, 2.0, 4.0]) == {1.0, 2.0} and neighbours(3.0, [1.0, 2.0, 4.0]) == {2.0, 4.0}


@pytest.mark.parametrize(("seed", "part"), [(0, 2), (1, 9), *(
    pytest.param(seed, part, marks=pytest.mark.slow) for seed in range(2, 8) for part in (2, 3))])
def test_curves_that_do_not_cross_never_lose_their_best_rate(sweep_of, seed, part):
    runner, found = sweep_of(surface=ranked(seed), part=part)
    table = train(runner, found)
    assert best_rates(table) == true_best(runner.surface, table)
    stopped = table[table["stopped_because"] != ""]
    assert len(stopped) >= 8 and stopped[METRIC].isna().all() and not stopped["diverged"].any()
    assert len(runner.trained) == len(table) - len(stopped)
    fitted = laws.Runs.from_workdir(runner.workdir, metric=METRIC).frame["fingerprint"]  # what a fit takes
    assert len(fitted) and not set(fitted) & set(stopped["fingerprint"])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
def test_where_curves_cross_the_best_rate_is_followed_to_its_neighbours(sweep_of, seed):
    runner, found = sweep_of(surface=moving(seed))
    table = train(runner, found)
    assert best_rates(table) == true_best(runner.surface, table)
    assert len(set(best_rates(table).values())) > 2 and (table["stopped_because"] != "").any()


def test_a_rate_that_gets_best_behind_worse_ones_is_lost_and_its_records_say_that_it_was_stopped(sweep_of):
    runner, found = sweep_of(surface=crossing, part=3)
    table = train(runner, found)
    here, best = best_rates(table), true_best(crossing, table)
    assert {place(rate) for at, rate in here.items() if at[1] > TOKENS[0]} == {0}
    assert set(map(place, best.values())) == {1, 6}
    lost = table[(table["learning_rate"] == RATES[6]) & (table["data"] > TOKENS[0])]
    assert lost[METRIC].isna().all() and (lost["stopped_step"] == found.ladders[0][0][RATES[0]][0].experiment.steps).all()
    because = r"its bits_per_byte after \d+ steps was number 4 of 7 learning rates"
    assert lost["stopped_because"].str.fullmatch(because).all()


def test_a_rate_stands_or_falls_with_all_its_seeds_and_loses_where_one_diverged(sweep_of):
    runner, found = sweep_of(seeds=(0, 1), diverges=RATES[4])
    table = train(runner, found)
    group = table.groupby([tuned.PARAMS, "data", "learning_rate"])["stopped_because"].agg(lambda x: (x != "").mean())
    assert set(group) == {0.0, 1.0}
    assert (table.loc[(table["learning_rate"] > RATES[5]) & (table["data"] > TOKENS[0]), "stopped_because"] != "").all()


# ----- kills, and later commands


def test_a_sweep_that_is_killed_after_any_run_ends_with_the_same_records(sweep_of):
    whole, found = sweep_of("whole", surface=moving(1))
    train(whole, found)
    for _ in itertools.count():
        runner, again = sweep_of("killed", surface=moving(1), left=12)  # another process
        try:
            table = train(runner, again)
            break
        except Killed:
            continue
    assert results(runner.records.workdir) == results(whole.records.workdir)
    ours, theirs = ({one["fingerprint"]: one["stopped_because"] for one in each.records.stopped()}
                    for each in (runner, whole))
    assert ours == theirs and len(ours) == (table["stopped_because"] != "").sum()
    runner, again = sweep_of("killed", surface=moving(1))
    train(runner, again)
    assert not runner.trained


def test_runs_that_were_stopped_are_trained_where_more_rates_change_the_verdict(sweep_of):
    """A sweep of four rates stops its highest one; with higher ones that are better, it is a neighbour of the best."""
    def surface(n, d, rate):
        return 2 + 50 / d**0.5 - 0.1 * place(rate) if place(rate) > 3 else 3 + 0.1 * place(rate)
    first, found = sweep_of(surface=surface, rates=RATES[:4], part=4)
    before = train(first, found)
    assert (before.loc[before["learning_rate"] == RATES[3], "stopped_because"] != "").sum() == 6
    runner, grown = sweep_of(surface=surface, rates=RATES[:4] + RATES[4:5], part=4)
    table = train(runner, grown)
    assert best_rates(table) == true_best(surface, table, RATES[:5])
    assert (table.loc[table["learning_rate"] == RATES[3], "stopped_because"] == "").all()


def test_what_is_saved_is_what_the_others_do_not_take(sweep_of):
    runner, found = sweep_of(surface=ranked(0))
    assert halving.saved(runner, found.sweep) == {}
    table = train(runner, found)
    about = halving.saved(runner, found.sweep)["stopping"]
    stopped = set(table.loc[table["stopped_because"] != "", "fingerprint"])
    assert about["runs"] == len(stopped) and 0 < about["saved"] < about["of"]
    assert about["of"] == pytest.approx(found.sweep.flops())
    plan = runner.plan([run.experiment for run in found.sweep.runs if run.fingerprint not in stopped], 8)
    fresh = Runner(runner.workdir / "none", TrainingOptions()).plan([run.experiment for run in plan.runs], 8)
    assert about["saved"] == pytest.approx(about["of"] - fresh.flops())
    assert halving.saved(Runner(runner.workdir / "none", TrainingOptions()), found.sweep, {"stopping": about}) == {
        "stopping": None}


# ----- real training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runners that trained a real sweep: at once, by halving, and by halving in two processes; and the plan of it."""
    config = tiny_study.get_config()
    base = experiment.from_config(config).replace({"family": experiment.family_at(config, 5e3), "data.batch": 8})
    sweep = grid(base, {"optim.learning_rate": [1e-3, 4e-3, 1.6e-2, 6.4e-2, 2.56e-1], "data.tokens": [5120, 10240, 15360]})
    programs, out = {}, {}
    for name in ("whole", "halved", "killed", "killed"):
        rule = "" if name == "whole" else "halving"
        runner = Runner(tmp_path_factory.getbasetemp() / name, halving.options_of(rule, METRIC, TrainingOptions()))
        runner.programs.kept = programs
        plan, bar = runner.plan(sweep, 8), Bar()
        if name == "killed" and name not in out:  # on its second rung
            for runs in itertools.islice(Halving(runner, plan, METRIC, 2, 8).rungs(), 2):
                part = runner.plan([run.experiment for run in runs], 8, beside=plan)
                runner.run(type(part)(part.packs[:1]), bar)
        else:
            halving.train_sweep(rule, runner, plan, METRIC, 8, bar)
        out |= {name: runner, "sweep": plan}
    return out


@pytest.mark.slow
def test_rungs_go_on_from_kept_trunks_and_end_where_the_whole_sweep_ends(trained):
    whole, halved = (tuned.clean(records.load_records(trained[name].workdir), METRIC) for name in ("whole", "halved"))
    assert best_rates(whole) == best_rates(halved)
    both = whole.merge(halved[halved[METRIC].notna()], on="fingerprint")
    assert 8 < len(both) < 15 and np.allclose(both[f"{METRIC}_x"], both[f"{METRIC}_y"], rtol=2e-3)
    about = halving.saved(trained["halved"], trained["sweep"])["stopping"]
    assert trained["whole"].trained_flops - trained["halved"].trained_flops == pytest.approx(about["saved"], rel=1e-6)


@pytest.mark.slow
def test_real_runs_of_an_interrupted_halving_have_the_bits_of_one_that_was_not(trained):
    assert results(trained["killed"].records.workdir) == results(trained["halved"].records.workdir)
    assert len(trained["killed"].records.stopped()) == len(trained["halved"].records.stopped()) > 0
