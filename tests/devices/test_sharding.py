"""Layouts on eight devices: the same losses as on one device, state that is really divided, and runs that resume."""

import jax
import numpy as np
import pytest
from layout_members import FAMILIES, MESHES, member
from sources import ExampleSource

from scaling.devices.layouts import LAYOUTS
from scaling.store import checkpoint
from scaling.training.program import Program
from scaling.training.step import TRUNK

SHARE = {"run": 8, "fsdp": 4, "tensor": 2, "fsdp_tensor": 4, "sequence": 4}  # devices that share the state
STEPS = 20
ONE = {}  # the result of one device, by family
PROGRAMS = {}


def program_of(e, runs, mesh, devices=None):
    """A program that tests share, on all devices or on the first ones."""
    key = e, runs, mesh, devices
    if key not in PROGRAMS:
        source = ExampleSource(e.family, e.data.batch)
        PROGRAMS[key] = Program(e, source, runs, mesh, 32, devices and jax.devices()[:devices])
    return PROGRAMS[key]


def trained(e, runs, mesh, devices=None):
    """({player's loss: values [runs, STEPS]}, the last state)."""
    program = program_of(e, runs, mesh, devices)
    pack = [e.replace({"seed": seed}) for seed in range(runs)]
    state, metrics = program.advance(program.init(pack), pack, [TRUNK] * runs, STEPS)
    return {k: np.asarray(v)[:, :STEPS] for k, v in metrics.items() if k.endswith("loss")}, state


# What a layout does follows from the names of axes, which layouts.txt holds for all families. So one family has all layouts
# but those that are parts of another, and one of two texts has the one that divides most. test_evaluation.py has images.
FAST = [*(("transformer", layout) for layout in MESHES if layout not in ("replicated", "tensor")),
        ("seq2seq", "fsdp_tensor")]
CASES = [pytest.param(name, layout, id=f"{name}-{layout}", marks=[] if (name, layout) in FAST else [pytest.mark.slow])
         for name in FAMILIES for layout in MESHES]


@pytest.mark.parametrize("name,layout", CASES)
def test_eight_devices_equal_one(name, layout):
    assert set(MESHES) == set(LAYOUTS)
    e = member(name, layout)
    many, state = trained(e, 8 if layout == "run" else 1, MESHES[layout])
    if e.family not in ONE:
        ONE[e.family] = trained(e.replace({"layout": "data"}), 1, "", 1)
    one, alone = ONE[e.family]
    for player, losses in one.items():  # a two-player game amplifies rounding errors
        np.testing.assert_allclose(many[player][:1], losses, rtol=1e-4 if name == "gan" else 5e-6)
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves((state.params, state.opt)))
    whole = sum(x.nbytes for x in jax.tree.leaves((alone.params, alone.opt))) * (8 if layout == "run" else 1)
    # No layout divides norms, positions and biases, which are a large share of models as small as these, and "tensor" does
    # not divide the maps to styles of the GAN and of diffusion.
    assert held * SHARE.get(layout, 1) < whole * {"vae": 1.5, "gan": 1.25, "diffusion": 1.25}.get(name, 1.15)
    assert held * SHARE.get(layout, 1) >= whole * 0.999


@pytest.mark.parametrize("layout", ["data", *(pytest.param(name, marks=pytest.mark.slow)
                                              for name in ("fsdp_tensor", "sequence"))])
def test_sums_of_gradients_on_each_device_equal_those_of_whole_batches(layout):
    e = member("transformer", layout)
    losses = []
    for one in (e, e.replace({"microbatch": 1})):
        program = Program(one.replace({"data.batch": 32}), ExampleSource(e.family, 32), 1, MESHES[layout], 32)
        losses.append(np.asarray(program.advance(program.init([e]), [e], [TRUNK], STEPS)[1]["loss"])[0, :STEPS])
    assert program.accumulation_steps > 1
    np.testing.assert_allclose(*losses, rtol=5e-6)


@pytest.mark.parametrize("name", ["transformer", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES
                                                   if name != "transformer")])
def test_runs_resume_under_another_layout_and_on_other_devices(tmp_path, name):
    def program(layout, devices=None):
        e = member(name, layout)
        return e, program_of(e, 1, MESHES[layout] if devices is None else "", devices)

    def losses(e, run, state, steps):
        state, metrics = run.advance(state, [e], [TRUNK], steps)
        return state, np.asarray(next(v for k, v in sorted(metrics.items()) if k.endswith("loss")))[0, :steps]

    e, whole = program("fsdp_tensor")
    state, _ = losses(e, whole, whole.init([e]), 4)
    saved = checkpoint.Checkpoints(tmp_path)
    saved.save(4, state)
    saved.wait()
    _, wanted = losses(e, whole, state, 4)
    for layout, devices in (("sequence", None), ("data", 1), ("fsdp", None)):
        other, run = program(layout, devices)
        restored, _ = saved.restore(4, run.abstract)
        for array, wanted_sharding in zip(jax.tree.leaves(restored), jax.tree.leaves(run.shardings)):
            assert array.sharding.is_equivalent_to(wanted_sharding, array.ndim)
        np.testing.assert_allclose(losses(other, run, restored, 4)[1], wanted, rtol=1e-4 if name == "gan" else 5e-6)
