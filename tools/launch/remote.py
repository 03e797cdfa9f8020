"""Scripts for each worker of a slice: install, run, show the log. Each is one line of bash.

Everything on a worker is under ~/launch/NAME: src (the checkout), venv, log, and the lock and pid of the run.
"""

import re
from collections.abc import Callable
from pathlib import Path

from tools.launch import common, shell

SAID = r"^launch: exit (\d+) on "


def packed(name: str) -> str:
    """The name of the packed checkout in the home directory of a worker."""
    return f"launch-{name}.tar.gz"


def install(name: str, source: str, extras: str, python: str, archive: str, copy: list[str],
            everywhere: Callable[[str], list[str]]) -> list[list[str]]:
    """Commands that install the package on every worker.

    A checkout is packed into the file `archive` of this machine, which the command `copy` copies to the workers.
    """
    common.matches("--extras", extras, r"[a-z0-9]+(,[a-z0-9]+)*|", "tpu,gcs")
    common.matches("--python", python, r"3\.\d+(\.\d+)?", "3.12")
    found = re.fullmatch(r"((?:https://|ssh://(?:[\w.-]+@)?|git@)[^\s@]+)(?:@(\w[\w./-]*))?", source)
    if found:
        url, branch = found.group(1), found.group(2) or "HEAD"
        before = []
        fetch = (f"git init -q src && git -C src fetch -q --depth=1 {shell.quote(url)} {shell.quote(branch)} "
                 "&& git -C src checkout -q --force FETCH_HEAD")
    elif (Path(source) / "setup.py").is_file():
        pack = ["git", "-C", source, "archive", "--format=tar.gz", f"--output={archive}", "HEAD"]
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
    """Runs the command in the checkout, logs it to ~/launch/NAME/log, and prints its exit status.

    Two processes cannot share a TPU, so a run that a lost connection left behind gets SIGTERM, which tells it to save, and
    the new run waits for it. A run goes on when its connection is lost, since tee -p outlives its reader.
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
