"""A flipped bit in any file of a checkpoint is found before anything is read from it, or leaves every value as it was."""
import json
import random
import shutil
import warnings

import jax
import pytest
from train_states import assert_same, saved, state

from scaling.store import checkpoint, files
from scaling.store.checkpoint import digests

# A restore that fails leaves coroutines and event loops of orbax's behind, which complain when collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


def flip(path, rng):
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def restored(directory):
    """(tree, meta, warnings) of the newest whole checkpoint."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tree, meta = checkpoint.Checkpoints(directory).restore(None, jax.eval_shape(state))
    return tree, meta, [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


def test_a_flipped_bit_in_any_file_leads_to_the_checkpoint_before(directory):
    saved(directory, 1, 2)
    rng, found = random.Random(0), set()
    names = sorted(p.relative_to(directory / "2") for p in (directory / "2").rglob("*") if p.is_file())
    for name in names:
        copy = directory.parent / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(directory, copy)
        flip(copy / "2" / name, rng)
        tree, meta, said = restored(copy)
        assert_same(state(meta["step"]), tree)
        if meta["step"] == 1:
            assert any(f"{copy / '2'} is torn" in line and "the one before it, 1, is used" in line for line in said)
            found.add(str(name))
    assert {str(name) for name in names} - found <= digests.LATER - {digests.INDEX}  # these two say nothing


def test_where_no_checkpoint_is_whole_there_is_none(directory):
    saved(directory, 1)
    flip(directory / "1" / "meta" / "metadata", random.Random(1))
    with pytest.warns(UserWarning, match=r"digest of meta/metadata does not match.*there is none before it"), \
            pytest.raises(checkpoint.NoCheckpoint):
        checkpoint.read_checkpoint(directory)


def test_a_checkpoint_without_its_digests_is_torn_unless_an_older_version_wrote_it(directory):
    saved(directory, 1, 2)
    (directory / "2" / digests.INDEX).unlink()
    assert restored(directory)[1]["step"] == 1
    meta = directory / "2" / "meta" / "metadata"
    content = json.loads(meta.read_text())
    assert content.pop("digests") == digests.METHOD
    meta.write_text(json.dumps(content))
    tree, found, said = restored(directory)
    assert_same(state(2), tree)
    assert found["step"] == 2 and not said


def test_the_shares_of_several_readers_cover_all_files(directory):
    saved(directory, 1)
    step, rng = directory / "1", random.Random(2)
    known = files.read_json(digests.index(step))[digests.METHOD]
    assert set(known) | digests.LATER == {str(p.relative_to(step)) for p in step.rglob("*") if p.is_file()}
    for name in known:
        whole = (step / name).read_bytes()
        flip(step / name, rng)
        assert [digests.problem(step, i, 3) is not None for i in range(3)].count(True) == 1
        (step / name).write_bytes(whole)
    assert [digests.problem(step, i, 3) for i in range(3)] == [None] * 3


def test_damaged_scores_end_in_no_traceback(directory):
    checkpoints = checkpoint.Checkpoints(directory, keep=2, keep_best=1)
    for step in (1, 2):
        checkpoints.save(step, state(step), score=float(step))
    checkpoints.close()
    (directory / "1" / "metrics" / "metrics").write_bytes(b"{\xff")
    with pytest.warns(UserWarning, match="the score in .*1/metrics is damaged"):
        again = checkpoint.Checkpoints(directory, keep=2, keep_best=1)
    assert_same(state(2), again.restore(None, jax.eval_shape(state))[0])
    again.clear()


@pytest.mark.parametrize("name", ["a[b]", "back\\slash", "gs:", "\udcff"])
def test_a_path_that_tensorstore_cannot_read_is_refused_before_anything_is_written(tmp_path, name):
    for use in (files.open_workdir, checkpoint.Checkpoints, checkpoint.read_checkpoint):
        with pytest.raises(files.WorkdirError, match="choose another directory"):
            use(tmp_path / name / "run")
    assert not list(tmp_path.iterdir())


def test_other_paths_work(tmp_path):
    folder = tmp_path / "all of it: #?%20 {*} ünï $HOME;'\"\n~" / "run"
    saved(files.open_workdir(folder), 1, make=lambda _: {"params": {"x": jax.numpy.arange(3.0)}})
    assert checkpoint.restore_params(folder)["x"].tolist() == [0, 1, 2]
