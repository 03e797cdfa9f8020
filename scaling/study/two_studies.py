"""Two recipes on one ladder: a study of each, in base/ and change/ of one workdir, without forecasts."""

from __future__ import annotations

import dataclasses
import os

import pandas as pd
from etils import epath

from scaling import laws
from scaling.fields import ConfigError
from scaling.results import metrics
from scaling.study.definition import Definition
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions
from scaling.training.counts import counts

NAMES = "base", "change"


def two_studies(definitions: tuple[Definition, Definition], workdir, options: TrainingOptions, pack: int, command: str,
                y: str | None = None) -> tuple[Study, Study]:
    """The studies of (base, change). Nothing is created or trained; `Study.go` does that for each.

    Their targets are left out, since the comparison needs no forecast. y: the metric to compare by. Raises ConfigError for
    recipes that share no metric and LawError for ladders that share fewer than two rungs: both before any training.
    """
    base, change = definitions
    if y is None and base.metric != change.metric:
        raise ConfigError(f"the recipes have no common metric: {base.metric} of the base, {change.metric} of the change; "
                          f"give both one, --change.metric={base.metric}, or name one that both measure, --y={base.metric}")
    if metrics.find_metric(y or base.metric).rises:
        raise ConfigError(f"{y or base.metric} rises as models get better, and a speed-up needs a metric that falls; name "
                          "one by --y=, such as bits_per_byte, bits_per_dim or fd_infinity")
    studies = tuple(Study(dataclasses.replace(each, target=None), epath.Path(workdir) / name, options, pack, command)
                    for name, each in zip(NAMES, definitions))
    laws.shared_rungs(*(planned_ladder(each, name) for name, each in zip(NAMES, studies)))
    return studies[0], studies[1]


def planned_ladder(study: Study, name: str) -> laws.Ladder:
    """The ladder that a study plans: its cells, each with a loss of one, to see which rungs two plans share."""
    rows = []
    for run in study.plan.runs:
        counted = counts(run.experiment, 0)
        rows.append({"flops": counted["flops"], "N": counted["params_non_embedding"], "D": counted[study.data_column],
                     "loss": 1.0})
    frame = pd.DataFrame(rows).drop_duplicates(ignore_index=True)
    return laws.make_ladder(name, study.definition.metric, frame.assign(rung=frame.index, seed=0))


def workdirs(workdir) -> tuple[str, str]:
    """The workdirs of the base and of the change in one workdir."""
    return os.path.join(os.fspath(workdir), NAMES[0]), os.path.join(os.fspath(workdir), NAMES[1])
