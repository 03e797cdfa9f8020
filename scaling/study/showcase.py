"""What trained models make, for people to look at: text from the same prompts, images from the same latents.

Which of it a study has follows from what its family can do. Everything is written as files beside the records.
"""

import jax
import numpy as np
import pandas as pd

from scaling.figures.pixels import image_grid
from scaling.results import tuned
from scaling.store import files
from scaling.study.restore import restore_record
from scaling.training.step import means

EXAMPLES = 32  # images that pictures are made from
EXAMINED = 512  # examples that costly metrics are of


def write_samples(workdir, runner, frame, metric: str, prompts=()):
    """Samples of the best run of each size of a study whose clean records are `frame`.

    samples.json        text by the smallest and the largest model, for each prompt
    pictures.json       and pictures/*.png, by every size
    examine.json        what is too costly to measure for every run, of the smallest and the largest
    """
    finished = [tuned.tuned_cells(frame, metric), frame[(frame["role"] == "target") & ~frame["diverged"]]]
    best = pd.concat(finished).sort_values("data").groupby(tuned.PARAMS)["fingerprint"].last()  # of the most data
    if best.empty:
        return
    models = [restore_record(runner, runner.records.read(fingerprint)) for fingerprint in best]
    ends = [("smallest", models[0]), ("largest", models[-1])]
    family = models[0].family
    if prompts and hasattr(family, "begin"):
        files.write_json(workdir / "samples.json", [line for label, m in ends for line in _texts(m, label, prompts)])
    if hasattr(family, "pictures"):
        files.write_json(workdir / "pictures.json", [picture for m in models for picture in _pictures(m, workdir)])
    if hasattr(family, "examine"):
        examined = [_about(model) | {"label": label, "metrics": _examined(model)} for label, model in ends]
        files.write_json(workdir / "examine.json", examined)


def _about(model):
    return {tuned.PARAMS: model.record[tuned.PARAMS], "fingerprint": model.fingerprint}


def _texts(model, label, prompts):
    texts = model.generate(prompts, tokens=300, temperature=0.8, seed=0, stop=())
    return [_about(model) | {"label": label, "prompt": prompt, "text": text}
            for prompt, text in zip(prompts, texts, strict=True)]


def _pictures(model, workdir):
    family = model.family
    batch = {name: x[:EXAMPLES] for name, x in next(model.batches()).items()}
    out = []
    for name, images in jax.jit(family.pictures)(model.params, batch, jax.random.key(0)).items():
        path = f"pictures/{model.fingerprint}-{name}.png"
        files.atomic_write(workdir / path, image_grid(np.asarray(images), family.levels))
        out.append(_about(model) | {"name": name, "path": path, "rows": len(images), "columns": images.shape[1]})
    return out


def _examined(model):
    """Costly metrics with the usual ones beside them, all of the first `EXAMINED` examples."""
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
