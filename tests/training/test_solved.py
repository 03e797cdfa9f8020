"""Families that are solved in place of being trained: the same sweep, records, checkpoints and evaluation."""

import jax
import numpy as np
import pytest
from launcher import MEASURED
from sources import SOLVED, ExampleSource, tiny

from scaling import cost, families
from scaling.experiment import Start, grid
from scaling.fields import ConfigError
from scaling.results import records
from scaling.store import files
from scaling.store.progress import Progress
from scaling.study.restore import restore
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.training import solving
from scaling.training.counts import counts
from scaling.training.program import Program
from scaling.training.step import TRUNK


@pytest.fixture(params=SOLVED)
def e(request):
    return tiny(request.param)


class FewExamples(ExampleSource):
    """Ten examples, which the first epoch has in their order."""

    unique_tokens = unique_examples = 10

    def batches(self, seed, start, stop, rows=None):
        every = self.family.example_batch(10, jax.random.key(3))
        order = np.arange(start * self.batch_size, stop * self.batch_size) % 10
        return {name: np.asarray(x)[order].reshape(stop - start, self.batch_size, *x.shape[1:])
                for name, x in every.items()}


def few_examples(e):
    source = FewExamples(e.family, e.data.batch)
    source.unique_tokens = 10 * e.data.per_example
    return source


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_is_solved_has_no_players_and_the_structure_of_the_model_of_no_data(e):
    assert e.family.players() == ()
    found = e.family.solve(solving.batches_once(e, few_examples(e)))
    wanted = jax.eval_shape(e.family.init, jax.random.key(0))
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype) or pytest.fail(f"{x.shape} {x.dtype} {y}"), found,
                 wanted)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_example_is_solved_for_once_and_in_the_order_of_the_run(e, steps, monkeypatch):
    monkeypatch.setattr(solving, "TOGETHER", 2)
    e, source = e.replace({e.data.length_knob: steps * e.data.per_step}), few_examples(e)
    found = [batch["tokens"] for batch in solving.batches_once(e, source)]
    every = source.batches(e.seed, 0, steps)["tokens"]
    np.testing.assert_array_equal(np.concatenate(found), every.reshape(-1, every.shape[-1])[:10])


def test_repeats_change_neither_the_parameters_nor_the_compute(e):
    unit, source = e.data.unit, few_examples(e)
    once, often = (e.replace({e.data.length_knob: n * e.data.per_step}) for n in (2, 6))
    equal(*(solving.solve_pack([x], source) for x in (once, often)))
    a, b = (counts(x, source.unique_tokens) for x in (once, often))
    assert b[f"{unit}_seen"] == 3 * a[f"{unit}_seen"] and a[f"{unit}_unique"] == b[f"{unit}_unique"] == source.unique_tokens
    assert a["flops"] == b["flops"] == 2 * e.family.solve_flops(e.data.batch)


def test_compute_grows_with_the_data_and_nothing_else_is_executed(e):
    assert cost.train_flops(e.family, 6) == 2 * cost.train_flops(e.family, 3) > 0
    found = counts(e, 2**30)
    assert found["flops"] == found["flops_executed"] == cost.train_flops(e.family, e.data.batch) * e.steps


def test_packed_runs_equal_single_runs_on_any_mesh(e):
    pack = [e.replace({"seed": seed}) for seed in range(2)]
    source = few_examples(e)
    source.batches = lambda seed, *steps, plain=source.batches: {
        name: np.roll(x, seed, axis=-1) for name, x in plain(seed, *steps).items()}
    program = Program(e, source, 2, "run=2,data=4")
    state, _ = program.advance(program.init(pack), pack, [TRUNK] * 2, e.steps)
    found = program.evaluate(state, source.batch(0, 5))
    for index, one in enumerate(pack):
        single = Program(e, source, 1, devices=jax.devices()[:1])
        alone, _ = single.advance(single.init([one]), [one], [TRUNK], e.steps)
        equal(jax.tree.map(lambda x, index=index: x[index], state.params), jax.tree.map(lambda x: x[0], alone.params))
        np.testing.assert_allclose(found["loss"][index], single.evaluate(alone, source.batch(0, 5))["loss"][0], rtol=1e-5)
    assert found["loss"][0] != found["loss"][1] and (state.step == e.steps).all() and (state.diverged == -1).all()


@pytest.mark.parametrize("path,value", [("optim.learning_rate", 1e-2), ("optim.warmup", 3), ("optim.name", "muon")])
def test_fields_of_the_optimiser_are_refused(e, path, value):
    with pytest.raises(ConfigError, match=f"{path}=.* has no effect, .* write .*, its default"):
        grid(e, {path: [value]})


def test_a_run_to_begin_with_is_refused(e):
    with pytest.raises(ConfigError, match="start= has no effect"):
        e.replace({"start": Start(tiny("transformer"))})


def test_there_is_no_train_step_to_compile(e):
    with pytest.raises(ConfigError, match=f"{families.name(e.family)} is solved"):
        Program(e, few_examples(e), 1).lower()


# ------------------------------------------------------------------------------------------- runs in a workdir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("books")
    rng = np.random.default_rng(0)
    for i in range(6):
        (folder / f"{i}.txt").write_text("\n".join("".join(rng.choice(list("abcdefgh "), 60)) for _ in range(150)))
    return folder


@pytest.fixture(params=SOLVED)
def runs(request, folder):
    """Two runs that differ in length."""
    cls = families.find(request.param)
    base = tiny(request.param, **{"data.name": f"text:{folder}/*.txt", "data.data_dir": str(folder / "data")})
    base = base.replace({"family": cls.ladder(cls.sizes()[0], **base.data.family_fields()), "data.evaluation_tokens": 160})
    return grid(base, {base.data.length_knob: [2560, 10240]})


def train(workdir, runs, pack=2):
    runner = Runner(files.open_workdir(workdir), TrainingOptions())
    runner.run(runner.plan(runs, pack), Progress(1, silent=True))
    return {record["fingerprint"]: {k: v for k, v in record.items() if k not in MEASURED}
            for record in (runner.records.read(name) for name in runner.records.fingerprints())}


def test_a_run_is_recorded_restored_and_never_solved_again(runs, tmp_path, monkeypatch):
    found = train(tmp_path, runs)
    assert len(found) == 2
    for record in found.values():
        assert not any(name in record for name in ("learning_rate", "weight_decay")) and not record["diverged"]
        run = restore(tmp_path, record["fingerprint"])
        measured = run.evaluate()
        for name, value in measured.items():
            np.testing.assert_allclose(value, record[name], rtol=1e-5)
        equal(run.params, type(run.family).solve(run.family, solving.batches_once(run.experiment, run.source)))
    short, long = sorted(found.values(), key=lambda record: record["flops"])
    assert long["loss"] < short["loss"] and short["loss_se"] > 0 and long["flops"] == 4 * short["flops"]
    monkeypatch.setattr(type(runs[0].family), "solve", lambda *args: pytest.fail("solved again"))
    assert train(tmp_path, runs) == found
    assert len(records.load_records(tmp_path)) == 2


def test_a_run_that_is_killed_is_solved_again_with_equal_results(runs, tmp_path, monkeypatch):
    whole = train(tmp_path / "whole", runs)
    plain = Program.parameters
    monkeypatch.setattr(Program, "parameters", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", runs)
    monkeypatch.setattr(Program, "parameters", plain)
    assert train(tmp_path / "killed", runs, pack=1) == whole
