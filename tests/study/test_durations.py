"""Estimates of time: at a share that each family has reached elsewhere, until runs of the workdir say how fast they are."""

import pandas as pd
import pytest
from sources import tiny

from scaling.experiment import grid
from scaling.results.speeds import measured_rates
from scaling.study.durations import SHARES, expected_seconds
from scaling.sweeps.plan import make_plan
from scaling.training.counts import counts

RATE = 1e11


def small(name):
    """The tiny experiment of a family, with the body whose FLOPs are counted fastest."""
    e = tiny(name)
    return e.replace({"family.body": "linear", "family.layers": 1, "family.width": 16}) if name == "vae" else e


def plan_of(*names):
    return make_plan([small(name) for name in names], lambda e: "data", 1)


def record(name, rate, diverged=False):
    """The columns of a run of a family that executed `rate` FLOP/s."""
    e = small(name)
    about = counts(e, 0)
    return {"family": name, "family.body": getattr(e.family, "body", None), "seconds": about["flops_executed"] / rate,
            "diverged": diverged, **about}


@pytest.mark.parametrize("name", ["transformer", "vae", pytest.param("gan", marks=pytest.mark.slow)])
def test_before_any_run_the_share_of_the_family_is_assumed_and_said(name):
    plan, share = plan_of(name), SHARES[name, getattr(small(name).family, "body", "")]
    seconds, basis = expected_seconds([plan], RATE, pd.DataFrame())
    assert seconds == pytest.approx(plan.flops_executed() / RATE / share)
    assert f"{share:.0%} for a {name}" in basis and "100 GFLOP/s" in basis
    assert "guess" not in basis and "in this workdir" not in basis


def test_runs_of_the_workdir_replace_the_share_of_their_family_and_of_no_other():
    records = pd.DataFrame([record("transformer", 2e9), record("transformer", 1e7, diverged=True)])
    plan, other = plan_of("transformer"), plan_of("vae")
    seconds, basis = expected_seconds([plan], RATE, records)
    assert seconds == pytest.approx(plan.flops_executed() / 2e9)
    assert basis == "at the rate of runs that have finished in this workdir"
    both, basis = expected_seconds([plan, other], RATE, records)
    assert both == pytest.approx(seconds + other.flops_executed() / RATE / SHARES["vae", "linear"])
    assert "in this workdir for" in basis and "9% for a vae of body linear" in basis


def test_another_body_or_a_far_size_says_nothing_and_the_nearest_size_counts():
    plan = plan_of("vae")
    assumed = expected_seconds([plan], RATE, pd.DataFrame())[0]
    other = pd.DataFrame([record("vae", 1e9) | {"family.body": "conv"}])
    assert expected_seconds([plan], RATE, other)[0] == assumed
    here = record("vae", 1e9)
    sizes = [here | {"params_non_embedding": factor * here["params_non_embedding"], "seconds": here["seconds"] / factor}
             for factor in (0.4, 1.5, 10)]
    rates = measured_rates(pd.DataFrame(sizes))[("vae", here["family.body"])]
    assert sorted(rates.values()) == pytest.approx([0.4e9, 1.5e9, 10e9])
    assert expected_seconds([plan], RATE, pd.DataFrame(sizes))[0] == pytest.approx(plan.flops_executed() / 1.5e9)
    assert expected_seconds([plan], RATE, pd.DataFrame(sizes[2:]))[0] == assumed


def test_a_pack_takes_the_time_of_its_runs_one_after_another():
    e = tiny("transformer")
    sweep = grid(e, {"optim.learning_rate": [1e-3, 2e-3]})
    plans = [make_plan(sweep, lambda e: "data", pack) for pack in (1, 2)]
    one, packed = (expected_seconds([plan], RATE, pd.DataFrame())[0] for plan in plans)
    assert packed == pytest.approx(one)
