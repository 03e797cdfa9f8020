"""What the launchers share: flags, checks, what is passed on, when to start again, printing and running."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping

from absl import app, flags

from experiments import _environment
from scaling.devices.exits import RESTART
from tools.launch import shell
from tools.launch.accelerators import AcceleratorError

# A status from here on is death by a signal (128 + signal) or, from ssh, a lost connection (255).
SIGNALLED = 128
# Passed on where set, besides the flags and the data directory of experiments (SCALING_...). Not JAX_PLATFORMS or
# XLA_FLAGS: those describe the devices of the machine one types on.
PASSED = ("JAX_COMPILATION_CACHE_DIR", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64", "JAX_DEBUG_NANS",
          "LIBTPU_INIT_ARGS")
INSTALLED_BY = {
    "gcloud": "install the Google Cloud CLI from https://cloud.google.com/sdk/docs/install",
    "git": "install git",
    "kubectl": "gcloud components install kubectl",
    "xpk": "pip install xpk",
    "sbatch": "run this on a login node of a SLURM cluster",
    "scancel": "run this on a login node of a SLURM cluster",
    "tail": "install coreutils",
}

NAME = flags.DEFINE_string("name", "scaling", "Name of the job: lower-case letters, digits and hyphens.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands and stop.")
ENV = flags.DEFINE_multi_string(
    "env", [], "A variable for the command: NAME=value, or NAME to take its value from here. Passed on without being "
    f"named, where they are set: {_environment.PREFIX}..., {', '.join(PASSED)}.")
MAX_RESTARTS = flags.DEFINE_integer("max_restarts", 100, "How often the command is started again at most.",
                                    lower_bound=0)


class LaunchError(ValueError):
    """Something the user can mend, in one sentence; exit status 2."""


def restartable(status: int) -> bool:
    return status == RESTART or status >= SIGNALLED or status < 0


def matches(what: str, text: str, pattern: str, like: str) -> str:
    """`text`, if all of it has the form; else a sentence."""
    if not re.fullmatch(pattern, text):
        raise LaunchError(f"{what} {text!r} is not valid; it should look like {like}")
    return text


def check_name(text: str, longest: int = 63) -> str:
    """A label of RFC 1035: starts with a letter, ends with a letter or digit, lower case."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", text) or len(text) > longest:
        raise LaunchError(f"--name={text!r} is not valid; it needs 1 to {longest} lower-case letters, digits "
                          "and hyphens, a letter first and no hyphen last (RFC 1035)")
    return text


def check_zone(text: str) -> str:
    return matches("--zone", text, r"[a-z]+-[a-z]+\d+-([a-z]|ai\d+[a-z])", "us-central1-a")


def check_project(text: str) -> str:
    return matches("--project", text, r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", "my-project-123456")


def check_options(flag: str, options: Iterable[str]) -> list[str]:
    return [matches(f"--{flag}", option, r"--[a-z][a-z0-9-]*(=\S*)?", f"--{flag}=--option=value")
            for option in options]


def choose_steps(steps: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Steps in their own order, whatever the order they were asked for in."""
    if unknown := [s for s in steps if s not in known]:
        raise LaunchError(f"--steps has no {unknown[0]!r}; it takes {', '.join(known)}")
    return tuple(s for s in known if s in steps)


def variables(asked: Iterable[str], here: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables to pass on: flags and the data directory of experiments, those of PASSED, then what is asked."""
    names = [*sorted(name for name in here if name.startswith(_environment.PREFIX)), *PASSED]
    found = {name: here[name] for name in names if here.get(name)}
    for text in asked:
        name, given, value = text.partition("=")
        matches("--env", name, r"[A-Za-z_][A-Za-z0-9_]*", "--env=NAME=value")
        if not given and name not in here:
            raise LaunchError(f"--env={name} takes its value from here, where it is not set; "
                              f"write --env={name}=value")
        found[name] = value if given else here[name]
    return found


def words(command: list[str]) -> list[str]:
    """The command with its variables set by env(1), so that no shell has to."""
    if not command:
        raise LaunchError("there is no command; write it after two hyphens: -- python -m experiments.run ...")
    found = variables(ENV.value)
    return ["env", *(f"{name}={value}" for name, value in found.items()), *command] if found else command


def require(*binaries: str) -> None:
    for binary in binaries:
        if not shutil.which(binary):
            raise LaunchError(f"{binary} is not on this machine's PATH: {INSTALLED_BY[binary]}")


def show(argv: list[str], comment: str = "") -> None:
    """Print a command as one would type it."""
    print(f"# {comment}\n{shell.join(argv)}" if comment else shell.join(argv), flush=True)


def run(argv: list[str], **options) -> int:
    print(f"+ {shell.join(argv)}", file=sys.stderr, flush=True)
    return subprocess.run(argv, check=False, **options).returncode


def launch(main: Callable[[list[str]], int]) -> None:
    """Run a launcher. Flags not given come from LAUNCH_<NAME>; a mistake is one sentence and status 2."""

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


def _refuse(error: Exception) -> None:
    print("error:", str(error).replace("\n", " "), file=sys.stderr)
    sys.exit(2)
