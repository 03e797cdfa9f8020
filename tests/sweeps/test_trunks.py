"""Longer runs of a later command go on from the trunks that an earlier one kept, with the same bits as from the start."""

import json
import shutil

import jax
import pytest
from sources import ExampleSource, tiny

from scaling.experiment import grid
from scaling.store import checkpoint
from scaling.study import fork
from scaling.sweeps import trunks
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.training.counts import step_flops

E = tiny("transformer", **{"optim.warmup": 2})
LENGTHS = [8 * 16 * steps for steps in (10, 20, 30, 60)]
RATES = [2e-3, 4e-3, 8e-3]  # a pack of two, and one of one that is filled up
SOURCE = ExampleSource(E.family, E.data.batch)
PROGRAMS: dict = {}  # of all runners here, which would compile the same


class Bar:
    def __init__(self):
        self.flops = 0.0

    def update(self, amount=0.0, text=None):
        self.flops += amount

    def print(self, message):
        raise AssertionError(message)


def runner(workdir, keeping="all"):
    found = Runner(workdir, TrainingOptions(keep_trunks=keeping, steps_per_call=8))
    found.source, found.programs.kept = lambda experiment: SOURCE, PROGRAMS
    return found


def train(workdir, lengths, rates=RATES, keeping="all", pack=2):
    """Trains a sweep with a new runner, as a later command would: (plan, FLOPs that it executed)."""
    one = runner(workdir, keeping)
    plan = one.plan(grid(E, {"optim.learning_rate": rates, "data.tokens": lengths}), pack)
    one.run(plan, Bar())
    return plan, one.trained_flops


def results(workdir, plan):
    """All that is said of the runs of a plan, but for times."""
    found = []
    for run in plan.runs:
        record = json.loads((workdir / "records" / f"{run.fingerprint}.jsonl").read_text().splitlines()[0])
        params = checkpoint.restore_params(workdir / "params" / run.fingerprint)
        found.append((run.fingerprint, record["loss"], record["curve"], [x.tobytes() for x in jax.tree.leaves(params)],
                      (workdir / "curves" / f"{run.fingerprint}.jsonl").read_text()))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results of the whole sweep in one command, and its FLOPs."""
    workdir = tmp_path_factory.mktemp("whole")
    plan, flops = train(workdir, LENGTHS)
    return results(workdir, plan), flops


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A workdir with all but the longest runs."""
    workdir = tmp_path_factory.mktemp("begun")
    train(workdir, LENGTHS[:3])
    return workdir


@pytest.fixture
def earlier(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "earlier")


def test_results_are_those_of_one_command_and_the_shared_steps_are_not_trained_again(earlier, whole):
    plan, flops = train(earlier, LENGTHS)
    assert [(pack.start, pack.fillers) for pack in plan.packs] == [(24, 0), (24, 1)]
    assert results(earlier, plan) == whole[0]
    step = 3 * step_flops(E)  # of all trunks
    assert flops == step * (48 - 24 + 12) and whole[1] == step * (48 + 2 + 4 + 6 + 12)
    assert "3 trunks go on" in trunks.describe_trunks(plan, runner(earlier))[0]


def test_a_fork_goes_on_from_the_trunks_of_the_older_study(earlier, whole, tmp_path):
    old, new = runner(earlier), runner(tmp_path / "new")
    plan = new.plan(grid(E, {"optim.learning_rate": RATES, "data.tokens": LENGTHS}), 2, copied_from=old)
    assert fork.copy_shared(old, new, plan) == 9
    new.run(plan, Bar())
    assert results(tmp_path / "new", plan) == whole[0]
    assert new.trained_flops == whole[1] / 2


@pytest.mark.parametrize("damage", ["state", "curve", "missing"])
def test_damaged_trunks_are_trained_from_their_start(earlier, whole, damage):
    one = sorted((earlier / "trunks").glob("*.jsonl"))[0]
    folder = earlier / "trunks" / one.stem.rpartition("-")[0]
    if damage == "missing":
        shutil.rmtree(folder)
    elif damage == "curve":
        one.write_text("\n".join(one.read_text().splitlines()[:-1]) + "\n")
    else:
        largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        largest.write_bytes(b"\0" * largest.stat().st_size)
    with pytest.warns(UserWarning, match="cannot be used, so it is trained from its start"):
        plan, flops = train(earlier, LENGTHS)
    assert results(earlier, plan) == whole[0]
    # The damaged trunk's pack starts again, and the other goes on.
    assert flops / step_flops(E) in (2 * (48 + 12) + 24 + 12, 2 * (24 + 12) + 48 + 12)


def test_plans_pack_trunks_that_go_on_from_one_step_and_keep_none_where_told_to(earlier, tmp_path):
    sweep = grid(E, {"optim.learning_rate": [1e-3, *RATES], "data.tokens": LENGTHS})
    plan = runner(earlier).plan(sweep, 2)
    assert [(len(pack.trunks), pack.start) for pack in plan.packs] == [(1, 0), (2, 24), (1, 24)]
    assert all(not pack.start for pack in runner(earlier, "none").plan(sweep, 2).packs)
    assert all(not pack.start for pack in runner(earlier).plan(  # a run before the kept step is not done
        grid(E, {"optim.learning_rate": RATES, "data.tokens": [LENGTHS[0], 8 * 16 * 15, LENGTHS[3]]}), 2).packs)
    kept = {keeping: [trunks.is_kept(trunk, keeping) for pack in plan.packs for trunk in pack.trunks]
            for keeping in trunks.KEEPING}
    assert kept == {"auto": [True] * 4, "all": [True] * 4, "none": [False] * 4}
    short = runner(tmp_path).plan(sweep[:2], 2).packs[0].trunks[0]
    assert not trunks.is_kept(short, "auto") and trunks.is_kept(short, "all")
