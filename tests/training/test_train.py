"""Training of every family: packs, gradient accumulation, meshes, feeds, resuming, divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import TRAINED as FAMILIES
from sources import ExampleSource, tiny

from scaling import cost, families
from scaling import experiment as experiments
from scaling.families._sums import Each
from scaling.fields import replace
from scaling.store import checkpoint
from scaling.training import feeds, program
from scaling.training.evaluation import means
from scaling.training.program import Program, options_for_one_call
from scaling.training.step import TRUNK, evaluate_batch, init_state, run_span, train_step

STEPS = 6


PROGRAMS = {}


def program_of(e, runs=1, mesh="", devices=None, steps_per_call=8):
    """The program of all experiments that differ from `e` only in knobs; tests share it, since most time is compilation."""
    key = experiments.program_key(e), runs, mesh, devices, steps_per_call, str(program.options_for_many_calls())
    if key not in PROGRAMS:
        source = ExampleSource(e.family, e.data.batch)
        chosen = devices and jax.devices()[:devices]
        PROGRAMS[key] = Program(e, source, runs, mesh, steps_per_call, chosen)
    return PROGRAMS[key]


def train_pack(pack, calls=(STEPS,), spans=None, state=None, **kw):
    """(losses [runs, steps], state) of a pack, advanced in the given calls."""
    run = program_of(pack[0], len(pack), **kw)
    state = run.init(pack) if state is None else state
    losses = []
    for count in calls:
        state, metrics = run.advance(state, pack, spans or [TRUNK] * len(pack), count)
        name = next(k for k in sorted(metrics) if k.endswith("loss"))
        losses.append(np.asarray(metrics[name])[:, :count])
    return np.concatenate(losses, 1), state


def close(a, b, tolerance=2e-5):
    def compare(x, y):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)

    jax.tree.map(compare, a, b)


def evaluated(e, state, examples):
    return program_of(e, devices=1).evaluate(jax.tree.map(lambda x: x[None], state), examples)


def quick(function):
    return jax.jit(function, compiler_options=options_for_one_call())


def pick(tree, i):
    return jax.tree.map(lambda x: np.asarray(x)[i], tree)


def only(*fast):
    """Parameters of a test that is slow for all families but some."""
    return [pytest.param(name, marks=[] if name in fast else [pytest.mark.slow]) for name in FAMILIES]


# A step knows players and examples, not families. So one family of text and one of images try each property alone, and the
# others try all of them at once: a game of two players, a model that is no network and one with states are among the fast
# tests, and those built of the same blocks among the slow ones.
ALONE = ("transformer", "vae")
AT_ONCE = [pytest.param(name, marks=[] if name in ("gan", "hmm", "recurrent") else [pytest.mark.slow])
           for name in FAMILIES if name not in ALONE]


@pytest.fixture(params=only(*ALONE))
def e(request):
    return tiny(request.param)


@pytest.mark.parametrize("name", AT_ONCE)
def test_packed_accumulated_streamed_and_resumed_at_once_equals_plain(name, tmp_path):
    plain = [tiny(name, **{"seed": seed, "optim.learning_rate": rate}) for seed, rate in ((0, 1e-3), (1, 4e-3))]
    pack = [e.replace({"microbatch": 4, "data.feed": "streamed"}) for e in plain]
    before, state = train_pack(pack, calls=(3, 1), devices=1)
    saved = checkpoint.Checkpoints(tmp_path / "saved")
    saved.save(4, state, {})
    saved.close()
    state, _ = checkpoint.Checkpoints(tmp_path / "saved").restore(4, program_of(pack[0], 2, devices=1).abstract)
    after, state = train_pack(pack, calls=(2,), state=state, devices=1)
    for index, one in enumerate(plain):
        losses, alone = train_pack([one], devices=1)
        close(np.concatenate([before, after], 1)[index], losses[0])
        close(pick(state.params, index), pick(alone.params, 0), 1e-4)


@pytest.mark.parametrize("e", only("transformer"), indirect=True)
def test_packed_runs_equal_single_runs(e):
    pack = [e.replace({"seed": s, "optim.learning_rate": r}) for s, r in ((0, 1e-3), (1, 4e-3), (2, 1e-2))]
    losses, state = train_pack(pack, devices=1)
    for i, one in enumerate(pack):
        alone, single = train_pack([one], devices=1)
        close(losses[i], alone[0])
        close(pick(state.params, i), pick(single.params, 0), 1e-4)
    assert len({float(x) for x in losses[:, -1]}) == 3


@pytest.mark.parametrize("e", only("transformer"), indirect=True)
def test_accumulated_gradients_equal_those_of_the_whole_batch_inside_and_outside_a_loop(e):
    small, calls = e.replace({"microbatch": 2}), (1,) * STEPS
    whole, a = train_pack([e], devices=1)
    parts, b = train_pack([small], calls, devices=1, steps_per_call=1)
    assert [program_of(x, devices=1, steps_per_call=n).accumulation_steps for x, n in ((e, 8), (small, 1))] == [1, 4]
    close(whole, parts)
    close(a.params, b.params, 1e-4)


def test_a_pack_over_devices_equals_one_device_though_a_run_diverges():
    e = tiny("transformer")
    pack = [e.replace({"seed": s}) for s in range(4)]
    pack[1] = replace(pack[1], {"optim.learning_rate": float("nan")})
    many, state = train_pack(pack, mesh="run=4,data=2")
    one, wanted = train_pack(pack, devices=1)
    close(many, one)
    np.testing.assert_array_equal(state.diverged, wanted.diverged)
    assert [int(x) >= 0 for x in state.diverged] == [False, True, False, False]


def devices(e):
    """Options of these tests: a batch over eight devices, or one device for families that compile slowly."""
    return {"mesh": "data=8"} if families.name(e.family) == "transformer" else {"devices": 1}


# Feeds differ between texts and images, and the tests of feeds have both, so models of images repeat it at length.
@pytest.mark.parametrize("e", only("transformer"), indirect=True)
def test_streamed_equals_resident(e, monkeypatch):
    """The two programs give equal bits, though one of them has room for few batches.

    They are compiled with the emitters of fusions, as users' programs are.
    """
    often = program.options_for_many_calls() | program._known({"xla_cpu_use_fusion_emitters": True})
    monkeypatch.setattr(program, "options_for_many_calls", lambda: often)
    resident, a = train_pack([e], calls=(4, 2), **devices(e))
    examples = e.family.example_batch(e.data.batch, jax.random.key(0))
    monkeypatch.setattr(feeds, "STREAMED", 3 * sum(x.nbytes for x in examples.values()) // devices(e).get("devices", 8))
    fed = e.replace({"data.feed": "streamed"})
    streamed, b = train_pack([fed], calls=(4, 2), **devices(e))
    assert program_of(fed, **devices(e)).compiled_steps == (3 if program_of(fed, **devices(e)).loop else 1)
    np.testing.assert_array_equal(resident, streamed)
    close(a.params, b.params, 0)


def test_many_calls_equal_one_call_bit_for_bit(e):
    once, a = train_pack([e], **devices(e))
    often, b = train_pack([e], calls=(1, 3, 2), **devices(e))
    np.testing.assert_array_equal(once, often)
    close(a, b, 0)


def test_restored_from_a_checkpoint_equals_uninterrupted_bit_for_bit(e, tmp_path):
    once, a = train_pack([e], **devices(e))
    before, state = train_pack([e], calls=(4,), **devices(e))
    saved = checkpoint.Checkpoints(tmp_path / "saved")
    saved.save(4, state, {})
    saved.close()
    state, _ = checkpoint.Checkpoints(tmp_path / "saved").restore(4, program_of(e, **devices(e)).abstract)
    after, b = train_pack([e], calls=(2,), state=state, **devices(e))
    np.testing.assert_array_equal(once, np.concatenate([before, after], 1))
    close(a, b, 0)


@pytest.mark.parametrize("member,body", [("vae", "conv"), ("gan", "conv"), ("gan", "dcgan")])
def test_families_of_convolutions_train_in_compiled_loops(member, body):
    assert not cost.convolves(families.find(member)(image_size=8, body=body, width=4))


@pytest.mark.slow
def test_convolutions_of_xla_and_nothing_else_are_kept_out_of_compiled_loops_on_cpu():
    e = tiny("gan", **{"microbatch": 4})
    convolved = e.replace({"family": type(e.family)(body="conv", width=4, layers=1, convolution="xla")})
    programs = [Program(x, ExampleSource(x.family, 8), 1, devices=jax.devices()[:1]) for x in (e, convolved)]
    assert [program.loop for program in programs] == [True, False]
    assert programs[1].accumulation_steps == 2
    lowered = [program.advance_call.lower(program.abstract, program._knobs([x]), program._spans([TRUNK]),
                                          np.int32(1), {}).as_text() for program, x in zip(programs, (e, convolved))]
    loops = ["stablehlo.while" in text.partition("@main")[2].partition("func.func")[0] for text in lowered]
    assert loops == [True, False]  # loops of functions that main calls are those of random numbers
    assert ["stablehlo.convolution" in text for text in lowered] == [False, True]
    state, metrics = programs[1].advance(programs[1].init([convolved]), [convolved], [TRUNK], 3)
    assert int(state.step[0]) == 3 and metrics["disc/loss"].shape == (1, 3)


@pytest.mark.parametrize("e", only("transformer"), indirect=True)
def test_a_diverged_run_stops_moving_and_leaves_its_neighbours_alone(e):
    bad = replace(e, {"optim.learning_rate": float("nan")})
    other, third = e.replace({"seed": 1}), e.replace({"seed": 2})
    losses, state = train_pack([e, bad, third], devices=1)
    alone, _ = train_pack([e, other, third], devices=1)
    assert state.diverged[0] == state.diverged[2] == -1 and 0 <= state.diverged[1] < STEPS
    np.testing.assert_allclose(losses[[0, 2]], alone[[0, 2]], rtol=2e-5)
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(pick(state.params, 0)))


def test_the_step_of_divergence_is_recorded_and_nothing_after_it_is_kept():
    e = tiny("transformer", **{"optim.clip": 0.0, "optim.name": "sgd", "optim.learning_rate": 1e12})
    _, state = train_pack([e], devices=1)
    _, later = train_pack([e], calls=(STEPS, 2), devices=1)
    step = int(state.diverged[0])
    assert 0 < step < STEPS and int(later.diverged[0]) == step
    close(state.params, later.params, 0)
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(state.params))


@pytest.mark.parametrize("e", only("transformer", "gan"), indirect=True)
def test_every_player_updates_its_own_subtree(e):
    state = program_of(e, devices=1).init([e])
    names, still = [p.name for p in e.family.players()], {"tokenizer"} & state.params.keys()  # which learned before
    assert set(names) == set(state.params) - still == set(state.opt)
    before = jax.tree.map(np.asarray, state.params)
    _, after = train_pack([e], calls=(1,), state=state, devices=1)
    for name in names:
        pairs = zip(jax.tree.leaves(before[name]), jax.tree.leaves(after.params[name]))
        assert any((x != y).any() for x, y in pairs)
    for name in still:
        close(before[name], after.params[name], 0)


@pytest.mark.parametrize("e", only("transformer", "gan"), indirect=True)
def test_a_player_with_too_large_a_gradient_does_not_move_and_the_run_continues(e):
    pack = [e, e.replace({"optim.skip": 1e-9}), e.replace({"optim.skip": 1e9})]
    if len(e.family.players()) > 1:  # one after another, by the program of the test above, which compiles slowly
        state = jax.tree.map(lambda *x: np.concatenate(x), *(train_pack([one], devices=1)[1] for one in pack))
    else:
        _, state = train_pack(pack, devices=1)
    close(pick(state.params, 1), pick(program_of(e, devices=1).init([e]).params, 0), 1e-6)
    close(pick(state.params, 2), pick(state.params, 0), 0)
    assert (state.diverged == -1).all() and (state.step == STEPS).all()


def test_a_metric_without_numbers_of_examples_has_no_standard_error():
    x = np.random.default_rng(0).normal(3, 2, 500)
    found = means({"m": Each(x, np.ones(500)), "n": (x.sum(), x.size)})
    assert set(found) == {"m", "m_se", "n"} and found["m"] == found["n"] == pytest.approx(x.mean())
    assert found["m_se"] == pytest.approx(x.std(ddof=1) / np.sqrt(x.size))


def test_the_averaged_weights_are_evaluated():
    e = tiny("transformer", **{"optim.ema": 0.5})
    states = [quick(lambda: init_state(e))()]
    source = ExampleSource(e.family, e.data.batch)
    step = quick(lambda state, batch: train_step(e, TRUNK, state, batch)[0])
    for i in range(3):
        states.append(step(states[-1], source.slice({}, 0, i)))
    wanted = states[0].params

    def average(decay, average, params):
        return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)

    for taken, state in enumerate(states[1:]):  # the average is short at first, to forget the initial weights
        wanted = average(min(0.5, (1 + taken) / (10 + taken)), wanted, state.params)
    close(states[-1].ema, wanted, 1e-6)
    examples = source.evaluation("iid")
    swapped = states[-1]._replace(params=states[-1].ema, ema={})
    close(evaluated(e, states[-1], examples), evaluated(e, swapped, examples), 1e-6)


@pytest.mark.parametrize("e", only("transformer"), indirect=True)
def test_evaluation_is_the_mean_over_batches(e):
    state = pick(program_of(e, devices=1).init([e]), 0)
    source = ExampleSource(e.family, e.data.batch)
    parts = [source.slice({}, 0, i) for i in range(3)]
    together = evaluated(e, state, jax.tree.map(lambda *x: jnp.concatenate(x), *parts))
    alone = quick(lambda state, first, batch: evaluate_batch(e, state, first, batch))
    apart = [means(alone(state, 8 * i, p)) for i, p in enumerate(parts)]
    for name in apart[0]:
        if not name.endswith("_se"):
            least = 1e-5 if name.endswith("_information") else 0  # bits; a small difference of two losses of many bits
            np.testing.assert_allclose(together[name][0], np.mean([a[name] for a in apart]), rtol=1e-5, atol=least)


def test_a_trunk_equals_the_run_until_its_cooldown():
    e = tiny("transformer", **{"data.tokens": 8 * 16 * 10, "optim.cooldown": 0.4})
    span = run_span(e)
    assert span == (6, 10)
    whole, a = train_pack([e], calls=(6, 4), spans=[span], devices=1)
    trunk, state = train_pack([e], calls=(6,), devices=1)
    branch, b = train_pack([e], calls=(4,), spans=[span], state=state, devices=1)
    np.testing.assert_array_equal(whole, np.concatenate([trunk, branch], 1))
    close(a, b, 0)
