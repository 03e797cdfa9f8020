"""Write the report of a study again, or a page that puts several studies side by side, from the files in
workdirs.

    python -m experiments.report --workdir=runs/quickstart
    python -m experiments.report --workdirs=runs/quickstart,runs/vae,runs/gan --output=runs/families

The first writes runs/quickstart/report/index.html, the second runs/families/index.html; each prints the path.
Nothing is trained, fitted or measured: it takes seconds, and works on a study that is still running. Any flag
can come from the environment, as SCALING_WORKDIR and the like; the command line wins.
"""

import sys

from absl import app, flags

from experiments import _environment
from scaling import report
from scaling.store import files

_WORKDIR = flags.DEFINE_string("workdir", None, "The study whose report is written, into its folder report/.")
_WORKDIRS = flags.DEFINE_list("workdirs", None,
                               "Studies to put side by side, separated by commas, in this order.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the page of --workdirs; it is made when missing.")


def main(argv):
    try:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: name studies by --workdir or --workdirs")
        if (_WORKDIR.value is None) == (not _WORKDIRS.value):
            raise flags.Error("name either one study, --workdir=DIR, "
                              "or several, --workdirs=DIR,DIR --output=DIR")
        if _WORKDIR.value is not None and _OUTPUT.value is not None:
            raise flags.Error("--output goes with --workdirs; the report of one study lies in its workdir")
        if _WORKDIRS.value and _OUTPUT.value is None:
            raise flags.Error("--workdirs needs --output=DIR, the folder that the page is written to")
        if _WORKDIR.value is not None:
            path = report.write(_WORKDIR.value)
        else:
            path = report.write_comparison(_WORKDIRS.value, files.open_workdir(_OUTPUT.value))
        print(f"report: {path}")
    except (flags.Error, files.WorkdirError, files.DiskFull) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, flags.Error) else 1)


if __name__ == "__main__":
    app.run(main, flags_parser=_environment.parse)
