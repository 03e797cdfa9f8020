"""Layouts on eight devices: the same losses as one device, state really divided, and only the traffic that they imply.

`python tests/test_sharding.py` writes tests/layouts.txt anew, for when a layout or a family is meant to change.
"""

import pathlib

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from sources import ExampleSource, tiny

from scaling import axes, families
from scaling import experiment as X
from scaling.devices import arrays, sharding
from scaling.devices.divisibility import check_divisible
from scaling.devices.layouts import LAYOUTS, MESH_AXES, make_mesh
from scaling.fields import ConfigError
from scaling.pods import collectives, hlo
from scaling.store import checkpoint
from scaling.training.program import Program
from scaling.training.step import TRUNK

FAMILIES = [families.name(cls) for cls in families.all()]
MESHES = {"replicated": "data=8", "data": "data=8", "run": "", "fsdp": "fsdp=4,data=2", "tensor": "tensor=2,data=4",
          "fsdp_tensor": "fsdp=2,data=2,tensor=2", "sequence": "sequence=2,fsdp=2,data=2"}
SHARE = {"run": 8, "fsdp": 4, "tensor": 2, "fsdp_tensor": 4, "sequence": 4}  # the part of the state that a device has
STEPS = 20
SMALL_MEMBERS = {"transformer": {"length": 16, "vocab": 32, "layers": 1}, "vae": {"layers": 2}, "gan": {"layers": 1}}
SNAPSHOT = pathlib.Path(__file__).with_name("layouts.txt")
ONE = {}  # what one device computes, by family


def member(name, layout):
    """An experiment with a small member of a family, two heads wide, so that every layout can divide it."""
    e = tiny(name)
    family = type(e.family).ladder(1e5, **e.data.family_fields() | {"width": 64} | SMALL_MEMBERS[name])
    return e.replace({"family": family, "layout": layout})


def trained(e, runs, mesh, devices=None):
    """(losses [runs, STEPS] of every player, the last state)."""
    program = Program(e, ExampleSource(e.family, e.data.batch), runs, mesh, 32, devices)
    pack = [e.replace({"seed": seed}) for seed in range(runs)]
    state, metrics = program.advance(program.init(pack), pack, [TRUNK] * runs, STEPS)
    return {k: np.asarray(v)[:, :STEPS] for k, v in metrics.items() if k.endswith("loss")}, state


# What is slow for images is compiling; data, the rows of images, and what combines others, are always tested.
SLOW = [("vae", "data"), ("vae", "fsdp_tensor"), ("gan", "sequence"),
        *((name, layout) for name in ("vae", "gan") for layout in ("replicated", "fsdp", "tensor", "run"))]
CASES = [pytest.param(name, layout, id=f"{name}-{layout}", marks=[pytest.mark.slow] * ((name, layout) in SLOW))
         for name in FAMILIES for layout in MESHES]


@pytest.mark.parametrize("name,layout", CASES)
def test_eight_devices_equal_one(name, layout):
    assert set(MESHES) == set(LAYOUTS)
    e = member(name, layout)
    many, state = trained(e, 8 if layout == "run" else 1, MESHES[layout])
    if e.family not in ONE:
        ONE[e.family] = trained(e.replace({"layout": "data"}), 1, "", jax.devices()[:1])
    one, alone = ONE[e.family]
    for player, losses in one.items():  # a game of two amplifies the last bits of a float32
        np.testing.assert_allclose(many[player][:1], losses, rtol=1e-4 if name == "gan" else 5e-6)
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves((state.params, state.opt)))
    whole = sum(x.nbytes for x in jax.tree.leaves((alone.params, alone.opt))) * (8 if layout == "run" else 1)
    # norms, positions and biases are left whole where no layout names them: they weigh in a model as small as these
    assert held * SHARE.get(layout, 1) < whole * {"vae": 1.5, "gan": 1.25}.get(name, 1.15)
    assert held * SHARE.get(layout, 1) >= whole * 0.999


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "transformer")) for name in FAMILIES])
def test_training_goes_on_under_another_layout_and_on_other_devices(tmp_path, name):
    def program(layout, devices=None):
        e = member(name, layout)
        mesh = MESHES[layout] if devices is None else ""
        return e, Program(e, ExampleSource(e.family, e.data.batch), 1, mesh, 8, devices and jax.devices()[:devices])

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
        for array, lies in zip(jax.tree.leaves(restored), jax.tree.leaves(run.shardings)):
            assert array.sharding.is_equivalent_to(lies, array.ndim)
        np.testing.assert_allclose(losses(other, run, restored, 4)[1], wanted, rtol=1e-4 if name == "gan" else 5e-6)


# ------------------------------------------------------------------------------------------- traffic


def traffic(e, mesh):
    """{(kind, mesh axes): bytes that the collectives of one step carry}."""
    program = Program(e.replace({"data.feed": "streamed"}), None, 1, mesh, steps_per_call=1)
    text = program.lower().compile().as_text()
    found = {}
    for row in collectives.read(hlo.Program(text), dict(program.mesh.shape)):
        found[row.kind, row.axes] = found.get((row.kind, row.axes), 0) + row.payload
    return found


def model(layout, batch):
    family = families.find("transformer").ladder(1e5, length=24, vocab=64, scan=False)
    return X.Experiment(family=family, layout=layout).replace({"data.length": 24, "data.batch": batch})


TRAFFIC_MESHES = MESHES | {"sequence": "sequence=4,data=2"}


@pytest.fixture(scope="module")
def of_batches():
    """{layout: the traffic of a batch of 16, and of 32}, each compiled once."""
    found = {}

    def get(layout):
        if layout not in found:
            found[layout] = [traffic(model(layout, batch), TRAFFIC_MESHES[layout]) for batch in (16, 32)]
        return found[layout]
    return get


def weight_bytes(e):
    return sum(4 * x.size for x in jax.tree.leaves(jax.eval_shape(e.family.init, jax.random.key(0))))


SMALL = 2048  # bytes: norms of gradients, losses, indices


@pytest.mark.parametrize("layout", ["data", "fsdp"])
def test_no_activation_travels_where_only_parameters_should(of_batches, layout):
    small, large = of_batches(layout)
    assert small.keys() == large.keys()
    for key in small:  # twice the examples, and the same traffic: it is of parameters and gradients
        assert abs(large[key] - small[key]) <= SMALL, key
    kinds = {kind for (kind, _), n in small.items() if n > SMALL}
    assert kinds <= ({"all-reduce"} if layout == "data" else {"all-reduce", "all-gather", "reduce-scatter"})


def test_data_parallel_gradients_are_summed_once(of_batches):
    total, weights = sum(of_batches("data")[0].values()), weight_bytes(model("data", 16))
    assert weights * 0.99 <= total <= weights + SMALL


def test_fsdp_gathers_weights_along_its_own_axis_for_each_pass(of_batches):
    found, weights = of_batches("fsdp")[0], weight_bytes(model("fsdp", 16))
    gathered = {axes: n for (kind, axes), n in found.items() if kind == "all-gather"}
    assert set(gathered) == {("fsdp",)}
    assert 0.9 * weights <= gathered["fsdp",] <= 2.1 * weights  # forward, and at most again backward


def test_tensor_parallel_activations_are_summed_along_tensor_and_never_gathered(of_batches):
    small, large = of_batches("tensor")
    for (kind, along), n in small.items():
        if n <= SMALL:
            continue
        assert kind == "all-reduce", (kind, along)
        assert large[kind, along] / n == pytest.approx(2.0 if along == ("tensor",) else 1.0, abs=0.15)


def test_fsdp_and_tensor_keep_to_their_axes(of_batches):
    small, large = of_batches("fsdp_tensor")
    for (kind, along), n in small.items():
        if n <= SMALL:
            continue
        grows = large[kind, along] > 1.5 * n
        assert grows == (along == ("tensor",)), (kind, along)
        assert kind != "all-gather" or along == ("fsdp",)


def test_a_divided_length_gathers_keys_and_values_and_nothing_else_of_the_activations(of_batches):
    small, large = of_batches("sequence")
    e = model("sequence", 16)
    rows, f = 16 // 2, e.family  # of a group of devices that share a sequence
    keys_and_values = 2 * f.layers * rows * f.length * f.kv_heads * f.head_dim * 4
    grown = {key: large.get(key, 0) - n for key, n in small.items() if large.get(key, 0) - n > SMALL}
    assert {along for _, along in grown} == {("sequence",)}
    assert grown.pop(("all-gather", ("sequence",))) == pytest.approx(keys_and_values, rel=0.01)
    assert set(grown) <= {("all-reduce", ("sequence",)), ("reduce-scatter", ("sequence",))}  # their gradients


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae", "gan"])
def test_fsdp_gathers_hardly_anything_but_parameters_in_other_families(name):
    e = member(name, "fsdp")
    small, large = (traffic(e.replace({"data.batch": batch}), MESHES["fsdp"]) for batch in (8, 16))
    assert sum(large.values()) <= 1.02 * sum(small.values())


# ------------------------------------------------------------------------------------------ snapshot


def snapshot() -> str:
    """Where every kind of parameter lies, for each family and layout, on a mesh with two devices along each axis."""
    mesh = AbstractMesh((2,) * len(MESH_AXES), MESH_AXES)
    lines = []
    for name in FAMILIES:
        params = jax.eval_shape(families.find(name).ladder(1e6).init, jax.random.key(0))
        named = dict.fromkeys((tuple(n), x.shape) for x, n in zip(jax.tree.leaves(params), jax.tree.leaves(axes.names(params))))
        for layout in LAYOUTS:
            for names, shape in sorted(named):
                spec = sharding.spec(axes.Axes(names), shape, mesh, layout)
                where = ["+".join(p) if isinstance(p, tuple) else p or "-" for p in spec]
                what = " ".join(f"{n}={size}" for n, size in zip(names, shape))
                lines.append(f"{name:12} {layout:12} {what:60} {' '.join(where)}".rstrip())
    return "\n".join(lines) + "\n"


def test_parameters_lie_where_they_lay():
    """A change of this file is a change of where people's checkpoints and memory lie: make it on purpose."""
    assert snapshot() == SNAPSHOT.read_text()


# -------------------------------------------------------------------------------------------- checks


def test_what_does_not_divide_is_named_with_what_would():
    odd = X.Experiment(family=families.find("transformer")(vocab=64, width=20, head_dim=10, heads=2, mlp=50, layers=1),
                       layout="tensor").replace({"data.batch": 8})
    with pytest.raises(ConfigError) as error:
        check_divisible(odd, make_mesh(1, "tensor=4,data=2", "tensor"))
    said = str(error.value)
    assert "axis 'heads'" in said or "axis 'mlp'" in said or "axis 'kv_heads'" in said
    assert "tensor=4" in said and "'tensor'" in said
    works = said.split("left out): ")[1].split(";")[0].split(", ")
    for layout in LAYOUTS:  # exactly those that do work
        try:
            other = odd.replace({"layout": layout})
            check_divisible(other, make_mesh(1, "", layout))
            assert layout in works
        except ConfigError:
            assert layout not in works


def test_a_length_that_does_not_divide_is_one_of_the_activations():
    e = model("sequence", 16).replace({"family": families.find("transformer").ladder(1e5, length=30, vocab=64)})
    with pytest.raises(ConfigError, match="'length' of activations, of size 30, cannot be divided among sequence=4"):
        check_divisible(e, make_mesh(1, "sequence=4,data=2", "sequence"))


def test_images_of_one_channel_can_be_divided_by_channels():
    e = tiny("gan").replace({"family": families.find("gan")(body="conv", width=8), "layout": "tensor"})
    check_divisible(e, make_mesh(1, "tensor=2,data=4", "tensor"))


@pytest.mark.parametrize("text,says", [("expert=2", "reserved for mixtures"), ("stage=2", "reserved for pipelines"),
                                       ("data=-1,fsdp=-1", "two sizes open"), ("data=2,data=4", "names data twice")])
def test_meshes_that_cannot_be(text, says):
    with pytest.raises(ConfigError, match=says):
        make_mesh(1, text)


class Device:
    """As much of a device as meshes ask for: four hosts a slice, two slices."""

    platform = "gpu"

    def __init__(self, id):
        self.id, self.slice_index, self.process_index = id, id // 8, id // 2
        self.device_kind = "pretended"

    def __repr__(self):
        return f"Device({self.id})"


@pytest.mark.parametrize("layout,mesh", [("fsdp", ""), ("tensor", ""), ("fsdp_tensor", "data=4,tensor=2,fsdp=-1")])
def test_only_data_crosses_slices(layout, mesh):
    found = make_mesh(1, mesh, layout, [Device(i) for i in range(16)])
    assert found.shape["data"] % 2 == 0 and found.size == 16
    halves = np.moveaxis(found.devices, 1, 0).reshape(2, -1)  # the outer half of `data` is the slice
    assert [{device.slice_index for device in half} for half in halves] == [{0}, {1}]


def test_slices_that_nothing_joins_are_refused():
    with pytest.raises(ConfigError, match="joined along data or run"):
        make_mesh(1, "fsdp=16,data=1", "fsdp", [Device(i) for i in range(16)])


def test_hosts_read_what_their_devices_hold():
    mesh = make_mesh(1, "data=8")
    lies = sharding.over_batch(mesh, "data", "run", None)
    assert arrays.local_ranges(lies, (1, 4, 16)) == (range(1), range(4), range(16))
    x = np.arange(1 * 4 * 16 * 3).reshape(1, 4, 16, 3)
    placed = arrays.place_local(x, lies, (1, 4, 16))
    np.testing.assert_array_equal(arrays.fetch(placed), x)
    assert placed.addressable_shards[3].data.shape == (1, 4, 2, 3)


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot())
