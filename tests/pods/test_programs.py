"""Figures read from compiled programs: collectives, loops, FLOPs, memory traffic, the roofline."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.devices import chips
from scaling.pods import collectives, hlo, roofline, work

MESH = {"data": 2, "fsdp": 1, "tensor": 4}


REPLICATED = P()


def compiled(function, *specs, out=REPLICATED):
    """The parsed program of `function` for float32 arguments [(shape, spec)] over the mesh."""
    mesh = jax.make_mesh(tuple(MESH.values()), tuple(MESH), axis_types=(AxisType.Auto,) * 3)
    given = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec)) for shape, spec in specs]
    text = jax.jit(function, out_shardings=NamedSharding(mesh, out)).lower(*given).compile().as_text()
    return hlo.HloModule(text)


def test_all_reduce_of_a_product_over_the_contracted_axis():
    program = compiled(lambda x, w: x @ w, ((16, 64), P("data", "tensor")), ((64, 32), P("tensor")), out=P("data"))
    (row,) = collectives.read_collectives(program, MESH)
    bytes_ = 16 // 2 * 32 * 4
    assert (row.kind, row.axes, row.group, row.count, row.network) == ("all-reduce", ("tensor",), 4, 1, "ici")
    assert row.payload == bytes_ and row.sent == 2 * bytes_ * 3 / 4
    assert work.compiled_flops(program) == 2 * 8 * 16 * 32


def test_all_gather_of_a_result():
    program = compiled(lambda x: x * 2, ((16, 64), P("data")))
    (row,) = collectives.read_collectives(program, MESH)
    assert (row.kind, row.axes, row.payload, row.sent) == ("all-gather", ("data",), 16 * 64 * 4, 16 * 64 * 4 / 2)


def test_a_loop_of_k_rounds_counts_k():
    def loop(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    for rounds in (5, 9):
        program = compiled(loop, ((16, 64), P("data", "tensor")), ((rounds, 64, 64), P(None, "tensor")),
                           out=P("data", "tensor"))
        rows = collectives.read_collectives(program, MESH)
        assert {row.axes for row in rows} == {("tensor",)} and sum(row.count for row in rows) % rounds == 0
        assert work.compiled_flops(program) == rounds * 2 * 8 * 16 * 64


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


def test_collectives_of_other_cores_are_read_and_unreadable_ones_are_counted():
    program = hlo.HloModule(OFFLOADED)
    (row,) = collectives.read_collectives(program, MESH)
    assert (row.kind, row.axes, row.payload, row.sent) == ("all-gather", ("data", "tensor"), 128, 112)
    assert collectives.count_unread(program) == 0 and work.memory_traffic(program) == 128 + 16
    hidden = hlo.HloModule(OFFLOADED.replace("called_computations={%there}", "backend_config={}"))
    assert collectives.count_unread(hidden) == 1 and not collectives.read_collectives(hidden, MESH)


def test_a_group_within_a_slice_is_ici_and_one_across_is_dcn():
    program = compiled(lambda x, y: (x.sum(0), y.sum(0)), ((16, 64), P("data")), ((16, 64), P("tensor")))
    rows = collectives.read_collectives(program, MESH, slices=[0] * 4 + [1] * 4)
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
    assert collectives.replica_group(one, 8, "all-reduce") == first


def test_unknown_replica_groups_are_refused():
    one = hlo.Instruction("x", "all-reduce", (), (), "(%y), replica_groups=?", False)
    with pytest.raises(ValueError, match="not known here"):
        collectives.replica_group(one, 8, "all-reduce")


def test_convolutions_do_not_count_padding():
    images, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))
    names = "NHWC", "HWIO", "NHWC"
    text = jax.jit(lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=names)
                   ).lower(images, kernel).compile().as_text()
    assert work.compiled_flops(hlo.HloModule(text)) == 2 * 2 * (8 * 3 - 2) ** 2 * 3 * 5


def test_the_roofline_is_bound_by_the_slowest_unit():
    slices = chips.parse_topology("v5p:4x4x4")
    seconds = roofline.step_times(slices, 459e12, 2 * 2765e9, [], None)
    found = roofline.step_bounds(slices, seconds, 459e12 / 2)
    assert seconds == {"compute": 1.0, "hbm": 2.0, "ici": 0, "dcn": 0}
    assert (found["bound"], found["overlapped"], found["serial"]) == ("hbm", 2.0, 3.0)
    assert math.isclose(found["mfu_overlapped"], 0.25) and math.isclose(found["mfu_serial"], 1 / 6)


def test_a_ring_sends_over_the_links_along_its_mesh_axes():
    class Device:
        def __init__(self, *coords):
            self.coords = coords

    class Mesh:
        axis_names = ("data", "tensor")
        devices = np.array([[Device(x, y, 0) for y in range(4)] for x in range(4)])

    slices = chips.parse_topology("v5e:4x4")  # no rings in a part of the torus: one link each way
    assert roofline.ici_rate(slices, ("data",), Mesh) == 50e9
    assert roofline.ici_rate(slices, ("data", "tensor"), Mesh) == 100e9
    assert roofline.ici_rate(chips.parse_topology("v5p:4x4x4"), ("tensor",), Mesh) == 200e9


def test_only_the_slice_is_traffic_if_a_fusion_slices_its_operand():
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
    assert work.memory_traffic(hlo.HloModule(text)) == 2 * 128 * 4
