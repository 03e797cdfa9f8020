"""A restored tree equals the saved one, bit for bit, on any mesh; otherwise the restore is refused."""
import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from train_states import assert_same, raw, saved, state

from scaling.store import checkpoint

# A restore that fails leaves coroutines and event loops of orbax's behind, which complain when collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


def test_every_dtype_comes_back_bit_for_bit(directory):
    bits = np.random.default_rng(0).integers(0, 256, 64, np.uint8).tobytes()  # NaNs with payloads among them
    dtypes = ("float32", "bfloat16", "float16", "int32", "int8", "uint8", "uint32", "float8_e4m3fn", "bool")
    tree = {name: jnp.asarray(np.frombuffer(bits, np.uint8) > 99 if name == "bool" else
                              np.frombuffer(bits, jnp.dtype(name))) for name in dtypes}
    tree |= {"wide": np.frombuffer(bits, np.int64), "scalar": jnp.float32(0.1),
             "empty": jnp.zeros((0, 3)), "number": 7, "key": jax.random.key(3),
             "keys": jax.random.split(jax.random.key(4, impl="rbg"), (2, 3))}
    saved(directory, 1, make=lambda _: tree)
    restored, _ = checkpoint.Checkpoints(directory).restore(1, tree)
    assert restored.pop("number") == tree.pop("number")
    assert_same(tree, restored)


def test_a_train_state_comes_back_with_its_structure_axes_and_meta(directory):
    meta = {"experiment": {"width": 8, "best": float("inf")}, "position": [1, 2]}
    with_meta = checkpoint.Checkpoints(directory)
    with_meta.save(3, state(3), meta)
    restored, read = with_meta.restore(3, jax.eval_shape(state))
    assert_same(state(3), restored)
    assert restored.params["model"]["blocks"]["kernel"].axes == ("layers", "embed", "mlp")
    assert read == {**meta, "step": 3}


def test_buffers_may_be_donated_while_the_save_is_under_way(directory):
    update = jax.jit(lambda x: jax.tree.map(lambda a: a + 1, x), donate_argnums=0)
    x = {str(i): jnp.full((256, 256), i, jnp.float32) for i in range(8)}
    checkpoints = checkpoint.Checkpoints(directory, keep=9)
    for step in range(4):
        checkpoints.save(step, x)
        for _ in range(20):
            x = update(x)
    for step in range(4):
        restored, _ = checkpoints.restore(step, jax.eval_shape(lambda: x))
        assert all((v == int(k) + 20 * step).all() for k, v in restored.items())


def test_a_numpy_leaf_may_be_overwritten_while_the_save_is_under_way(directory):
    x = np.arange(1 << 18)
    checkpoints = checkpoint.Checkpoints(directory)
    checkpoints.save(0, {"x": x})
    x[:] = -1
    restored, _ = checkpoints.restore(0, {"x": x})
    assert (restored["x"] == np.arange(1 << 18)).all()


@pytest.mark.parametrize("before, after", [((8,), (2, 4)), ((2, 4), (8,)), ((4, 2), (2, 2)), ((1,), (2, 4))])
def test_restores_onto_another_mesh(directory, before, after):
    def placed(shape, tree):
        mesh = Mesh(np.array(jax.devices()[:np.prod(shape)]).reshape(shape), ("data", "tensor")[:len(shape)])

        def sharding(leaf):
            spec = [None] * leaf.ndim
            for axis, size in zip(mesh.axis_names, shape):
                fits = [i for i in range(leaf.ndim)
                        if spec[i] is None and leaf.shape[i] % size == 0 and size > 1]
                if fits:
                    spec[fits[-1]] = axis
            return NamedSharding(mesh, P(*spec))
        return jax.tree.map(sharding, tree)

    original = state(5)
    checkpoints = checkpoint.Checkpoints(directory)
    checkpoints.save(0, jax.device_put(original, placed(before, original)))
    shardings = placed(after, original)
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
                            original, shardings)
    restored, _ = checkpoints.restore(0, abstract)
    assert_same(original, restored)
    for leaf, sharding in zip(jax.tree.leaves(restored), jax.tree.leaves(shardings)):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    kernel = restored.params["model"]["blocks"]["kernel"].get_value()
    assert len({str(s.index) for s in kernel.addressable_shards}) == np.prod(after)


def test_explicit_axes_restore_with_and_without_devices(directory):
    """`jax.eval_shape` under a mesh of explicit axes gives shardings that name no devices."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    x = {"x": jax.device_put(jnp.arange(64.0).reshape(8, 8), NamedSharding(mesh, P("data")))}
    checkpoints = checkpoint.Checkpoints(directory)
    checkpoints.save(0, x)
    for abstract in (x, jax.eval_shape(lambda: x)):
        assert_same(x, checkpoints.restore(0, abstract)[0])
    assert checkpoints.restore(0, x)[0]["x"].sharding.is_equivalent_to(x["x"].sharding, 2)


def test_a_sharding_that_does_not_fit_is_an_error_and_not_a_torn_checkpoint(directory):
    saved(directory, 1)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    sharding = NamedSharding(mesh, P("data"))  # eight devices, and two layers

    def split(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) if x.ndim else x
    abstract = jax.tree.map(split, state())
    checkpoints = checkpoint.Checkpoints(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError):
            checkpoints.restore(1, abstract)
    assert checkpoints.latest() == 1


def test_a_missing_checkpoint_is_reported(directory):
    checkpoints = checkpoint.Checkpoints(directory)
    assert checkpoints.latest() is None
    with pytest.raises(checkpoint.NoCheckpoint, match=str(directory)):
        checkpoints.restore(None, state())
    with pytest.raises(checkpoint.NoCheckpoint):
        checkpoint.restore_params(directory / "elsewhere")


def test_another_tree_is_refused_and_the_checkpoint_is_not_called_torn(directory):
    saved(directory, 1)
    checkpoints = checkpoint.Checkpoints(directory)
    with pytest.raises(checkpoint.CheckpointError, match=r"model/blocks/kernel.*\[2, 8, 16\].*\[2, 4, 16\]"):
        checkpoints.restore(1, jax.eval_shape(lambda: state(width=4)))
    with pytest.raises(checkpoint.CheckpointError, match="also holds 'optimiser/"):
        checkpoints.restore(1, state()._replace(optimiser=()))
    with pytest.raises(checkpoint.CheckpointError, match="lacks 'params/extra'"):
        checkpoints.restore(1, state()._replace(params={**state().params, "extra": jnp.zeros(3)}))
    assert checkpoints.latest() == 1


def test_parameters_are_read_without_the_model(directory):
    saved(directory, 1, 2)
    for step in (1, 2):
        params = checkpoint.restore_params(directory, step)
        assert params.keys() == {"model"} and params["model"].keys() == {"blocks", "head"}
        for name in ("blocks", "head"):
            kernel = params["model"][name]["kernel"]
            assert isinstance(kernel, np.ndarray)
            assert raw(kernel) == raw(state(step).params["model"][name]["kernel"].get_value())
    assert raw(checkpoint.restore_params(directory)["model"]["head"]["kernel"]) == raw(kernel)
    moments = checkpoint.restore_params(directory, prefix="optimiser/0/mu")
    assert moments["model"]["head"]["kernel"].shape == (16, 8)
    with pytest.raises(checkpoint.CheckpointError, match="'weights'.*there is key, optimiser, params, step"):
        checkpoint.restore_params(directory, prefix="weights")


def test_meta_is_strict_json_on_disk(directory):
    checkpoints = checkpoint.Checkpoints(directory)
    checkpoints.save(1, state(), {"loss": float("nan")})
    checkpoints.close()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")
    text = (directory / "1" / "meta" / "metadata").read_text()
    content = json.loads(text, parse_constant=refuse)
    assert content["meta"]["loss"] is None and "params/model/head/kernel" in content["leaves"]
