"""Jobs of several processes: one program on the devices of all of them, started with the same command in each.

    hosts.start("10.0.0.1:1234", processes=2, process=0)   # no arguments under SLURM, Open MPI and on TPU slices
    steps = hosts.agree(steps)              # process 0's value, in every process
    path = hosts.by_lead(write_report)      # called in process 0 alone; its error is raised in every process

Every process makes the same calls in the same order. Process 0, the lead, decides everything that depends on clocks,
files and signals, and does all the writing. A process on its own pays nothing for any of this. Values travel through the
key-value store of JAX's coordination service and not through the devices, so the lead may take its time.
"""

import atexit
import contextlib
import json
import os
import re
import sys
import threading
import traceback
import warnings

import jax

from scaling.devices import _jax_internals, addresses, exits
from scaling.fields import ConfigError

# Kubernetes is left out: its indexed jobs are often many separate jobs, told apart by --shard=i/n.
KNOWN = ("gcetpu", "gketpu", "slurm", "ompi")
DAYS = 30 * 24 * 3600 * 1000  # milliseconds; the death of another process ends a wait, not a clock
TOGETHER = 3  # seconds within which processes that meet the same error report it
SWEEP_EVERY = 500  # values, after which those that every process has read are removed from the store

_ending = threading.Event()  # set when this process ends
_calls = 0  # how many values and barriers the processes have shared


class LeadFailed(Exception):
    """Process 0 failed at something that it did for all processes; the message says how."""


def start(coordinator: str = "", processes: int = 0, process: int = -1, heartbeat_seconds: int = 60) -> None:
    """Join the job that the arguments describe, or the environment if there are none; do nothing in a process on its own.

    Must be called before JAX starts a backend. Raises ConfigError for arguments that are incomplete or contradict each
    other. From here on the death of another process ends this one with `exits.PEER_DIED`: at once if its connections
    close, after `heartbeat_seconds` if its machine is gone.
    """
    found = _from_flags(coordinator, processes, process) or _from_environment()
    if not found:
        return
    exits.watch_for_peer_deaths()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from `scaling.devices.exits`
    try:
        jax.distributed.initialize(**found, heartbeat_timeout_seconds=heartbeat_seconds)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the processes of this job did not find each other ({str(error).strip().splitlines()[0]}); "
                          "start all of them, with the same --coordinator and --processes") from error
    listener = threading.Thread(target=_listen_for_errors, daemon=True)
    listener.start()
    atexit.register(_stop_listening, listener)  # registered after JAX's own handler, and therefore called before it
    if not is_lead():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
        warnings.simplefilter("ignore")


def _from_flags(coordinator, processes, process):
    """Arguments of `jax.distributed.initialize`, or None where no flag is given or the job has one process."""
    if not coordinator and not processes and process < 0:
        return None
    if not coordinator or processes < 1 or process < 0:
        raise ConfigError("a job of several processes needs --coordinator=host:port, --processes=n and --process=i in each "
                          "of them; give all three, or none under SLURM, Open MPI and on TPU slices")
    if process >= processes:
        raise ConfigError(f"--process={process} of --processes={processes}: they are counted from 0; write at most "
                          f"--process={processes - 1}")
    if not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(f"--coordinator={coordinator!r} has no port; write host:port of process 0, such as "
                          f"{coordinator}:1234")
    if processes == 1:
        return None
    found = {"coordinator_address": coordinator, "num_processes": processes, "process_id": process,
             "cluster_detection_method": "deactivate"}
    if process == 0 and "JAX_COORDINATOR_BIND_ADDRESS" not in os.environ:
        found["coordinator_bind_address"] = addresses.bind_address(coordinator)
    return found


def _from_environment():
    """Arguments of `jax.distributed.initialize` for the cluster that this process runs in, or None."""
    cluster = _jax_internals.detect_cluster(KNOWN)
    if cluster is not None:
        name, processes = cluster
        return {"cluster_detection_method": name} if processes > 1 else None
    size = os.environ.get("OMPI_COMM_WORLD_SIZE", "1")
    if int(size) > 1:  # Open MPI 5 no longer says where its first process is
        raise ConfigError(f"Open MPI started {size} processes and does not say where the first one is; add --coordinator="
                          f"host:port --processes={size} --process=$OMPI_COMM_WORLD_RANK")
    return None


def process_count() -> int:
    return _jax_internals.distributed_state().num_processes if _client() else 1


def machine() -> str:
    """The devices of all processes, such as "2 devices (cpu)"."""
    count = jax.device_count()
    return f"{count} device{'s' * (count != 1)} ({jax.devices()[0].device_kind})"


def process_index() -> int:
    return _jax_internals.distributed_state().process_id if _client() else 0


def _client():
    """The client of JAX's coordination service, or None in a process on its own."""
    return _jax_internals.distributed_state().client


def is_lead() -> bool:
    """Whether this is process 0, which decides and writes."""
    return process_index() == 0


def by_lead(function):
    """Call `function()` in process 0 alone and return its value in every process. With several processes it must be JSON.

    If it raises, process 0 raises that error and the others raise LeadFailed.
    """
    global _calls
    if process_count() == 1:
        return function()
    client, _calls = _client(), _calls + 1
    if _calls % SWEEP_EVERY == 0:
        barrier("swept")
        if is_lead():
            client.key_value_delete("scaling/agreed/")
        barrier("clean")
    key = f"scaling/agreed/{_calls}"
    if not is_lead():
        found = json.loads(client.blocking_key_value_get(key, DAYS))
        if "error" in found:
            raise LeadFailed(found["error"])
        return found["value"]
    try:
        value = function()
        text = json.dumps({"value": value})
    except BaseException as error:
        client.key_value_set(key, json.dumps({"error": f"{type(error).__name__}: {error}"}))
        raise
    client.key_value_set(key, text)
    return json.loads(text)["value"]


def agree(value):
    """Process 0's value, in every process."""
    return by_lead(lambda: value)


def any_of(flag: bool) -> bool:
    """Whether the flag is true in any process; every process gets the same answer.

    The flag must stay true once it is true, such as `exits.preempted()`. If it becomes true outside process 0, this call
    or the next one sees it.
    """
    if process_count() == 1:
        return flag
    client = _client()
    if flag and not is_lead():
        client.key_value_set("scaling/flag/up", "", allow_overwrite=True)
    return by_lead(lambda: flag or bool(client.key_value_dir_get("scaling/flag/")))


def gather_values(value) -> list:
    """The JSON values of all processes in their order, in every process."""
    if process_count() == 1:
        return [value]
    client, name = _client(), f"scaling/gathered/{_calls}"
    client.key_value_set(f"{name}/{process_index()}", json.dumps(value))
    return by_lead(lambda: [json.loads(client.blocking_key_value_get(f"{name}/{i}", DAYS)) for i in range(process_count())])


def barrier(name: str) -> None:
    """Wait until every process has made this call."""
    if process_count() > 1:
        global _calls
        _calls += 1
        _client().wait_at_barrier(f"scaling/{name}/{_calls}", DAYS)


def exit_with_error(error: BaseException, sentence: str | None, status: int):
    """End this process because of an error, with a sentence (a traceback if that is None) and an exit status.

    Processes that meet the same error print it once. If the error only says that another process died, the exit status is
    `exits.RESTART`.
    """
    said = sentence or "".join(traceback.format_exception(error))
    if process_count() == 1:
        if sentence is None:
            raise error
        print(said, file=sys.stderr)
        sys.exit(status)
    if exits.is_peer_death(error):
        exits.exit_once()
    last = said.strip().splitlines()[-1]
    if not is_lead():
        said = "" if isinstance(error, LeadFailed) else f"process {process_index()} of {process_count()}: {said}"
    exits.set_own_error(status, said)  # the lead may end, and its service with it, before this process has
    _tell_others(last, status)
    if _all_failed() and not is_lead():
        exits.set_own_error(status, "")
    exits.exit_once()
    threading.Event().wait()  # another thread is ending this process


def _tell_others(last: str, status: int) -> None:
    """Leave the last line of this process's error in the store, for processes that will only notice its death."""
    text = f"process {process_index()} of this job ended: {last}"
    with contextlib.suppress(Exception):  # the store may be gone
        client = _client()
        client.key_value_set("scaling/failed", json.dumps([status, text]), allow_overwrite=True)


def _listen_for_errors() -> None:
    """End this process if another one has left its error in the store and this one meets no error itself."""
    heard = False
    # It polls, because a blocking read would outlive its client.
    while not _ending.wait(2 * TOGETHER if heard else TOGETHER / 2):
        if heard:
            exits.exit_once()
        with contextlib.suppress(Exception):  # NOT_FOUND, or the store is gone
            exits.set_peer_error(*json.loads(_client().key_value_try_get("scaling/failed")))
            heard = True


def _stop_listening(listener) -> None:
    _ending.set()
    listener.join()


def _all_failed(seconds: float = TOGETHER) -> bool:
    """Whether the other processes end with an error too."""
    try:
        _client().wait_at_barrier("scaling/failed", int(seconds * 1000))
        return True
    except Exception:
        return False
