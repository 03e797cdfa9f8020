"""The reference of all commands, as Markdown: the docstring of each, and a table of its flags as its `--help` has them.

    json.dump(command_paths(), ...) | python -m tools._reference_commands       # {module: its flags} of those modules

Each module is started in a process of its own, which ends where the command would parse its flags, because two commands may
define flags of the same name. One process loads the libraries before, and the others are forked from it.
"""

import argparse
import ast
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import textwrap
from typing import NoReturn

from absl import app, flags

from experiments.__main__ import commands
from tools._reference_fields import code, prose

ROOT = pathlib.Path(__file__).parents[1]
HEAD = "| flag | default | meaning |\n| --- | --- | --- |\n"
TAKES_FLAGS = re.compile(r"\bDEFINE_\w+\(|adopt_module_key_flags|ArgumentParser\(")
LOADED = ("pandas", "scipy.optimize", "scipy.stats", "matplotlib.pyplot", "scaling.study.study",  # what several import
          "scaling.study.two_studies", "scaling.claims.trial", "scaling.claims.statistics", "scaling.laws.figures.plots")


def command_paths(root: pathlib.Path = ROOT) -> dict[str, pathlib.Path]:
    """{module: its file} of every command of experiments/, in the order of `scaling --help`, and then of tools/."""
    found = {}
    for name in commands(root / "experiments"):
        path = root / "experiments" / f"{name}.py"
        found[f"experiments.{name}"] = path if path.exists() else root / "experiments" / name / "__main__.py"
    for path in sorted((root / "tools").rglob("*.py")):
        if not path.name.startswith("_") and '__name__ == "__main__"' in path.read_text(encoding="utf-8"):
            found[".".join(path.relative_to(root).with_suffix("").parts)] = path
    return found


def command_flags(root: pathlib.Path = ROOT) -> dict[str, list[dict[str, str]]]:
    """{module: its flags, each {"name", "default", "help"}} of every command."""
    taking = [name for name, path in command_paths(root).items() if TAKES_FLAGS.search(path.read_text(encoding="utf-8"))]
    done = subprocess.run([sys.executable, "-m", "tools._reference_commands"], input=json.dumps(taking), text=True,
                          cwd=root, env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
                          capture_output=True)
    read = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    if missing := [name for name in taking if name not in read]:
        raise RuntimeError(f"the flags of {', '.join(missing)} could not be read: {done.stderr[-2000:]}")
    return {name: read.get(name, []) for name in command_paths(root)}


def commands_page(found: dict[str, list[dict[str, str]]], folder: str, root: pathlib.Path = ROOT) -> str:
    """The page of the commands of a folder, "experiments" or "tools", with flags as `command_flags` gives them."""
    ours = {name: path for name, path in command_paths(root).items() if name.partition(".")[0] == folder}
    intro = ("# Commands\n\n`scaling run` is `python -m experiments.run`, and so on. Flags also come from the environment: "
             "`SCALING_WORKDIR=runs/a` is `--workdir=runs/a`. A field of a config is a flag, such as "
             "`--config.optim.weight_decay=0.05`; [Fields of a study](fields.md) lists them.\n"
             if folder == "experiments" else "# Tools\n\nThe tools are run in a checkout of the repository.\n")
    return intro + "".join(_section(name, path, found[name]) for name, path in ours.items())


def _section(module: str, path: pathlib.Path, found: list[dict[str, str]]) -> str:
    room, _, name = module.partition(".")
    title = f"scaling {name}" if room == "experiments" else f"python -m {module}"
    doc = prose(_blocks(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""), cell=False)
    table = "".join(f"| `--{each['name']}` | {each['default'] and code(each['default'])} | {prose(each['help'])} |\n"
                    for each in found)
    return f"\n## {title}\n\n{doc}\n" + (f"\n{HEAD}{table}" if found else "\nIt has no flags.\n")


def _blocks(doc: str) -> str:
    """A docstring whose indented blocks are indented as Markdown wants code to be, so that their lines stay apart."""
    blocks = doc.split("\n\n")
    return "\n\n".join(textwrap.indent(block, "    ") if all(line.startswith("  ") for line in block.splitlines())
                       and not block.startswith("    ") else block for block in blocks)


# ---------------------------------------------------------------------------- in the processes that read flags


def _absl_flags(*_, **__) -> NoReturn:
    """Prints the flags of the command that runs, and ends the process; stands for `app.run`."""
    _answer([{"name": flag.name, "default": _shown(flag.default),
              "help": (flag.help or "").replace(".; repeat this", "; repeat this")}
             for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])])


def _argparse_flags(parser: argparse.ArgumentParser, *_, **__) -> NoReturn:
    """Prints the flags of a parser, and ends the process; stands for `parse_args`."""
    _answer([{"name": action.option_strings[-1].lstrip("-"), "default": _shown(action.default),
              "help": ((action.help or "") % {**vars(action), "prog": parser.prog})}
             for action in parser._actions if action.option_strings and action.dest != "help"])


def _answer(found: list[dict[str, str]]) -> NoReturn:
    os.write(1, f"\n{json.dumps([_MODULE, sorted(found, key=lambda each: each['name'])])}\n".encode())
    os._exit(0)


def _shown(value) -> str:
    if value is None or value == "" or value is argparse.SUPPRESS:
        return ""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


_MODULE = ""


def main() -> None:
    """Answers with a line of JSON, [module, flags], for every module of the JSON list on standard input."""
    global _MODULE
    for name in LOADED:
        __import__(name)
    app.run, argparse.ArgumentParser.parse_args = _absl_flags, _argparse_flags
    for _MODULE in json.load(sys.stdin):
        if os.fork():
            os.wait()
            continue
        sys.argv = [_MODULE]
        runpy.run_module(_MODULE, run_name="__main__", alter_sys=True)
        os._exit(1)


if __name__ == "__main__":
    main()
