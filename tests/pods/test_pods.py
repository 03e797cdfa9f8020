"""Compiling for chips that are not here: slices, collectives and loops read from programs, bytes, what fits."""

import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from scaling import experiment as X
from scaling import pods
from scaling.devices import chips
from scaling.fields import ConfigError
from scaling.pods import collectives, hlo, roofline, work

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: .[pods]")
ROOT = pathlib.Path(__file__).parents[2]


def tiny(**changes):
    changes = {"family.size": 2e4, "data.batch": 8, "data.length": 32, "data.tokens": 2**16, "family.scan": True, **changes}
    return X.from_config(X.config("transformer", **changes))


# ------------------------------------------------------------------------------------ chips and slices


@pytest.mark.parametrize("chip", chips.CHIPS.values(), ids=lambda c: c.name)
def test_published_numbers_are_coherent(chip):
    assert chip.source.startswith("https://")
    assert 0.9 < chip.usable * chip.devices / chip.hbm < 1.1
    assert chip.peak / chip.hbm_rate > 100  # FLOPs a byte: matrix products are what such chips are for
    assert chip.hbm_rate > 2 * chip.torus * chip.link > chip.dcn
    assert chips.memory(chip.kind) == int(chip.usable)
    sizes = [chips.parse_topology(f"{chip.name}:{shape}").chips for shape in chips.ladder(chip)]
    assert sizes == sorted(sizes) and sizes[-1] <= chip.largest


def test_memory_of_what_is_no_tpu_is_not_known():
    assert chips.memory("cpu") is None and chips.memory("NVIDIA H200") is None


def test_slices():
    two = chips.parse_topology("v5p:8x8x16", 2)
    assert (two.chips, two.devices, two.name, two.wrap) == (2048, 2048, "v5p:8x8x16", (True, True, True))
    assert chips.parse_topology("tpu7x:2x2x1").devices == 8 and chips.parse_topology("v5e:16x16").wrap == (True, True)
    assert chips.parse_topology("v5e:8x16").wrap == (False, True)


@pytest.mark.parametrize("text, says", [
    ("v5x:2x2", "'v5x' is not known; nearest: v5p"), ("v5p", "such as v5p:4x4x4"),
    ("v5p:8x8", "3 dimensions"),
    ("v5e:3x3", "write one of 1x1, 2x2"), ("v5e:16x32", "largest slice of v5e has 256"),
    ("v5p:0x2x2", "such as v5p:4x4x4")])
def test_topologies_that_do_not_exist_are_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        chips.parse_topology(text)


# ------------------------------------------------------------------------- reading compiled programs

MESH = {"data": 2, "fsdp": 1, "tensor": 4}


def compiled(function, *specs, out=PartitionSpec()):
    """The program of `function` for float32 arguments [(shape, spec)] over the mesh, by the same parser's input."""
    mesh = jax.make_mesh(tuple(MESH.values()), tuple(MESH), axis_types=(AxisType.Auto,) * 3)
    given = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec)) for shape, spec in specs]
    text = jax.jit(function, out_shardings=NamedSharding(mesh, out)).lower(*given).compile().as_text()
    return hlo.Program(text)


P = PartitionSpec


def test_all_reduce_of_a_product_over_the_contracted_axis():
    program = compiled(lambda x, w: x @ w, ((16, 64), P("data", "tensor")), ((64, 32), P("tensor")), out=P("data"))
    (row,) = collectives.read(program, MESH)
    bytes_ = 16 // 2 * 32 * 4
    assert (row.kind, row.axes, row.group, row.count, row.network) == ("all-reduce", ("tensor",), 4, 1, "ici")
    assert row.payload == bytes_ and row.sent == 2 * bytes_ * 3 / 4
    assert work.flops(program) == 2 * 8 * 16 * 32


def test_all_gather_of_a_result():
    program = compiled(lambda x: x * 2, ((16, 64), P("data")))
    (row,) = collectives.read(program, MESH)
    assert (row.kind, row.axes, row.payload, row.sent) == ("all-gather", ("data",), 16 * 64 * 4, 16 * 64 * 4 / 2)


def test_a_loop_of_k_rounds_counts_k():
    def loop(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    for rounds in (5, 9):
        program = compiled(loop, ((16, 64), P("data", "tensor")), ((rounds, 64, 64), P(None, "tensor")),
                           out=P("data", "tensor"))
        rows = collectives.read(program, MESH)
        assert {row.axes for row in rows} == {("tensor",)} and sum(row.count for row in rows) % rounds == 0
        assert work.flops(program) == rounds * 2 * 8 * 16 * 64


OFFLOADED = """HloModule handed_on
%there (x: f32[4]) -> f32[32] {
  %x = f32[4]{0} parameter(0)
  ROOT %gathered = f32[32]{0} all-gather(%x), replica_groups=[1,8]<=[8], dimensions={0}
}
%shell (y: f32[4]) -> f32[32] {
  %y = f32[4]{0} parameter(0)
  ROOT %handed = f32[32]{0} custom-call(%y), custom_call_target="other cores", called_computations={%there}
}
ENTRY %main (z: f32[4]) -> f32[32] {
  %z = f32[4]{0} parameter(0)
  %begun = ((f32[4]{0}), f32[32]{0}, u32[]) async-start(%z), async_execution_thread="sparsecore", calls=%shell
  ROOT %done = f32[32]{0} async-done(%begun)
}
"""


def test_what_is_handed_to_other_cores_is_read_and_what_is_not_read_is_known_of():
    program = hlo.Program(OFFLOADED)
    (row,) = collectives.read(program, MESH)
    assert (row.kind, row.axes, row.payload, row.sent) == ("all-gather", ("data", "tensor"), 128, 112)
    assert collectives.unread(program) == 0 and work.traffic(program) == 128 + 16
    hidden = hlo.Program(OFFLOADED.replace("called_computations={%there}", "backend_config={}"))
    assert collectives.unread(hidden) == 1 and not collectives.read(hidden, MESH)


def test_a_group_within_a_slice_is_ici_and_one_across_is_dcn():
    program = compiled(lambda x, y: (x.sum(0), y.sum(0)), ((16, 64), P("data")), ((16, 64), P("tensor")))
    rows = collectives.read(program, MESH, slices=[0] * 4 + [1] * 4)
    assert {(row.axes, row.network) for row in rows} == {(("data",), "dcn"), (("tensor",), "ici")}


@pytest.mark.parametrize("text, first", [
    ("{{0,4},{1,5},{2,6},{3,7}}", [0, 4]), ("[2,4]<=[8]", [0, 1, 2, 3]), ("[4,2]<=[2,4]T(1,0)", [0, 4]),
    ("mesh['a'=2,'b'=4] {'a'}", [0, 4]), ("mesh['a'=2,'b'=4] {'b'}", [0, 1, 2, 3]),
    ("mesh['a'=8] {'a':(2)4}", [0, 1, 2, 3]),
    ("mesh['a'=8] {'a':(1)2}", [0, 4]),
    ("mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}", [0, 1, 2, 3]),
    ("mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", [0, 4]), ("{}", list(range(8)))])
def test_replica_groups_in_every_notation(text, first):
    one = hlo.Instruction("x", "all-reduce", (), (), f"(%y), replica_groups={text}, to_apply=%add", False)
    assert collectives.group(one, 8, "all-reduce") == first


def test_unknown_replica_groups_are_refused():
    one = hlo.Instruction("x", "all-reduce", (), (), "(%y), replica_groups=?", False)
    with pytest.raises(ValueError, match="not known here"):
        collectives.group(one, 8, "all-reduce")


def test_convolutions_count_inputs_that_are_there():
    images, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))
    names = "NHWC", "HWIO", "NHWC"
    text = jax.jit(lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=names)
                   ).lower(images, kernel).compile().as_text()
    assert work.flops(hlo.Program(text)) == 2 * 2 * (8 * 3 - 2) ** 2 * 3 * 5


def test_roofline_is_bound_by_what_takes_longest():
    slices = chips.parse_topology("v5p:4x4x4")
    seconds = roofline.times(slices, 459e12, 2 * 2765e9, [], None)
    found = roofline.summary(slices, seconds, 459e12 / 2)
    assert seconds == {"compute": 1.0, "hbm": 2.0, "ici": 0, "dcn": 0}
    assert (found["bound"], found["overlapped"], found["serial"]) == ("hbm", 2.0, 3.0)
    assert math.isclose(found["mfu_overlapped"], 0.25) and math.isclose(found["mfu_serial"], 1 / 6)


def test_a_ring_sends_over_the_links_that_it_lies_along():
    class Device:
        def __init__(self, *coords):
            self.coords = coords

    class Mesh:
        axis_names = ("data", "tensor")
        devices = np.array([[Device(x, y, 0) for y in range(4)] for x in range(4)])

    slices = chips.parse_topology("v5e:4x4")  # no rings in a part of the torus: one link each way
    assert roofline.ici(slices, ("data",), Mesh) == 50e9 and roofline.ici(slices, ("data", "tensor"), Mesh) == 100e9
    assert roofline.ici(chips.parse_topology("v5p:4x4x4"), ("tensor",), Mesh) == 200e9


# ----------------------------------------------------------------------------------- bytes, what fits


def held(e, topology, mesh=""):
    """Bytes of parameters, and of optimiser state, of one device, without libtpu."""
    where = chips.parse_topology(topology)
    found = pods.held(e, where, mesh)
    return found["parameters"], found["optimiser"]


def test_state_falls_as_the_mesh_grows_under_fsdp_and_not_under_data():
    sizes = {"family.size": 1e8, "family.width": 1024, "family.layers": 8}
    e = X.from_config(X.config("transformer", layout="fsdp", **sizes))
    small, large = held(e, "v5p:2x2x1"), held(e, "v5p:4x4x4")
    for before, after in zip(small, large):
        assert before / after == pytest.approx(16, rel=0.02)
    whole = e.replace({"layout": "data"})
    assert held(whole, "v5p:2x2x1") == held(whole, "v5p:4x4x4")
    assert held(whole, "v5p:2x2x1")[0] == pytest.approx(4 * small[0], rel=0.02)


def test_what_cannot_fit_is_known_without_compiling():
    e = X.from_config(X.config("transformer", **{"family.size": 1e10, "layout": "data"}))
    assert not pods.could_fit(e, "v5e:16x16")
    assert pods.could_fit(e.replace({"layout": "fsdp"}), "v5p:8x8x8")


# --------------------------------------------------------------------------- through the TPU's compiler


@pytest.fixture(scope="module")
def report():
    return pods.attempt(tiny(layout="fsdp"), "v5e:2x2")


@needs_libtpu
def test_a_report_is_complete(report):
    assert report["fits"] and report["devices"] == 4 and report["mesh"]["fsdp"] == 4
    sizes = report["bytes"]
    assert sizes["parameters"] > 0 and sizes["optimiser"] == pytest.approx(2 * sizes["parameters"], rel=0.05)
    assert sizes["parameters"] + sizes["optimiser"] < sizes["peak"] < sizes["memory"]
    assert {"all-gather"} <= {row["kind"].split(" in ")[0] for row in report["collectives"]}
    assert all(row["axes"] == ["fsdp"] and row["network"] == "ici" for row in report["collectives"])
    assert report["flops"]["compiled"] == pytest.approx(report["flops"]["model"], rel=0.3)
    assert report["roofline"]["bound"] in ("compute", "hbm", "ici") and 0 < report["roofline"]["mfu_serial"] < 1
    assert report["compile"]["compile_seconds"] > 0 and report["chip"]["source"].startswith("https://")
    json.dumps(report)
    text = pods.table(report)
    assert "fits" in text and "fsdp=4" in text and "all-gather" in text


@needs_libtpu
def test_what_does_not_fit_names_what_does(monkeypatch, report):
    """Small programs fit everywhere, so that the compiler's answers are made up; the order of the search is real."""
    asked = []

    def attempt(e, topology, slices=1, mesh="", runs=1):
        asked.append((e.family.remat, e.layout, topology))
        fits = e.family.remat and e.layout == "fsdp_tensor"
        return {**report, "fits": fits, "why": "out of memory", "topology": topology}

    monkeypatch.setattr(pods, "attempt", attempt)
    found = pods.nearest(tiny(layout="fsdp"), "v5e:2x2")
    assert found["change"] == "--config.layout=fsdp_tensor --config.family.remat=True --config.microbatch=1"
    assert asked[0] == (False, "fsdp", "v5e:2x2") and {where for *_, where in asked} == {"v5e:2x2"}
    assert "DOES NOT FIT" in pods.table(found) and "What fits" in pods.table(found)


@needs_libtpu
@pytest.mark.slow
def test_a_program_too_large_is_refused_by_the_compiler_and_a_microbatch_fits():
    whole = tiny(**{"family.size": 3e5, "data.batch": 4096, "data.length": 512, "data.tokens": 2**24, "microbatch": 4096,
                    "family.remat": True})
    found = pods.nearest(whole, "v5e:1x1")
    assert not found["fits"] and found["bytes"]["peak"] > found["bytes"]["memory"] and "exceeds" in found["why"]
    assert found["change"] == "--config.microbatch=0" and found["instead"]["gradients_per_step"] > 1
    assert found["instead"]["bytes"]["peak"] < found["instead"]["bytes"]["memory"]


@needs_libtpu
@pytest.mark.slow
def test_the_smallest_slice_is_found():
    e = X.from_config(X.config("transformer", **{
        "family.size": 1e9, "family.dtype": "bfloat16", "family.scan": True, "data.batch": 64, "data.length": 512,
        "data.tokens": 2**20, "layout": "fsdp"}))
    found = pods.smallest(e, "v5e")
    assert found["fits"] and found["chips"] > 1


def test_the_command_refuses_in_one_sentence():
    done = subprocess.run([sys.executable, "-m", "experiments.compile_for", "--config=configs/pod.py", "--topology=v5x:4x4"],
                          cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.strip().count("\n") == 0
    assert "the chip 'v5x' is not known; nearest: v5p" in done.stderr


@needs_libtpu
def test_installing_libtpu_leaves_ordinary_commands_alone():
    """Without a TPU in the machine JAX would load libtpu, which complains at length and takes a lock."""
    code = ("from scaling.devices import layouts; layouts.one_cpu_device_per_core(); import jax;"  # how the commands begin
            "print(jax.devices()[0].platform)")
    kept = {k: v for k, v in os.environ.items() if k not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, check=True)
    if chips.machine_has_accelerator():
        pytest.skip("this machine has an accelerator of its own, which JAX is left to find")
    assert done.stdout.strip() == "cpu" and "libtpu" not in done.stderr.lower() and "WARNING" not in done.stderr


def test_of_what_a_fusion_slices_the_slice_is_traffic():
    text = """
%inner (p: f32[9,128], i: s32[]) -> f32[1,128] {
  %p = f32[9,128]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %s = f32[1,128]{1,0} dynamic-slice(%p, %i, %z), dynamic_slice_sizes={1,128}
}

%outer (q: f32[9,128], j: s32[]) -> f32[1,128] {
  %q = f32[9,128]{1,0} parameter(0)
  %j = s32[] parameter(1)
  %f = f32[1,128]{1,0} fusion(%q, %j), kind=kLoop, calls=%inner
  ROOT %n = f32[1,128]{1,0} negate(%f)
}

ENTRY %main (a: f32[9,128], k: s32[]) -> f32[1,128] {
  %a = f32[9,128]{1,0} parameter(0)
  %k = s32[]{:S(1)} parameter(1)
  ROOT %x = f32[1,128]{1,0} fusion(%a, %k), kind=kLoop, calls=%outer
}
"""
    assert work.traffic(hlo.Program(text)) == 2 * 128 * 4
