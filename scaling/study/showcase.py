"""Samples of trained models for people to look at: text from the same prompts, images from the same latents.

The family decides which of them a study has. All are files in the workdir. What cannot be made is said in a sentence, and
the rest is made.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import jax
import numpy as np

from scaling.data import engraving
from scaling.data.waves import wav_bytes
from scaling.experiment import Pairs
from scaling.results import metrics, tuned
from scaling.store import files
from scaling.study import recordings
from scaling.study.baselines import compares_with_ngrams, ngram_scores
from scaling.study.positions import loss_by_position, predicts_positions
from scaling.study.restore import restore_record
from scaling.study.restored import RestoredRun, RestoreError
from scaling.training.evaluation import metrics_of

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 32  # images of the evaluation set that pictures start from
EXAMINED = 512  # examples that costly metrics are measured on
PAIRS = 4  # held-out pairs whose sources models rewrite, where no prompts are given
TOKENS = 300  # of a text, where the model's positions allow as many
RECORDINGS, SECONDS = 4, 1  # of sound by a model, and of each
SUNG = 8  # seconds of a tune that a model wrote


class Showcase:
    """Writes what a study shows of its models. `failed` has a sentence for each part that could not be made."""

    def __init__(self, workdir, runner):
        self.workdir, self.runner, self.failed = workdir, runner, []

    def write_samples(self, frame: pd.DataFrame, metric: str, prompts=()) -> None:
        """Writes samples of the best run of each size of a study, whose clean records are `frame`.

        Families may be mixed: each part is of the models whose family can give it, by their size among those.

        samples.json        text by the smallest and the largest model, for each prompt; of models of pairs the likeliest
                            target of each prompt, or of the first held-out sources beside their own targets
        pictures.json       and pictures/*.png, by the model of each size
        examine.json        metrics too costly for every run, of the smallest and the largest model
        positions.json      the loss by position in the context, of the model of each size, for text
        sounds.json         and sounds/*.wav, by the smallest and the largest model of sound, or of tunes as text; of tunes
                            also scores, sounds/*.svg, where `verovio` is installed
        """
        models = self._models(frame, metric)
        told = [model for model in models if hasattr(model.family, "begin")]
        heard = [model for model in told if getattr(model.experiment.data, "sound", None)]
        if heard:
            self._write("sounds", "recordings", frame, lambda: _recordings(_ends(heard), self.workdir))
        elif told and isinstance(told[0].experiment.data, Pairs):
            self._write("samples", "samples of targets", frame, lambda: _targets(_ends(told), prompts))
        elif told and prompts:
            texts = self._write("samples", "samples of text", frame, lambda: [
                text for label, model in _ends(told) for text in _texts(model, label, prompts)])
            if getattr(told[0].experiment.data, "abc", False):
                self._write("sounds", "sound of tunes", frame, lambda: _sung(texts, self.workdir))
        if pictured := [model for model in models if hasattr(model.family, "pictures")]:
            self._write("pictures", "pictures", frame, lambda: [
                picture for model in pictured for picture in _pictures(model, self.workdir)])
        if known := [model for model in models if hasattr(model.family, "examine")]:
            self._write("examine", "further metrics of single models", frame, lambda: [
                _about(model) | {"label": label, "metrics": _examined(model)} for label, model in _ends(known)])
        if predicting := [model for model in models if predicts_positions(model)]:
            self._write("positions", "loss by position", frame, lambda: [
                _about(model) | {"bits": loss_by_position(model)} for model in predicting])

    def write_baselines(self, experiment, sizes: list[int]) -> None:
        """Writes baselines.json: the scores that the data themselves would get as samples, and those of n-gram models.

        experiment: one with the most unique data. sizes: amounts of unique data for a generator that only copies, and for
        n-gram models. N-gram models that were counted before are not counted again.
        """
        path, ngrams = self.workdir / "baselines.json", compares_with_ngrams(experiment)
        with self._guarded("n-gram baseline" if ngrams else "baselines of real images"):
            judge, most = self.runner.judge(experiment), experiment.data.available(self.runner.source(experiment))
            sizes = sorted({min(n, most) for n in sizes})
            found = {}
            if ngrams:
                known = files.read_json(path).get("ngram", []) if path.exists() else []
                missing = {*sizes} - {entry["tokens_unique"] for entry in known}
                found["ngram"] = known + ngram_scores(self.runner, experiment, missing)
            if hasattr(judge, "memoriser"):
                unique = f"{experiment.data.unit}_unique"
                found |= {"floor": judge.floor(), "memoriser": [{unique: n, **judge.memoriser(n)} for n in sizes]}
            if any(found.values()):
                files.write_json(path, found)

    def _models(self, frame, metric) -> list[RestoredRun]:
        """The best run of each size, from the smallest on; where its parameters are lost, the next best of that size."""
        models, lost = [], []
        for _, fingerprints in best_first(frame, metric).groupby(tuned.PARAMS)["fingerprint"]:
            for fingerprint in fingerprints:
                try:
                    models.append(restore_record(self.runner, self.runner.records.read(fingerprint)))
                    break
                except (RestoreError, KeyError) as error:
                    lost.append(str(error).strip("'\""))
        if lost:
            more = f" ({len(lost) - 1} more runs cannot be shown either)" if len(lost) > 1 else ""
            rest = "The samples are of other runs." if models else "There are no samples."
            self.failed.append(f"{lost[0][0].upper()}{lost[0][1:]}{more}. {rest}")
        return models

    def _write(self, name: str, what: str, frame, make: Callable[[], list]) -> list:
        """Writes `name`.json, and returns its content, or [] where it cannot be made. Entries of this study's runs from an
        earlier command stay then."""
        path = self.workdir / f"{name}.json"
        with self._guarded(what):
            made = make()
            files.write_json(path, made)
            return made
        with contextlib.suppress(ValueError, OSError):
            kept = [entry for entry in files.read_json(path) if entry["fingerprint"] in set(frame["fingerprint"])]
            files.write_json(path, kept) if kept else path.unlink()
        return []

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Generator[None]:
        """Notes that something could not be made, and why. A full disk and an interrupt are no such reasons."""
        try:
            yield
        except files.DiskFull:
            raise
        except Exception as error:  # a report never depends on a sample, whatever a family makes of it
            why = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, ValueError):
                where = traceback.extract_tb(error.__traceback__)[-1]
                why = f"{type(error).__name__} in {where.name}: {why}"
            self.failed.append(f"The {what} could not be made: {why[:300]}.")


def best_first(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The finished runs: first the target and the tuned runs by their data, then the others by the metric."""
    import pandas as pd

    first = [frame[(frame["role"] == "target") & ~frame["diverged"]], tuned.tuned_cells(frame, metric)]
    best = pd.concat(first).sort_values("data", ascending=False, kind="stable")
    rest = frame[~frame["diverged"] & frame[metric].notna()].sort_values(
        metric, ascending=not metrics.find_metric(metric).rises, kind="stable")
    return pd.concat([best, rest]).drop_duplicates("fingerprint")


def _ends(models) -> list[tuple[str, RestoredRun]]:
    """The first and the last of models in the order of size, with what they are called."""
    return [("smallest", models[0]), ("largest", models[-1])]


def _about(model):
    return {tuned.PARAMS: model.record[tuned.PARAMS], "fingerprint": model.fingerprint}


def _texts(model, label, prompts):
    """One entry of samples.json for each prompt."""
    texts = model.continue_each(prompts, TOKENS, temperature=0.8, seed=0, stop=())
    return [_about(model) | {"label": label, "prompt": prompt, "text": text}
            for prompt, text in zip(prompts, texts, strict=True)]


def _targets(ends, prompts):
    """Entries of samples.json: the likeliest target of each prompt, or of the first held-out sources beside their own."""
    pairs = [(prompt, "") for prompt in prompts] or _held_out_pairs(ends[0][1], PAIRS)
    out = []
    for label, model in ends:
        texts = model.continue_each([source for source, _ in pairs], model.family.length, temperature=0)
        out += [_about(model) | {"label": label, "prompt": source, "text": text, "target": target}
                for (source, target), text in zip(pairs, texts, strict=True)]
    return out


def _held_out_pairs(model, count):
    """The first pairs of the evaluation set as texts: (source, target)."""
    rows = model.source.evaluation(model.source.splits[0], count)
    texts = [[model.tokenizer.decode(row).strip("\0") for row in rows[name]] for name in ("source", "target")]
    return list(zip(*texts, strict=True))


def _recordings(ends, workdir):
    """Entries of sounds.json, and their WAV files: held-out recordings, and those of the smallest and the largest model."""
    model, length = ends[0][1], recordings.RATE * SECONDS
    out = [_sound(workdir, "held-out", recordings.held_out_recordings(model, RECORDINGS, length),
                  {"label": "held-out recordings", "fingerprint": ""})]
    for label, model in ends:
        waves = recordings.draw_recordings(model, RECORDINGS, length)
        out.append(_sound(workdir, model.fingerprint, waves, _about(model) | {"label": label}))
    return out


def _sung(texts, workdir):
    """Entries of sounds.json, their WAV files and scores: the entries of samples.json whose text begins with a tune."""
    out = []
    for number, entry in enumerate(texts):
        tune, name = recordings.first_tune(entry["prompt"] + entry["text"]), f"{entry['fingerprint']}-{number}"
        if (wave := recordings.sung(tune, SUNG)) is not None:
            about = {field: value for field, value in entry.items() if field != "text"}
            if (score := engraving.engrave(tune)) is not None:
                about["score"] = f"sounds/{name}.svg"
                files.atomic_write(workdir / about["score"], score)
            out.append(_sound(workdir, name, [wave], about))
    return out


def _sound(workdir, name, waves, about):
    """Writes recordings as one WAV file, and returns its entry of sounds.json."""
    path, wave = f"sounds/{name}.wav", recordings.joined(waves)
    files.atomic_write(workdir / path, wav_bytes(wave))
    return about | {"path": path, "seconds": len(wave) / recordings.RATE, "recordings": len(waves)}


def _pictures(model, workdir):
    """Writes the family's pictures as PNG files, and returns their entries of pictures.json."""
    from scaling.figures.pixels import image_grid

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
    joined = jax.tree.map(lambda *x: np.concatenate(x) if x[0].ndim else np.sum(x, dtype=np.float64), *found)
    return {name: float(value) for name, value in metrics_of(family, joined).items()}
