"""Write the report of a study again, or a page that shows several studies side by side.

    python -m experiments.report --workdir=runs/quickstart
    python -m experiments.report --workdirs=runs/quickstart,runs/vae,runs/gan --output=runs/families

The first command writes runs/quickstart/report/index.html, the second runs/families/index.html; each prints the path. The
pages are made from the files in the workdirs: nothing is trained, fitted or measured. It takes seconds, also for a study
that is still running. --json prints the path as one line of JSON. Any flag can come from the environment, such as
SCALING_WORKDIR; the command line wins.
"""


from absl import app, flags

from experiments import _environment
from experiments._errors import in_one_sentence
from experiments._json import answering
from scaling import report
from scaling.store import files

_WORKDIR = flags.DEFINE_string("workdir", None, "The study whose report is written into its folder report/.")
_WORKDIRS = flags.DEFINE_list("workdirs", None, "Studies to show side by side, in this order, separated by commas.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder for the page of --workdirs; it is made when missing.")
_JSON = flags.DEFINE_bool("json", False, "Print the path of the page as one line of JSON.")


def main(argv):
    with in_one_sentence(), answering(_JSON.value) as answer:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: name studies by --workdir or --workdirs")
        if (_WORKDIR.value is None) == (not _WORKDIRS.value):
            raise flags.Error("name either one study by --workdir=DIR, or several by --workdirs=DIR,DIR --output=DIR")
        if _WORKDIR.value is not None and _OUTPUT.value is not None:
            raise flags.Error("--output goes with --workdirs; the report of one study is written into its workdir")
        if _WORKDIRS.value and _OUTPUT.value is None:
            raise flags.Error("--workdirs needs --output=DIR, the folder to write the page into")
        if _WORKDIR.value is not None:
            path = report.write(_WORKDIR.value)
        else:
            path = report.write_comparison(_WORKDIRS.value, files.open_workdir(_OUTPUT.value))
        print(f"report: {path}")
        answer["report"] = path


if __name__ == "__main__":
    app.run(main, flags_parser=_environment.parse)
