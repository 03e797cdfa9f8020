"""experiments.plan turns records into a config for experiments.run that holds the old runs and the new ones."""

import json
import math
import pathlib
import random
import sys

import numpy as np
import pytest
from absl.testing import flagsaver
from boxed_flags import RUN

from scaling import experiment
from scaling.experiment import grid
from scaling.fields import ConfigError
from scaling.results import records
from scaling.sweeps.plan import make_plan
from scaling.training.counts import counts

with RUN:
    from experiments import plan as plan_command
    from experiments import run
    from scaling.study import study as study_module
    from scaling.study.configs import load_config
    from scaling.study.next_config import config_source
    from scaling.study.next_runs import Goal, propose_first, propose_next
    from scaling.study.workspace import Workspace

ROOT = pathlib.Path(__file__).parents[2]
SURFACE = {"E": 1.1, "A": 14.0, "B": 160.0, "alpha": 0.33, "beta": 0.38}
CONTENT = "made-up"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("corpus"), random.Random(0)
    for i in range(20):
        (folder / f"{i}.txt").write_text(" ".join(str(rng.random()) for _ in range(300)))
    return folder


def config(corpus):
    """The config of the tiny study, on the corpus of this test."""
    found = load_config(str(ROOT / "tests" / "tiny_study.py")).get_config()
    found.data.name = f"text:{corpus}/*.txt"
    return found


def bits(params, tokens, rate, best, rng):
    law = SURFACE
    loss = law["E"] + law["A"] * params ** -law["alpha"] + law["B"] * tokens ** -law["beta"]
    return loss * math.exp(0.02 * math.log(rate / best) ** 2 + 0.004 * rng.standard_normal())


@pytest.fixture(scope="module")
def study(corpus, tmp_path_factory):
    """A workdir of records of a planted law: four sizes, four amounts of data, two rates, and study.json."""
    workdir, cfg, rng = tmp_path_factory.mktemp("runs") / "study", config(corpus), np.random.default_rng(0)
    base = experiment.from_config(cfg)
    runs = grid(base, {"family": [experiment.family_at(cfg, size) for size in (5e3, 1e4, 2e4, 4.7e4)],
                       "optim.learning_rate": [4e-3, 8e-3], "data.tokens": [2560, 5120, 10240, 20480]})
    for e in runs:
        counted = counts(e, 10**6)
        loss = bits(counted["params_non_embedding"], e.data.tokens, e.optim.learning_rate, 6e-3, rng)
        records.Records(workdir).write({
            "fingerprint": experiment.fingerprint(e, CONTENT), "role": "sweep", "family": "transformer",
            **counted, "experiment": experiment.to_dict(e), "learning_rate": e.optim.learning_rate,
            "seed": e.seed,
            "weight_decay": e.optim.weight_decay, "bits_per_byte": loss, "loss": loss, "diverged": False})
    (workdir / "study.json").write_text(json.dumps({
        "title": cfg.title, "metric": cfg.metric, "unit": "tokens", "law": "chinchilla",
        "config": cfg.to_dict()}))
    return workdir


def ask(*arguments):
    """The command in this process."""
    with RUN, flagsaver.flagsaver():
        plan_command.main(run.refuse_unknown(["plan", *arguments]))


def refused(capsys, *arguments):
    """(exit status, error message) of the command."""
    with pytest.raises(SystemExit) as left:
        ask(*arguments)
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ")
    return left.value.code, said


def proposed(study, goal, budget=1e11, **options):
    """(the workspace, the proposal) for the study, in this process."""
    space = Workspace(study)
    return space, propose_next(space, budget, goal, **options)


def built(space, proposal, folder):
    """(config, sweep, target) of the config that is written for a proposal."""
    path = folder / "next.py"
    path.write_text(config_source(space, proposal, path))
    module = load_config(str(path))
    cfg = module.get_config()
    return cfg, module.sweep(cfg), getattr(module, "target", None)


@pytest.fixture(scope="module")
def planned(study):
    return proposed(study, Goal(params=1e5, data=1e5))


def names(experiments):
    return {experiment.fingerprint(e, CONTENT) for e in experiments}


def test_the_config_trains_what_was_suggested_and_names_every_old_run(planned, study, tmp_path):
    found, made = planned
    _, runs, target = built(found, made, tmp_path)
    old = set(records.Records(study).fingerprints())
    assert old <= names(runs) and names(made.new) == names(runs) - old
    assert len(runs) == len(set(runs)) == len(old) + len(made.new)


def test_the_new_runs_cost_the_budget_at_most_and_not_much_less(planned):
    spent = make_plan(planned[1].new, lambda e: CONTENT, 1).flops()
    assert 0.8e11 < spent < 1.02e11  # lengths are whole steps, and so are cooldowns


def test_the_target_has_the_ladder_s_size_nearest_to_the_flags(planned, tmp_path):
    cfg, _, target = built(*planned, tmp_path)
    wanted = counts(target(cfg, 0.01), 10**6)
    assert wanted["params_non_embedding"] == pytest.approx(1e5, rel=0.05)
    assert wanted["tokens_seen"] == pytest.approx(1e5, rel=0.01)
    assert target(cfg, 0.01).optim.learning_rate == 0.01


def test_learning_rates_of_new_sizes_lie_near_those_that_won(planned):
    won = planned[0].runs.frame["learning_rate"]
    rates = [e.optim.learning_rate for e in planned[1].new]
    assert won.min() / 2 <= min(rates) and max(rates) <= 1.2 * won.max()


def test_several_rates_cost_as_many_runs_of_each_point(study):
    _, made = proposed(study, Goal(quantity="alpha"), rates=2, most=4)
    points = {}
    for e in made.new:
        points.setdefault((e.family, e.data.tokens), set()).add(e.optim.learning_rate)
    assert len(points) == 4 and all(len(rates) == 2 for rates in points.values())


def test_a_point_bought_again_is_its_best_run_with_a_new_seed(study):
    found, made = proposed(study, Goal(quantity="best_size", compute=1e11), budget=2e10, seeds=3)
    again = [e for e in made.new
             if any(e.replace({"seed": old.seed}) == old for old in found.bought.values())]
    assert again and all(e.seed > 0 for e in again)
    assert len(names(made.new)) == len(made.new) and not names(made.new) & set(found.bought)


def test_the_command_writes_a_config_that_the_launcher_plans_and_never_overwrites_it(study, tmp_path, capsys, monkeypatch):
    output = tmp_path / "configs" / "next.py"
    flags = [f"--workdir={study}", "--budget=5e10", "--target_params=1e5", "--target_data=1e5", "--runs=6",
             f"--output={output}"]
    ask(*flags)
    out, before = capsys.readouterr().out, output.read_text()
    assert "standard error now" in out and str(output) in out
    code, said = refused(capsys, *flags)
    assert code == 1 and "never overwritten" in said and output.read_text() == before
    for name in ("matmul_rate", "known_matmul_rate"):  # which take seconds
        monkeypatch.setattr(study_module, name, lambda: 1e11)
    monkeypatch.setattr(sys, "argv", ["run", "--dry_run", "--mesh=data=4,tensor=2", f"--config={output}",
                                      f"--workdir={study}"])  # batches of four sequences, and tests see eight devices
    with RUN, flagsaver.flagsaver():
        run.refuse_unknown(sys.argv)
        run.train()
    planned = capsys.readouterr().out
    assert "39 runs in" in planned and "target," in planned  # 32 old ones, 6 new ones, the target


def test_an_empty_workdir_gets_a_first_grid_and_a_target_to_forecast(corpus, tmp_path):
    module = load_config(str(ROOT / "tests" / "tiny_study.py"))
    found = Workspace(tmp_path / "new", config(corpus), module)
    made = propose_first(found, 2e12, Goal())
    _, runs, target = built(found, made, tmp_path)
    assert set(runs) == set(made.new) and target is not None
    cells = {(e.family, e.data.tokens) for e in runs}
    rates = {e.optim.learning_rate for e in runs}
    assert rates == {4e-3, 8e-3} and len(runs) == 2 * len(cells)
    sizes = {family for family, _ in cells}
    assert len(sizes) >= 4 and all(sum(family == size for family, _ in cells) >= 3 for size in sizes)
    one = make_plan([made.target], lambda e: CONTENT, 1).flops()
    largest = max(counts(e, 10**6)["flops"] for e in runs)
    whole = make_plan(runs, lambda e: CONTENT, 1).flops() + one
    assert one > 4.9 * largest and 0.3 * 2e12 < whole < 1.02 * 2e12


@pytest.mark.parametrize("flags,said,code", [
    (["--budget=1e11"], "--target_params and --target_data", 1),
    (["--budget=1e3", "--quantity=alpha"], "cheapest", 1),
    (["--budget=1e11", "--quantity=alhpa"], "alpha", 1),
    (["--budget=0", "--quantity=alpha"], "--budget", 2),
    (["--budget=1e11", "--target_params=1e5"], "go together", 2),
    (["--budget=1e11", "--quantity=best_size"], "--target_compute", 2),
    (["--budget=1e11", "--quantiti=alpha"], "quantity", 2),
])
def test_bad_input_is_one_sentence(study, flags, said, code, capsys):
    status, sentence = refused(capsys, f"--workdir={study}", *flags)
    assert status == code and said in sentence


def test_an_empty_workdir_without_a_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--config"):
        Workspace(tmp_path / "nothing")


def test_a_record_without_its_experiment_is_named(study, tmp_path):
    for path in (study / "records").iterdir():
        record = records.Records(study).read(path.stem)
        record["experiment"].pop("optim")
        records.Records(tmp_path).write(record)
    (tmp_path / "study.json").write_text((study / "study.json").read_text())
    with pytest.raises(records.RecordError, match="does not say what its experiment was"):
        Workspace(tmp_path)
