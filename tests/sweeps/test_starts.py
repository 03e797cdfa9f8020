"""A run may begin with the parameters of another, which is planned and trained first, once for all that stand on it."""

import json

import jax
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling import experiment as experiments
from scaling.devices import exits
from scaling.experiment import Start, grid
from scaling.fields import replace
from scaling.store import checkpoint
from scaling.study import fork
from scaling.sweeps import starts
from scaling.sweeps.plan import Plan
from scaling.sweeps.ray.queue import Queue
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.sweeps.segments import PackTraining
from scaling.training.counts import counts
from scaling.training.step import run_span

E = tiny("transformer", **{"data.tokens": 8 * 16 * 10, "optim.ema": 0.9})
TUNED = grid(E.replace({"start": Start(E), "optim.learning_rate": 1e-3}),
             {"seed": [1, 2], "data.tokens": [8 * 16 * 10, 8 * 16 * 20]})
TAKES = {"model/layers": "model/layers", "model/embed": "model/embed"}
CHAINED = E.replace({"start": Start(TUNED[0], TAKES), "optim.trainable": "last:1"})
SWEEP = [CHAINED, *TUNED]
PROGRAMS: dict = {}  # of all runners here, which would compile the same


class Bar:
    """A progress bar that asks to stop once so many FLOPs are done."""

    def __init__(self, most=float("inf")):
        self.flops, self.most = 0.0, most

    def update(self, amount=0.0, text=None):
        self.flops += amount

    def print(self, message):
        raise AssertionError(message)


def runner(workdir, **options):
    found = Runner(workdir, TrainingOptions(steps_per_call=8, compile_ahead=False, **options))
    found.source = lambda e: ExampleSource(e.family, e.data.batch)
    if not options:
        found.programs.kept = PROGRAMS
    return found


def train(workdir, sweep=SWEEP):
    """Trains a sweep with a new runner, as a later command would: (plan, FLOPs that it executed)."""
    one = runner(workdir)
    plan = one.plan(sweep, 2)
    one.run(plan, Bar())
    return plan, one.trained_flops


def record(workdir, run):
    return json.loads((workdir / "records" / f"{run.fingerprint}.jsonl").read_text().splitlines()[-1])


def params(workdir, fingerprint):
    return checkpoint.restore_params(workdir / "params" / fingerprint)["model"]


def results(workdir, plan):
    """All that is said of the runs of a plan, but for times."""
    return [(run.fingerprint, record(workdir, run)["loss"], record(workdir, run).get("start"),
             [x.tobytes() for x in jax.tree.leaves(params(workdir, run.fingerprint))],
             (workdir / "curves" / f"{run.fingerprint}.jsonl").read_text()) for run in plan.all_runs]


def run_of(plan, experiment):
    return next(run for run in plan.all_runs if run.experiment == experiment)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(workdir, plan, FLOPs) of the whole sweep."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, *train(workdir)


def test_what_runs_stand_on_is_planned_first_and_once_and_no_pack_waits_for_itself(tmp_path):
    for sweep in (SWEEP, SWEEP[::-1], [CHAINED], [E, *SWEEP], [*SWEEP, E.replace({"seed": 5})]):
        plan = runner(tmp_path).plan(sweep, 3)
        assert [run.experiment for run in plan.all_runs if run.role == "start"] == [
            e for e in (E, TUNED[0]) if e not in sweep]
        assert {run.experiment for run in plan.runs} == set(sweep)
        before = set()
        for pack in plan.packs:
            assert pack.waits_for <= before
            before |= {run.fingerprint for run in pack.runs}
        assert len(before) == len(plan.all_runs)
        for index in range(len(plan.packs)):  # a part of the plan brings along what it waits for
            part = plan.with_bases(plan.packs[index:index + 1])
            names = {run.fingerprint for run in part.all_runs}
            assert all(pack.waits_for <= names for pack in part.packs) and plan.packs[index] in part.packs


def test_names_tell_runs_apart_by_what_they_begin_with_and_not_by_how_that_is_computed(tmp_path):
    one = runner(tmp_path)

    def name(e):
        return experiments.fingerprint(e, one.content(e))

    fresh, tuned = replace(TUNED[0], {"start": None}), TUNED[0]
    changed = [fresh, tuned.replace({"start.experiment.seed": 1}),
               tuned.replace({"start.experiment.data.tokens": 8 * 16 * 20}),
               tuned.replace({"start": Start(E, TAKES)}), tuned.replace({"start": Start(tuned)})]
    assert len({name(e) for e in [tuned, *changed]}) == 6
    assert name(tuned) == name(tuned.replace({"start.experiment.microbatch": 2}))
    assert experiments.program_key(fresh) == experiments.program_key(tuned)
    one.source = lambda e: type("Other", (), {"fingerprint": e.data.name})
    data = name(tuned), name(tuned.replace({"start.experiment.data.name": "pycode/environment"}))
    assert data[0] != data[1]


def test_a_run_equals_one_that_goes_on_by_hand(whole):
    workdir, plan, _ = whole
    runs = [run_of(plan, e) for e in TUNED[::2]]  # one length of both seeds, which are a pack
    pack = next(pack for pack in plan.packs if runs[0] in pack.runs)
    program = runner(workdir).programs.of(pack)
    given = dict(checkpoint.flatten(checkpoint.restore_params(workdir / "params" / run_of(plan, E).fingerprint))[0])
    state = program.init([run.experiment for run in runs], {path: [x, x] for path, x in given.items()})
    for tree in (state.params, state.ema):
        assert all((np.asarray(x) == given[path]).all() for path, x in checkpoint.flatten(tree)[0])
    span = run_span(runs[0].experiment)
    state, _ = program.advance(state, [run.experiment for run in runs], [span] * 2, span.steps)
    for run, found in zip(runs, program.parameters(state), strict=True):
        saved = params(workdir, run.fingerprint)
        assert [x.tobytes() for x in jax.tree.leaves(saved)] == [
            np.asarray(x).tobytes() for x in jax.tree.leaves(jax.tree.map(np.asarray, found["model"]))]


def test_records_hold_what_a_run_stands_on_and_the_compute_of_all(whole):
    workdir, plan, flops = whole
    base, tuned, last = (record(workdir, run_of(plan, e)) for e in (E, TUNED[0], CHAINED))
    assert "start" not in base and base["role"] == "start" and tuned["role"] == "sweep"
    assert tuned["start"]["fingerprint"] == base["fingerprint"] and last["start"]["start"] == tuned["start"]
    for name in ("flops", "tokens_seen", "tokens_unique", "params_non_embedding"):
        assert tuned["start"][name] == base[name] and tuned[name] == counts(TUNED[0], 10**6)[name]
    assert last["flops_cumulative"] == last["flops"] + tuned["flops"] + base["flops"]
    assert flops == plan.flops()
    assert experiments.from_dict(last["experiment"]) == CHAINED


def test_frozen_parameters_keep_the_bits_of_the_run_that_they_are_from(whole):
    workdir, plan, _ = whole
    found, base = (params(workdir, run_of(plan, e).fingerprint) for e in (CHAINED, TUNED[0]))
    assert found["embed"]["weight"].tobytes() == base["embed"]["weight"].tobytes()
    assert (found["layers"]["mlp"]["up"]["weight"] != base["layers"]["mlp"]["up"]["weight"]).any()


# In the run that the others stand on, and in one of those.
@pytest.mark.parametrize("share", [0.1, pytest.param(0.6, marks=pytest.mark.slow)])
def test_a_sweep_that_is_interrupted_anywhere_equals_an_uninterrupted_one(whole, tmp_path, monkeypatch, share):
    one = runner(tmp_path)
    plan, bar = one.plan(SWEEP, 2), Bar()
    monkeypatch.setattr(exits, "preempted", lambda: bar.flops > share * plan.flops_executed())
    with pytest.raises(exits.Preempted):
        one.run(plan, bar)
    assert len(list((tmp_path / "records").glob("*"))) < len(plan.all_runs)
    monkeypatch.undo()
    train(tmp_path)
    assert results(tmp_path, plan) == results(whole[0], whole[1])


def test_another_workdir_supplies_the_run_which_is_copied_and_never_trained_again(whole, tmp_path):
    old, new = runner(whole[0]), runner(tmp_path / "new")
    sweep = [CHAINED, CHAINED.replace({"seed": 3})]
    plan = new.plan(sweep, 1, copied_from=old)
    assert fork.copy_shared(old, new, plan) == 3
    new.run(plan, Bar())
    assert new.trained_flops == counts(CHAINED, 0)["flops"]
    assert record(tmp_path / "new", run_of(plan, TUNED[0]))["role"] == "start"
    back = runner(tmp_path / "back")  # a run that others began with may be one of a sweep
    assert fork.copy_shared(new, back, back.plan(TUNED[:1], 2)) == 2
    assert record(tmp_path / "back", run_of(plan, TUNED[0]))["role"] == "sweep"


def test_a_run_that_begins_with_a_diverged_one_is_recorded_as_diverged(tmp_path):
    bad = replace(E, {"optim.learning_rate": float("nan")})
    plan, _ = train(tmp_path, [replace(TUNED[0], {"start": Start(bad)})])
    found = record(tmp_path, plan.runs[0])
    assert found["diverged"] and found["diverged_step"] == 0 and found["loss"] is None
    assert found["diverged_because"] == "the run that it begins with diverged"


def test_parameters_that_cannot_be_read_are_named_with_what_to_do(tmp_path):
    plan, _ = train(tmp_path, [E])
    folder = tmp_path / "params" / plan.runs[0].fingerprint
    folder.rename(tmp_path / "elsewhere")
    says = f"the parameters of {folder.name}, with which .* begins, cannot be read: .*; restore .*, or delete .*jsonl"
    with pytest.raises(checkpoint.CheckpointError, match=says):
        train(tmp_path, TUNED[:1])


@pytest.mark.parametrize("layout, mesh", [("fsdp", "run=2,fsdp=4"), ("data", "run=2,data=4")])
def test_every_layout_begins_with_the_same_bits(whole, layout, mesh):
    workdir, plan, _ = whole
    one = runner(workdir, mesh=mesh)
    pack = one.plan([e.replace({"layout": layout}) for e in TUNED], 2).packs[1]
    training = PackTraining(one, pack, Bar())
    state = starts.initial_state(training)
    wanted = dict(checkpoint.flatten({"model": params(workdir, run_of(plan, E).fingerprint)})[0])
    assert state.step.sharding.mesh.size == 8
    for path, x in checkpoint.flatten(state.params)[0]:
        assert all(np.asarray(row).tobytes() == wanted[path].tobytes() for row in x)


def test_on_a_cluster_packs_wait_for_what_they_begin_with_and_are_lost_with_it(tmp_path):
    one = runner(tmp_path)
    plan, done = one.plan(SWEEP, 2), set()
    queue = Queue(plan.packs, lambda pack: 1, 0, lambda pack: pack.waits_for <= done)
    first = queue.take(1, 0.0)
    assert not first.waits_for and queue.take(1, 0.0) is None and queue.wanted() == {}
    done |= {run.fingerprint for run in first.runs}
    second = queue.take(1, 0.0)
    assert second.waits_for <= done and queue.take(1, 0.0) is None
    queue.died(second, "it died")
    assert not queue.packs and [pack for pack, _ in queue.lost] == [second, *Plan(plan.packs[2:]).packs]
