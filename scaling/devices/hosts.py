"""Jobs of several processes: one program on the devices of all of them, started with the same command in each.

    hosts.start("10.0.0.1:1234", processes=2, process=0)   # or no arguments under SLURM, Open MPI, on a TPU slice
    steps = hosts.agree(steps)              # what process 0 holds, in every process
    path = hosts.by_lead(write_report)      # done by process 0 alone, which may fail: then all of them do

Every process makes the same calls in the same order. What depends on clocks, files and signals is decided by process
0, the lead, which also does all the writing. A process on its own pays nothing for any of this. Values travel through
the key-value store of JAX's coordination service, not through the devices, so that the lead may take its time.
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
from jax._src import clusters, distributed  # the store that orbax uses as well has no public name

from scaling.devices import exits
from scaling.fields import ConfigError

KNOWN = ("gcetpu", "gketpu", "slurm", "ompi")  # not Kubernetes: its indexed jobs are often many jobs, as --shard=i/n
DAYS = 30 * 24 * 3600 * 1000  # milliseconds; who waits is ended when another process dies, not by a clock
TOGETHER = 3  # seconds within which processes meet the same error
SWEPT = 500  # values after which those that every process has read are removed from the store

_over = threading.Event()  # set when this process ends
_asked = 0  # how many values have been agreed upon


class LeadFailed(Exception):
    """What process 0 did for all of them failed; it says why."""


def start(coordinator: str = "", processes: int = 0, process: int = -1, heartbeat_seconds: int = 60) -> None:
    """Joins the job that the arguments, or else the environment, speak of; nothing for a process on its own.

    Must be called before JAX starts a backend. Raises ConfigError for arguments that are incomplete or contradict
    themselves. From here on the death of another process ends this one with `deaths.SENTENCE`, at once where its
    connections close, after `heartbeat_seconds` where its machine is gone.
    """
    found = _from_flags(coordinator, processes, process) or _from_environment()
    if not found:
        return
    exits.watch()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from `scaling.devices.exits`
    try:
        jax.distributed.initialize(**found, heartbeat_timeout_seconds=heartbeat_seconds)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the processes of this job did not find each other ({str(error).strip().splitlines()[0]}); "
                          "start all of them, with the same --coordinator and --processes") from error
    listener = threading.Thread(target=_listen, daemon=True)
    listener.start()
    atexit.register(_stop_listening, listener)  # after JAX's own, and so called before that
    if not lead():
        sys.stdout = open(os.devnull, "w")
        warnings.simplefilter("ignore")


def _from_flags(coordinator, processes, process):
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
    return {"coordinator_address": coordinator, "num_processes": processes, "process_id": process,
            "cluster_detection_method": "deactivate"}


def _from_environment():
    for kind in clusters.ClusterEnv._cluster_types:
        if kind.name in KNOWN and kind.is_env_present():
            return {"cluster_detection_method": kind.name} if kind.get_process_count() > 1 else None
    size = os.environ.get("OMPI_COMM_WORLD_SIZE", "1")
    if int(size) > 1:  # Open MPI 5 no longer says where its first process is
        raise ConfigError(f"Open MPI started {size} processes and does not say where the first one is; add --coordinator="
                          f"host:port --processes={size} --process=$OMPI_COMM_WORLD_RANK")
    return None


def count() -> int:
    return distributed.global_state.num_processes if distributed.global_state.client else 1


def index() -> int:
    return distributed.global_state.process_id if distributed.global_state.client else 0


def lead() -> bool:
    """Whether this process decides and writes."""
    return index() == 0


def by_lead(function):
    """What `function()` gives in process 0, the only one that calls it, in every process; JSON if there are several.

    When it raises, process 0 goes on with that error and the others with LeadFailed.
    """
    global _asked
    if count() == 1:
        return function()
    client, _asked = distributed.global_state.client, _asked + 1
    if _asked % SWEPT == 0:
        barrier("swept")
        if lead():
            client.key_value_delete("scaling/agreed/")
        barrier("clean")
    key = f"scaling/agreed/{_asked}"
    if not lead():
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
    """Process 0's value in every process."""
    return by_lead(lambda: value)


def any_of(flag: bool) -> bool:
    """Whether a flag that stays up once it is up (that a signal came, say) is up in any process: the same answer in all.
    One that goes up outside process 0 is seen at this call or, when the answer was under way already, at the next."""
    if count() == 1:
        return flag
    if flag and not lead():
        distributed.global_state.client.key_value_set("scaling/flag/up", "", allow_overwrite=True)
    return by_lead(lambda: flag or bool(distributed.global_state.client.key_value_dir_get("scaling/flag/")))


def gather(value) -> list:
    """The JSON values of all processes, in every process."""
    if count() == 1:
        return [value]
    client, name = distributed.global_state.client, f"scaling/gathered/{_asked}"
    client.key_value_set(f"{name}/{index()}", json.dumps(value))
    return by_lead(lambda: [json.loads(client.blocking_key_value_get(f"{name}/{i}", DAYS)) for i in range(count())])


def barrier(name: str) -> None:
    """Waits until every process has come here."""
    if count() > 1:
        global _asked
        _asked += 1
        distributed.global_state.client.wait_at_barrier(f"scaling/{name}/{_asked}", DAYS)


def failed(error: BaseException, sentence: str | None, status: int):
    """Ends this process because of an error: with its sentence (or its traceback) and `status`, once for all processes
    that met it alike, and with the restart status when it is but the echo of another process's death."""
    said = sentence or "".join(traceback.format_exception(error))
    if count() == 1:
        if sentence is None:
            raise error
        print(said, file=sys.stderr)
        sys.exit(status)
    if exits.is_echo(error):
        exits.end()
    _tell(said, status)
    alike = _all_failed()
    if lead():
        print(said, file=sys.stderr)
    elif not alike and not isinstance(error, LeadFailed):
        print(f"process {index()} of {count()}: {said}", file=sys.stderr)
    exits.leave(status)


def _tell(said: str, status: int) -> None:
    """Leaves word of this process's error for those that will lose it."""
    text = f"process {index()} of this job ended: {said.strip().splitlines()[-1]}"
    with contextlib.suppress(Exception):  # the store may be gone
        distributed.global_state.client.key_value_set("scaling/failed", json.dumps([status, text]), allow_overwrite=True)


def _listen() -> None:
    """Ends this process when another left word of its error and this one meets none itself."""
    heard = False
    while not _over.wait(2 * TOGETHER if heard else TOGETHER / 2):  # no call that waits: it would outlive its client
        if heard:
            exits.end()
        with contextlib.suppress(Exception):  # NOT_FOUND, or the store is gone
            exits.told(*json.loads(distributed.global_state.client.key_value_try_get("scaling/failed")))
            heard = True


def _stop_listening(listener) -> None:
    _over.set()
    listener.join()


def _all_failed(seconds: float = TOGETHER) -> bool:
    """Whether the other processes end with an error too."""
    try:
        distributed.global_state.client.wait_at_barrier("scaling/failed", int(seconds * 1000))
        return True
    except Exception:
        return False
