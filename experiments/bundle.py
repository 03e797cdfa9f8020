"""Pack a study into one file for others, or read such a file back.

    python -m experiments.bundle --workdir=runs/quickstart --output=quickstart.zip
    python -m experiments.bundle --bundle=quickstart.zip --workdir=runs/theirs

The first command writes the records, curves, scores, fit, forecast, config, page and pictures of a study, with --weights
its parameters too, and `bundle.json`: the SHA-256 of every file, the versions and commits of the runs, and the licences of
the packages. The second one checks every digest and writes a workdir, which all other commands read. Neither overwrites
anything.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0; 1 when the study or the
bundle cannot be read or written; 2 for wrong flags.
"""

import os

from absl import app, flags, logging

from experiments import _environment
from experiments._errors import in_one_sentence
from scaling.store import strict_json
from scaling.study import bundle

_WORKDIR = flags.DEFINE_string("workdir", None, "The study to pack, or the new folder for the study of --bundle.")
_OUTPUT = flags.DEFINE_string("output", None, "The zip file that is written.")
_BUNDLE = flags.DEFINE_string("bundle", None, "The zip file that is read.")
_WEIGHTS = flags.DEFINE_bool("weights", False, "With --output: the parameters of the runs too.")
_JSON = flags.DEFINE_bool("json", False, "Print what bundle.json says as one line of JSON.")


def main(argv):
    with in_one_sentence():
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: this command takes flags only, see --help")
        if (_OUTPUT.value is None) == (_BUNDLE.value is None):
            raise flags.Error("write --output=FILE.zip to pack the study of --workdir, or --bundle=FILE.zip to read one")
        if _OUTPUT.value:
            about = bundle.pack(_WORKDIR.value, _OUTPUT.value, _WEIGHTS.value)
            done = f"written: {_OUTPUT.value}, {os.path.getsize(_OUTPUT.value):,} bytes"
        else:
            about = bundle.unpack(_BUNDLE.value, _WORKDIR.value)
            done = f"read into {_WORKDIR.value}; scaling.load({_WORKDIR.value!r}) is its table"
        weights = "with" if about["weights"] else "without"
        print(strict_json.dumps(about) if _JSON.value else
              f"{about['runs']} runs in {len(about['files'])} files, {weights} parameters\n{done}")


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)
