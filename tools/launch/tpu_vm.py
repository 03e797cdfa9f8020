"""Run a command on every worker of a Cloud TPU VM slice, and again whenever it is preempted.

    python -m tools.launch.tpu_vm --dry_run --name=sweep --accelerator=v5e-16 --zone=us-west4-a \\
        --project=my-project -- python -m experiments.run --config=configs/quickstart.py --workdir=gs://mine/sweep

prints the commands of gcloud; without --dry_run it runs them. The steps, in order, are those of --steps:

  create   the slice, as a queued resource (--noqueue: at once or not at all), and wait until it is there;
           one that is there already is used, one that was preempted is deleted first
  install  the checkout at --source (what is committed in it, or a git URL with @branch) on all workers, in a
           virtual environment of its own, at ~/launch/NAME
  run      the command on all workers, in the checkout. Exit status 75 of any worker (saved, start me again), a
           death by signal, a lost connection or a slice that is gone start it again, --max_restarts times;
           any other failure ends it with that status
  logs     the last lines of each worker's log
  delete   the slice, once the run has succeeded. It costs money until then: by default it is left

Any flag can come from the environment, as LAUNCH_ZONE and the like. The run itself has to put what it keeps
where all workers and the next slice see it: a --workdir at gs://. Exit status: that of the command, 2 for flags.
"""

import re
import subprocess
import sys
import time
from typing import NamedTuple

from absl import flags

from tools.launch import accelerators, common, remote, shell

_ACCELERATOR = flags.DEFINE_string("accelerator", None, "The slice, such as v5e-16, v6e-8, v5p-32 or v5p:4x4x8.")
_SLICES = flags.DEFINE_integer("slices", 1, "Number of such slices, joined over the data centre network.")
_ZONE = flags.DEFINE_string("zone", None, "Zone with such TPUs and quota for them.")
_PROJECT = flags.DEFINE_string("project", None, "Google Cloud project.")
_RUNTIME = flags.DEFINE_string("runtime_version", "", "TPU software version; that of the generation if empty.")
_CAPACITY = flags.DEFINE_enum("capacity", "on_demand", ["on_demand", "spot", "reserved"],
                              "How the slice is paid for; spot may be preempted.")
_QUEUE = flags.DEFINE_bool("queue", True, "Wait in line for the slice, as a queued resource.")
_CREATE_OPTIONS = flags.DEFINE_multi_string("create_option", [], "A further option of gcloud's create command.")
_SOURCE = flags.DEFINE_string("source", ".", "A checkout of this package, or https://.../repo.git@branch.")
_EXTRAS = flags.DEFINE_string("extras", "tpu,gcs", "Extras of the package to install.")
_PYTHON = flags.DEFINE_string("python", "3.12", "Python version on the workers.")
_STEPS = flags.DEFINE_list("steps", ["create", "install", "run"], "Any of create, install, run, logs, delete.")
_POLL = flags.DEFINE_float("poll_seconds", 30.0, "Seconds between looks at a slice that is being made.")

STEPS = ("create", "install", "run", "logs", "delete")
UP = ("ACTIVE", "READY")
LEAVING = ("SUSPENDING", "DELETING", "STOPPING")  # nothing can be done with it until it has gone
GONE = ("", "FAILED", "SUSPENDED", "PREEMPTED", "TERMINATED", "STOPPED")


class Pod(NamedTuple):
    """One slice, or several joined, and the gcloud commands that act on it."""

    name: str
    part: accelerators.Slice
    slices: int
    runtime: str
    queued: bool
    options: tuple[str, ...]  # of the create command: capacity and what the user adds
    place: tuple[str, ...]  # --zone and --project

    def _gcloud(self, group: str, verb: str, *rest: str, track: tuple[str, ...] = ()) -> list[str]:
        return ["gcloud", *track, "compute", "tpus", group, verb, *rest, *self.place]

    @property
    def _group(self) -> str:
        return "queued-resources" if self.queued else "tpu-vm"

    def create(self) -> list[str]:
        shape, track = [f"--accelerator-type={self.part.accelerator_type}"], ()
        if self.part.topology:  # gcloud's released commands know types up to v4 only
            shape = [f"--type={self.part.of.cloud}", f"--topology={self.part.topology}"]
            track = ("alpha",)
        if not self.queued:
            nodes = [f"--version={self.runtime}"]
        elif self.slices == 1:
            nodes = [f"--runtime-version={self.runtime}", f"--node-id={self.name}"]
        else:
            nodes = [f"--runtime-version={self.runtime}", f"--node-count={self.slices}",
                     f"--node-prefix={self.name}"]
        return self._gcloud(self._group, "create", self.name, *shape, *nodes, *self.options, track=track)

    def describe(self) -> list[str]:
        field = "state.state" if self.queued else "state"
        return self._gcloud(self._group, "describe", self.name, f"--format=value({field})")

    def describe_nodes(self) -> list[list[str]]:
        """A queued resource may say ACTIVE for a while after its nodes have been preempted; these say more."""
        nodes = [self.name] if self.slices == 1 else [f"{self.name}-{i}" for i in range(self.slices)]
        return [self._gcloud("tpu-vm", "describe", node, "--format=value(state)") for node in nodes]

    def delete(self) -> list[str]:
        return self._gcloud(self._group, "delete", self.name, *["--force"] * self.queued, "--quiet")

    def _reach(self) -> tuple[str, list[str]]:
        """The command group and options that address every worker, all at once.

        Those of queued resources go through workers in batches of 64 by default, and the first batch of a
        run would wait for the others for ever.
        """
        if self.slices == 1:
            return "tpu-vm", ["--worker=all"]
        return "queued-resources", ["--node=all", "--worker=all", "--batch-size=all"]

    def on_all_workers(self, script: str) -> list[str]:
        group, everyone = self._reach()
        return self._gcloud(group, "ssh", self.name, *everyone, f"--command={shell.bash(script)}")

    def copy_to_all_workers(self, path: str, to: str) -> list[str]:
        group, everyone = self._reach()
        return self._gcloud(group, "scp", path, f"{self.name}:{to}", *everyone)

    def state(self) -> str:
        """As gcloud names it: that of the first part that is not up. Empty where there is no such slice."""
        state = _answer(self.describe())
        if state in UP and self.queued:
            state = next((s for s in map(_answer, self.describe_nodes()) if s not in UP), state)
        return state

    def bring_up(self) -> bool:
        """Wait until the slice is up, making it if need be; whether it was made just now."""
        state, made = self._wait(LEAVING), False
        if state in GONE:
            if state:
                common.run(self.delete())
            if status := common.run(self.create()):
                raise Failed(status, f"the slice {self.name} could not be created; gcloud says why above")
            state, made = self.state(), True
        while state not in UP:
            if state in GONE + LEAVING:
                raise Failed(1, f"the slice {self.name} is {state or 'not to be found'}; look at it with "
                                f"{shell.join(self._gcloud(self._group, 'describe', self.name))}")
            time.sleep(_POLL.value)
            state = self.state()
        return made

    def _wait(self, states: tuple[str, ...]) -> str:
        while (state := self.state()) in states:
            time.sleep(_POLL.value)
        return state


class Failed(Exception):
    """gcloud could not do its part: the exit status, and what to tell the user."""


def _answer(argv: list[str]) -> str:
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    return found.stdout.strip().rpartition("/")[2] if found.returncode == 0 else ""


def pod_from_flags() -> Pod:
    """What the flags ask for, checked."""
    for flag in (_ACCELERATOR, _ZONE, _PROJECT):
        if not flag.value:
            raise common.LaunchError(f"--{flag.name} is needed; or set LAUNCH_{flag.name.upper()}")
    part = accelerators.parse(_ACCELERATOR.value)
    if _SLICES.value < 1:
        raise common.LaunchError(f"--slices={_SLICES.value} is not a number of slices; it starts at 1")
    if _SLICES.value > 1 and not _QUEUE.value:
        raise common.LaunchError(f"--slices={_SLICES.value} needs a queued resource; leave out --noqueue")
    capacity = [] if _CAPACITY.value == "on_demand" else [f"--{_CAPACITY.value}"]
    return Pod(name=common.check_name(common.NAME.value), part=part, slices=_SLICES.value,
               runtime=accelerators.check_runtime(part, _RUNTIME.value), queued=_QUEUE.value,
               options=(*capacity, *common.check_options("create_option", _CREATE_OPTIONS.value)),
               place=(f"--zone={common.check_zone(_ZONE.value)}",
                      f"--project={common.check_project(_PROJECT.value)}"))


def run_everywhere(argv: list[str]) -> int:
    """Run on all workers, passing on what they say. 0; RESTART if any worker wants that; else gcloud's status.

    gcloud reports the first worker's failure only, and where one worker is told to stop the others fail with
    statuses of their own: so each says its own.
    """
    print(f"+ {shell.join(argv)}", file=sys.stderr, flush=True)
    statuses = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            statuses += map(int, re.findall(remote.SAID, line))
    if process.returncode and any(map(common.restartable, [process.returncode, *statuses])):
        return common.RESTART
    return process.returncode


def go(pod: Pod, steps: tuple[str, ...], install: list[list[str]], run: list[str]) -> int:
    """Create, install and run, from the first of these that has to be done again, until it succeeds."""
    fresh = bool(install)
    for attempt in range(common.MAX_RESTARTS.value + 1):
        if attempt:
            print(f"status {status}: restart {attempt} of at most {common.MAX_RESTARTS.value}", file=sys.stderr)
            time.sleep(_POLL.value)
        if "create" in steps and pod.bring_up():
            fresh = bool(install)
        status = next(filter(None, map(common.run, install)), 0) if fresh else 0
        fresh = fresh and status != 0
        if not status and "run" in steps:
            status = run_everywhere(run)
        if not status:
            return 0
        up = pod.state() in UP
        if not (common.restartable(status) if up else "create" in steps):
            break
    print(f"it ended with status {status}; the slice {pod.name} is left as it is, and costs money until "
          "--steps=delete", file=sys.stderr)
    return status


def main(command: list[str]) -> int:
    pod, steps = pod_from_flags(), common.choose_steps(_STEPS.value, STEPS)
    run, install = [], []
    if "run" in steps:
        run = pod.on_all_workers(remote.run(pod.name, common.words(command)))
    if "install" in steps:
        copy = pod.copy_to_all_workers(remote.archive(pod.name), remote.packed(pod.name))
        install = remote.install(pod.name, _SOURCE.value, _EXTRAS.value, _PYTHON.value, copy, pod.on_all_workers)
    logs = pod.on_all_workers(remote.logs(pod.name))
    if common.DRY_RUN.value:
        workers = pod.part.hosts * pod.slices
        print(f"# {pod.slices} x {pod.part.accelerator_type}: {pod.part.chips * pod.slices} chips, {workers} workers")
        shown = {"create": [(pod.create(), ""), (pod.describe(), f"until it says {UP[not pod.queued]}")],
                 "install": [(argv, "") for argv in install],
                 "run": [(run, f"again, at most {common.MAX_RESTARTS.value} times, on status {common.RESTART} or "
                               "death by signal; with create and install if the slice is gone")],
                 "logs": [(logs, "")], "delete": [(pod.delete(), "")]}
        for step in steps:
            for argv, comment in shown[step]:
                common.show(argv, f"{step}: {comment}" if comment else step)
        return 0
    common.require("gcloud", *(argv[0] for argv in install))
    try:
        status = go(pod, steps, install, run)
        if "logs" in steps:
            common.run(logs)
        return status or (common.run(pod.delete()) if "delete" in steps else 0)
    except Failed as failed:
        print("error:", failed.args[1], file=sys.stderr)
        return failed.args[0]
    except KeyboardInterrupt:
        print(f"\nstopped watching; the workers of {pod.name} go on. --steps=run has them save and starts again, "
              "--steps=delete ends them", file=sys.stderr)
        return 130


if __name__ == "__main__":
    flags.adopt_module_key_flags(common)
    common.launch(main)
