"""A finished run from a workdir, ready to sample from and to evaluate.

    run = scaling.restore("runs/quickstart")          # the best run; or a fingerprint, or the start of one
    texts = run.generate(["def ", "class "], tokens=200, temperature=0.8)
    metrics = run.evaluate()

A run is read from its record and its parameters. Its data are loaded when something first needs them.
"""

import codecs
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from scaling import experiment as experiments
from scaling import families
from scaling.experiment import Experiment
from scaling.families import _generate
from scaling.fields import nearest
from scaling.figures import words
from scaling.results import metrics, records, tuned
from scaling.store import checkpoint, files
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.training.program import Program
from scaling.training.step import State, numbered

END = 0  # the token that ends a document, in every tokenizer
IMAGES_AT_ONCE = 32  # images of one call; a fixed number, so that an image does not depend on how many are asked for


class RestoreError(ValueError):
    """A run that cannot be restored, or that cannot do what was asked of it; the message says why."""


def restore(workdir, run: str = "best") -> "RestoredRun":
    """A finished run of `workdir`: "best", a fingerprint, or the start of a fingerprint that fits one run only.

    The best run is the one with the best value of the study's metric, the target included. Raises RestoreError where
    there is no such run, or its record or parameters are missing or damaged, and WorkdirError where `workdir` is no
    directory.
    """
    runner = Runner(epath.Path(workdir).expanduser(), TrainingOptions())
    fingerprint = best(runner.workdir) if run == "best" else find_run(runner.records, run)
    try:
        record = runner.records.read(fingerprint)
    except KeyError:
        raise RestoreError(f"the record of {fingerprint} in {_shown(runner)} is damaged; train the run again") from None
    return restore_record(runner, record)


def restore_record(runner: Runner, record: dict) -> "RestoredRun":
    """The run of a record in the workdir of `runner`, which then shares its data with the runner's other runs."""
    fingerprint = record["fingerprint"]
    try:
        experiment = experiments.from_dict(record["experiment"])
    except (KeyError, TypeError, ValueError) as error:
        raise RestoreError(f"the experiment of {fingerprint} is not one that this version of scaling knows: "
                           f"{error}") from None
    path = runner.workdir / "params" / fingerprint
    if not path.is_dir():
        raise RestoreError(f"the parameters of {fingerprint} are missing: there is no directory {os.fspath(path)}")
    abstract = {"params": jax.eval_shape(experiment.family.init, jax.random.key(0))}
    try:
        params = checkpoint.restore_tree(path, abstract)[0]["params"]
    except (checkpoint.CheckpointError, checkpoint.NoCheckpoint) as error:
        raise RestoreError(f"the parameters of {fingerprint} cannot be read: {error}") from None
    return RestoredRun(record, experiment, params, runner)


def best(workdir) -> str:
    """The fingerprint of the run with the best value of the study's metric, among those that did not diverge.

    The metric is the one in study.json, or, before that is written, the first known one that the records hold.
    """
    workdir = epath.Path(workdir).expanduser()
    table = records.load_records(workdir)
    path = workdir / "study.json"
    held = [name for name in metrics.METRICS if name in table and table[name].notna().any()]
    if table.empty:
        raise RestoreError(f"{os.fspath(workdir)} has no finished run yet")
    try:
        metric = files.read_json(path).get("metric") if path.exists() else next(iter(held), None)
    except ValueError as error:
        raise RestoreError(f"{error}; or name a run by its fingerprint") from None
    if metric not in table:
        raise RestoreError(f"no run in {os.fspath(workdir)} has the study's metric {metric!r}; "
                           f"{nearest(str(metric), held)}")
    finished = tuned.clean(table, metric).dropna(subset=[metric])
    if finished.empty:
        raise RestoreError(f"every finished run in {os.fspath(workdir)} diverged; name one by its fingerprint")
    order = finished.sort_values(metric, ascending=not metrics.find_metric(metric).rises, kind="stable")
    return order["fingerprint"].iloc[0]


def find_run(recorded: records.Records, start: str) -> str:
    """The one fingerprint that begins with `start`; RestoreError where none or several do."""
    workdir = os.fspath(recorded.workdir)
    if not recorded.workdir.is_dir():
        raise files.WorkdirError(f"workdir {workdir!r} is not a directory: there is nothing to restore")
    known = recorded.fingerprints()
    found = [name for name in known if name.startswith(start)] if start else []
    if start in known or len(found) == 1:
        return start if start in known else found[0]
    if found:
        raise RestoreError(f"{len(found)} runs in {workdir} begin with {start!r}: {_some(found)}; write more letters")
    unfinished = {name.partition("-")[0] for folder in ("params", "logs") for name in _names(recorded.workdir / folder)}
    if start and any(name.startswith(start) for name in unfinished - {*known}):
        raise RestoreError(f"run {start!r} in {workdir} has not finished: it has no record yet")
    raise RestoreError(f"no finished run in {workdir} is called {start!r}; "
                       f"{nearest(start, known) if known else 'there is none yet'}")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RestoredRun:
    """A finished run.

    record: what the run produced, as in workdir/records.
    experiment: what determined it; `family` is its family.
    params: {player: parameters}; the averaged ones where the run kept an average.
    runner: finds the data, the judge and the evaluation sets, once for all runs that share it.
    """

    record: dict[str, Any]
    experiment: Experiment
    params: Any
    runner: Runner

    def __repr__(self):
        return (f"RestoredRun({self.fingerprint}, {families.name(self.family)} "
                f"N={words.count(self.record[tuned.PARAMS])})")

    @property
    def fingerprint(self) -> str:
        return self.record["fingerprint"]

    @property
    def family(self):
        return self.experiment.family

    @property
    def source(self):
        """The data that the run was trained on, loaded when first asked for; see `scaling.data`."""
        return self.runner.source(self.experiment)

    @property
    def generates(self) -> str:
        """"text" or "images": what the family can generate. RestoreError for a family that generates neither."""
        return _generates(self.family) or self._cannot("generate", "text", "images")

    # ---- text

    def generate(self, prompts: Sequence[str], *, tokens: int = 200, temperature: float = 1.0, top_k: int | None = None,
                 top_p: float | None = None, seed: int = 0, stop: Sequence[int] = (END,)) -> list[str]:
        """A continuation of each prompt by up to `tokens` tokens, without the prompt.

        `temperature`, `top_k` and `top_p` are as in `scaling.families._generate.generate`; temperature 0 always takes the
        likeliest token. A text ends before the first of the tokens in `stop`, which is by default the end of a document.
        Text i depends on its prompt, the seed and i, not on the other prompts.
        """
        if isinstance(prompts, str):
            prompts = [prompts]
        encoded = [self._encode(prompt, tokens, temperature, top_k, top_p) for prompt in prompts]
        found = _generate.generate(self.family, self.params, encoded, max_tokens=tokens, temperature=temperature,
                                   top_k=top_k, top_p=top_p, stop=stop, seed=seed)
        return [self.source.decode(text) for text in found]

    def stream(self, prompt: str, *, tokens: int = 200, temperature: float = 1.0, top_k: int | None = None,
               top_p: float | None = None, seed: int = 0, sample: int = 0, stop: Sequence[int] = (END,)) -> Iterator[str]:
        """Yields the continuation of a prompt piece by piece, as soon as each piece is whole characters.

        The pieces together are text number `sample` of `generate([prompt, prompt, ...])` with the same options.
        """
        encoded = self._encode(prompt, tokens, temperature, top_k, top_p)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in _generate.stream(self.family, self.params, encoded, max_tokens=tokens, temperature=temperature,
                                      top_k=top_k, top_p=top_p, stop=stop, seed=seed, row=sample):
            if piece := decoder.decode(self.source.tokenizer.to_bytes([token])):
                yield piece
        if rest := decoder.decode(b"", final=True):
            yield rest

    def _encode(self, prompt, tokens, temperature, top_k, top_p):
        if _generates(self.family) != "text":
            self._cannot("continue text", "text")
        try:
            encoded = self.source.encode(prompt)
        except UnicodeEncodeError as error:
            raise RestoreError(f"the prompt {prompt!r} is not valid Unicode: {error.reason}") from None
        if not len(encoded):
            raise RestoreError(f"the prompt {prompt!r} has no tokens; write at least one character")
        try:
            _generate.check_request(self.family, [encoded], tokens, temperature, top_k, top_p)
        except ValueError as error:
            raise RestoreError(str(error)) from None
        return encoded

    # ---- images

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """`count` images, uint8 [count, H, W, C] with values below `family.levels`.

        Image i depends on the seed and on i alone. A conditioned family takes the label or caption of image i of the
        first evaluation set. With seed 0 these are the images that the record's distances were measured on.
        """
        if _generates(self.family) != "images":
            self._cannot("draw images", "images")
        if count < 1:
            raise RestoreError(f"the number of images must be at least 1, not {count}")
        conditions = self._conditions()
        key = jax.random.fold_in(jax.random.key(seed), 1)  # that of `scaling.training.step.sample_batch` for seed 0
        draw, found = jax.jit(self.family.sample), []
        for start in range(0, count, IMAGES_AT_ONCE):
            numbers = np.arange(start, start + IMAGES_AT_ONCE, dtype=np.int32)
            batch = {name: values[numbers % len(values)] for name, values in conditions.items()}
            found.append(np.asarray(draw(self.params, {**batch, "example": numbers}, key)))
        return np.concatenate(found)[:count]

    def _conditions(self):
        """{"label": [n], "caption": [n, bytes]} of the first evaluation set: what the family is conditioned on."""
        batch = jax.eval_shape(lambda: self.family.example_batch(1, jax.random.key(0)))
        names = batch.keys() - {"image", "example"}
        if not names:
            return {}
        first = self.source.evaluation(self.source.splits[0], self.experiment.data.evaluated)
        return {name: first[name] for name in names}

    # ---- evaluation

    def evaluate(self) -> dict[str, float]:
        """Every metric on the evaluation sets, and of samples where the data have a judge, as in the record."""
        # On one device any batch and any model divide, whatever the run was trained on.
        experiment = self.experiment.replace({"layout": "data", "microbatch": self.experiment.data.batch})
        program = Program(experiment, self.source, 1, devices=jax.devices()[:1])
        state = State(jnp.zeros(1, jnp.int32), jax.tree.map(lambda x: x[None], self.params), {}, {}, jnp.full(1, -1))
        scores = self.runner.scores(program, state)
        return {name: float(values[0]) for name, values in scores.items()}

    def batches(self) -> Iterator[dict[str, Any]]:
        """Batches of the first evaluation set, their examples numbered."""
        stacked = next(iter(self.runner.evaluation(self.experiment).values()))
        for index in range(len(next(iter(stacked.values())))):
            yield numbered({name: values[index] for name, values in stacked.items()}, index)

    def _cannot(self, what: str, *kinds: str):
        able = [families.name(family) for family in families.all() if _generates(family) in kinds]
        raise RestoreError(f"run {self.fingerprint} is of the family {families.name(self.family)}, which cannot {what}; "
                           f"families that can: {', '.join(able) or 'none'}")


def _generates(family) -> str | None:
    if hasattr(family, "begin"):
        return "text"
    return "images" if hasattr(family, "sample") else None


def _names(folder) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def _some(names, most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _shown(runner) -> str:
    return os.fspath(runner.workdir)
