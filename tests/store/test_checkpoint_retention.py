"""The newest and the best checkpoints are kept; the others are removed."""
import jax
import pytest
from train_states import assert_same, saved, state

from scaling.store import checkpoint

# A restore that fails leaves coroutines and event loops of orbax's behind, which complain when collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


def test_the_newest_checkpoints_are_kept(directory):
    saved(directory, 1, 5, 7, 20, keep=2)
    again = checkpoint.Checkpoints(directory, keep=2)
    assert again.latest() == 20
    assert sorted(p.name for p in directory.iterdir()) == ["20", "7"]
    assert_same(state(7), again.restore(7, state())[0])


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_save_at_an_earlier_step_replaces_the_later_checkpoints(directory, step):
    saved(directory, 1, 2, 3)
    checkpoints = checkpoint.Checkpoints(directory, keep=5)
    checkpoints.save(step, state(9))
    checkpoints.close()
    again = checkpoint.Checkpoints(directory, keep=5)
    assert again.latest() == step
    assert_same(state(9), again.restore(None, state())[0])


def test_the_best_checkpoints_are_kept_beside_the_newest_and_survive_clear(directory):
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


def test_clear_removes_the_directory(directory):
    checkpoints = checkpoint.Checkpoints(directory)
    checkpoints.save(1, state())
    checkpoints.clear()
    assert not directory.exists()
