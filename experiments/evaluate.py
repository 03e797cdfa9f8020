"""Evaluate a finished run: on its own data, on other data of its kind, at an earlier step, or with averaged weights.

    python -m experiments.evaluate --workdir=runs/quickstart
    python -m experiments.evaluate --workdir=runs/quickstart --run=N=3e5 --data=pycode/environment
    python -m experiments.evaluate --workdir=runs/quickstart --run=031f --checkpoint=2340 --units=0 --json
    python -m experiments.evaluate --workdir=runs/quickstart --run=031f --checkpoint=soups/last

--run is "best" (the best run of the study, its target included), "N=3e5" (the best of the runs nearest to so many
non-embedding parameters), a fingerprint, or the start of one. The metrics are those of the run's family and kind of data,
printed with their standard errors. Other data must have the tokenizer of the run. --checkpoint takes the parameters of a
step that is kept, or those of a folder that holds the same arrays, such as an average of tools.average_checkpoints. --units
takes so many tokens or examples of each evaluation set; 0 is all.

Each evaluation becomes a file of its own in WORKDIR/evaluations, named after what was evaluated. One that is there is
printed and not made again. No record changes.

Flags can come from the environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0; 1 when the run cannot
be read or evaluated; 2 for wrong flags. The reason is one sentence on standard error.
"""

import functools
import os
import re
from collections.abc import Mapping

from scaling.devices import chips

chips.leave_absent_tpus_alone()  # before JAX starts

from absl import app, flags, logging  # noqa: E402

import scaling  # noqa: E402
from experiments import _environment  # noqa: E402
from experiments._errors import in_one_sentence  # noqa: E402
from experiments._json import answering  # noqa: E402
from scaling.figures import words  # noqa: E402
from scaling.results import evaluations, metrics, tuned  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of the study whose run is evaluated.")
_RUN = flags.DEFINE_string("run", "best", "best, N=<parameters>, the fingerprint of a run, or the start of one.")
_DATA = flags.DEFINE_string("data", None, "Other data of the run's kind, as config.data.name; by default its own.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "An earlier step of the run that is kept, or the folder of an average; by default the last step.")
_UNITS = flags.DEFINE_integer(
    "units", None, "Tokens or examples of each evaluation set, 0 for all; by default as many as the run has.", 0)
_JSON = flags.DEFINE_bool("json", False, "Print the evaluation as one line of JSON.")


def main(argv):
    in_flags = functools.partial(re.sub, r"\bdata\.evaluation_(tokens|examples)=", "--units=")
    with in_one_sentence(in_flags), answering(_JSON.value, quiet=True) as answer:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: this command takes flags only, see --help")
        from scaling.devices.compilation import keep_compiled  # here, since --help needs none of it
        from scaling.study import evaluating, kept
        keep_compiled()
        asked = _CHECKPOINT.value
        step = int(asked) if asked is not None and asked.isdecimal() else None
        run, weights = scaling.restore(_WORKDIR.value, _RUN.value, step), None
        if asked is not None and step is None:
            run, weights = kept.with_weights(run, asked)
        found, there = evaluating.evaluate_run(evaluating.with_data(run, _DATA.value, _UNITS.value), weights)
        path = os.fspath(evaluations.evaluation_path(run.runner.workdir, found))
        print(describe(found))
        print(f"this evaluation exists already, and was not made again: {path}" if there else f"written: {path}")
        answer |= {**found, "path": path, "existed": there}


def describe(found: Mapping) -> str:
    """An evaluation as text: what was evaluated, and a line for each metric with its standard error and its meaning."""
    amount = f"{found['evaluated']:,} {found['unit']}" if found["evaluated"] else f"all {found['unit']}"
    parameters = f"with {found['weights']['checkpoint']}" if "weights" in found else f"at step {found['step']:,}"
    head = (f"run {found['run']} ({found['family']}, N={words.count(found[tuned.PARAMS])}) {parameters} "
            f"on {found['data']}, {amount} of each evaluation set")
    values = found["metrics"]
    rows = [(name, words.with_error(value, values.get(f"{name}_se")), _label(name))
            for name, value in values.items() if not name.endswith("_se")]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join([head, *(f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {label}".rstrip()
                              for name, value, label in rows)])


def _label(name: str) -> str:
    label = metrics.find_metric(name).label
    return "" if label == name.replace("_", " ") else label


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_environment.parse)
