"""Many registered forecasts from one config, as a table: how far off they were, and whether their intervals held.

    python -m experiments.forecast_table --config=forecasts.py --workdir=runs/forecasts --hours=2
    python -m experiments.forecast_table --workdir=runs/forecasts --record=docs/forecasts.json --page=docs/forecasts.md

The config, one of your own, has `names()`, the variants that are studies, such as "transformer-pycode-30". The first
command runs each of them in turn in a directory of its name under --workdir, as `experiments.run` would. A study begins
with the finished runs of the one before it in its group (the name up to the last hyphen), so the fitted runs are
trained once. It can be interrupted, and with --hours it starts no study after that time; the same command goes on.

--record adds what came out to a JSON file. Entries are never dropped: a forecast that missed stays beside those that were
registered later. --page writes the tables of that file into a page, between the lines <!-- forecasts --> and
<!-- end -->, and the figure beside it. --json prints the entries as one line of JSON, and text to standard error. Any flag
can come from the environment, such as SCALING_WORKDIR; the command line wins.
"""

import fnmatch
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from absl import app, flags

from experiments import _environment
from experiments._errors import expected
from experiments._json import answering
from scaling.fields import ConfigError
from scaling.figures import plot, words
from scaling.report import forecast_table
from scaling.store import files
from scaling.study import configs

_CONFIG = flags.DEFINE_string("config", None, "A config file with names(); without it nothing is trained.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of the workdirs of all studies.")
_ONLY = flags.DEFINE_string("only", "*", "Names of studies, as a pattern such as 'transformer-*'.")
_HOURS = flags.DEFINE_float("hours", None, "Start no study after this time.", 0.0)
_RECORD = flags.DEFINE_string("record", None, "A JSON file of forecasts, to which those of the workdir are added.")
_PAGE = flags.DEFINE_string("page", None, "A page of Markdown whose tables are written again from --record.")
_JSON = flags.DEFINE_bool("json", False, "Print the forecasts as one line of JSON, and text to standard error.")
MARKS = "<!-- forecasts -->", "<!-- end -->"


def names(path: str, pattern: str) -> list[str]:
    """The studies of a config file that a pattern names. Raises a ConfigError for none."""
    module = configs.load_config(path)
    if not callable(getattr(module, "names", None)):
        raise ConfigError(f"--config={path} has no function names(); write one that returns the variants of get_config "
                          "that are studies")
    found = [name for name in module.names() if fnmatch.fnmatch(name, pattern)]
    if not found:
        raise ConfigError(f"--only={pattern} names no study of {path}; it has {', '.join(module.names())}")
    return found


def command(path: str, name: str, workdir: pathlib.Path, before: str | None) -> list[str]:
    """The command that runs a study; `before` is a finished study of its group, whose runs it begins with."""
    fork = [] if before is None or (workdir / name).exists() else [f"--fork={workdir / before}"]
    return [sys.executable, "-m", "experiments.run", f"--config={path}:{name}", f"--workdir={workdir / name}", *fork]


def finished(workdir: pathlib.Path) -> bool:
    return (workdir / "forecast_check.json").exists() and (workdir / "report" / "index.html").exists()


def train(path: str, chosen: list[str], workdir: pathlib.Path, hours: float | None) -> int:
    """Runs the studies in turn, and returns the exit status of the first one that failed, or 0."""
    start = time.monotonic()
    before = {name.rpartition("-")[0]: name for name in names(path, "*") if finished(workdir / name)}
    for name in chosen:
        group = name.rpartition("-")[0]
        if not finished(workdir / name):
            if hours is not None and time.monotonic() - start > 3600 * hours:
                print(f"{name}: left for the next command, since {hours:g} hours are over")
                continue
            print(f"{name}: {workdir / name}", flush=True)
            process = subprocess.Popen(command(path, name, workdir, before.get(group)),
                                       stdout=sys.stdout)  # which --json turns into standard error
            signal.signal(signal.SIGTERM, lambda *_, process=process: process.terminate())
            if status := process.wait():
                return status
        before[group] = name
    return 0


def write_page(page: pathlib.Path, entries: list[dict]) -> None:
    """Writes the tables between the marks of a page, and the figure into its folder `figures`."""
    text = words.put_between(page.read_text(), MARKS, forecast_table.forecasts_markdown(entries))
    if text is None:
        raise ConfigError(f"--page={page} has no lines {MARKS[0]} and {MARKS[1]}, between which the tables belong")
    files.atomic_write(page, text)
    if (figure := forecast_table.draw_table(entries)) is not None:
        plot.save_figure(page.parent / "figures" / "forecasts.png", figure)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        with answering(_JSON.value) as answer:
            status, answer["forecasts"] = gather()
            answer["written"] = [path for path in (_RECORD.value, _PAGE.value) if path]
        sys.exit(status)
    except expected() as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def gather() -> tuple[int, list[dict]]:
    """Does what the flags ask for: (the exit status of the studies, the entries of the table, which is printed)."""
    status, entries = 0, []
    workdir = None if _WORKDIR.value is None else pathlib.Path(_WORKDIR.value)
    if _CONFIG.value:
        if workdir is None:
            raise ConfigError("--config needs --workdir, the directory of the workdirs of its studies")
        status = train(_CONFIG.value, names(_CONFIG.value, _ONLY.value), workdir, _HOURS.value)
    record = None if _RECORD.value is None else pathlib.Path(_RECORD.value)
    if record is not None and record.exists():
        entries = json.loads(record.read_text())
    if workdir is not None and workdir.exists():
        folders = sorted(path for path in workdir.iterdir() if fnmatch.fnmatch(path.name, _ONLY.value))
        found = [forecast_table.gather(path, path.name) for path in folders if path.is_dir()]
        entries = forecast_table.merge(entries, [entry for entry in found if entry is not None])
    if record is not None:
        files.atomic_write(record, json.dumps(entries, indent=1) + os.linesep)
    if _PAGE.value:
        write_page(pathlib.Path(_PAGE.value), entries)
    print(forecast_table.forecasts_markdown(entries))
    return status, entries


if __name__ == "__main__":
    app.run(main, flags_parser=_environment.parse)
