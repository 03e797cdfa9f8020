"""What trained models make, for people to look at: text from the same prompts, images from the same latents.

Which of it a study has follows from what its family can do. Everything is written as files beside the records.
"""

import io

import jax
import matplotlib.image
import numpy as np
import pandas as pd

from scaling import experiment as experiments
from scaling import nn
from scaling.families import _generate
from scaling.results import tuned
from scaling.store import checkpoint, files
from scaling.training.step import means

EXAMPLES = 32  # images that pictures are made from
EXAMINED = 512  # examples that costly metrics are of
SCALE = 4  # screen pixels a pixel


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
    models = [_Model(workdir, runner, fingerprint) for fingerprint in best]
    ends = list(dict(smallest=models[0], largest=models[-1]).items())
    family = models[0].experiment.family
    if prompts and family.reads == "text":
        files.write_json(workdir / "samples.json", [line for label, m in ends for line in _texts(m, label, prompts)])
    if hasattr(family, "pictures"):
        files.write_json(workdir / "pictures.json", [picture for m in models for picture in _pictures(m, workdir)])
    if hasattr(family, "examine"):
        files.write_json(workdir / "examine.json", [m.about | {"label": label, "metrics": _examined(m)} for label, m in ends])


class _Model:
    """A finished run with its parameters."""

    def __init__(self, workdir, runner, fingerprint):
        record = runner.records.read(fingerprint)
        self.runner = runner
        self.experiment = experiments.from_dict(record["experiment"])
        self.about = {tuned.PARAMS: record[tuned.PARAMS], "fingerprint": fingerprint}
        abstract = {"params": jax.eval_shape(self.experiment.family.init, jax.random.key(0))}
        self.params = checkpoint.restore_tree(workdir / "params" / fingerprint, abstract)[0]["params"]

    def batches(self):
        """Batches of the first evaluation set, their examples numbered."""
        stacked = next(iter(self.runner.evaluation(self.experiment).values()))
        for index in range(len(next(iter(stacked.values())))):
            batch = {name: x[index] for name, x in stacked.items()}
            size = len(next(iter(batch.values())))
            yield {**batch, "example": np.arange(index * size, (index + 1) * size, dtype=np.int32)}


def _texts(model, label, prompts, tokens: int = 300):
    source = model.runner.source(model.experiment)
    texts = _generate.generate(model.experiment.family, model.params, [source.encode(p) for p in prompts],
                              max_tokens=tokens, temperature=0.8, seed=0)
    return [model.about | {"label": label, "prompt": prompt, "text": source.decode(text)}
            for prompt, text in zip(prompts, texts, strict=True)]


def _pictures(model, workdir):
    family = model.experiment.family
    batch = {name: x[:EXAMPLES] for name, x in next(model.batches()).items()}
    out = []
    for name, images in jax.jit(family.pictures)(model.params, batch, jax.random.key(0)).items():
        path = f"pictures/{model.about['fingerprint']}-{name}.png"
        files.atomic_write(workdir / path, png(np.asarray(images), family.levels))
        out.append(model.about | {"name": name, "path": path, "rows": len(images), "columns": images.shape[1]})
    return out


def png(images: np.ndarray, levels: int, gap: int = 1) -> bytes:
    """Images, integer [rows, columns, H, W, C] with values below `levels`, as one PNG with a gap between them."""
    rows, columns, height, width, _ = images.shape
    values = nn.levels_to_unit(images, levels)
    framed = np.full((rows, height + gap, columns, width + gap, 3), 0.5, np.float32)
    framed[:, :height, :, :width] = values.transpose(0, 2, 1, 3, 4)  # one channel serves all three
    grid = framed.reshape(rows * (height + gap), columns * (width + gap), 3)[:-gap, :-gap]
    out = io.BytesIO()
    matplotlib.image.imsave(out, grid.repeat(SCALE, 0).repeat(SCALE, 1), format="png")
    return out.getvalue()


def _examined(model):
    """Costly metrics with the usual ones beside them, all of the first `EXAMINED` examples."""
    family, found, seen = model.experiment.family, [], 0

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
