"""README.md, AGENTS.md and others beside it, and docs/: every command on a page has flags that exist, and every name is in
the tree.

test_colab.py runs docs/colab.md, test_snippets.py the Python of the other pages, test_laws_page.py docs/laws.md as a whole,
and test_launch_printed.py the launchers' commands with --dry_run.
"""

import json
import os
import pathlib
import pkgutil
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/tutorials").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
PATH = re.compile(r"`((?:scaling|tools|experiments|configs|tests|docs)/[\w./]+)`")
NAME = re.compile(r"(?<![\w./:-])((?:scaling|tools|experiments)(?:\.[A-Za-z_]\w*)+)")
TO_COME = re.compile(r"--config=(configs/next|configs/window|a)\.py")
ENDS = {"&&", "||", ";", "|", "do", "then", "]"}  # these words end a command


def blocks(page, language):
    """The fenced blocks of a page in one language."""
    return [code for name, code in BLOCK.findall(page.read_text()) if name == language]


def commands(page):
    """(module, arguments, variables exported so far) of every `python -m`, and every `scaling COMMAND`, on the page."""
    exported = {}
    for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
        words = shlex.split(line.replace("!python", "python"), comments=True)
        if words[:1] == ["scaling"] and not words[1].startswith("-"):
            words[:2] = ["python", "-m", f"experiments.{words[1]}"]
        if words[:1] == ["export"]:
            exported |= dict(word.split("=", 1) for word in words[1:])
        while "-m" in words:
            at = words.index("-m") + 1
            argv = words[at + 1:]
            stop = next((i for i, word in enumerate(argv) if word in ENDS or word == "--" or word.endswith(";")), len(argv))
            yield words[at], argv[:stop], dict(exported)
            words = argv[stop:]


# Each module is imported in a process of its own, because two commands may define flags of the same name, and each command
# line is parsed in a child of that process.
PARSE = """
import gc, importlib, json, os, pathlib, sys
from absl import app, flags
from scaling import families
from tools._reference_commands import LOADED

def in_a_child(task, *about):
    if os.fork():
        if os.wait()[1]:
            print("refused:", *about, flush=True)
    else:
        task()
        os._exit(0)

def parse(name, argv, exported):
    os.environ |= exported
    sys.argv = [name, *argv]
    if name.startswith("experiments."):
        from experiments import _environment
        _environment.insert(sys.argv)
    left = flags.FLAGS(sys.argv)
    assert len(left) == 1, left

def parse_all(module, lines):
    path = pathlib.Path(*module.split("."))
    name = f"{module}.__main__" if path.is_dir() else module
    source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    if "import argparse" in source:
        for argv, _ in lines:
            assert all(f'"{word.partition("=")[0]}"' in source for word in argv if word.startswith("--")), argv
        return
    sys.argv = [name]
    importlib.import_module(name)
    app.define_help_flags()
    for argv, exported in lines:
        in_a_child(lambda: parse(name, argv, exported), module, argv)

for name in LOADED:
    importlib.import_module(name)
families.all()  # which configs import
gc.freeze()
for module, lines in json.load(sys.stdin).items():
    in_a_child(lambda: parse_all(module, lines), module)
"""


def test_the_flags_of_every_command_exist():
    found = {}  # {module: [(arguments, variables)]}
    for page in PAGES:
        for module, argv, exported in commands(page):
            if module.split(".")[0] in ("experiments", "tools") and not module.startswith("tools.launch"):
                # These configs would be written by an earlier command, or by the reader.
                line = ["--config=configs/quickstart.py" if TO_COME.fullmatch(word) else word
                        for word in argv if word != "--help"], exported
                lines = found.setdefault(module, [])
                if line not in lines:  # pages repeat commands
                    lines.append(line)
    done = subprocess.run([sys.executable, "-c", PARSE], input=json.dumps(found), cwd=ROOT, text=True, capture_output=True,
                          env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_there_are_commands_to_check():
    count = {page.stem: sum(1 for _ in commands(page)) for page in PAGES}
    assert count["README"] >= 10 and count["gpu"] >= 8 and count["pods"] >= 8 and count["colab"] >= 6, count


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page):
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


def exists(name):
    """Whether a dotted name is a module or, in the package, something that a module offers."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    if not name.startswith("scaling."):  # importing a command would define its flags here
        return False
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_names_on_a_page_are_in_the_tree(page):
    text = page.read_text()
    paths, names = PATH.findall(text), dict.fromkeys(NAME.findall(text))
    assert not [path for path in paths if not (ROOT / path).exists()] + [name for name in names if not exists(name)]
