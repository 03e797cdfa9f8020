"""What is restored is what was saved, bit for bit, on any mesh, or it is not restored."""
import json
import random
import shutil
import subprocess
import sys
import time
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.store import checkpoint

# A restore that fails leaves coroutines and event loops of orbax's behind, which complain when collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class State(NamedTuple):
    params: dict
    optimiser: tuple
    step: jax.Array
    key: jax.Array


def state(seed=0, width=8):
    nnx.use_eager_sharding(False)
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {"model": nnx.State({
        "blocks": {"kernel": nnx.Param(jax.random.normal(keys[0], (2, width, 16)),
                                       axes=("layers", "embed", "mlp"))},
        "head": {"kernel": nnx.Param(jax.random.normal(keys[1], (16, width), jnp.bfloat16),
                                     axes=("mlp", "embed"))}})}
    return State(params, optax.adamw(1e-3).init(params), jnp.int32(seed), keys[2])


def raw(leaf):
    """The bytes of a leaf, with its dtype and shape."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return (str(leaf.dtype), *raw(jax.random.key_data(leaf)))
    return str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert [raw(x) for x in jax.tree.leaves(a)] == [raw(x) for x in jax.tree.leaves(b)]


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


def saved(directory, *steps, keep=5, make=state):
    """Checkpoints, closed, whose step k holds make(k)."""
    checkpoints = checkpoint.Checkpoints(directory, keep=keep)
    for step in steps:
        checkpoints.save(step, make(step), {"position": 100 * step})
    checkpoints.close()


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


def test_the_newest_are_kept(directory):
    saved(directory, 1, 5, 7, 20, keep=2)
    again = checkpoint.Checkpoints(directory, keep=2)
    assert again.latest() == 20
    assert sorted(p.name for p in directory.iterdir()) == ["20", "7"]
    assert_same(state(7), again.restore(7, state())[0])


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_that_went_back_replaces_its_later_checkpoints(directory, step):
    saved(directory, 1, 2, 3)
    checkpoints = checkpoint.Checkpoints(directory, keep=5)
    checkpoints.save(step, state(9))
    checkpoints.close()
    again = checkpoint.Checkpoints(directory, keep=5)
    assert again.latest() == step
    assert_same(state(9), again.restore(None, state())[0])


def test_no_cut_or_missing_file_ever_gives_wrong_values(directory):
    """Whatever file of the newest checkpoint is damaged: either its exact content or the one before, with a
    warning.
    """
    saved(directory, 1, 2)
    newest = directory / "2"
    victims = [p.relative_to(newest) for p in newest.rglob("*") if p.is_file()]
    fell_back = set()
    for victim in victims:
        for keep in (None, 0, 0.5, 0.95):
            copy = directory.parent / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(directory, copy)
            damaged = copy / "2" / victim
            content = damaged.read_bytes()
            damaged.unlink() if keep is None else damaged.write_bytes(content[:int(keep * len(content))])
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                restored, meta = checkpoint.Checkpoints(copy).restore(None, jax.eval_shape(state))
            assert_same(state(meta["step"]), restored)
            assert meta["position"] == 100 * meta["step"]
            if meta["step"] == 1:
                fell_back.add(str(victim))
                assert any(f"{copy / '2'} is torn" in str(w.message) for w in caught), victim
    largest = max(victims, key=lambda p: (newest / p).stat().st_size)
    # The damage did reach what is read.
    assert {str(largest), "meta/metadata", "state/manifest.ocdbt"} <= fell_back


def test_training_goes_on_after_a_torn_checkpoint(directory):
    saved(directory, 1, 2, keep=2)
    shutil.rmtree(directory / "2" / "state" / "d")
    shutil.rmtree(directory / "2" / "state" / "ocdbt.process_0")
    checkpoints = checkpoint.Checkpoints(directory, keep=2)
    with pytest.warns(UserWarning, match="torn"):
        assert checkpoints.restore(checkpoints.latest(), state())[1]["step"] == 1
    assert checkpoints.latest() == 1
    checkpoints.save(1, state(1))   # not beyond the torn one yet
    checkpoints.save(2, state(2))
    assert_same(state(2), checkpoints.restore(None, state())[0])


def test_a_half_written_checkpoint_is_named_and_skipped(directory):
    saved(directory, 1)
    half = directory / "2.orbax-checkpoint-tmp"
    shutil.copytree(directory / "1", half)
    with pytest.warns(UserWarning, match=r"2\.orbax-checkpoint-tmp is half-written"):
        checkpoints = checkpoint.Checkpoints(directory)
    assert checkpoints.latest() == 1
    assert_same(state(1), checkpoints.restore(None, state())[0])


def test_nothing_to_restore_says_so(directory):
    checkpoints = checkpoint.Checkpoints(directory)
    assert checkpoints.latest() is None
    with pytest.raises(checkpoint.NoCheckpoint, match=str(directory)):
        checkpoints.restore(None, state())
    with pytest.raises(checkpoint.NoCheckpoint):
        checkpoint.restore_params(directory / "elsewhere")


def test_another_tree_is_refused_and_not_taken_for_torn(directory):
    saved(directory, 1)
    checkpoints = checkpoint.Checkpoints(directory)
    with pytest.raises(checkpoint.CheckpointError, match=r"model/blocks/kernel.*\[2, 8, 16\].*\[2, 4, 16\]"):
        checkpoints.restore(1, jax.eval_shape(lambda: state(width=4)))
    with pytest.raises(checkpoint.CheckpointError, match="also holds 'optimiser/"):
        checkpoints.restore(1, state()._replace(optimiser=()))
    with pytest.raises(checkpoint.CheckpointError, match="lacks 'params/extra'"):
        checkpoints.restore(1, state()._replace(params={**state().params, "extra": jnp.zeros(3)}))
    assert checkpoints.latest() == 1


def test_params_come_back_without_the_model(directory):
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


def test_cleared_when_no_longer_needed(directory):
    checkpoints = checkpoint.Checkpoints(directory)
    checkpoints.save(1, state())
    checkpoints.clear()
    assert not directory.exists()


KILLED = """
import itertools, sys, jax.numpy as jnp
from scaling.store import checkpoint
checkpoints = checkpoint.Checkpoints(sys.argv[1])
for step in itertools.count():
    checkpoints.save(step, {str(i): jnp.full((300, 300), step) for i in range(4)}, {"position": 100 * step})
    print(step, flush=True)
"""


def test_whatever_is_there_after_kill_9_is_whole(directory):
    child = subprocess.Popen([sys.executable, "-c", KILLED, directory], stdout=subprocess.PIPE, text=True)
    try:
        for line in child.stdout:
            if int(line) == 5:
                break
        time.sleep(random.uniform(0, 0.2))
    finally:
        child.kill()
    begun = max([5, *map(int, child.stdout)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was being written is half-written
        checkpoints = checkpoint.Checkpoints(directory)
    restored, meta = checkpoints.restore(None, {str(i): jnp.zeros((300, 300), jnp.int32) for i in range(4)})
    assert begun - 1 <= meta["step"] <= begun + 1  # a save begins when the one before it is on disk
    assert meta["position"] == 100 * meta["step"]
    assert all((v == meta["step"]).all() for v in restored.values())


FULL = """
import os, sys, jax.numpy as jnp
from scaling.store import checkpoint, files
room = sys.argv[1]
checkpoints = checkpoint.Checkpoints(room + "/checkpoints")
checkpoints.save(1, {"x": jnp.arange(100)})
checkpoints.wait()
with open(room + "/other", "wb", buffering=0) as f:  # somebody else fills the disk
    try:
        while True:
            f.write(b"x" * 4096)
    except OSError:
        pass
try:
    checkpoints.save(2, {"x": jnp.arange(100)})
    checkpoints.wait()
    sys.exit("no error")
except files.DiskFull as error:
    print("said:", error)
os.unlink(room + "/other")
restored, meta = checkpoint.Checkpoints(room + "/checkpoints").restore(None, {"x": jnp.arange(100)})
assert (restored["x"] == jnp.arange(100)).all() and meta["step"] == 1
print("kept")
"""


def test_a_full_disk_is_one_clear_sentence_and_the_last_checkpoint_stays(tmp_path):
    """On a real file system of one megabyte, where the system allows mounting one."""
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path],
                      capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c",
         'mount -t tmpfs -o size=1m none "$1" && exec "$2" -W ignore -c "$3" "$1"',
         "sh", tmp_path, sys.executable, FULL], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("said:")]
    assert len(said) == 1 and "no space left to write" in said[0] and "run the same command again" in said[0]
    assert done.stdout.splitlines()[-1] == "kept"


def test_meta_is_strict_json_on_disk(directory):
    checkpoints = checkpoint.Checkpoints(directory)
    checkpoints.save(1, state(), {"loss": float("nan")})
    checkpoints.close()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")
    text = (directory / "1" / "meta" / "metadata").read_text()
    content = json.loads(text, parse_constant=refuse)
    assert content["meta"]["loss"] is None and "params/model/head/kernel" in content["leaves"]


def test_the_best_are_kept_beside_the_newest_and_stay_when_the_rest_is_cleared(directory):
    scores = {1: 3.0, 2: 1.0, 3: 2.0, 4: None, 5: 5.0, 6: 4.0}
    checkpoints = checkpoint.Checkpoints(directory, keep=2, keep_best=2)
    for step, score in scores.items():
        checkpoints.save(step, state(step), score=score)
    checkpoints.close()
    assert sorted(int(p.name) for p in directory.iterdir()) == [2, 3, 5, 6]
    again = checkpoint.Checkpoints(directory, keep=2, keep_best=2)
    assert_same(state(6), again.restore(again.latest(), jax.eval_shape(state))[0])
    again.clear()
    assert sorted(int(p.name) for p in directory.iterdir()) == [2, 3]
