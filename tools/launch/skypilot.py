"""Run a command as a managed job of SkyPilot, on TPU slices or GPUs of any cloud that it knows.

    python -m tools.launch.skypilot --dry_run --name=sweep --accelerator=v5e-16 --infra=gcp/us-west4 --spot -- \\
        python -m experiments.run --config=configs/quickstart.py --workdir=gs://mine/sweep
    python -m tools.launch.skypilot --dry_run --name=sweep --accelerator=H100:8 --nodes=2 -- <command>

prints the YAML of the job and the command of SkyPilot; without --dry_run it submits the job. SkyPilot copies the current
directory to the machines, without what .skyignore lists. The steps are those of --steps, in this order:

  run      submit the job. Its setup installs the package in a virtual environment of its own. Every node, and every host of
           a slice, runs the command. SkyPilot starts the job again, on new machines where it must, after a preemption or a
           lost machine, and when a process exits with status 75 (saved, start me again). It does so as often as it takes,
           since it counts no such restarts. A death by a signal on machines that are well ends the job
  logs     print the last lines of the job
  delete   cancel the job

Processes on several nodes of GPUs find each other through SCALING_COORDINATOR, SCALING_PROCESSES and SCALING_PROCESS, which
the job sets to what SkyPilot says of its nodes; those of a TPU slice ask the slice. Any flag can come from the environment,
such as LAUNCH_INFRA. The run must keep its files where all machines, and those after a restart, can see them: give it a
--workdir in a bucket. Exit status: that of sky, or 2 for wrong flags.
"""

import pathlib
import re
import tempfile

import yaml
from absl import flags

from tools.launch import accelerators, common, shell

_ACCELERATOR = flags.DEFINE_string("accelerator", "", "A TPU slice by its size (v5e-16, v6e-8, v5p-32), or the GPUs of one "
                                   "node as SkyPilot writes them (H100:8, A100-80GB:4).")
_NODES = flags.DEFINE_integer("nodes", 1, "The nodes with GPUs; a TPU slice is one.")
_INFRA = flags.DEFINE_string("infra", "", "Where: gcp/us-west4, aws, k8s/my-context. Empty leaves it to SkyPilot.")
_SPOT = flags.DEFINE_bool("spot", False, "Machines that may be preempted, which cost less.")
_RUNTIME = flags.DEFINE_string("runtime_version", "", "The TPU software version; empty is the default of the generation.")
_EXTRAS = flags.DEFINE_string("extras", "", "The extras of the package; empty is tpu,gcs on TPUs and gpu,gcs on GPUs.")
_PYTHON = flags.DEFINE_string("python", "3.12", "The Python version on the machines.")
_SKY_OPTIONS = flags.DEFINE_multi_string("sky_option", [], "Another option of `sky jobs launch`, such as --priority=10.")
_STEPS = flags.DEFINE_list("steps", ["run"], "Some of run, logs, delete.")

STEPS = ("run", "logs", "delete")
MARK = "END_OF_TASK"
GPUS = r"[A-Z][A-Za-z0-9-]*:[1-9]\d?"
PORT = 8476  # of process 0
PEERS = ('export SCALING_COORDINATOR="$(head -n 1 <<< "$SKYPILOT_NODE_IPS"):%d" '
         'SCALING_PROCESSES="$SKYPILOT_NUM_NODES" SCALING_PROCESS="$SKYPILOT_NODE_RANK"')


class _Dumper(yaml.SafeDumper):
    """Scripts are blocks of lines in the YAML, so that people can read them."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(
    "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None))


def task(name: str, command: list[str]) -> str:
    """The YAML of the job. Nothing in it is shell of the user: the words of the command are quoted."""
    peers = [PEERS % PORT] if _NODES.value > 1 else []
    resources = {**({"infra": _infra()} if _INFRA.value else {}), **_devices(), "use_spot": _SPOT.value,
                 "job_recovery": {"max_restarts_on_errors": 0, "recover_on_exit_codes": [common.RESTART]}}
    content = {"name": name, "workdir": ".", "num_nodes": _NODES.value, "resources": resources, "setup": _setup(name),
               "run": "\n".join([f". ~/launch/{name}/venv/bin/activate", *peers,
                                 shell.join(common.words(command)), ""])}
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1_000_000)


def _on_gpus() -> bool:
    return re.fullmatch(GPUS, _ACCELERATOR.value) is not None


def _infra() -> str:
    return common.matches("--infra", _INFRA.value, r"[a-z0-9]+(/[\w.*@:-]+){0,2}", "gcp/us-west4/us-west4-a")


def _devices() -> dict:
    if _on_gpus():
        return {"accelerators": _ACCELERATOR.value}
    part = accelerators.parse(_ACCELERATOR.value)
    if part.topology:
        raise common.LaunchError(f"--accelerator={_ACCELERATOR.value} names a shape, and SkyPilot takes sizes alone; write "
                                 f"--accelerator={part.generation}-{part.chips * part.of.cores}")
    return {"accelerators": f"tpu-{part.accelerator_type}",
            "accelerator_args": {"runtime_version": accelerators.check_runtime(part, _RUNTIME.value)}}


def _setup(name: str) -> str:
    extras = _EXTRAS.value or ("gpu,gcs" if _on_gpus() else "tpu,gcs")
    common.matches("--extras", extras, r"[a-z0-9]+(,[a-z0-9]+)*", "gpu,gcs")
    python = common.matches("--python", _PYTHON.value, r"3\.\d+(\.\d+)?", "3.12")
    return "\n".join(["set -e", "export PATH=$HOME/.local/bin:$PATH",
                      "command -v uv > /dev/null || python3 -m pip install -q --user uv",
                      f"[ -d ~/launch/{name}/venv ] || uv venv -q --python={python} ~/launch/{name}/venv",
                      f". ~/launch/{name}/venv/bin/activate", f"uv pip install -q -e {shell.quote(f'.[{extras}]')}", ""])


def check() -> None:
    if not _ACCELERATOR.value:
        raise common.LaunchError("--accelerator is needed: v5e-16 for a TPU slice, H100:8 for GPUs; or set "
                                 "LAUNCH_ACCELERATOR")
    if _NODES.value < 1 or (not _on_gpus() and _NODES.value > 1):
        raise common.LaunchError(f"--nodes={_NODES.value} is not possible; write 1 or more with GPUs such as "
                                 "--accelerator=H100:8, and leave it out for a TPU slice, whose hosts come with its size")
    if _on_gpus() and _RUNTIME.value:
        raise common.LaunchError(f"--runtime_version={_RUNTIME.value} is that of a TPU slice; leave it out with GPUs")
    if flags.FLAGS["max_restarts"].present:
        raise common.LaunchError("--max_restarts has no use here, since SkyPilot does not count the restarts after status "
                                 f"{common.RESTART}; leave it out, and LAUNCH_MAX_RESTARTS unset")


def main(command: list[str]) -> int:
    check()
    name, steps = common.check_name(common.NAME.value), common.choose_steps(_STEPS.value, STEPS)
    text, file = task(name, command) if "run" in steps else "", f"{name}.sky.yaml"
    options = common.check_options("sky_option", _SKY_OPTIONS.value)
    commands = {"run": ["sky", "jobs", "launch", "--yes", *options, file],
                "logs": ["sky", "jobs", "logs", f"--name={name}", "--no-follow", "--tail=100"],
                "delete": ["sky", "jobs", "cancel", "--yes", f"--name={name}"]}
    if common.DRY_RUN.value:
        for step in steps:
            if step == "run":
                print(f"cat > {file} <<'{MARK}'\n{text}{MARK}")
            common.show(commands[step], step)
        return 0
    common.require("sky")
    with tempfile.TemporaryDirectory(prefix="launch-") as folder:  # the working directory of sky stays this one
        path = pathlib.Path(folder) / file
        path.write_text(text, encoding="utf-8")
        commands["run"][-1] = str(path)
        return next(filter(None, (common.run(commands[step]) for step in steps)), 0)


if __name__ == "__main__":
    flags.adopt_module_key_flags(common)
    common.launch(main)
