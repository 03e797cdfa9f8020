"""Run a command on every worker of a Cloud TPU VM slice, and run it again after each preemption.

    python -m tools.launch.tpu_vm --dry_run --name=sweep --accelerator=v5e-16 --zone=us-west4-a \\
        --project=my-project -- python -m experiments.run --config=configs/quickstart.py \\
        --workdir=gs://mine/sweep

prints the commands of gcloud; without --dry_run it runs them. The steps are those of --steps, in this order:

  create   create the slice as a queued resource (with --noqueue: at once or not at all) and wait until it is up. A slice
           that exists is used; one that was preempted is deleted first
  install  install the checkout at --source (its last commit, or a git URL with @branch) on all workers, in its own virtual
           environment, at ~/launch/NAME
  run      run the command on all workers, in the checkout. Exit status 75 of any worker (saved, start me again), a death
           by signal, a lost connection or a lost slice start it again, --max_restarts times; any other failure ends the
           launch with that status
  logs     print the last lines of each worker's log
  delete   delete the slice once the run has succeeded. The default steps leave it running, and it costs money

Any flag can come from the environment, such as LAUNCH_ZONE. The run must keep its files where all workers, and the slice
after a preemption, can see them: give it a --workdir at gs://. Exit status: that of the command, or 2 for wrong flags.
"""

import os
import re
import subprocess
import sys
import tempfile
import time

from absl import flags

from tools.launch import accelerators, common, remote, shell
from tools.launch import pod as pods

STEPS = ("create", "install", "run", "logs", "delete")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST = 7  # days of flex-start: docs.cloud.google.com/tpu/docs/request-using-flex-start

_ACCELERATOR = flags.DEFINE_string("accelerator", None, "The slice: v5e-16, v6e-8, v5p-32, v5p:4x4x8.")
_SLICES = flags.DEFINE_integer("slices", 1, "The number of slices, joined over the data centre network.")
_ZONE = flags.DEFINE_string("zone", None, "A zone that has such TPUs and quota for them.")
_PROJECT = flags.DEFINE_string("project", None, "The Google Cloud project.")
_RUNTIME = flags.DEFINE_string("runtime_version", "", "The TPU software version; empty is the default of the generation.")
_CAPACITY = flags.DEFINE_enum("capacity", "on_demand", ["on_demand", "spot", "reserved", "flex_start"],
                              "How the slice is paid for. A spot slice may be preempted; one of flex-start waits in the "
                              "queue until it is there for all of --max_run_duration, and is gone after it.")
_DURATION = flags.DEFINE_string("max_run_duration", "", "How long a slice of flex-start runs, at most seven days: 10h.")
_QUEUE = flags.DEFINE_bool("queue", True, "Wait for the slice in the queue, as a queued resource.")
_CREATE_OPTIONS = flags.DEFINE_multi_string("create_option", [], "Another option of gcloud's create.")
_SOURCE = flags.DEFINE_string("source", ".", "A checkout of this package, or https://.../repo.git@branch.")
_EXTRAS = flags.DEFINE_string("extras", "tpu,gcs", "The extras of the package to install.")
_PYTHON = flags.DEFINE_string("python", "3.12", "The Python version on the workers.")
_STEPS = flags.DEFINE_list("steps", ["create", "install", "run"], f"Some of {', '.join(STEPS)}.")
_POLL = flags.DEFINE_float("poll_seconds", 30.0, "Seconds between two checks of a slice that is being created.")


def pod_from_flags() -> pods.Pod:
    """The slice that the flags describe; LaunchError where a flag is wrong."""
    for flag in (_ACCELERATOR, _ZONE, _PROJECT):
        if not flag.value:
            raise common.LaunchError(f"--{flag.name} is needed; or set LAUNCH_{flag.name.upper()}")
    part = accelerators.parse(_ACCELERATOR.value)
    if _SLICES.value < 1:
        raise common.LaunchError(f"--slices={_SLICES.value} is too few; write 1 or more")
    if _SLICES.value > 1 and not _QUEUE.value:
        raise common.LaunchError(f"--slices={_SLICES.value} needs a queued resource; leave out --noqueue")
    return pods.Pod(
        name=common.check_name(common.NAME.value), part=part, slices=_SLICES.value,
        runtime=accelerators.check_runtime(part, _RUNTIME.value), queued=_QUEUE.value,
        flex=_CAPACITY.value == "flex_start",
        options=(*capacity(), *common.check_options("create_option", _CREATE_OPTIONS.value)),
        place=(f"--zone={common.check_zone(_ZONE.value)}",
               f"--project={common.check_project(_PROJECT.value)}"),
        poll=_POLL.value)


def capacity() -> list[str]:
    """The options of gcloud that say how the slice is paid for."""
    flex = _CAPACITY.value == "flex_start"
    if _DURATION.value and not flex:
        raise common.LaunchError(f"--max_run_duration={_DURATION.value} needs --capacity=flex_start; other slices run "
                                 "until they are deleted or preempted")
    if not flex:
        return [] if _CAPACITY.value == "on_demand" else [f"--{_CAPACITY.value}"]
    if not _QUEUE.value:
        raise common.LaunchError("--capacity=flex_start waits in the queue; leave out --noqueue")
    if not _DURATION.value:
        raise common.LaunchError("--capacity=flex_start needs --max_run_duration, such as 10h")
    duration = common.matches("--max_run_duration", _DURATION.value, r"[1-9]\d{0,4}[smhd]", "10h")
    if int(duration[:-1]) * SECONDS[duration[-1]] > LONGEST * SECONDS["d"]:
        raise common.LaunchError(f"--max_run_duration={duration} is too long: flex-start gives a slice for at most "
                                 f"{LONGEST} days; write 7d, and the launcher asks for another slice when it is over")
    return ["--provisioning-model=flex-start", f"--max-run-duration={duration}"]


def run_everywhere(argv: list[str]) -> int:
    """Runs a command on all workers and prints what they print. Returns 0, RESTART if any worker wants to start again, or
    the status of gcloud.

    gcloud reports the failure of the first worker only, and when one worker is told to stop, the others fail with statuses
    of their own. So each worker prints its own status.
    """
    print(f"+ {shell.join(argv)}", file=sys.stderr, flush=True)
    statuses = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            statuses += map(int, re.findall(remote.SAID, line))
    if process.returncode and any(map(common.restartable, [process.returncode, *statuses])):
        return common.RESTART
    return process.returncode


def go(pod: pods.Pod, steps: tuple[str, ...], install: list[list[str]], run: list[str]) -> int:
    """Creates, installs and runs, and after a failure repeats the steps that are necessary, until the run succeeds."""
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
    print(f"the launch ended with status {status}; the slice {pod.name} is left running and costs money until "
          "--steps=delete", file=sys.stderr)
    return status


def main(command: list[str]) -> int:
    if common.DRY_RUN.value:  # nothing is written: the shown commands pack the checkout into the current folder
        return launch(command, os.getcwd())
    with tempfile.TemporaryDirectory(prefix="launch-") as folder:  # others can neither guess its name nor write into it
        return launch(command, folder)


def launch(command: list[str], folder: str) -> int:
    """Runs the steps that the flags ask for; a checkout is packed into `folder`."""
    pod, steps = pod_from_flags(), common.choose_steps(_STEPS.value, STEPS)
    run, install = [], []
    if "run" in steps:
        run = pod.on_all_workers(remote.run(pod.name, common.words(command)))
    if "install" in steps:
        archive = os.path.join(folder, remote.packed(pod.name))
        copy = pod.copy_to_all_workers(archive, remote.packed(pod.name))
        install = remote.install(pod.name, _SOURCE.value, _EXTRAS.value, _PYTHON.value, archive, copy,
                                 pod.on_all_workers)
    logs = pod.on_all_workers(remote.logs(pod.name))
    if common.DRY_RUN.value:
        chips, workers = pod.part.chips * pod.slices, pod.part.hosts * pod.slices
        print(f"# {pod.slices} x {pod.part.accelerator_type}: {chips} chips, {workers} workers")
        shown = {"create": [(pod.create(), ""), (pod.describe(), f"until it says {pods.UP[not pod.queued]}")],
                 "install": [(argv, "") for argv in install],
                 "run": [(run, f"again on status {common.RESTART} or death by signal, at most "
                               f"{common.MAX_RESTARTS.value} times; all steps again if the slice is gone")],
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
        print(f"\nstopped watching; the workers of {pod.name} go on. --steps=run tells them to save and starts again; "
              "--steps=delete ends them", file=sys.stderr)
        return 130


if __name__ == "__main__":
    flags.adopt_module_key_flags(common)
    common.launch(main)
