"""Models of the codes of images: the tokenizer that they take, bits that add up, samples, conditions."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lively import call, lively, once
from numpy.testing import assert_allclose, assert_array_equal
from sources import tiny

from scaling import cost, data, families
from scaling import experiment as experiments
from scaling.experiment import Experiment, Start
from scaling.families.coded import Coded
from scaling.families.fsq import FSQ
from scaling.fields import ConfigError
from scaling.results import records
from scaling.store import checkpoint
from scaling.store.progress import Progress
from scaling.sweeps.runner import Runner, TrainingOptions

KEY = jax.random.key(5)
TOKENIZER = FSQ(image_size=8, levels=16, width=8, layers=1, code_levels="3,2")
TINY = Coded.ladder(5e3, image_size=8, levels=16, classes=3, tokenizer=TOKENIZER)
BATCH = TINY.example_batch(8, KEY)


def standing_on(base, size=5e3, **fields):
    """An experiment that models the codes of a tokenizer's run, on its data."""
    seen = {name: getattr(base.data, name) for name in ("channels", "levels")}
    family = Coded.ladder(size, image_size=base.data.size, tokenizer=base.family, **seen, **fields)
    return Experiment(family=family, data=base.data, optim=base.optim, start=Start(base, family.takes))


def test_bits_of_codes_and_pixels_add_up_and_are_those_of_the_two_models():
    params = lively(TINY)
    found = {name: x.over / x.under for name, x in call(TINY, "evaluate", params, BATCH, KEY).items()}
    alone = call(TINY.tokenizer, "evaluate", TINY.tokens_of(params), BATCH, KEY)
    assert_allclose(found["distortion"], alone["distortion"].over, rtol=1e-5)
    assert_allclose(found["rate"] + found["distortion"], found["bits_per_dim"], rtol=1e-5)
    windows = TINY.windows(BATCH, alone["_codes"])
    assert_array_equal(windows[:, 0], 6 + BATCH["label"])
    assert TINY.model.vocab == 9 and TINY.model.length == 4
    logits = jax.nn.log_softmax(call(TINY.model, "logits", params, windows[:, :-1]))
    nats = -np.take_along_axis(np.asarray(logits), np.asarray(windows)[:, 1:, None], 2)[..., 0]
    assert_allclose(found["code_bits"], nats.sum(1) / math.log(2), rtol=1e-4)
    assert_allclose(found["rate"], found["code_bits"] / 64, rtol=1e-5)
    assert_allclose(call(TINY, "loss", params, BATCH, KEY)[0], nats.mean(), rtol=1e-4)


def test_samples_are_images_of_codes_and_follow_the_label_and_the_number_of_the_example():
    params, numbers = lively(TINY), jnp.arange(8, dtype=jnp.int32)
    batch = {"label": BATCH["label"], "example": numbers}
    drawn = np.asarray(call(TINY, "sample", params, batch, KEY))
    assert drawn.shape == (8, 8, 8, 1) and drawn.dtype == np.uint8 and drawn.max() < 16
    order = np.array([3, 1, 7, 0, 2, 6, 5, 4])
    again = call(TINY, "sample", params, {name: x[order] for name, x in batch.items()}, KEY)
    assert_array_equal(again, drawn[order])
    other = call(TINY, "sample", params, batch | {"label": (batch["label"] + 1) % 3}, KEY)
    assert (np.asarray(other) != drawn).any()


def test_the_tokenizer_is_no_part_of_n_and_no_player_moves_it():
    assert cost.param_count(TINY)["non_embedding"] == cost.param_count(TINY.model)["non_embedding"]
    assert cost.train_flops(TINY, 8) - cost.train_flops(TINY.model, 8) < 2 * cost.forward_flops(TOKENIZER, 8)
    assert [player.name for player in TINY.players()] == ["model"]
    gradient = once(jax.grad(lambda p: TINY.loss(p, BATCH, KEY)[0]))(lively(TINY))
    assert all(float(jnp.abs(x).max()) == 0 for x in jax.tree.leaves(gradient["tokenizer"]))


def test_records_hold_both_parts_and_sizes_follow_the_data_and_the_tokenizer():
    base = tiny("fsq", **{"data.levels": 16})
    for prior in ("transformer", "recurrent", "hmm"):
        e = standing_on(base, prior=prior)
        family = e.family
        assert experiments.from_dict(experiments.to_dict(e)) == e
        assert type(family.model) is families.find(prior) and family.model.length == 16
        larger = e.replace({"data.size": 32})
        assert larger.family.tokenizer.image_size == 32 and larger.family.model.length == 64
    with pytest.raises(ConfigError, match="family.model=.* is no Recurrent"):
        dataclasses.replace(TINY, prior="recurrent")


@pytest.mark.slow
@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_runs_take_a_tokenizer_that_is_trained_once_before_all_that_stand_on_it(tmp_path, quantiser):
    base = tiny("fsq", **{"data.levels": 16, "data.size": 8, "optim.ema": 0.9})
    base = base.replace({"family": dataclasses.replace(base.family, quantiser=quantiser, code_levels="3,2")})
    sweep = []
    for prior in ("transformer", "recurrent"):
        sweep.append(standing_on(base, prior=prior))
    runner = Runner(tmp_path, TrainingOptions())
    plan = runner.plan(sweep, 1)
    assert [run.role for run in plan.all_runs] == ["start", "sweep", "sweep"]
    with Progress(runner.work(plan)) as progress:
        runner.run(plan, progress)
    frame = records.load_records(tmp_path)
    assert frame["bits_per_dim"].notna().all()

    def arrays(run, family):
        abstract = jax.eval_shape(family.init, jax.random.key(0))
        tree = checkpoint.restore_tree(tmp_path / "params" / run.fingerprint, {"params": abstract})[0]["params"]
        return dict(checkpoint.flatten(tree)[0])

    first, *others = plan.all_runs
    wanted = arrays(first, base.family)
    for run in others:
        found = arrays(run, run.experiment.family)
        for name, x in wanted.items():
            assert_array_equal(found[f"tokenizer/{name}"], x)


@pytest.mark.slow
def test_a_model_of_codes_costs_fewer_bits_than_codes_that_are_all_as_likely():
    """On letters, after some hundred steps of both."""
    from scaling.training.program import Program
    from scaling.training.step import TRUNK

    source = data.load_images("glyphs/letters", size=16, levels=16, batch=16)
    base = tiny("fsq", **{"data.levels": 16, "data.batch": 16, "data.examples": 16 * 400, "optim.learning_rate": 0.012,
                          "optim.name": "muon", "optim.warmup": 40, "family.code_levels": "5,5", "family.width": 24})
    e = standing_on(base, 2e4)

    def trained(e, given):
        program = Program(e, source, 1, "", 64, jax.devices()[:1])
        state, _ = program.advance(program.init([e], given), [e], [TRUNK], 400)
        return program, state

    program, state = trained(base, {})
    there = dict(checkpoint.flatten(program.parameters(state)[0])[0])
    model, ended = trained(e, {own: [there[other]] for own, other in experiments.taken(e).items()})
    examples = source.evaluation("iid", 512)
    tokens, found = program.evaluate(state, examples), model.evaluate(ended, examples)
    assert found["distortion"][0] == pytest.approx(tokens["distortion"][0], rel=1e-4)
    assert found["code_bits"][0] < 0.95 * tokens["code_entropy"][0] < 16 * math.log2(25)
    assert found["bits_per_dim"][0] < tokens["bits_per_dim"][0]
