"""Layouts and meshes: where parameters lie, sizes that do not divide, slices, and arrays of several hosts.

`PYTHONPATH=tests python tests/devices/test_layouts.py` writes layouts.txt again, for an intended change of a layout or a
family.
"""

import pathlib

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from layout_members import FAMILIES, language_model
from sources import tiny

from scaling import axes, families
from scaling import experiment as experiments
from scaling.devices import arrays, sharding
from scaling.devices.divisibility import check_divisible
from scaling.devices.layouts import LAYOUTS, MESH_AXES, make_mesh
from scaling.fields import ConfigError

SNAPSHOT = pathlib.Path(__file__).with_name("layouts.txt")


def snapshot() -> str:
    """Where every kind of parameter lies, for each family and layout, on a mesh with two devices along each axis."""
    mesh = AbstractMesh((2,) * len(MESH_AXES), MESH_AXES)
    lines = []
    for name in FAMILIES:
        params = jax.eval_shape(families.find(name).ladder(1e6).init, jax.random.key(0))
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(axes.names(params)))
        named = {(tuple(names), x.shape) for x, names in pairs}
        for layout in LAYOUTS:
            for names, shape in sorted(named):
                spec = sharding.spec(axes.Axes(names), shape, mesh, layout)
                where = ["+".join(p) if isinstance(p, tuple) else p or "-" for p in spec]
                what = " ".join(f"{n}={size}" for n, size in zip(names, shape))
                lines.append(f"{name:12} {layout:12} {what:60} {' '.join(where)}".rstrip())
    return "\n".join(lines) + "\n"


def test_parameters_lie_as_in_the_snapshot():
    """A change of the snapshot changes the memory that people's runs need on each device. Make it only on purpose."""
    assert snapshot() == SNAPSHOT.read_text()


def test_a_size_that_does_not_divide_is_named_with_the_layouts_that_work():
    family = families.find("transformer")(vocab=64, width=20, head_dim=10, heads=2, mlp=50, layers=1)
    odd = experiments.Experiment(family=family, layout="tensor").replace({"data.batch": 8})
    with pytest.raises(ConfigError) as error:
        check_divisible(odd, make_mesh(1, "tensor=4,data=2", "tensor"))
    said = str(error.value)
    assert "axis 'heads'" in said or "axis 'mlp'" in said or "axis 'kv_heads'" in said
    assert "tensor=4" in said and "'tensor'" in said
    works = said.split("left out): ")[1].split(";")[0].split(", ")
    for layout in LAYOUTS:  # the message names exactly those that work
        try:
            other = odd.replace({"layout": layout})
            check_divisible(other, make_mesh(1, "", layout))
            assert layout in works
        except ConfigError:
            assert layout not in works


def test_a_length_that_does_not_divide_is_named_as_an_axis_of_activations():
    e = language_model("sequence", 16).replace({"family": families.find("transformer").ladder(1e5, length=30, vocab=64)})
    with pytest.raises(ConfigError, match="'length' of activations, of size 30, cannot be divided among sequence=4"):
        check_divisible(e, make_mesh(1, "sequence=4,data=2", "sequence"))


def test_images_of_one_channel_can_be_divided_by_channels():
    e = tiny("gan").replace({"family": families.find("gan")(body="conv", width=8), "layout": "tensor"})
    check_divisible(e, make_mesh(1, "tensor=2,data=4", "tensor"))


@pytest.mark.parametrize("text,says", [("experts=2", "nearest: expert"), ("stage=2", "reserved for pipelines"),
                                       ("data=-1,fsdp=-1", "two sizes open"), ("data=2,data=4", "names data twice")])
def test_impossible_meshes_are_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        make_mesh(1, text)


class Device:
    """The attributes of a device that meshes read: two slices of four hosts."""

    platform = "gpu"

    def __init__(self, id):
        self.id, self.slice_index, self.process_index = id, id // 8, id // 2
        self.device_kind = "simulated"

    def __repr__(self):
        return f"Device({self.id})"


@pytest.mark.parametrize("layout,mesh", [("fsdp", ""), ("tensor", ""), ("fsdp_tensor", "data=4,tensor=2,fsdp=-1")])
def test_only_data_crosses_slices(layout, mesh):
    found = make_mesh(1, mesh, layout, [Device(i) for i in range(16)])
    assert found.shape["data"] % 2 == 0 and found.size == 16
    halves = np.moveaxis(found.devices, 1, 0).reshape(2, -1)  # the outer half of `data` is the slice
    assert [{device.slice_index for device in half} for half in halves] == [{0}, {1}]


def test_slices_that_no_mesh_axis_joins_are_refused():
    with pytest.raises(ConfigError, match="joined along data or run"):
        make_mesh(1, "fsdp=16,data=1", "fsdp", [Device(i) for i in range(16)])


def test_hosts_read_the_rows_of_their_devices():
    mesh = make_mesh(1, "data=8")
    sharded = sharding.over_batch(mesh, "data", "run", None)
    assert arrays.local_ranges(sharded, (1, 4, 16)) == (range(1), range(4), range(16))
    x = np.arange(1 * 4 * 16 * 3).reshape(1, 4, 16, 3)
    placed = arrays.place_local(x, sharded, (1, 4, 16))
    np.testing.assert_array_equal(arrays.fetch(placed), x)
    assert placed.addressable_shards[3].data.shape == (1, 4, 2, 3)


def test_activations_lie_where_jax_puts_them_outside_a_mesh():
    x = np.ones((2, 3), np.float32)
    assert sharding.activation(x, "batch", "embed") is x and sharding.like_parameters({"x": x})["x"] is x
    assert not sharding.divided() and not sharding.cuts("batch") and sharding.platform() == "cpu"


def test_within_a_mesh_the_layout_decides_and_afterwards_nothing_does():
    mesh = make_mesh(1, "tensor=2,data=4", "tensor")
    with sharding.within(mesh, "tensor"):
        assert sharding.divided() and sharding.cuts("batch") and sharding.cuts("mlp") and not sharding.cuts("embed")
        placed = jax.jit(lambda x: sharding.activation(x, "batch", "mlp"))(np.ones((8, 6), np.float32))
        with pytest.raises(ValueError, match="needs 2 names"):
            sharding.activation(placed, "batch")
    assert placed.sharding.spec == jax.sharding.PartitionSpec("data", "tensor")
    assert not sharding.divided()


def test_a_recording_placement_notes_the_largest_size_of_each_axis():
    recording = sharding.RecordingPlacement()
    with sharding.placed(recording):
        for size in (4, 9, 2):
            x = np.ones((3, size))
            assert sharding.activation(x, "batch", "mlp") is x
    assert recording.sizes == {"batch": 3, "mlp": 9}


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot())
