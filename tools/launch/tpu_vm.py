"""Run a command on every worker of a Cloud TPU VM slice, and again whenever it is preempted.

    python -m tools.launch.tpu_vm --dry_run --name=sweep --accelerator=v5e-16 --zone=us-west4-a \\
        --project=my-project -- python -m experiments.run --config=configs/quickstart.py \\
        --workdir=gs://mine/sweep

prints the commands of gcloud; without --dry_run it runs them. The steps, in order, are those of --steps:

  create   the slice, as a queued resource (--noqueue: at once or not at all), and wait until it is there;
           one that is there already is used, one that was preempted is deleted first
  install  the checkout at --source (what is committed in it, or a git URL with @branch) on all workers, in a
           virtual environment of its own, at ~/launch/NAME
  run      the command on all workers, in the checkout. Exit status 75 of any worker (saved, start me
           again), a death by signal, a lost connection or a slice that is gone start it again,
           --max_restarts times; any other failure ends it with that status
  logs     the last lines of each worker's log
  delete   the slice, once the run has succeeded. It costs money until then: by default it is left

Any flag can come from the environment, as LAUNCH_ZONE and the like. The run itself has to put what it keeps
where all workers and the next slice see it: a --workdir at gs://. Exit status: that of the command; 2 for
flags.
"""

import re
import subprocess
import sys
import time

from absl import flags

from tools.launch import accelerators, common, remote, shell
from tools.launch import pod as pods

STEPS = ("create", "install", "run", "logs", "delete")

_ACCELERATOR = flags.DEFINE_string("accelerator", None, "The slice: v5e-16, v6e-8, v5p-32, v5p:4x4x8.")
_SLICES = flags.DEFINE_integer("slices", 1, "Number of such slices, joined over the data centre network.")
_ZONE = flags.DEFINE_string("zone", None, "Zone with such TPUs and quota for them.")
_PROJECT = flags.DEFINE_string("project", None, "Google Cloud project.")
_RUNTIME = flags.DEFINE_string("runtime_version", "", "TPU software version; the generation's own if empty.")
_CAPACITY = flags.DEFINE_enum("capacity", "on_demand", ["on_demand", "spot", "reserved"],
                              "How the slice is paid for; spot may be preempted.")
_QUEUE = flags.DEFINE_bool("queue", True, "Wait in line for the slice, as a queued resource.")
_CREATE_OPTIONS = flags.DEFINE_multi_string("create_option", [], "A further option of gcloud's create.")
_SOURCE = flags.DEFINE_string("source", ".", "A checkout of this package, or https://.../repo.git@branch.")
_EXTRAS = flags.DEFINE_string("extras", "tpu,gcs", "Extras of the package to install.")
_PYTHON = flags.DEFINE_string("python", "3.12", "Python version on the workers.")
_STEPS = flags.DEFINE_list("steps", ["create", "install", "run"], ", ".join(STEPS))
_POLL = flags.DEFINE_float("poll_seconds", 30.0, "Seconds between looks at a slice that is being made.")


def pod_from_flags() -> pods.Pod:
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
    return pods.Pod(
        name=common.check_name(common.NAME.value), part=part, slices=_SLICES.value,
        runtime=accelerators.check_runtime(part, _RUNTIME.value), queued=_QUEUE.value,
        options=(*capacity, *common.check_options("create_option", _CREATE_OPTIONS.value)),
        place=(f"--zone={common.check_zone(_ZONE.value)}",
               f"--project={common.check_project(_PROJECT.value)}"),
        poll=_POLL.value)


def run_everywhere(argv: list[str]) -> int:
    """Run on all workers, passing on what they say: 0, RESTART if any worker wants that, or gcloud's status.

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


def go(pod: pods.Pod, steps: tuple[str, ...], install: list[list[str]], run: list[str]) -> int:
    """Create, install and run, from the first of these that has to be done again, until it succeeds."""
    status, fresh = 0, bool(install)
    for attempt in range(common.MAX_RESTARTS.value + 1):
        if attempt:
            print(f"status {status}: restart {attempt} of {common.MAX_RESTARTS.value}", file=sys.stderr)
            time.sleep(pod.poll)
        if "create" in steps and pod.bring_up():
            fresh = bool(install)
        status = next(filter(None, map(common.run, install)), 0) if fresh else 0
        fresh = fresh and status != 0
        if not status and "run" in steps:
            status = run_everywhere(run)
        if not status:
            return 0
        up = pod.state() in pods.UP
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
        install = remote.install(pod.name, _SOURCE.value, _EXTRAS.value, _PYTHON.value, copy,
                                 pod.on_all_workers)
    logs = pod.on_all_workers(remote.logs(pod.name))
    if common.DRY_RUN.value:
        chips, workers = pod.part.chips * pod.slices, pod.part.hosts * pod.slices
        print(f"# {pod.slices} x {pod.part.accelerator_type}: {chips} chips, {workers} workers")
        shown = {"create": [(pod.create(), ""), (pod.describe(), f"until it says {pods.UP[not pod.queued]}")],
                 "install": [(argv, "") for argv in install],
                 "run": [(run, f"again on status {common.RESTART} or death by signal, at most "
                               f"{common.MAX_RESTARTS.value} times; if the slice is gone, all of it again")],
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
    except pods.Failed as failed:
        print("error:", failed.args[1], file=sys.stderr)
        return failed.args[0]
    except KeyboardInterrupt:
        print(f"\nstopped watching; the workers of {pod.name} go on. --steps=run has them save and starts "
              "again, --steps=delete ends them", file=sys.stderr)
        return 130


if __name__ == "__main__":
    flags.adopt_module_key_flags(common)
    common.launch(main)
