"""A job of several real processes on loopback leaves the same results as one process, whichever process dies on the way."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from launcher import ROOT, results

from scaling.devices import exits, hosts
from scaling.fields import ConfigError

SMALL = ("--config.sizes=(5e3,)", "--config.learning_rates=(4e-3,8e-3)", "--config.tokens=(2560,10240)", "--pack=2",
         "--shard=0/1")
NO_TARGET = """from tests import tiny_study

get_config, sweep = tiny_study.get_config, tiny_study.sweep
"""  # two amounts of data are too few for the law, and so for a forecast


@pytest.fixture(scope="module")
def job(flags_of, environment, tmp_path_factory):
    """A function that starts a job of several processes with four devices in all."""
    config = tmp_path_factory.mktemp("config") / "no_target.py"
    config.write_text(NO_TARGET)

    def launch(processes, workdir, *more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        devices = environment | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // processes} "
                                              "--xla_cpu_multi_thread_eigen=false " + os.environ["SCALING_TEST_FLAGS"]}
        flags = flags_of(workdir, *SMALL, *more)
        common = [f"--config={config}" if flag.startswith("--config=") else flag for flag in flags]
        command = [sys.executable, "-m", "experiments.run", *common]
        job_flags = [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]

        def one(*flags):
            return subprocess.Popen([*command, *flags], cwd=ROOT, env=devices, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, text=True)
        return [one()] if processes == 1 else [one(*job_flags, f"--process={i}") for i in range(processes)]
    return launch


def ended(processes):
    """(exit statuses, texts on stderr, texts on stdout) of processes, when all of them have ended."""
    said = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], [err for _, err in said], [out for out, _ in said]


def wait_for_checkpoint(workdir, processes):
    """Wait until the job has saved a later checkpoint than the present ones."""
    def saved():
        return max((int(p.name) for p in workdir.glob("checkpoints/*/trunk/*") if p.name.isdecimal()), default=-1)

    before = saved()
    while saved() <= before and all(p.poll() is None for p in processes):
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(job, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone") / "study"
    codes, err, _ = ended(job(1, workdir))
    assert codes == [0], err
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_job_whose_process_is_killed_resumes_with_others_and_ends_as_one_process_does(job, alone, tmp_path, count):
    workdir = tmp_path / "study"
    streamed = "--config.data.feed=streamed"  # each process reads its own rows; the one that is alone holds all data
    processes = job(2, workdir, "--checkpoint_seconds=0", streamed)
    wait_for_checkpoint(workdir, processes)
    processes[1].send_signal(signal.SIGKILL)
    start = time.monotonic()
    codes, err, _ = ended(processes)
    assert codes == [exits.RESTART, -signal.SIGKILL] and time.monotonic() - start < 60, err
    assert err[0].count(exits.PEER_DIED) == 1 and "Traceback" not in err[0] and "stack trace" not in err[0]
    flags = "--config.layout=fsdp", "--keep_best=1", "--checkpoint_seconds=1", streamed
    codes, err, out = ended(job(count, workdir, *flags))
    assert codes == [0] * count, err
    best = [p.parent for p in workdir.glob("checkpoints/*/*/*/state")]
    assert best and len({p.parent for p in best}) == len(best), best  # one checkpoint of each saved segment
    assert [text.count("is done") for text in out] == [1] + [0] * (count - 1)
    found, wanted = results(workdir), results(alone)
    assert len(wanted) == 4 and found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name]["bits_per_byte"], wanted[name]["bits_per_byte"], rtol=1e-4)
    assert sorted(p.name for p in (workdir / "curves").iterdir()) == sorted(p.name for p in (alone / "curves").iterdir())


TOGETHER = """
import sys, time, warnings, jax, jax.numpy as jnp, numpy as np
from scaling.devices import arrays, hosts, layouts, sharding
from scaling.store import checkpoint
from scaling.store.checkpoint import reading
from scaling.fields import ConfigError

hosts.start(sys.argv[1], 2, int(sys.argv[2]))
me = hosts.process_index()
assert hosts.agree(me) == 0 and hosts.gather_values(me) == [0, 1] and hosts.by_lead(lambda: [me]) == [0]
assert not hosts.any_of(False)
hosts.any_of(me == 1)
hosts.barrier("raised")
assert hosts.any_of(False)
for value in range(2 * hosts.SWEEP_EVERY):
    assert hosts.agree(value if hosts.is_lead() else None) == value

mesh = layouts.make_mesh(1, "", "data")
lies = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
tree = {"x": arrays.place(np.arange(8.0), lies)}
saved = checkpoint.Checkpoints(sys.argv[3] + "/checkpoints", keep=3)
for step in (1, 2):
    saved.save(step, {"x": tree["x"] * step})
saved.wait()
load = reading._load
def torn(path, **items):
    if me == 1 and path.name == "2" and "state" in items:
        raise OSError("cut")
    return load(path, **items)
reading._load = torn
restored, meta = saved.restore(saved.latest(), tree)
assert meta["step"] == saved.latest() == 1 and (arrays.fetch(restored["x"]) == np.arange(8)).all()
saved.close()
reading._load = load

def fails():
    raise ConfigError("the report cannot be written")
together = hosts._all_failed
def late():
    found = together()
    time.sleep(2 * me)  # by now the lead has ended, and so has the service that it ran
    return found
hosts._all_failed = late
try:
    hosts.by_lead(fails)
except Exception as error:
    hosts.exit_with_error(error, f"error: {error}", 1)
"""


def two(program, environment, *arguments):
    """`ended` of a job of two processes that run a program."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return ended([subprocess.Popen(
        [sys.executable, "-c", program, address, str(i), *arguments], cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for i in range(2)])


def test_all_processes_agree_on_values_checkpoints_and_errors(tmp_path, environment):
    codes, err, _ = two(TOGETHER, environment, str(tmp_path))
    assert codes == [1, 1], err
    assert err[0].splitlines()[-1] == "error: the report cannot be written" and "Traceback" not in err[0]
    assert "step 2" not in err[1] and "error" not in err[1], err[1]
    assert "is torn" in err[0]  # although only the other process could not read it


ALONE = """
import sys, jax
from scaling.devices import arrays, hosts, layouts, sharding
from scaling.fields import ConfigError

hosts.start(sys.argv[1], 2, int(sys.argv[2]))
try:
    hosts.barrier("started")
    if hosts.process_index() == 1:
        raise ConfigError("no data on this machine")
    while True:
        arrays.fetch(jax.jit(lambda: jax.numpy.ones(8), out_shardings=sharding.over_runs(layouts.make_mesh(8)))())
except Exception as error:
    hosts.exit_with_error(error, f"error: {error}", 3)
"""


def test_an_error_of_one_process_ends_all_with_its_status(environment):
    codes, err, _ = two(ALONE, environment)
    assert codes == [3, 3], err
    assert "process 1 of this job ended: error: no data on this machine" in err[0] and exits.PEER_DIED not in err[0]
    assert "process 1 of 2: error: no data on this machine" in err[1]


@pytest.mark.slow
def test_sigterm_in_any_process_saves_at_one_step_and_the_lead_may_die_too(job, alone, tmp_path):
    workdir = tmp_path / "study"
    for victim, number in ((1, signal.SIGTERM), (0, signal.SIGKILL)):
        processes = job(2, workdir, "--checkpoint_seconds=0")
        wait_for_checkpoint(workdir, processes)
        processes[victim].send_signal(number)
        codes, err, _ = ended(processes)
        if number == signal.SIGTERM:
            assert codes == [exits.RESTART] * 2 and "everything is saved" in err[0] + err[1], err
        else:
            assert codes == [-signal.SIGKILL, exits.RESTART] and exits.PEER_DIED in err[1], err
        assert not any("Traceback" in text for text in err)
    codes, err, _ = ended(job(1, workdir))
    assert codes == [0] and results(workdir).keys() == results(alone).keys()


@pytest.mark.parametrize("given, said", [
    (("10.0.0.1:1234", 0, -1), "give all three"), (("", 2, 0), "give all three"), (("10.0.0.1:1234", 2, 2), "--process=1"),
    (("10.0.0.1", 2, 0), "10.0.0.1:1234")])
def test_flags_that_are_incomplete_or_contradict_themselves_are_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        hosts.start(*given)


def test_under_open_mpi_the_error_names_the_flags_to_add(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="--processes=4 --process=.OMPI_COMM_WORLD_RANK"):
        hosts.start()


def test_a_process_on_its_own_needs_no_store():
    hosts.start()
    assert hosts.is_lead() and hosts.process_count() == 1 and hosts.process_index() == 0
    assert hosts.agree((1, 2)) == (1, 2) and hosts.gather_values(3) == [3]
    assert hosts.any_of(True) and not hosts.any_of(False)
    hosts.barrier("alone")
    value = object()  # not JSON
    assert hosts.by_lead(lambda: value) is value
