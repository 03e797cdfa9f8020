"""Differences between runs on the same examples.

All runs of a study are evaluated on the same examples, so most of the error of their evaluation is common to all of them,
and the difference between two is known far better than either. `scores/<run>.npz` holds what the metrics of a run are made
of: for each example of the first evaluation set two numbers, whose totals have the metric as their ratio.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from etils import epath

CLUSTER = "cluster"


class Scores(NamedTuple):
    """What a metric of a run is made of. Arrays have an element for each example."""

    over: np.ndarray
    under: np.ndarray
    clusters: np.ndarray  # examples with the same number depend on each other

    @property
    def influence(self) -> np.ndarray:
        """What each example adds to the relative error of the metric; the sum is zero."""
        over, under = self.over.astype(np.float64), self.under.astype(np.float64)
        return over / over.sum() - under / under.sum()


class RunComparison(NamedTuple):
    """log(metric of the second run / metric of the first), with its standard error."""

    log_ratio: float
    standard_error: float
    examples: int  # that both were evaluated on


class EvaluationErrors(NamedTuple):
    """Standard errors of the evaluation of several runs, relative to their metrics."""

    common: float  # that of the mean over the runs, which no comparison sees
    own: dict[str, float]  # {run: that of its difference from the mean}
    examples: int  # that all were evaluated on
    clusters: int  # of those examples


def scores_path(workdir, fingerprint: str) -> epath.Path:
    return epath.Path(workdir) / "scores" / f"{fingerprint}.npz"


def scores_to_bytes(found: Mapping[str, tuple], index: int, clusters=None) -> bytes:
    """The file of run number `index` from {metric: (over, under)}, arrays [runs, examples]; other metrics are left out."""
    arrays = {} if clusters is None else {CLUSTER: np.asarray(clusters, np.int32)}
    for name, parts in found.items():
        over, under = (np.asarray(part) for part in parts)
        if over.ndim == 2:
            arrays[f"{name}/over"] = over[index].astype(np.float32)
            if not (under[index] == 1).all():
                arrays[f"{name}/under"] = under[index].astype(np.float32)
    held = io.BytesIO()
    np.savez_compressed(held, allow_pickle=False, **arrays)
    return held.getvalue()


def read_scores(workdir, fingerprint: str, metric: str) -> Scores | None:
    """The scores of a run by a metric; None where there are none, as for runs of older versions, or a damaged file."""
    try:
        with np.load(io.BytesIO(scores_path(workdir, fingerprint).read_bytes()), allow_pickle=False) as found:
            if f"{metric}/over" not in found:
                return None
            over = found[f"{metric}/over"]
            under = found[f"{metric}/under"] if f"{metric}/under" in found else np.ones_like(over)
            clusters = found[CLUSTER] if CLUSTER in found else np.arange(len(over))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    whole = len(over) == len(under) == len(clusters) and np.isfinite(over).all() and under.sum() != 0 and over.sum() != 0
    return Scores(over, under, clusters) if whole else None


def compare_runs(first: Scores, second: Scores) -> RunComparison:
    """How two runs differ on the examples that both were evaluated on: smaller evaluation sets begin larger ones.

    Raises ValueError for runs that were evaluated on different examples.
    """
    a, b = _together([first, second])
    error = clustered_error(b.influence - a.influence, a.clusters)
    value = np.log((b.over.sum() / b.under.sum()) / (a.over.sum() / a.under.sum()))
    return RunComparison(float(value), float(error), len(a.over))


def evaluation_errors(scores: Mapping[str, Scores]) -> EvaluationErrors:
    """The error that some runs have in common, and that of each, on the examples that all were evaluated on."""
    together = dict(zip(scores, _together(scores.values())))
    influences = {run: each.influence for run, each in together.items()}
    mean = np.mean(list(influences.values()), axis=0)
    clusters = next(iter(together.values())).clusters
    return EvaluationErrors(float(clustered_error(mean, clusters)),
                  {run: float(clustered_error(each - mean, clusters)) for run, each in influences.items()},
                  len(clusters), len(np.unique(clusters)))


def read_errors(workdir, fingerprints: Iterable[str], metric: str) -> EvaluationErrors | None:
    """`evaluation_errors` of the runs of a workdir; None where fewer than two have scores or their examples differ."""
    found = {run: read_scores(workdir, run, metric) for run in fingerprints}
    known = {run: each for run, each in found.items() if each is not None}
    try:
        return evaluation_errors(known) if len(known) > 1 else None
    except ValueError:
        return None


def clustered_error(residuals: np.ndarray, clusters=None) -> np.ndarray:
    """The standard error of the sum over the last axis of residuals [..., examples], whose mean is zero.

    Examples of a cluster, which `clusters` [examples] numbers, depend on each other: their residuals count as one (Cochran
    1977, "Sampling Techniques", equation 9.33). NaN for a single cluster.
    """
    if clusters is not None:
        _, which = np.unique(np.asarray(clusters), return_inverse=True)
        order = np.argsort(which, kind="stable")
        starts = np.searchsorted(which[order], np.arange(which.max() + 1))
        residuals = np.add.reduceat(residuals[..., order], starts, axis=-1)
    count = residuals.shape[-1]
    return np.sqrt(np.square(residuals).sum(-1) * (count / (count - 1) if count > 1 else np.nan))


def _together(scores: Iterable[Scores]) -> list[Scores]:
    scores = list(scores)
    count = min(len(each.over) for each in scores)
    cut = [Scores(*(part[:count] for part in each)) for each in scores]
    if any((each.clusters != cut[0].clusters).any() for each in cut):
        raise ValueError("the runs were evaluated on different examples")
    return cut
