"""What `tools.bias` measures: amplification by the runs of a study, and the shares of labels and groups in data."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
from etils import epath

from experiments.claims.bias import REAL, Gauge
from scaling import data as sources
from scaling import experiment as experiments
from scaling.evaluate.bias import (
    DIRECTIONS,
    Amplification,
    amplification,
    amplification_of_answers,
    count_pairs,
    representation,
)
from scaling.evaluate.thresholds import LEVEL
from scaling.fields import EvaluateError
from scaling.results import planned, tuned
from scaling.study.classifying import ClassifierRun, tells_classes
from scaling.study.restore import choose_run, restore_record
from scaling.study.restored import RestoredRun
from scaling.sweeps.runner import Runner, TrainingOptions

MANY = 2**14  # images or examples of data whose shares are counted


# ---------------------------------------------------------------------------------------------- runs


def of_runs(workdir, run: str, label: str | None, group: str | None, samples: int, say: Callable[[str], None]) -> dict:
    """What `tools.bias` says of the runs of a workdir, as JSON."""
    runner = Runner(epath.Path(workdir).expanduser(), TrainingOptions())
    if run == "all":
        table, _ = planned.load_planned(runner.workdir)
        clean = table[~table["diverged"].astype(bool)] if len(table) else table
        names = list(clean.sort_values([tuned.PARAMS, "flops"])["fingerprint"])
    else:
        names = [choose_run(runner.records, run)]
    rows, pairs = [], {}
    for name in names:
        restored = restore_record(runner, runner.records.read(name))
        data, pair = restored.experiment.data, factors_of(restored, label, group)
        key = (dataclasses.replace(data, **{f"unique_{data.unit}": 0, data.unit: 1, "batch": 64}), pair)
        if key not in pairs:
            say(f"{pair[1]} of {data.name}: its share in the data, and a classifier that tells it")
            pairs[key] = Planted(data, *pair)
        rows.append(_compared(restored, pairs[key], samples))
        numbers = (f"{each['direction']} {each['value']:+.3f} [{each['low']:+.3f}, {each['high']:+.3f}]"
                   for each in rows[-1]["amplification"])
        say(f"{restored}: {', '.join(numbers)}")
    if not rows:
        raise EvaluateError(f"{workdir} has no finished run to compare with its data")
    return {"level": LEVEL, "samples": samples, "runs": rows}


def factors_of(run: RestoredRun, label: str | None, group: str | None) -> tuple[str, str]:
    """(class, group): the factors of a run's images that are looked at."""
    data = run.experiment.data
    if not isinstance(data, experiments.Images):
        raise EvaluateError(f"{run} is on {type(data).__name__.lower()}, and amplification is measured on images, of which "
                            "two factors are known; --data= reports groups of other data with labels")
    first, _, second = data.correlate.partition(",")
    label, group = label or first or data.label, group or second
    if not label or not group or label == group:
        raise EvaluateError(f"{run} is on data without a planted correlation: name a class and a group, two factors of its "
                            "images, by --label= and --group=")
    return label, group


class Planted:
    """What goes with what in some data: the class and the group of real images, and a classifier of groups."""

    def __init__(self, data, label: str, group: str):
        self.label, self.group, self._data = label, group, data
        self.names = {}
        truth = [self.truth(factor, MANY) for factor in (label, group)]
        if len(self.names[group]) != 2:
            raise EvaluateError(f"{group} has {len(self.names[group])} values, and a group of two is told apart here: name "
                                "another one by --group=")
        self.values = len(self.names[label]), 2
        self.counts = count_pairs(*truth, self.values)
        self.present = np.flatnonzero(self.counts.sum(1))  # some classes may be held out from training and this set
        self._gauge = None

    def truth(self, factor: str, count: int) -> np.ndarray:
        """The values of a factor of the first images of the first evaluation set, int32 [count] or fewer."""
        changed = dataclasses.replace(self._data, label=factor, classes=2**20)
        source = changed.load()
        self.names[factor] = list(source.classes(factor))
        split = source.splits[0]
        return np.asarray(source.evaluation(split, min(count, source.pictures.available(split)))["label"])

    @property
    def gauge(self) -> Gauge:
        """The classifier of the claim on bias, trained when it is first needed."""
        if self._gauge is None:
            self._gauge = Gauge(self._data, self.group)
        return self._gauge

    @property
    def confusion(self) -> np.ndarray:
        """Counts [true, predicted] of groups that the classifier gave to real images, about as many of each."""
        each = REAL // 4
        return np.array([[each * (1 - share), each * share] for share in (self.gauge.wrong, self.gauge.right)])


def _compared(run: RestoredRun, planted: Planted, samples: int) -> dict:
    """What is found of one run, as JSON."""
    about = {"run": run.fingerprint, "family": run.record.get("family"), "seed": run.experiment.seed,
             "N": run.record[tuned.PARAMS], "D": run.record.get("examples_seen"), "data": run.experiment.data.name,
             "agree": run.experiment.data.agree, "label": planted.label, "group": planted.group}
    classes = planted.truth(planted.label, min(samples, run.experiment.data.evaluated or samples))
    if tells_classes(run.family):
        if planted.label != run.experiment.data.label:
            raise EvaluateError(f"{run} tells the {run.experiment.data.label} of an image: name it by --label=")
        images = run.source.evaluation(run.source.splits[0], len(classes))["image"]
        predicted = ClassifierRun(run).probabilities(images).argmax(1)
        groups = planted.truth(planted.group, len(classes))
        found, model = [amplification_of_answers(classes, groups, predicted, planted.values)], count_pairs(
            predicted, groups, planted.values)
    else:
        _check_given(run, planted.label)
        drawn = run.sample(samples)
        given = classes[np.arange(samples) % len(classes)]
        model = count_pairs(given, planted.gauge.labeller.predict(drawn), planted.values)
        tables = planted.counts[planted.present], model[planted.present]
        found = [each for direction in DIRECTIONS if (each := _defined(*tables, direction, planted.confusion))]
        about["recognised"] = planted.gauge.accuracy
        about["undefined"] = [direction for direction in DIRECTIONS if direction not in [each.direction for each in found]]
    shown = {"data": representation(planted.counts[planted.present]), "run": representation(model[planted.present])}
    names = [planted.names[planted.label][number] for number in planted.present]
    return about | {"amplification": [_as_json(each) for each in found],
                    "representation": _groups(names, planted.names[planted.group], shown)}


def _defined(real, model, direction, confusion) -> Amplification | None:
    """The amplification in a direction, or None where a run that draws one group alone leaves it undefined."""
    try:
        return amplification(real, model, direction, confusion)
    except EvaluateError:
        return None


def _check_given(run: RestoredRun, label: str) -> None:
    """Raises EvaluateError where a run does not know the class that its samples should have."""
    reads = jax.eval_shape(lambda: run.family.example_batch(1, jax.random.key(0))).keys() - {"image", "example"}
    if "caption" not in reads and not ("label" in reads and run.experiment.data.label == label):
        knows = f"knows the {run.experiment.data.label} alone" if "label" in reads else "knows nothing of what it draws"
        raise EvaluateError(f"{run} {knows}, so nobody can say how it bears on the {label}; name runs that are conditioned "
                            "on it, or on captions")


def _as_json(found: Amplification) -> dict:
    return {name: getattr(found, name) for name in ("direction", "value", "low", "high")} | {"cells": found.cells.tolist()}


def _groups(rows: Sequence[str], groups: Sequence[str], parts: dict) -> list[dict]:
    """[{"class", "group", part: {"value", "low", "high", "of"}, ...}] of shares [rows][groups] of each part."""
    return [{"class": row, "group": group} | {part: shares[i][j]._asdict() for part, shares in parts.items()}
            for i, row in enumerate(rows) for j, group in enumerate(groups)]


# ---------------------------------------------------------------------------------------------- data


def of_data(name: str, label: str | None, group: str | None, classes: int) -> dict:
    """The shares of labels in data, and of groups in each, as JSON."""
    if name.partition(":")[0].partition("/")[0] in ("packages", "labelled"):
        if label or group:
            raise EvaluateError("texts have one label, which data.fields names: leave out --label= and --group=")
        source = sources.load_labelled(name, classes=classes)
        held_out = source.evaluation(source.splits[0], 0)["label"]
        found = {"label": "label", "names": {"label": source.labels}}
        parts = {"training": [source.arrays()["label"]], "held out": [held_out]}
    else:
        factors = [factor for factor in (label or "label", group) if factor]
        read = [sources.load_images(name, label=factor) for factor in factors]
        found = {"label": factors[0], "names": {each: list(one.classes(each)) for each, one in zip(factors, read)}}
        steps = min(MANY, read[0].unique_examples) // read[0].batch_size
        parts = {"training": [one.batches(0, 0, steps)["label"].reshape(-1) for one in read]}
        if read[0].splits:
            held = min(MANY, read[0].pictures.available(read[0].splits[0]))
            parts["held out"] = [one.evaluation(one.splits[0], held)["label"] for one in read]
    names = found["names"]
    each = names[found["label"]]
    counted = {part: np.bincount(lists[0], minlength=len(each)) for part, lists in parts.items()}
    tables = {"classes": _groups(["all"], each, {part: representation(row[None]) for part, row in counted.items()})}
    if group:
        values = len(each), len(names[group])
        tables["groups"] = _groups(each, names[group], {part: representation(count_pairs(*lists, values))
                                                       for part, lists in parts.items()})
    return {"level": LEVEL, "data": name, "label": found["label"], "group": group,
            "examples": {part: int(row.sum()) for part, row in counted.items()}, **tables}
