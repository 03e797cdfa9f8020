"""The console script `scaling`: `scaling run ...` is `python -m experiments.run ...`.

    scaling --help
    scaling run --config=configs/quickstart.py --workdir=runs/quickstart
    scaling evaluate --help

`python -m experiments` is the same. A command takes the place of this process, so that signals, exit statuses, flags, and
modules of one's own in the current directory are exactly those of `python -m`. Nothing of JAX is loaded here.
"""

import ast
import difflib
import os
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent
FIRST = ("run", "fit", "forecast", "report", "watch", "generate", "evaluate", "serve", "export", "import_checkpoint",
         "plan", "compare", "claims")  # the others follow


def commands(folder: pathlib.Path = FOLDER) -> dict[str, str]:
    """{command: the first sentence of its docstring} of the modules, and packages with a `__main__`, of a folder."""
    paths = {path.stem: path for path in folder.glob("*.py")}
    paths |= {path.parent.name: path for path in folder.glob("*/__main__.py")}
    names = sorted((name for name in paths if not name.startswith("_")), key=lambda name: (_place(name), name))
    return {name: _first_sentence(paths[name]) for name in names}


def _place(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def _first_sentence(path: pathlib.Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def usage() -> str:
    """The commands with a line each."""
    known = commands()
    width = max(map(len, known))
    return "\n".join(["usage: scaling COMMAND [flags]", "",
                      *(f"  {name:<{width}}  {sentence}" for name, sentence in known.items()), "",
                      "scaling COMMAND --help lists the flags of a command, which is also python -m experiments.COMMAND."])


def main(argv: list[str] | None = None) -> None:
    """Runs the command that the first word names, in place of this process. Exit status 2 for a word that names none."""
    name, *flags = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("--help", "-h", "help"):
        print(usage())
        return
    known = commands()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        print(f"error: scaling has no command {name!r}; " + (f"nearest: {', '.join(close)}" if close else
              f"there are: {', '.join(known)}"), file=sys.stderr)
        sys.exit(2)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"experiments.{name}", *flags])


if __name__ == "__main__":
    main()
