"""The rules of the claims on images and on costs give the right verdicts on records whose truth is planted."""

import numpy as np
import pytest
from claims.planted import most, planned, verdicts

from experiments import claims
from scaling.claims import REFUTED, REPRODUCED, UNDECIDED, Trained


def pictures(precise, covering, studies=3):
    """The verdicts of `sharp` on records where the GAN is ahead by `precise` and the VAE by `covering`."""
    claim, table, found = claims.find("sharp"), planned("sharp", "gan and vae"), []
    gan = table["family"] == "gan"
    for study in range(studies):
        noise = np.random.default_rng(study).normal(0, 0.02, (3, len(table)))
        records = table.assign(precision=0.6 + precise * gan + noise[0], coverage=0.4 + covering * ~gan + noise[1],
                               recall=0.4 + noise[2])
        found.append(claim.decide(claim.analyse("gan and vae", Trained(records, ""))))
    return found


def test_sharp_is_reproduced_where_both_signs_are_as_claimed():
    assert most(pictures(0.1, 0.05), REPRODUCED)
    assert most(pictures(-0.1, 0.05), REFUTED) and most(pictures(0.1, -0.05), REFUTED)
    assert most(pictures(0.1, 0.0), UNDECIDED)


def test_the_runs_of_a_slice_have_equal_compute():
    table = planned("sharp", "gan and vae")
    for _, slice_ in table.groupby(table["seed"] // 3):
        assert slice_["flops"].max() / slice_["flops"].min() < 1.02 and set(slice_["family"]) == {"gan", "vae"}


@pytest.mark.parametrize("part,metric", [("transformer", "bits_per_byte"), ("vae", "bits_per_dim")])
def test_cost_is_reproduced_by_a_power_of_compute_and_refuted_by_a_constant_price(part, metric):
    table = planned("cost", part)
    table["seconds"] = table["flops"] / 2e10
    assert most(verdicts("cost", part, lambda t: 1 + 20 * t.flops ** -0.1, metric=metric), REPRODUCED)
    assert most(verdicts("cost", part, lambda t: 3 - 1e-12 * t.flops, noise=1e-4, metric=metric), REFUTED)


def test_cost_counts_joules_where_records_have_them():
    table = planned("cost", "gan").assign(seconds=1.0, fd_infinity_relative=lambda t: t.flops ** -0.4)
    cost = claims.find("cost")
    without = cost.analyse("gan", Trained(table.assign(seconds=table.flops / 1e10), ""))
    assert without.estimates.keys() == {"flops", "seconds"} and "no counter of energy" in without.said
    found = cost.analyse("gan", Trained(table.assign(seconds=table.flops / 1e10, joules=table.flops / 1e9), ""))
    assert found.estimates["joules"].value == pytest.approx(1.4, abs=0.01) and "energy" not in found.said


def test_cost_is_undecided_about_seconds_that_do_not_grow():
    table = planned("cost", "vae").assign(seconds=30.0, bits_per_dim=lambda t: t.flops ** -0.1)
    cost = claims.find("cost")
    found = cost.analyse("vae", Trained(table, ""))
    assert cost.rules["seconds"].decide(found.estimates["seconds"]) == UNDECIDED
