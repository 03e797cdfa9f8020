"""Run a command on GPUs under SLURM, and again whenever the job is preempted or out of time.

    python -m tools.launch.slurm --dry_run --name=sweep --nodes=2 --gpus=8 --time=12:00:00 \\
        --setup='source ~/venv/bin/activate' -- python -m experiments.run --config=configs/quickstart.py \\
        --workdir=/shared/sweep

prints the batch script; without --dry_run the script is submitted from the current directory.

A job on one node is one process with all GPUs of the node. A job on several nodes has one process per GPU, as
jax.distributed expects under SLURM. --tasks_per_node changes this, and each process then gets its share of the GPUs
(JAX_LOCAL_DEVICE_IDS). A program that calls jax.distributed.initialize finds its other processes by the variables of srun.
SIGTERM reaches all processes --grace_seconds before the time limit. A job that exits with status 75 (saved, start me
again) or by a signal is requeued, --max_restarts times; SLURM itself requeues a job that it preempts or whose node fails.
Output is appended to NAME.out across restarts.

With --shards=8 the job is an array of eight jobs on --nodes nodes each. The command of job i gets --shard=i/8, i from 0 to
7. With this flag of experiments.run, each job trains its share of a sweep into one workdir.

--steps=logs prints the last lines of the output, and --steps=delete cancels the job. Any flag can come from the
environment, such as LAUNCH_PARTITION. Exit status: that of sbatch, or 2 for wrong flags.
"""

import getpass

from absl import flags

from tools.launch import common, shell

_NODES = flags.DEFINE_integer("nodes", 1, "The nodes of one job.")
_GPUS = flags.DEFINE_integer("gpus", 1, "The GPUs of one node.")
_CPUS = flags.DEFINE_integer("cpus_per_task", 0, "The cores of one process; 0 leaves this to SLURM.")
_TASKS = flags.DEFINE_integer("tasks_per_node", 0, "Processes per node; 0 is one on one node, and one per GPU on several.")
_TIME = flags.DEFINE_string("time", "", "The time limit as SLURM writes it: 90 (minutes), 12:00:00, 1-12.")
_PARTITION = flags.DEFINE_string("partition", "", "The partition; empty is the cluster's default.")
_ACCOUNT = flags.DEFINE_string("account", "", "The account to charge.")
_SHARDS = flags.DEFINE_integer("shards", 0, "The jobs of an array that share the sweep; 0 is one job and no array.")
_GRACE = flags.DEFINE_integer("grace_seconds", 120, "Seconds between SIGTERM and the time limit.", lower_bound=1)
_SETUP = flags.DEFINE_string("setup", "", "A line of shell to run before the command, such as module load or source.")
_SBATCH_OPTIONS = flags.DEFINE_multi_string("sbatch_option", [], "Another option of sbatch, such as --mem=0.")
_STEPS = flags.DEFINE_list("steps", ["run"], "Some of run, logs, delete.")

STEPS = ("run", "logs", "delete")
MARK = "END_OF_SCRIPT"
WORD = r"[\w.,-]+"


def script(name: str, command: list[str]) -> str:
    """The batch script. Only the line of --setup is shell of the user."""
    tasks = _TASKS.value or (1 if _NODES.value == 1 else _GPUS.value)
    options = [f"--job-name={name}", f"--nodes={_NODES.value}", f"--ntasks-per-node={tasks}",
               f"--gpus-per-node={_GPUS.value}", "--requeue", "--open-mode=append",
               f"--output={output(name, '%a')}", f"--signal=TERM@{_GRACE.value}"]
    step = ["srun"]
    if _CPUS.value:
        options.append(f"--cpus-per-task={_CPUS.value}")
        step.append(f"--cpus-per-task={_CPUS.value}")  # srun does not inherit it from sbatch
    for flag, form, like in ((_TIME, r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}", "12:00:00"),
                             (_PARTITION, WORD, "gpu"), (_ACCOUNT, WORD, "my-account")):
        if flag.value:
            options.append(f"--{flag.name}={common.matches(f'--{flag.name}', flag.value, form, like)}")
    if tasks * _NODES.value > 1 and tasks != _GPUS.value:
        step += ["bash", "-c", share(_GPUS.value // tasks), "launch"]
    line = shell.join([*step, *common.words(command)])
    if _SHARDS.value:
        options.append(f"--array=0-{_SHARDS.value - 1}")
        line += f' --shard="$SLURM_ARRAY_TASK_ID/{_SHARDS.value}"'
    options += common.check_options("sbatch_option", _SBATCH_OPTIONS.value)
    return "\n".join([
        "#!/bin/bash", *(f"#SBATCH {option}" for option in options),
        *([_SETUP.value] if _SETUP.value else []), line, "status=$?",
        f"# {common.RESTART}: saved, start again; {common.SIGNALLED} and above: died by a signal",
        f"if [ $status -eq {common.RESTART} ] || [ $status -ge {common.SIGNALLED} ]; then",
        f'  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {common.MAX_RESTARTS.value} ]; then',
        '    scontrol requeue "$SLURM_JOB_ID" && exit 0',
        "  fi", "fi", "exit $status", ""])


def share(gpus: int) -> str:
    """A script that runs its arguments on `gpus` GPUs of this process. Without it JAX would take one, by the number of the
    process on its node."""
    first = f"SLURM_LOCALID * {gpus}"
    return f'export JAX_LOCAL_DEVICE_IDS=$(seq -s, $(({first})) $(({first} + {gpus - 1}))); exec "$@"'


def output(name: str, index: str) -> str:
    return f"{name}-{index}.out" if _SHARDS.value else f"{name}.out"


def check(command: list[str]) -> None:
    for flag in (_NODES, _GPUS):
        if flag.value < 1:
            raise common.LaunchError(f"--{flag.name}={flag.value} is too few; write 1 or more")
    for flag in (_CPUS, _TASKS, _SHARDS):
        if flag.value < 0:
            raise common.LaunchError(f"--{flag.name}={flag.value} is negative; write 0 or more")
    if _GPUS.value > 16:
        raise common.LaunchError(f"--gpus={_GPUS.value} is more than one node has; raise --nodes instead")
    if _TASKS.value and _GPUS.value % _TASKS.value:
        raise common.LaunchError(f"--tasks_per_node={_TASKS.value} does not divide --gpus={_GPUS.value}")
    if _SHARDS.value and any(word.split("=")[0] in ("--shard", "-shard") for word in command):
        raise common.LaunchError("--shards adds --shard to the command, which has one already; leave one of them out")
    if not _SETUP.value.isprintable() or _SETUP.value == MARK:
        raise common.LaunchError("--setup must be one line of shell; join commands with && or ;")


def main(command: list[str]) -> int:
    check(command)
    name, steps = common.check_name(common.NAME.value), common.choose_steps(_STEPS.value, STEPS)
    text = script(name, command) if "run" in steps else ""
    outputs = [output(name, str(i)) for i in range(max(_SHARDS.value, 1))]
    commands = {"run": ["sbatch"], "logs": ["tail", "-n", "100", *outputs],
                "delete": ["scancel", f"--user={getpass.getuser()}", f"--name={name}"]}
    given = {"run": {"input": text, "text": True}}
    if common.DRY_RUN.value:
        for step in steps:
            if step == "run":
                print(f"sbatch <<'{MARK}'\n{text}{MARK}")
            else:
                common.show(commands[step], step)
        return 0
    common.require(*(commands[step][0] for step in steps))
    return next(filter(None, (common.run(commands[step], **given.get(step, {})) for step in steps)), 0)


if __name__ == "__main__":
    flags.adopt_module_key_flags(common)
    common.launch(main)
