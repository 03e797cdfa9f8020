"""Bias of a model beside that of its data: directional amplification, and the shares of groups.

    real = count_pairs(task, attribute, (2, 2))         # what goes with what in the data
    model = count_pairs(task, predicted, (2, 2))        # and in what a model conditioned on the task draws
    amplification(real, model, "T->A").value            # above 0: the model exaggerates what goes together in the data

A task is what a model is asked for or is to tell, such as a class; an attribute is a group that should not matter to it.
"""

import dataclasses

import numpy as np

from scaling.evaluate.thresholds import LEVEL, Share, wilson_share
from scaling.fields import EvaluateError

DIRECTIONS = ("T->A", "A->T")
RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Amplification:
    """BiasAmp in one direction with its interval. `cells`, float64 [tasks, attributes], are the differences of conditional
    shares, model less data, with the sign of amplification: the value is their mean."""

    direction: str
    value: float
    low: float
    high: float
    cells: np.ndarray


def count_pairs(task, attribute, values: tuple[int, int]) -> np.ndarray:
    """How many examples have each task and each attribute, int64 [tasks, attributes], of two lists int [n] each."""
    task, attribute = (np.asarray(each) for each in (task, attribute))
    if task.shape != attribute.shape or task.ndim != 1:
        raise EvaluateError(f"tasks {list(task.shape)} and attributes {list(attribute.shape)} must be lists of one length")
    for name, each, count in (("tasks", task, values[0]), ("attributes", attribute, values[1])):
        if len(each) and not 0 <= each.min() <= each.max() < count:
            raise EvaluateError(f"{name} are numbers from 0 to {count - 1}, not {each.min()} to {each.max()}")
    return np.bincount(task * values[1] + attribute, minlength=values[0] * values[1]).reshape(values)


def amplification(real, model, direction: str, confusion=None, level: float = LEVEL, resamples: int = RESAMPLES,
                  seed: int = 0) -> Amplification:
    """Directional bias amplification (Wang and Russakovsky 2021, arXiv:2102.12594, equation 1) of a model whose examples
    are other ones than those of the data, such as what a generator draws.

    real, model: counts [tasks, attributes]; see `count_pairs`. direction: "T->A" compares P(attribute | task), which is how
    a model conditioned on the task adds the attribute, and "A->T" compares P(task | attribute). Above 0 the model says more
    often than the data what goes together in the data, more often than by chance.

    confusion: counts [true, predicted] of attributes that a classifier gave to real examples, where those of `model` are
    its predictions too; its errors are then taken out (Rogan and Gladen 1978). What is then less than no example
    counts as none, so that shares stay within 0 and 1.

    The interval has the percentiles of resamples of the data, of the model's examples and of the classifier's. It knows
    nothing of other seeds of training. Raises EvaluateError where a task (for "T->A") or an attribute (for "A->T") has no
    example, or none in more resamples than lie outside of the interval.
    """
    tables = [_checked(each, direction) for each in (real, model)]
    confusion = None if confusion is None else np.asarray(confusion, np.float64)
    cells = _cells(*(table[None] for table in tables), None if confusion is None else confusion[None], direction)[0]
    rng = np.random.default_rng(seed)
    drawn = [_resampled(table, resamples, rng) for table in tables]
    again = None if confusion is None else np.stack([_resampled(row, resamples, rng) for row in confusion], 1)
    found = _cells(*drawn, again, direction)
    if np.isnan(cells).any() or np.isnan(found).any((1, 2)).mean() > 1 - level:
        given = "task" if direction == "T->A" else "attribute"
        raise EvaluateError(f"amplification {direction} is not defined: once the errors of the classifier are taken out, "
                            f"the model may have no example of some {given}")
    return _with_interval(direction, cells, found, level)


def amplification_of_answers(task, attribute, predicted, values: tuple[int, int], level: float = LEVEL,
                             resamples: int = RESAMPLES, seed: int = 0) -> Amplification:
    """BiasAmp "A->T" of a model that tells the task of the examples themselves, as in the source: lists int [n] of true
    tasks, true attributes and predicted tasks. Resamples keep each answer beside its truth, so that what they share
    cancels."""
    real, model = (count_pairs(each, attribute, values) for each in (task, predicted))
    cells = _cells(_checked(real, "A->T")[None], np.asarray(model, np.float64)[None], None, "A->T")[0]
    tasks, attributes = values
    cube = np.bincount((np.asarray(task) * tasks + np.asarray(predicted)) * attributes + np.asarray(attribute),
                       minlength=tasks**2 * attributes).reshape(tasks, tasks, attributes)
    drawn = _resampled(cube, resamples, np.random.default_rng(seed))
    return _with_interval("A->T", cells, _cells(drawn.sum(2), drawn.sum(1), None, "A->T"), level)


def representation(counts, level: float = LEVEL) -> list[list[Share]]:
    """The share of each group among the examples of each row of counts [rows, groups], with Wilson's interval."""
    return [[wilson_share(int(count), int(row.sum()), level) for count in row] for row in np.asarray(counts)]


def _with_interval(direction, cells, drawn, level) -> Amplification:
    low, high = np.nanquantile(drawn.mean((1, 2)), [(1 - level) / 2, (1 + level) / 2])
    return Amplification(direction, float(cells.mean()), float(low), float(high), cells)


def _checked(table, direction) -> np.ndarray:
    if direction not in DIRECTIONS:
        raise EvaluateError(f"a direction is one of {', '.join(DIRECTIONS)}, not {direction!r}")
    table = np.asarray(table, np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not table.sum(1 if direction == "T->A" else 0).all():
        raise EvaluateError(f"amplification {direction} compares two tasks or more and two attributes or more, and what is "
                            f"given must have examples; the counts are {table.astype(int).tolist()}: take more examples, "
                            "or leave out the empty")
    return table


def _resampled(counts, resamples, rng) -> np.ndarray:
    """Counts of examples drawn with replacement, [resamples, *shape]."""
    total = counts.sum()
    return rng.multinomial(int(total), (counts / total).ravel(), resamples).reshape(resamples, *counts.shape).astype(float)


def _cells(real, model, confusion, direction) -> np.ndarray:
    """y Delta - (1 - y) Delta of each cell, [resamples, tasks, attributes], of counts of these shapes."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may lack a task or an attribute
        real, model = (table / table.sum((1, 2), keepdims=True) for table in (real, model))
        if confusion is not None:
            model = np.maximum(model @ np.linalg.pinv(confusion / confusion.sum(2, keepdims=True)), 0)
            model /= model.sum((1, 2), keepdims=True)
        together = real > real.sum(1, keepdims=True) * real.sum(2, keepdims=True)
        axis = 2 if direction == "T->A" else 1  # what is told, of which shares add up to 1
        delta = model / model.sum(axis, keepdims=True) - real / real.sum(axis, keepdims=True)
    return np.where(together, delta, -delta)
