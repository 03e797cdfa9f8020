"""Run a command on GPUs under SLURM, and again whenever the job is preempted or out of time.

    python -m tools.launch.slurm --dry_run --name=sweep --nodes=2 --gpus=8 --time=12:00:00 \\
        --setup='source ~/venv/bin/activate' -- python -m experiments.run --config=configs/quickstart.py \\
        --workdir=/shared/sweep

prints the batch script as sbatch is given it; without --dry_run it is submitted from the present directory.

One node is one process with all its GPUs; several nodes are one process for each GPU, which is what
jax.distributed expects of SLURM. --tasks_per_node says otherwise, and each process is then told its share of
the GPUs (JAX_LOCAL_DEVICE_IDS). A program that calls jax.distributed.initialize finds its other processes by
what srun sets. SIGTERM reaches them --grace_seconds before the time is up. A job that exits with status 75 (saved,
start me again) or by a signal is requeued, --max_restarts times; one that SLURM preempts or whose node fails is
requeued by SLURM. Output is appended to NAME.out across restarts.

With --shards=8 the job is an array of eight, each of --nodes nodes, and the command gets --shard=i/8, i from
0 to 7: an option of experiments.run, by which each job takes its own share of a sweep's runs into one
workdir.

--steps=logs shows the last lines of the output, --steps=delete cancels the job. Any flag can come from the
environment, as LAUNCH_PARTITION and the like. Exit status: that of sbatch, 2 for flags.
"""

import getpass

from absl import flags

from tools.launch import common, shell

_NODES = flags.DEFINE_integer("nodes", 1, "Nodes of one job.")
_GPUS = flags.DEFINE_integer("gpus", 1, "GPUs of one node.")
_CPUS = flags.DEFINE_integer("cpus_per_task", 0, "Cores of one process; 0 leaves it to SLURM.")
_TASKS = flags.DEFINE_integer("tasks_per_node", 0, "Processes on a node; 0: one, or one a GPU on several.")
_TIME = flags.DEFINE_string("time", "", "Time limit as SLURM writes it: 90 (minutes), 12:00:00, 1-12.")
_PARTITION = flags.DEFINE_string("partition", "", "Partition; the cluster's default if empty.")
_ACCOUNT = flags.DEFINE_string("account", "", "Account to charge.")
_SHARDS = flags.DEFINE_integer("shards", 0, "Jobs of an array that share the sweep; 0 is one job, no array.")
_GRACE = flags.DEFINE_integer("grace_seconds", 120, "Seconds from SIGTERM to the time limit.", lower_bound=1)
_SETUP = flags.DEFINE_string("setup", "", "A line of shell before the command: module load, source.")
_SBATCH_OPTIONS = flags.DEFINE_multi_string("sbatch_option", [], "A further option of sbatch: --mem=0.")
_STEPS = flags.DEFINE_list("steps", ["run"], "Any of run, logs, delete.")

STEPS = ("run", "logs", "delete")
MARK = "END_OF_SCRIPT"
WORD = r"[\w.,-]+"


def script(name: str, command: list[str]) -> str:
    """The batch script. No line of it is the user's, except that of --setup."""
    tasks = _TASKS.value or (1 if _NODES.value == 1 else _GPUS.value)
    options = [f"--job-name={name}", f"--nodes={_NODES.value}", f"--ntasks-per-node={tasks}",
               f"--gpus-per-node={_GPUS.value}", "--requeue", "--open-mode=append",
               f"--output={output(name, '%a')}", f"--signal=TERM@{_GRACE.value}"]
    step = ["srun"]
    if _CPUS.value:
        options.append(f"--cpus-per-task={_CPUS.value}")
        step.append(f"--cpus-per-task={_CPUS.value}")  # srun does not take it over from sbatch
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
        *[_SETUP.value] * bool(_SETUP.value), line, "status=$?",
        f"# {common.RESTART}: saved, to be started again; {common.SIGNALLED} and above: died by a signal",
        f"if [ $status -eq {common.RESTART} ] || [ $status -ge {common.SIGNALLED} ]; then",
        f'  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {common.MAX_RESTARTS.value} ]; then',
        '    scontrol requeue "$SLURM_JOB_ID" && exit 0',
        "  fi", "fi", "exit $status", ""])


def share(gpus: int) -> str:
    """A script that runs its arguments on this process's GPUs; JAX takes one, by the number of the process,
    unless it is told."""
    first = f"SLURM_LOCALID * {gpus}"
    return f'export JAX_LOCAL_DEVICE_IDS=$(seq -s, $(({first})) $(({first} + {gpus - 1}))); exec "$@"'


def output(name: str, index: str) -> str:
    return f"{name}-{index}.out" if _SHARDS.value else f"{name}.out"


def check(command: list[str]) -> None:
    for flag in (_NODES, _GPUS):
        if flag.value < 1:
            raise common.LaunchError(f"--{flag.name}={flag.value} is too few; it starts at 1")
    for flag in (_CPUS, _TASKS, _SHARDS):
        if flag.value < 0:
            raise common.LaunchError(f"--{flag.name}={flag.value} is negative; 0 leaves it out")
    if _GPUS.value > 16:
        raise common.LaunchError(f"--gpus={_GPUS.value} is more than a node has; more of them need --nodes")
    if _TASKS.value and _GPUS.value % _TASKS.value:
        raise common.LaunchError(f"--tasks_per_node={_TASKS.value} does not divide --gpus={_GPUS.value}")
    if _SHARDS.value and any(word.split("=")[0] in ("--shard", "-shard") for word in command):
        raise common.LaunchError("--shards adds --shard to the command, which already has one")
    if not _SETUP.value.isprintable() or _SETUP.value == MARK:
        raise common.LaunchError("--setup has to be one line of shell; join commands with && or ;")


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
