"""Records of the runs of a claim whose truth is planted, for the tests of rules."""

import functools
import math
from unittest import mock

import numpy as np
import pandas as pd

from experiments import claims
from scaling import cost, families
from scaling.claims import REFUTED, Trained
from scaling.training import counts

NOISE = 0.004  # of log loss, that of a short run


@functools.cache
def planned(name, part):
    """N, D and C of the 5-minute runs of a claim, one row a run. To count C takes seconds, so it is 6 N for each token or
    image, and what is executed is 0."""
    with (mock.patch.object(cost, "player_flops", six_n), mock.patch.object(counts, "step_flops_executed", lambda run: 0)):
        runs = claims.find(name).parts("5m")[part].sweep
        return pd.DataFrame([counts.counts(run, 10**9) | {"seed": run.seed, "family": families.name(run.family),
                                                          "loss": math.nan} for run in runs])  # no rule judges nats


def six_n(family, batch, trainable="all"):
    del trainable
    return {"model": 6 * cost.param_count(family)["non_embedding"] * batch * getattr(family, "length", 16)}


def verdicts(name, part, loss, studies=4, noise=NOISE, metric="bits_per_byte"):
    """The verdicts of a claim on records of its 5-minute runs whose log loss is that of `loss(table)` with noise."""
    claim, found, table = claims.find(name), [], planned(name, part)
    for study in range(studies):
        moved = np.random.default_rng(study).normal(0, noise, len(table))
        records = table.assign(**{metric: np.exp(np.log(loss(table)) + moved)})
        found.append(claim.decide(claim.analyse(part, Trained(records, ""))))
    return found


def refuting(name, finding):
    """The rules that refute a claim by a finding."""
    return {rule for rule, found in finding.estimates.items() if claims.find(name).rules[rule].decide(found) == REFUTED}


def most(found, verdict):
    return found.count(verdict) >= len(found) - 1
