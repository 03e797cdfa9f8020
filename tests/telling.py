"""Small runs that tell labels, with random parameters, and runs whose data are text files."""

import types

from serving import fresh_params

from scaling import experiment
from scaling.families.classifier import Classifier
from scaling.families.masked import Masked
from scaling.results import tuned
from scaling.study.restored import RestoredRun

TEXTS = Masked(length=16, width=16, layers=1, heads=2, classes=3)
IMAGES = Classifier(image_size=16, levels=256, classes=3, width=16, layers=1)


def telling_run(family=TEXTS) -> RestoredRun:
    """A run that tells three labels and was never trained."""
    name, kind = ("masked", "labelled") if isinstance(family, Masked) else ("classifier", "classified")
    base = experiment.from_config(experiment.config(name, kind)).replace({"family": family})
    return RestoredRun({"fingerprint": name[0] * 16, tuned.PARAMS: 1e3}, base, fresh_params(family), None)


def on_text_files(run: RestoredRun, folder, **fields) -> RestoredRun:
    """The run with the text files of a folder for data."""
    changed = run.experiment.replace({"data.name": f"text:{folder}/*.txt", **{f"data.{k}": v for k, v in fields.items()}})
    sources = {}
    runner = types.SimpleNamespace(source=lambda each: sources.setdefault(each.data, each.data.load()))
    return RestoredRun(run.record, changed.replace({"family": run.family}), run.params, runner)
