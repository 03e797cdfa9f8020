"""What is done on each worker of a slice: install, run, show the log. Scripts of bash on one line.

All of it is under ~/launch/NAME: src (the checkout), venv, log, and the lock and pid of the run.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from tools.launch import common, shell

SAID = r"^launch: exit (\d+) on "


def archive(name: str) -> str:
    """Where the checkout is packed, on this machine."""
    return str(Path(tempfile.gettempdir()) / packed(name))


def packed(name: str) -> str:
    """And on a worker, in the home directory."""
    return f"launch-{name}.tar.gz"


def install(name: str, source: str, extras: str, python: str, copy: list[str],
            everywhere: Callable[[str], list[str]]) -> list[list[str]]:
    """Commands that put the package on every worker: `copy` takes a packed checkout to them."""
    common.matches("--extras", extras, r"[a-z0-9]+(,[a-z0-9]+)*|", "tpu,gcs")
    common.matches("--python", python, r"3\.\d+(\.\d+)?", "3.12")
    found = re.fullmatch(r"((?:https://|ssh://(?:[\w.-]+@)?|git@)[^\s@]+)(?:@(\w[\w./-]*))?", source)
    if found:
        url, branch = found.group(1), found.group(2) or "HEAD"
        before = []
        fetch = (f"git init -q src && git -C src fetch -q --depth=1 {shell.quote(url)} {shell.quote(branch)} "
                 "&& git -C src checkout -q --force FETCH_HEAD")
    elif (Path(source) / "setup.py").is_file():
        pack = ["git", "-C", source, "archive", "--format=tar.gz", f"--output={archive(name)}", "HEAD"]
        before = [pack, copy]
        fetch = f"mkdir -p src && tar -xzf ~/{packed(name)} -C src"
    else:
        raise common.LaunchError(f"--source={source!r} is neither a checkout with a setup.py nor a git URL")
    package = f".[{extras}]" if extras else "."
    return [*before, everywhere(
        f"set -e; mkdir -p ~/launch/{name}; cd ~/launch/{name}; {fetch}; export PATH=$HOME/.local/bin:$PATH; "
        "command -v uv > /dev/null || python3 -m pip install -q --user uv; "
        f"[ -d venv ] || uv venv -q --python={python} venv; . venv/bin/activate; cd src; "
        f"uv pip install -q -e {shell.quote(package)}")]


def run(name: str, command: list[str]) -> str:
    """Run the command in the checkout, logging to ~/launch/NAME/log, and say how it ended.

    One run at a time: what a lost connection left behind is told to save (SIGTERM) and waited for, because
    two processes cannot have the same TPU. It goes on without a connection: tee -p outlives the reader.
    """
    return (
        f"mkdir -p ~/launch/{name}/src; cd ~/launch/{name}/src; exec 9>> ../lock; "
        "flock --nonblock 9 || { kill -TERM -- -$(cat ../pid); flock --timeout 300 9; } || "
        f"exit {common.RESTART}; "
        "[ ! -f ../venv/bin/activate ] || . ../venv/bin/activate; "
        "setsid --wait bash -c 'echo $$ > ../pid; exec \"$@\"' launch "
        f"{shell.join(command)} 2>&1 | tee -p -a ../log 9>&-; "
        "status=${PIPESTATUS[0]}; echo; echo launch: exit $status on $(hostname); exit $status")


def logs(name: str, lines: int = 100) -> str:
    return f"echo; echo == $(hostname); tail -n {lines} ~/launch/{name}/log"
