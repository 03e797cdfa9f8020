"""Damage, a kill or a full disk never leads to wrong values: the last whole checkpoint is used."""
import random
import shutil
import subprocess
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import pytest
from train_states import assert_same, saved, state

from scaling.store import checkpoint

# A restore that fails leaves coroutines and event loops of orbax's behind, which complain when collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


def test_no_cut_or_missing_file_ever_gives_wrong_values(directory):
    """A damaged file of the newest checkpoint leads to its exact content, or to the checkpoint before and a warning."""
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
    # These files are read, so their damage must have had an effect.
    assert {str(largest), "meta/metadata", "state/manifest.ocdbt"} <= fell_back


def test_training_continues_after_a_torn_checkpoint(directory):
    saved(directory, 1, 2, keep=2)
    shutil.rmtree(directory / "2" / "state" / "d")
    shutil.rmtree(directory / "2" / "state" / "ocdbt.process_0")
    checkpoints = checkpoint.Checkpoints(directory, keep=2)
    with pytest.warns(UserWarning, match="torn"):
        assert checkpoints.restore(checkpoints.latest(), state())[1]["step"] == 1
    assert checkpoints.latest() == 1
    checkpoints.save(1, state(1))   # still before the torn step
    checkpoints.save(2, state(2))
    assert_same(state(2), checkpoints.restore(None, state())[0])


def test_a_half_written_checkpoint_is_named_skipped_and_gone_at_once(directory):
    saved(directory, 1)
    half = directory / "2.orbax-checkpoint-tmp"
    shutil.copytree(directory / "1", half)
    with pytest.warns(UserWarning, match=r"2\.orbax-checkpoint-tmp is half-written"):
        checkpoints = checkpoint.Checkpoints(directory)
    assert not half.exists()  # nothing removes it later, while others open, write or clear the same folder
    assert checkpoints.latest() == 1
    assert_same(state(1), checkpoints.restore(None, state())[0])


def test_a_save_under_way_is_waited_for_where_its_directory_is_opened_again(directory):
    for step in range(1, 6):  # as after an interrupt in a notebook, nobody closes the former ones
        checkpoint.Checkpoints(directory).save(step, {str(i): jnp.full((400, 400), step) for i in range(20)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none is half-written
        checkpoints = checkpoint.Checkpoints(directory)
    assert checkpoints.latest() == 5
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


@pytest.mark.slow
def test_checkpoints_after_kill_9_are_whole(directory):
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
        warnings.simplefilter("ignore")  # the kill leaves a half-written checkpoint
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
with open(room + "/other", "wb", buffering=0) as f:  # another program fills the disk
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
