"""Workdirs of a few finished runs, trained in this process in seconds, and once: later ones are copies."""

import pathlib
import shutil
import tempfile

from scaling import experiment
from scaling.experiment import grid
from scaling.store import files
from scaling.store.progress import Progress
from scaling.sweeps.runner import Runner, TrainingOptions

ROOM = tempfile.TemporaryDirectory(prefix="workdirs-")  # which is deleted when this process ends


def text_workdir(path, corpus, target=True, options=None):
    """Two Transformers in the sweep and, if asked for, a target, on the text files of the folder `corpus`."""
    if options is not None:
        return _train_text(path, corpus, target, options)

    def train(room):
        _train_text(text_workdir(room, corpus, False) if target else room, corpus, target)  # the sweep is there already
    return _copied(path, ("text", corpus, target), train)


def image_workdir(path):
    """The run of `image_experiment`."""
    return _copied(path, ("image",), lambda room: _train(room, [image_experiment()]))


def _copied(path, key, train):
    """A copy of the workdir with this key, which is trained where there is none."""
    room = pathlib.Path(ROOM.name, "-".join(str(part).replace("/", "_") for part in key))
    if not room.exists():
        started = room.with_name(f"{room.name}-started")  # which stays where training fails
        train(started)
        started.rename(room)
    return pathlib.Path(shutil.copytree(room, path, dirs_exist_ok=True))


def _train_text(path, corpus, target, options=None):
    base = experiment.from_config(experiment.config("transformer")).replace({
        "data.name": f"text:{corpus}/*.txt", "data.length": 32, "data.batch": 8, "data.tokens": 2560,
        "data.evaluation_tokens": 1024, "optim.warmup": 2, "seed": 3})
    base = base.replace({"family": type(base.family).ladder(5e3, length=32)})
    longer = base.replace({"data.tokens": 5120, "optim.learning_rate": 8e-3})
    _train(path, grid(base, {"optim.learning_rate": [4e-3, 8e-3]}), longer if target else None, options)
    files.write_json(path / "study.json", {"metric": "bits_per_byte", "unit": "tokens"})
    return path


def image_experiment():
    """One VAE of letters, conditioned on the character, whose samples are judged; the body that compiles fastest."""
    config = experiment.config("vae", **{
        "family.size": 1e4, "family.body": "linear", "family.layers": 1, "family.width": 16, "family.components": 1,
        "data.name": "glyphs/letters", "data.batch": 8, "data.levels": 16, "data.examples": 64,
        "data.evaluation_examples": 64, "data.samples": 128, "data.features": "pca", "data.label": "character",
        "data.classes": 62, "optim.warmup": 2, "optim.ema": 0.9})
    return experiment.from_config(config)


def _train(path, sweep, target=None, options=None):
    job, progress = Runner(files.open_workdir(path), options or TrainingOptions()), Progress(1, silent=True)
    job.run(job.plan(sweep, len(sweep)), progress)
    if target is not None:
        job.run(job.plan([target], 1, "target"), progress)
