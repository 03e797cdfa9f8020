"""The rule of the claim on when diffusion models memorise gives the right verdict on records whose truth is planted."""

import numpy as np
import pytest
from claims.planted import planned, refuting

from experiments import claims
from experiments.claims import window
from scaling.claims import REPRODUCED, Trained


def records(memorises=1.0, overfits=1.0, generates=0.0, noise=0.03, study=0):
    """Runs on n images that copy after 1000 n^memorises images seen, overfit after 250 n^overfits, and are good after
    4000 n^generates."""
    table, rng = planned("window", "diffusion").copy(), np.random.default_rng(study)
    n, seen = table["examples_unique"] / 32, table["examples_seen"] * np.exp(rng.normal(0, noise, len(table)))
    copies, late = seen / (32_000 * n ** memorises), seen / (8_000 * n ** overfits)
    good = seen / (4000 * n ** generates)
    return table.assign(memorised=np.clip(0.05 * copies ** 2, 0, 1),
                        bits_per_dim=1.0 + 0.02 * late ** 2.3 + 0.1 / (1 + late),
                        fd_infinity_relative=0.1 + 0.2 / (1 + good ** 4))


def found(**truth):
    return claims.find("window").analyse("diffusion", Trained(records(**truth), ""))


def test_the_planted_exponents_are_found():
    estimates = found(memorises=1.4, overfits=0.8, generates=0.1).estimates
    for name, truth in (("memorises", 1.4), ("overfits", 0.8), ("generates", 0.1)):
        assert abs(estimates[name].value - truth) < 0.1, name


def test_window_is_reproduced_by_linear_growth_alone():
    claim = claims.find("window")
    assert claim.decide(found()) == REPRODUCED
    assert refuting("window", found(memorises=1.8)) == {"memorises"}
    assert refuting("window", found(overfits=0.4)) == {"overfits"}
    assert refuting("window", found(generates=0.6)) == {"generates"}


def test_a_model_that_never_copies_leaves_the_claim_undecided():
    table = records()
    kept = table.assign(memorised=table["memorised"].where(table["examples_unique"] < table["examples_unique"].max(), 0.01))
    estimates = claims.find("window").analyse("diffusion", Trained(kept, "")).estimates
    assert claims.find("window").rules["memorises"].decide(estimates["memorises"]) not in (REPRODUCED, "refuted")


@pytest.mark.parametrize("level,where", [(0.5, 2 * 2 ** 0.5), (0.0, 1.0), (1.0, 4.0), (2.0, np.nan)])
def test_a_crossing_lies_between_points_by_the_logarithm(level, where):
    np.testing.assert_allclose(window.crossing([1.0, 2.0, 4.0], np.array([0.0, 0.0, 1.0]), level), where)
