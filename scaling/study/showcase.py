"""Samples of trained models for people to look at: text from the same prompts, images from the same latents.

The family decides which of them a study has. All are files in the workdir.
"""

import jax
import numpy as np
import pandas as pd

from scaling.figures.pixels import image_grid
from scaling.results import tuned
from scaling.store import files
from scaling.study.restore import restore_record
from scaling.training.step import means

EXAMPLES = 32  # images of the evaluation set that pictures start from
EXAMINED = 512  # examples that costly metrics are measured on


def write_samples(workdir, runner, frame, metric: str, prompts=()):
    """Writes samples of the best run of each size of a study, whose clean records are `frame`.

    samples.json        text by the smallest and the largest model, for each prompt
    pictures.json       and pictures/*.png, by the model of each size
    examine.json        metrics too costly for every run, of the smallest and the largest model
    """
    finished = [tuned.tuned_cells(frame, metric), frame[(frame["role"] == "target") & ~frame["diverged"]]]
    best = pd.concat(finished).sort_values("data").groupby(tuned.PARAMS)["fingerprint"].last()  # trained on the most data
    if best.empty:
        return
    models = [restore_record(runner, runner.records.read(fingerprint)) for fingerprint in best]
    ends = [("smallest", models[0]), ("largest", models[-1])]
    family = models[0].family
    if prompts and hasattr(family, "begin"):
        texts = [text for label, model in ends for text in _texts(model, label, prompts)]
        files.write_json(workdir / "samples.json", texts)
    if hasattr(family, "pictures"):
        pictures = [picture for model in models for picture in _pictures(model, workdir)]
        files.write_json(workdir / "pictures.json", pictures)
    if hasattr(family, "examine"):
        examined = [_about(model) | {"label": label, "metrics": _examined(model)} for label, model in ends]
        files.write_json(workdir / "examine.json", examined)


def _about(model):
    return {tuned.PARAMS: model.record[tuned.PARAMS], "fingerprint": model.fingerprint}


def _texts(model, label, prompts):
    """One entry of samples.json for each prompt."""
    texts = model.generate(prompts, tokens=300, temperature=0.8, seed=0, stop=())
    return [_about(model) | {"label": label, "prompt": prompt, "text": text}
            for prompt, text in zip(prompts, texts, strict=True)]


def _pictures(model, workdir):
    """Writes the family's pictures as PNG files, and returns their entries of pictures.json."""
    family = model.family
    batch = {name: x[:EXAMPLES] for name, x in next(model.batches()).items()}
    out = []
    for name, images in jax.jit(family.pictures)(model.params, batch, jax.random.key(0)).items():
        path = f"pictures/{model.fingerprint}-{name}.png"
        files.atomic_write(workdir / path, image_grid(np.asarray(images), family.levels))
        out.append(_about(model) | {"name": name, "path": path, "rows": len(images), "columns": images.shape[1]})
    return out


def _examined(model):
    """The costly metrics and the usual ones, all on the first `EXAMINED` examples."""
    family, found, seen = model.family, [], 0

    @jax.jit
    def both(params, batch, key):
        return dict(family.evaluate(params, batch, key)) | dict(family.examine(params, batch, key))

    for index, batch in enumerate(model.batches()):
        found.append(both(model.params, batch, jax.random.fold_in(jax.random.key(0), index)))
        seen += len(batch["example"])
        if seen >= EXAMINED:
            break
    totals = jax.tree.map(lambda *x: np.sum(x, axis=0, dtype=np.float64), *found)
    return {name: float(value) for name, value in means(totals).items()}
