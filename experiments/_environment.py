"""Flags from the environment: SCALING_WORKDIR=runs/a is --workdir=runs/a.

Fields of a config have two underscores for each dot: SCALING_CONFIG__OPTIM__WEIGHT_DECAY=0.05 is
--config.optim.weight_decay=0.05. The command line wins over the environment, and an empty variable counts as not set. Flags
of other commands are ignored, so that one `export` serves several commands. A name that is almost a flag is refused with
the nearest flag.
"""

import difflib
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Mapping

from absl import flags

PREFIX = "SCALING_"
FOLDER = pathlib.Path(__file__).parent
OTHERS = ("DATA_DIR", "COMPILATION_CACHE", "REMEMBERED", "TEST_FLAGS", "GOLDEN", "REFERENCE")  # which are no flags
SECRET = ("key",)  # flags whose values are not shown


def insert(argv: list[str], prefix: str = PREFIX, folder: pathlib.Path = FOLDER,
           here: Mapping[str, str] = os.environ) -> list[str]:
    """Inserts the flags of the environment into `argv`, in place, and returns the inserted words.

    Raises flags.Error for a variable that is almost a flag. It works in place, because ml_collections looks for overrides
    of a config in sys.argv itself. `argv[0]` is the module that defines the flags, as absl names it, `folder` holds the
    commands that share the prefix, and `here` is the environment.
    """
    known = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(argv[0])]
    typed = _names(argv)
    words = {}
    for variable in sorted(here):
        name = variable.removeprefix(prefix).lower()
        if variable == prefix or not variable.startswith(prefix) or not here[variable]:
            continue
        if name.partition("__")[0] in known:
            words[name.replace("__", ".")] = here[variable]
        else:
            _refuse_typo(variable, prefix, known, folder)
    words = {name: value for name, value in words.items() if not {name, f"no{name}"} & typed.keys()}
    found = [f"--{name}={value}" for name, value in words.items()]
    place = 1 + max((typed.get(name.partition(".")[0], 0) for name in words if "." in name), default=0)
    argv[place:place] = found  # overrides must come after their config, and "config" sorts before "config.x"
    if found:
        shown = [f"--{name}=..." if name in SECRET else word for name, word in zip(words, found, strict=True)]
        print(f"from the environment: {shlex.join(shown)}", file=sys.stderr)
    return found


def variable(name: str, prefix: str = PREFIX) -> str:
    """The name of the variable of a flag or field: that of `config.optim.name` is SCALING_CONFIG__OPTIM__NAME."""
    return prefix + name.replace(".", "__").upper()


class _Output:
    """Standard output that outlives its reader: what is written after `| head` has closed the pipe goes nowhere."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        return self._unless_closed(self._stream.write, text)

    def flush(self):
        return self._unless_closed(self._stream.flush)

    def _unless_closed(self, call, *arguments):
        try:
            return call(*arguments)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return len(arguments[0]) if arguments else None


def outlive_readers() -> None:
    """Lets the command finish, and write its files, when nobody reads its output any more (`| head`)."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = _Output(sys.stdout)


def parse(argv: list[str]) -> list[str]:
    """Parses flags from the command line and the environment. A wrong flag ends in one sentence and exit status 2."""
    outlive_readers()
    try:
        insert(argv)
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _names(argv: list[str]) -> dict[str, int]:
    """{flag on the command line: index of its last word}, up to the first word that is no flag, where absl stops too."""
    found, at = {}, 1
    while at < len(argv) and argv[at].startswith("-") and argv[at] not in ("-", "--"):
        name, equals, _ = argv[at].lstrip("-").partition("=")
        alone = flags.FLAGS[name].boolean if name in flags.FLAGS else name.removeprefix("no") in flags.FLAGS
        at += not equals and not alone
        found[name] = at
        at += 1
    return found


def _refuse_typo(variable: str, prefix: str, known: list[str], folder: pathlib.Path) -> None:
    name = variable.removeprefix(prefix).lower()
    elsewhere = {name for file in folder.glob("*.py")
                 for name in re.findall(r'\bDEFINE_\w+\(\s*"(\w+)"', file.read_text(encoding="utf-8"))}
    others = {other.lower() for other in OTHERS} if prefix == PREFIX else set()
    if name in others or name.partition("__")[0] in elsewhere:
        return
    close = difflib.get_close_matches(name, [*known, *others], n=1, cutoff=0.75)
    if close:
        raise flags.Error(f"{variable} is not a flag of this command; nearest: {prefix}{close[0].upper()}")
    if "__" in name and "config" in known:
        raise flags.Error(f"{variable} is not a flag; a field of the config is written {prefix}CONFIG__{name.upper()}")
    print(f"{variable} is not a flag and is ignored", file=sys.stderr)
