"""On a Ray cluster of several nodes every run ends exactly once, whatever dies, with the result of a single process."""

import os
import threading
import time
import types

import numpy as np
import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from scaling import experiment, fields  # noqa: E402
from scaling.experiment import grid  # noqa: E402
from scaling.fields import ConfigError  # noqa: E402
from scaling.results import records  # noqa: E402
from scaling.store import files  # noqa: E402
from scaling.sweeps import runner  # noqa: E402
from scaling.sweeps.plan import make_plan  # noqa: E402
from scaling.sweeps.ray import driver  # noqa: E402
from scaling.sweeps.ray.errors import ClusterError  # noqa: E402
from scaling.sweeps.ray.executor import RayExecutor, RayOptions, needs  # noqa: E402
from scaling.sweeps.ray.queue import Queue  # noqa: E402

WORDS = "def class return self for in if else not and import from as with yield lambda None True x y z".split()
BASE = {"data.length": 16, "data.batch": 8, "optim.warmup": 4, "data.evaluation_tokens": 256, "data.tokens": 128 * 48}


class Lines:
    """A progress bar for tests."""

    def __init__(self):
        self.flops, self.lines = 0.0, []

    def update(self, amount=0, text=None):
        assert amount >= 0
        self.flops += amount

    def print(self, message):
        self.lines.append(message)

    def said(self, text):
        return [line for line in self.lines if text in line]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("corpus")
    for i in range(20):
        (folder / f"{i}.txt").write_text(" ".join(rng.choice(WORDS, 300)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        config = experiment.config("transformer", **{"family.size": 5e3, "data.name": f"text:{folder}/*.txt", **BASE})
        yield experiment.from_config(config)


@pytest.fixture(scope="module")
def nodes():
    """A cluster whose head has no devices, and three nodes of one core."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(3):
        found.add_node(num_cpus=1, wait=False)
    found.wait_for_nodes()
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="module")
def executor(nodes):
    return RayExecutor(RayOptions(address=nodes.address))


def trainer(workdir):
    options = runner.TrainingOptions(checkpoint_seconds=0, steps_per_call=4)
    return runner.Runner(files.open_workdir(workdir), options)


def losses(workdir):
    frame = records.load_records(workdir)
    return frame.set_index("fingerprint")["bits_per_byte"].sort_index()


def when(condition, act):
    """Calls `act` in a thread once the condition holds."""
    def wait():
        while not condition():
            time.sleep(0.05)
        act()
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def busy(nodes):
    """Nodes whose core an actor owns."""
    free = ray._private.state.available_resources_per_node()
    return [node for node in nodes.worker_nodes if not free.get(node.node_id, {}).get("CPU", 0)]


@pytest.mark.slow
def test_a_sweep_survives_the_loss_of_a_node_and_ends_each_run_once(nodes, executor, base, tmp_path):
    runs = grid(base, {"optim.learning_rate": [2e-3, 4e-3], "seed": [0, 1, 2]})
    plain, far, progress = trainer(tmp_path / "plain"), trainer(tmp_path / "far"), Lines()
    plain.run(make_plan(runs, plain.content, len(runs)), Lines())
    plan = make_plan(runs, far.content, 1)
    assert len(plan.packs) == 6
    killing = when(lambda: list(far.workdir.glob("checkpoints/*/*/*/state")) and len(busy(nodes)) == 3,
                   lambda: nodes.remove_node(busy(nodes)[0], allow_graceful=False))
    executor(far, plan, progress)
    killing.join(10)
    assert len(nodes.worker_nodes) == 2 and len(progress.said("died")) == 1
    assert all(path.read_text().count("\n") == 1 for path in far.workdir.glob("records/*"))
    np.testing.assert_allclose(losses(far.workdir), losses(plain.workdir), rtol=1e-4)
    assert sorted(losses(far.workdir).index) == sorted(run.fingerprint for run in plan.runs)
    assert progress.flops == pytest.approx(far.work(plan))
    assert not list(far.workdir.glob("checkpoints/*/*/*"))


@pytest.mark.slow
def test_actors_that_wait_at_a_lost_node_are_replaced(nodes, base, tmp_path):
    far, progress = trainer(tmp_path / "crowded"), Lines()
    large = RayExecutor(RayOptions(address=nodes.address, devices=2, max_retries=1))
    plan = make_plan(grid(base, {"seed": list(range(20, 28))}), far.content, 1)
    pair = [nodes.add_node(num_cpus=2) for _ in range(2)]
    killing = when(lambda: list(far.workdir.glob("checkpoints/*/*/*/state")) and pair[0] in busy(nodes),
                   lambda: nodes.remove_node(pair[0], allow_graceful=False))
    large(far, plan, progress)
    killing.join(10)
    assert len(progress.said("died")) == 1 and len(records.load_records(far.workdir)) == 8


@pytest.mark.slow
def test_a_node_that_is_drained_saves_first_and_its_pack_is_not_charged(nodes, executor, base, tmp_path):
    from ray.core.generated import autoscaler_pb2
    far, progress = trainer(tmp_path / "drained"), Lines()
    patient = RayExecutor(RayOptions(address=nodes.address, max_retries=0))  # a death would end the sweep
    plan = make_plan([base.replace({"seed": 7, "data.tokens": 128 * 600})], far.content, 1)

    def drain():
        victim = busy(nodes)[0].node_id
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        ray._raylet.GcsClient(address=nodes.address).drain_node(victim, reason, "taken back", 0)
    draining = when(lambda: list(far.workdir.glob("checkpoints/*/*/*/state")), drain)
    patient(far, plan, progress)
    draining.join(10)
    assert len(progress.said("was preempted")) == 1 and not progress.said("died")
    assert len(records.load_records(far.workdir)) == 1 and progress.flops == pytest.approx(far.work(plan))


def test_an_error_of_a_run_ends_the_sweep_with_its_sentence(executor, base, tmp_path):
    far = trainer(tmp_path / "wrong")
    plan = make_plan([fields.replace(base, {"seed": 8, "microbatch": 3})], far.content, 1)
    with pytest.raises(ConfigError, match="^microbatch=3 does not divide"):
        executor(far, plan, Lines())


def test_actors_lost_with_their_node_do_not_count_as_false_starts(monkeypatch):
    alive = {"a", "b"}
    monkeypatch.setattr(driver, "alive", lambda: dict.fromkeys(alive))
    monkeypatch.setattr(ray, "kill", lambda actor: None)
    plan, executor = types.SimpleNamespace(packs=[]), types.SimpleNamespace(options=RayOptions(max_retries=1), need=len)
    going = driver.Driver(executor, types.SimpleNamespace(can_begin=None), plan, Lines())

    def ask():
        going.workers = [driver.Worker(None, 1, None, frozenset(alive)) for _ in range(3)]

    def die():
        for worker in list(going.workers):
            going.leave(worker, "died", "")
    ask()
    alive.remove("b")
    die()
    ask()
    with pytest.raises(ClusterError, match="die as they start, 2 in a row"):
        die()


def test_a_cluster_that_does_not_answer_is_reported_in_one_sentence(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for address in ("127.0.0.1:1", "nonsense"):
        with pytest.raises(ClusterError, match=f"ray_address='{address}'.*ray start --head"):
            RayExecutor(RayOptions(address=address))


@pytest.mark.parametrize("trunks, mesh, devices, expected", [
    (1, "", 0, 1), (4, "", 0, 4), (64, "", 1, 1), (1, "data=4", 0, 4), (2, "data=4", 0, 8), (4, "run=4", 0, 4),
    (4, "run=2,fsdp=2", 0, 4), (1, "data=-1", 8, 8), (1, "data=2,tensor=-1", 8, 8)])
def test_a_pack_needs_the_devices_that_its_mesh_names(trunks, mesh, devices, expected):
    assert needs(trunks, mesh, devices) == expected


def test_needs_that_cannot_be_met_are_refused_with_the_remedy():
    with pytest.raises(ConfigError, match="ray_devices=8"):
        needs(1, "data=-1")
    with pytest.raises(ConfigError, match="multiple of 4"):
        needs(1, "data=4", 6)


class Waiting(str):
    """A pack, of which the queue knows no more than its runs and those that it waits for."""

    runs, waits_for = (), frozenset()


def queue(packs, max_retries=1):
    return Queue(map(Waiting, packs), len, max_retries)


def test_an_actor_takes_the_first_pack_of_its_size():
    waiting = queue(["a", "bb", "c"])
    assert waiting.wanted() == {1: 2, 2: 1}
    assert [waiting.take(n, 0) for n in (2, 2, 1, 1, 1)] == ["bb", None, "a", "c", None]


def test_preempted_packs_come_first_and_are_never_given_up():
    waiting = queue(["a", "b", "c"], max_retries=0)
    for _ in range(5):
        assert waiting.take(1, 0) == "a"
        waiting.preempted("a")
    assert not waiting.lost and len(waiting) == 3


def test_packs_whose_actors_die_wait_behind_the_others_and_are_given_up_in_the_end():
    waiting, order = queue(["bad", "one", "two"], max_retries=2), []
    waiting.need = lambda pack: 1
    while len(waiting):
        order.append(waiting.take(1, 0))
        if order[-1] == "bad":
            waiting.died(order[-1], "out of memory")
    assert order == ["bad", "one", "two", "bad", "bad"] and waiting.lost == [("bad", "out of memory")]


def test_a_pack_that_another_process_trains_is_tried_again_later():
    waiting = queue(["a"])
    waiting.claimed(waiting.take(1, now=10), until=12)
    assert waiting.take(1, now=11) is None and waiting.take(1, now=12) == "a"
