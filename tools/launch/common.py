"""What the launchers share: flags, checks, variables to pass on, restarts, printing and running commands."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from absl import app, flags

from experiments import _environment
from scaling.devices.exits import RESTART
from tools.launch import shell
from tools.launch.accelerators import AcceleratorError

# Statuses from here on are deaths by a signal (128 + signal) or, from ssh, a lost connection (255).
SIGNALLED = 128
# Variables that are passed on where they are set, beside SCALING_... (flags and data directory of experiments).
# JAX_PLATFORMS and XLA_FLAGS are not: they describe the devices of the machine on which the launcher runs.
PASSED = ("JAX_COMPILATION_CACHE_DIR", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64", "JAX_DEBUG_NANS",
          "LIBTPU_INIT_ARGS")
INSTALLED_BY = {
    "gcloud": "install the Google Cloud CLI from https://cloud.google.com/sdk/docs/install",
    "git": "install git",
    "kubectl": "gcloud components install kubectl",
    "xpk": "pip install 'xpk>=0.15'",  # the first one with all slices of accelerators.py and --restart-on-exit-codes
    "sky": "pip install 'skypilot>=0.11.2'",  # the first one with recover_on_exit_codes
    "sbatch": "run this on a login node of a SLURM cluster",
    "scancel": "run this on a login node of a SLURM cluster",
    "tail": "install coreutils",
}

NAME = flags.DEFINE_string("name", "scaling", "The name of the job: lower-case letters, digits and hyphens.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands and stop.")
ENV = flags.DEFINE_multi_string(
    "env", [], "A variable for the command: NAME=value, or NAME to take its value from this environment. These are "
    f"always passed on where they are set: {_environment.PREFIX}..., {', '.join(PASSED)}.")
MAX_RESTARTS = flags.DEFINE_integer("max_restarts", 100, "The most times that the command is started again.", lower_bound=0)


class LaunchError(ValueError):
    """An error that the user can mend, in one sentence; exit status 2."""


def restartable(status: int) -> bool:
    """Whether a command with this exit status should be started again."""
    return status == RESTART or status >= SIGNALLED or status < 0


def matches(what: str, text: str, pattern: str, like: str) -> str:
    """`text` itself if all of it matches the pattern; else a LaunchError that shows what it should look like."""
    if not re.fullmatch(pattern, text):
        raise LaunchError(f"{what} {text!r} is not valid; it should look like {like}")
    return text


def check_name(text: str, longest: int = 63) -> str:
    """`text` itself if it is a label of RFC 1035: lower case, a letter first, a letter or digit last."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", text) or len(text) > longest:
        raise LaunchError(f"--name={text!r} is not valid; write 1 to {longest} lower-case letters, digits and "
                          "hyphens, with a letter first and no hyphen last (RFC 1035)")
    return text


def check_zone(text: str) -> str:
    return matches("--zone", text, r"[a-z]+-[a-z]+\d+-([a-z]|ai\d+[a-z])", "us-central1-a")


def check_project(text: str) -> str:
    return matches("--project", text, r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", "my-project-123456")


def check_options(flag: str, options: Iterable[str]) -> list[str]:
    return [matches(f"--{flag}", option, r"--[a-z][a-z0-9-]*(=\S*)?", f"--{flag}=--option=value")
            for option in options]


def choose_steps(steps: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """The steps that were asked for, in the order of `known`."""
    if unknown := [s for s in steps if s not in known]:
        raise LaunchError(f"--steps has no {unknown[0]!r}; it takes {', '.join(known)}")
    return tuple(s for s in known if s in steps)


def variables(asked: Iterable[str], here: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables to pass on: SCALING_..., then PASSED, then those of --env, "NAME=value" or "NAME"."""
    names = [*sorted(name for name in here if name.startswith(_environment.PREFIX)), *PASSED]
    found = {name: here[name] for name in names if here.get(name)}
    for text in asked:
        name, given, value = text.partition("=")
        matches("--env", name, r"[A-Za-z_][A-Za-z0-9_]*", "--env=NAME=value")
        if not given and name not in here:
            raise LaunchError(f"--env={name} takes its value from this environment, where it is not set; "
                              f"write --env={name}=value")
        found[name] = value if given else here[name]
    return found


def words(command: list[str]) -> list[str]:
    """The command with its variables, which env(1) sets without a shell."""
    if not command:
        raise LaunchError("no command is given; write it after two hyphens: -- python -m experiments.run ...")
    found = variables(ENV.value)
    return ["env", *(f"{name}={value}" for name, value in found.items()), *command] if found else command


def require(*binaries: str) -> None:
    """Raises a LaunchError with the way to install the first of these that is not on PATH."""
    for binary in binaries:
        if not shutil.which(binary):
            raise LaunchError(f"{binary} is not on this machine's PATH: {INSTALLED_BY[binary]}")


def show(argv: list[str], comment: str = "") -> None:
    """Prints a command as a user would type it."""
    print(f"# {comment}\n{shell.join(argv)}" if comment else shell.join(argv), flush=True)


def run(argv: list[str], **options) -> int:
    """Runs a command and shows it on standard error; returns its exit status."""
    print(f"+ {shell.join(argv)}", file=sys.stderr, flush=True)
    return subprocess.run(argv, check=False, **options).returncode


def launch(main: Callable[[list[str]], int]) -> None:
    """Runs a launcher. Flags that are not given come from LAUNCH_<NAME>; a mistake is one sentence and status 2."""

    def body(argv: list[str]) -> None:
        try:
            sys.exit(main(argv[1:]))
        except (LaunchError, AcceleratorError) as error:
            _refuse(error)

    app.run(body, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        _environment.insert(argv, "LAUNCH_", pathlib.Path(__file__).parent)
        return flags.FLAGS(argv)
    except flags.Error as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    print("error:", str(error).replace("\n", " "), file=sys.stderr)
    sys.exit(2)
