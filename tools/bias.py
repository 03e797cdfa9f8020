"""Bias of runs beside that of their data: directional amplification with intervals, and how groups are represented.

    python -m tools.bias --workdir=runs/bias
    python -m tools.bias --workdir=runs/bias --run=best --samples=4096 --json
    python -m tools.bias --data=glyphs/digits --label=character --group=weight --output=bias
    python -m tools.bias --data=labelled:reviews.jsonl --output=bias

With --workdir, each run of a study that draws images given a label or a caption, or tells a label, is compared with its
data: does it say more often than these what goes together in them? --label is the class and --group what should not depend
on it, two factors of the images; by default those of data.correlate. BiasAmp T->A is about the group, given the class, and
A->T about the class, given the group (Wang and Russakovsky 2021, arXiv:2102.12594, equation 1); above 0 the bias is
amplified. The group of a sample is told by a classifier of real images, which needs a group of two values, and whose errors
are taken out. Where a run tells the class, the groups are known, and T->A is not defined. Intervals, of 90%, are of
resampled images; runs with other seeds show what training adds. A page has figures against N and D.

With --data alone, the page has the shares of labels, and of groups in each, in the training and the held-out part of any
data with labels: images by name, or texts (packages, labelled:<files>).

The page lies in --output, by default WORKDIR/bias. --json prints one line of JSON. Flags can come from the environment,
such as SCALING_WORKDIR. Exit status: 0; 1 when runs or data cannot be read or compared; 2 for wrong flags.
"""

import os

from scaling.devices import chips

chips.leave_absent_tpus_alone()  # before JAX starts

from absl import app, flags, logging  # noqa: E402

from experiments import _environment  # noqa: E402
from experiments._errors import in_one_sentence  # noqa: E402
from experiments._json import answering  # noqa: E402
from scaling.devices.compilation import keep_compiled  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of a study whose runs are compared with their data.")
_RUN = flags.DEFINE_string("run", "all", "all, best, N=<parameters>, the fingerprint of a run, or the start of one.")
_DATA = flags.DEFINE_string("data", None, "Without --workdir: the name of data, as config.data.name.")
_LABEL = flags.DEFINE_string("label", None, "The class, a label of the data; by default that of data.correlate, or label.")
_GROUP = flags.DEFINE_string("group", None, "The group, another label of images; by default that of data.correlate.")
_CLASSES = flags.DEFINE_integer("classes", 16, "Of labelled texts: the most labels that there may be.", 2)
_SAMPLES = flags.DEFINE_integer("samples", 2048, "Images that each run draws, or that it tells the label of.", 64)
_OUTPUT = flags.DEFINE_string("output", None, "The folder of the page; by default WORKDIR/bias.")
_JSON = flags.DEFINE_bool("json", False, "Print what was found as one line of JSON.")


def main(argv):
    with in_one_sentence(), answering(_JSON.value) as answer:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: this command takes flags only, see --help")
        if bool(_WORKDIR.value) == bool(_DATA.value):
            raise flags.Error("name either the runs, by --workdir=, or the data alone, by --data=")
        if _DATA.value and not _OUTPUT.value:
            raise flags.Error("--data= has no workdir to write the page into: name a folder by --output=")
        from tools import _bias_measure, _bias_page
        if _DATA.value:
            found = _bias_measure.of_data(_DATA.value, _LABEL.value, _GROUP.value, _CLASSES.value)
        else:
            keep_compiled()
            found = _bias_measure.of_runs(_WORKDIR.value, _RUN.value, _LABEL.value, _GROUP.value, _SAMPLES.value,
                                          lambda text: print(text, flush=True))
        print(_bias_page.describe(found))
        path = _bias_page.write(found, _OUTPUT.value or os.path.join(_WORKDIR.value, "bias"))
        print(f"page: {path}")
        answer |= found | {"page": os.fspath(path)}


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)
