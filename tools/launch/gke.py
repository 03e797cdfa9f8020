"""Run a command as a JobSet on a GKE cluster with TPUs, through xpk.

    python -m tools.launch.gke --dry_run --name=sweep --cluster=tpus --accelerator=v5e-16 --zone=us-west4-a \\
        --project=my-project -- python -m experiments.run --config=configs/quickstart.py \\
        --workdir=gs://mine/sweep

prints the command of xpk; without --dry_run it runs that command. The cluster must come from `xpk cluster create`.
The steps are those of --steps, in this order:

  run      submit the JobSet: every host of every slice runs the command. Unless --docker_image names an image that has the
           package, xpk copies the current directory onto --base_docker_image, and each pod installs the package as it
           starts. When a pod exits with status 75 (saved, start me again) or by a signal, the JobSet starts all pods again,
           --max_restarts times
  logs     print the last lines of every pod, through kubectl, in the context that xpk has set
  delete   delete the JobSet

Any flag can come from the environment, such as LAUNCH_CLUSTER. The run must keep its files where all pods, and the pods
after a restart, can see them: give it a --workdir at gs://. Exit status: that of xpk, or 2 for wrong flags.
"""

from absl import flags

from tools.launch import accelerators, common, shell

_ACCELERATOR = flags.DEFINE_string("accelerator", None, "The slice: v5e-16, v5p-32, v5p:4x4x8, tpu7x-128.")
_SLICES = flags.DEFINE_integer("slices", 1, "The number of slices.")
_CLUSTER = flags.DEFINE_string("cluster", None, "A cluster that xpk made.")
_ZONE = flags.DEFINE_string("zone", None, "The zone of the cluster's TPUs.")
_PROJECT = flags.DEFINE_string("project", None, "The Google Cloud project.")
_IMAGE = flags.DEFINE_string("docker_image", "", "An image that has the package; it is used unchanged.")
_BASE_IMAGE = flags.DEFINE_string("base_docker_image", "python:3.12", "The image onto which this directory is copied.")
_EXTRAS = flags.DEFINE_string("extras", "tpu,gcs", "The extras to install on --base_docker_image.")
_PRIORITY = flags.DEFINE_enum("priority", "medium", ["very-low", "low", "medium", "high", "very-high"],
                              "A workload may preempt those of lower priority.")
_GRACE = flags.DEFINE_integer("grace_seconds", 120, "Seconds that a pod has to save after SIGTERM.", lower_bound=1)
_XPK_OPTIONS = flags.DEFINE_multi_string("xpk_option", [], "Another option of `xpk workload create`.")
_STEPS = flags.DEFINE_list("steps", ["run"], "Some of run, logs, delete.")

STEPS = ("run", "logs", "delete")
# xpk puts the command into YAML, in which Kubernetes expands $(NAME) and $$. So every $ of the user is escaped.
EXPANDED = "$"


def command_line(command: list[str]) -> str:
    """The command line of a pod. It needs `exec`, because xpk passes SIGTERM to this process and to none below it."""
    line = f"exec {shell.join(common.words(command), EXPANDED)}"
    if _IMAGE.value:
        return line
    package = shell.quote(f".[{_EXTRAS.value}]" if _EXTRAS.value else ".")
    return f"pip install --quiet --root-user-action=ignore -e {package} && {line}"


def create(name: str, place: list[str], command: list[str]) -> list[str]:
    part = accelerators.parse(_ACCELERATOR.value)
    if _IMAGE.value:
        image = [f"--docker-image={_image(_IMAGE)}"]
    else:
        image = [f"--base-docker-image={_image(_BASE_IMAGE)}", "--script-dir=."]
    return ["xpk", "workload", "create", f"--workload={name}", *place, f"--tpu-type={part.xpk_type}",
            f"--num-slices={_SLICES.value}", f"--priority={_PRIORITY.value}", *image,
            f"--max-restarts={common.MAX_RESTARTS.value}", f"--restart-on-exit-codes={common.RESTART}",
            f"--termination-grace-period-seconds={_GRACE.value}",
            *common.check_options("xpk_option", _XPK_OPTIONS.value), f"--command={command_line(command)}"]


def _image(flag) -> str:
    return common.matches(f"--{flag.name}", flag.value, r"[a-z0-9][\w.:/@-]*",
                          "us-docker.pkg.dev/project/repo/image:tag")


def main(command: list[str]) -> int:
    for flag in (_ACCELERATOR, _CLUSTER, _ZONE, _PROJECT):
        if not flag.value:
            raise common.LaunchError(f"--{flag.name} is needed; or set LAUNCH_{flag.name.upper()}")
    if _SLICES.value < 1:
        raise common.LaunchError(f"--slices={_SLICES.value} is too few; write 1 or more")
    steps = common.choose_steps(_STEPS.value, STEPS)
    common.matches("--extras", _EXTRAS.value, r"[a-z0-9]+(,[a-z0-9]+)*|", "tpu,gcs")
    name = common.check_name(common.NAME.value, longest=40)  # xpk's limit
    cluster = common.matches("--cluster", _CLUSTER.value, r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", "my-cluster")
    place = [f"--cluster={cluster}", f"--zone={common.check_zone(_ZONE.value)}",
             f"--project={common.check_project(_PROJECT.value)}"]
    commands = {
        "run": create(name, place, command) if "run" in steps else [],
        "logs": ["kubectl", "logs", "--namespace=default", f"--selector=xpk.google.com/workload={name}",
                 "--all-containers", "--prefix", "--tail=100"],
        "delete": ["xpk", "workload", "delete", f"--workload={name}", *place, "--force"]}
    if common.DRY_RUN.value:
        part = accelerators.parse(_ACCELERATOR.value)
        print(f"# {_SLICES.value} x {part.xpk_type}: {part.chips * _SLICES.value} chips")
        for step in steps:
            common.show(commands[step], step)
        return 0
    common.require(*{commands[step][0]: None for step in steps})
    return next(filter(None, (common.run(commands[step]) for step in steps)), 0)


if __name__ == "__main__":
    flags.adopt_module_key_flags(common)
    common.launch(main)
