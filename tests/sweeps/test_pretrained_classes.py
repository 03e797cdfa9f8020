"""Pretraining on text and then telling the class of a text: whole sweeps, with what is frozen, resumed, and in records."""

import json
import types

import jax
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling.devices import exits
from scaling.experiment import Labelled, Start, taken
from scaling.fields import ConfigError
from scaling.results.metrics import METRICS, find_metric
from scaling.results.pairs import read_scores
from scaling.store import checkpoint
from scaling.sweeps.runner import Runner, TrainingOptions

BASE = tiny("masked", **{"data.tokens": 8 * 16 * 10, "family.layers": 2})
TAKES = {f"model/{name}": f"model/{name}" for name in ("layers", "embed", "norm")}
FRESH = BASE.replace({"data": Labelled(length=16, classes=4, batch=8, examples=80), "family.vocab": 32,
                      "optim.learning_rate": 1e-2})
RULES = ("all", "last:1", "head")
SWEEP = [*(FRESH.replace({"start": Start(BASE, TAKES), "optim.trainable": rule}) for rule in RULES),
         FRESH.replace({"optim.trainable": "head"})]
PROGRAMS: dict = {}


class LabelledSource(ExampleSource):
    """Random texts, whose label is told by their first token, with the tokenizer of the text that was pretrained on."""

    tokenizer = types.SimpleNamespace(fingerprint="same")

    def slice(self, arrays, seed, step):
        batch = super().slice(arrays, seed, step)
        return {**batch, "label": batch["text"][:, 0] % 4} if "text" in batch else batch

    def evaluation(self, split, tokens=0):
        parts = [self.batch(0, 10**6 + i) for i in range(8)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Bar:
    def __init__(self):
        self.flops = 0.0

    def update(self, amount=0.0, text=None):
        self.flops += amount

    def print(self, message):
        raise AssertionError(message)


def train(workdir, bar=None):
    one = Runner(workdir, TrainingOptions(steps_per_call=8, compile_ahead=False))
    one.source = lambda e: LabelledSource(e.family, e.data.batch)
    one.programs.kept = PROGRAMS
    plan = one.plan(SWEEP, 1)
    one.run(plan, bar or Bar())
    return plan


def record(workdir, run):
    return json.loads((workdir / "records" / f"{run.fingerprint}.jsonl").read_text().splitlines()[-1])


def params(workdir, run):
    tree = checkpoint.restore_params(workdir / "params" / run.fingerprint)
    return {path: np.asarray(x) for path, x in checkpoint.flatten(tree)[0]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    plan = train(workdir)
    return workdir, plan, {run.experiment: run for run in plan.all_runs}


def test_what_is_frozen_keeps_the_bits_of_the_pretrained_run_and_the_rest_moves(whole):
    workdir, _, runs = whole
    base = params(workdir, runs[BASE])
    for experiment in SWEEP[:3]:
        found, rule = params(workdir, runs[experiment]), experiment.optim.trainable
        assert found.keys() - base.keys() == {"model/head/weight"}
        assert base.keys() - found.keys() == {"model/mask", "model/readout/weight"}
        for path in found.keys() & base.keys():
            same = found[path].tobytes() == base[path].tobytes()
            first = found[path][0].tobytes() == base[path][0].tobytes()  # the first layer, of a stack
            wanted = {"all": (False, False), "head": (True, True),
                      "last:1": (False, True) if path.startswith("model/layers") else (True, True)}[rule]
            assert (same, first) == wanted or rule == "all" and not same, (rule, path)
    control = params(workdir, runs[SWEEP[3]])  # a linear probe of layers that learned nothing
    fresh = jax.jit(SWEEP[3].family.init)(jax.random.key(SWEEP[3].seed))
    for path, x in checkpoint.flatten(fresh)[0]:  # which another program makes, up to rounding
        assert np.allclose(control[path], x, rtol=1e-6, atol=0) == ("head" not in path), path


def test_records_hold_what_is_concluded_of_all_examples_with_standard_errors(whole):
    workdir, _, runs = whole
    for experiment in SWEEP:
        found = record(workdir, runs[experiment])
        for name in ("loss", "accuracy", "macro_f1", "calibration_error"):
            assert found[name] >= 0 and 0 < found[f"{name}_se"] < 1, name
        assert not any(name.startswith("_") for name in found) and "bits_per_byte" not in found
        assert read_scores(workdir, runs[experiment].fingerprint, "accuracy") is not None
        curve = (workdir / "curves" / f"{runs[experiment].fingerprint}.jsonl").read_text()
        assert "validation/macro_f1" in curve and "validation/_" not in curve
    assert {"bits_per_byte", "bits_per_byte_se"} <= set(record(workdir, runs[BASE]))
    assert all(find_metric(name).rises for name in ("accuracy", "macro_f1")) and "calibration_error" in METRICS


@pytest.mark.slow  # as of any run that begins with another one, in test_starts.py
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_sweep_that_is_interrupted_equals_an_uninterrupted_one(whole, tmp_path, monkeypatch, share):
    workdir, plan, runs = whole
    bar = Bar()
    monkeypatch.setattr(exits, "preempted", lambda: bar.flops > share * plan.flops_executed())
    with pytest.raises(exits.Preempted):
        train(tmp_path, bar)
    monkeypatch.undo()
    train(tmp_path)
    for run in runs.values():
        wanted, found = params(workdir, run), params(tmp_path, run)
        assert {path: x.tobytes() for path, x in found.items()} == {path: x.tobytes() for path, x in wanted.items()}
        for name in ("loss", "macro_f1", "calibration_error_se"):
            assert record(tmp_path, run).get(name) == record(workdir, run).get(name)


def test_all_parameters_cannot_be_taken_since_the_head_is_new():
    with pytest.raises(ConfigError, match="no parameter 'model/head/weight'.*start.takes="):
        taken(FRESH.replace({"start": Start(BASE)}))
