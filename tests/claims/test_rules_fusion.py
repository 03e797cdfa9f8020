"""The rule of `fusion` gives the right verdicts on records whose truth is planted, and compares at equal compute."""

import functools

import numpy as np
import pytest
from claims.planted import most, planned

from experiments import claims
from experiments.claims import fusion
from scaling.claims import REFUTED, REPRODUCED, UNDECIDED

TOKENS = 24.0


@functools.cache
def plan():
    return claims.find("fusion").parts("5m")["multimodal"].sweep


def verdict(rule, study, excess=0.0, small=-0.4, bits=2.0, noise=0.05):
    """The verdict of a rule on 5-minute runs: nats by which early fusion is worse, its change from the largest size to the
    smallest, and the bits that both kinds read off images."""
    table, rng = planned("fusion", "multimodal").copy(), np.random.default_rng(study)
    early = np.array([run.family.images == fusion.EARLY for run in plan()])
    place = table["seed"] // fusion.SEEDS
    middle = small * (0.5 - place / place.max())
    nats = 20 - place + early * (excess + middle) + rng.normal(0, noise, len(early))
    kinds = np.where(early, fusion.EARLY, fusion.LATE)
    table = table.assign(**{fusion.KIND: kinds}, loss_text_given_image=nats / TOKENS,
                         text_information=bits + rng.normal(0, noise, len(early)))
    return claims.find("fusion").rules[rule].decide(fusion.judge(table, TOKENS).estimates[rule])


@pytest.mark.parametrize("rule,holds,fails", [
    ("captions", {"excess": 0.0}, {"excess": 0.5}), ("captions", {"excess": -0.5}, {"excess": 0.5}),
    ("small", {"small": -0.4}, {"small": 0.4}), ("read", {"bits": 2.0}, {"bits": 0.1})])
def test_each_rule_of_fusion_is_reproduced_where_it_is_true_and_refuted_where_it_is_not(rule, holds, fails):
    assert most([verdict(rule, study, **holds) for study in range(4)], REPRODUCED)
    assert most([verdict(rule, study, **fails) for study in range(4)], REFUTED)


def test_noise_that_hides_a_tenth_of_a_name_leaves_fusion_undecided():
    assert most([verdict("captions", study, excess=0.1 * fusion.NAME, noise=0.5) for study in range(4)], UNDECIDED)


def test_both_kinds_of_a_seed_differ_in_images_and_amount_alone_and_cost_the_same():
    table, runs = planned("fusion", "multimodal"), plan()
    assert len(runs) == 16
    for late, early in zip(runs[::2], runs[1::2], strict=True):
        assert (late.family.images, early.family.images) == (fusion.LATE, fusion.EARLY) and early.start is None
        assert late.start is not None and late.start.experiment == runs[0].start.experiment
        shared = [(run.seed, run.data.batch, run.data.samples, run.family.model.width, run.family.share) for run in (
            late, early)]
        assert shared[0] == shared[1]
    costs = table["flops"].to_numpy().reshape(-1, 2)
    np.testing.assert_allclose(costs[:, 0], costs[:, 1], rtol=2e-3)  # a batch of 12 of 7,000 pairs is 0.17%
