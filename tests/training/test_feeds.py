"""Streamed batches: read ahead by threads, and equal to those of one step at a time whatever is asked for when."""

import gc
import threading
import time

import jax
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling.training import ahead, feeds
from scaling.training.ahead import ReadAhead
from scaling.training.program import Program
from scaling.training.step import TRUNK


class Source:
    """Batches [rows, 2] of (seed, step); records what is read, and raises at one step."""

    def __init__(self, broken=-1, wait=None):
        self.broken, self.wait, self.reads = broken, wait, []

    def batches(self, seed, start, stop, rows=range(3)):
        if self.wait is not None:
            self.wait.wait(10)
        self.reads.append((seed, start, stop))
        if start <= self.broken < stop:
            raise OSError(f"step {self.broken} cannot be read")
        steps = np.arange(start, stop)[:, None, None]
        return {"x": np.broadcast_to(np.concatenate([steps * 0 + seed, steps], -1), (stop - start, len(rows), 2))}


def reader(source, seeds=(0,), at=0, most=100):
    return ReadAhead([lambda start, stop, seed=seed: source.batches(seed, start, stop) for seed in seeds], at, most)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("most", [1, 7, 100])
def test_every_step_is_given_once_and_in_order_whatever_the_calls(threads, most, monkeypatch):
    monkeypatch.setattr(ahead, "THREADS", threads)
    source, calls = Source(), np.random.default_rng(0).integers(1, 30, 40)
    read = reader(source, seeds=(4, 9), at=11, most=most)
    found = np.concatenate([read.take(steps)["x"] for steps in calls], 1)
    assert found.shape == (2, sum(calls), 3, 2) and read.at == 11 + sum(calls)
    for run, seed in enumerate((4, 9)):
        assert (found[run, :, :, 0] == seed).all()
        assert (found[run, :, :, 1] == 11 + np.arange(sum(calls))[:, None]).all()
        starts = sorted((start, stop) for s, start, stop in source.reads if s == seed)
        assert [start for start, _ in starts[1:]] == [stop for _, stop in starts[:-1]]  # nothing is read twice


def test_the_next_call_is_read_while_this_one_is_used_and_no_more():
    source = Source()
    read = reader(source)
    read.take(20)
    deadline = time.monotonic() + 10
    while max(stop for _, _, stop in source.reads) < 40 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert max(stop for _, _, stop in source.reads) == 40
    read.take(20)
    assert read.take(1)["x"][0, 0, 0, 1] == 40


def test_an_error_is_raised_by_the_call_that_needs_its_step_and_again_by_the_next():
    read = reader(Source(broken=25))
    read.take(20)  # reads ahead to step 40
    for _ in range(2):
        with pytest.raises(OSError, match="step 25 cannot be read"):
            read.take(20)
        assert read.at == 20


def test_a_reader_that_is_dropped_leaves_no_thread_and_reads_nothing_more():
    source = Source(wait=threading.Event())
    read = reader(source, seeds=range(6))
    read._read_until(8)  # a read for each run waits
    threads = list(read._pool._threads)
    assert threads and all(thread.is_alive() for thread in threads)
    del read
    gc.collect()
    source.wait.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(source.reads) <= len(threads)  # those under way; the others never began


# ---------------------------------------------------------------------------- the feed


class Recorded(ExampleSource):
    """The example source; records the reads."""

    def __init__(self, *args):
        super().__init__(*args)
        self.reads = []

    def batches(self, seed, start, stop, rows=None):
        self.reads.append((seed, start, stop, rows))
        found = super().batches(seed, start, stop, rows)
        found["tokens"] = (found["tokens"] + seed) % 32
        return found


@pytest.fixture(scope="module")
def e():
    return tiny("transformer", **{"data.feed": "streamed"})


@pytest.fixture(scope="module")
def program(e):
    return Program(e, Recorded(e.family, e.data.batch), 2, "run=2,data=2", 8, jax.devices()[:4])


def fed(program, pack, state, steps):
    """The tokens [runs, steps, batch, length + 1] that the program is fed, as the source gives them one by one."""
    data = program.feed.data(state, pack, steps, program.compiled_steps)["tokens"]
    start = int(state.step[0])
    wanted = np.stack([ExampleSource.batches(program.feed.source, e.seed, start, start + steps)["tokens"] + e.seed
                       for e in pack]) % 32
    assert data.shape == (len(pack), program.compiled_steps, *wanted.shape[2:])
    np.testing.assert_array_equal(np.asarray(data)[:, :steps], wanted)


def test_calls_other_packs_branches_and_resumed_runs_get_the_batches_of_their_steps(program, e):
    pack, other = ([e.replace({"seed": s}) for s in seeds] for seeds in ((0, 1), (2, 1)))
    state = program.init(pack)

    def went_on(state, pack, steps):
        fed(program, pack, state, steps)
        return program.advance(state, pack, [TRUNK] * 2, steps)[0]

    for steps in (3, 8, 1):  # `fed` takes the batches of the call, so each call reads its own again
        state = went_on(state, pack, steps)
    branch = jax.tree.map(lambda x: x + 0, state)
    went_on(branch, pack, 5)
    went_on(state, pack, 2)
    fed(program, other, program.init(other), 4)
    fed(program, pack, jax.tree.map(lambda x: x + 0, program.init(pack))._replace(step=np.full(2, 1000)), 4)


def test_calls_in_a_row_read_each_step_once_and_do_not_wait_for_the_devices(program, e, monkeypatch):
    pack = [e.replace({"seed": s}) for s in (5, 6)]
    state = program.init(pack)
    state, _ = program.advance(state, pack, [TRUNK] * 2, 3)
    program.feed.source.reads.clear()
    monkeypatch.setattr(feeds.arrays, "fetch", lambda x: pytest.fail("the step of the state was fetched"))
    for steps in (8, 2, 20, 5):
        state, _ = program.advance(state, pack, [TRUNK] * 2, steps)
    for seed in (5, 6):
        reads = sorted(read[1:3] for read in program.feed.source.reads if read[0] == seed)
        assert [start for start, _ in reads[1:]] == [stop for _, stop in reads[:-1]]
    assert int(state.step[0]) == 38
