"""Frontiers are optimal at any cost and for every law in N and D."""
import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import case

from scaling.laws import LawError, fit
from scaling.laws.forms.catalogue import get_form
from scaling.laws.intervals.uncertainty import Bootstrap, bootstrap
from scaling.laws.optimum.allocation import frontier, optima
from scaling.laws.optimum.counts import counted, six_n_d

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
GENERATED = 2e12  # tokens that a model will generate in its life


def grid(noise=0.0, seed=0):
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 2e9, 5), np.geomspace(1e9, 3e10, 4)))
    loss = TRUTH["E"] + TRUTH["A"] * n ** -TRUTH["alpha"] + TRUTH["B"] * d ** -TRUTH["beta"]
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)))
    return pd.DataFrame({"params": n, "tokens": d, "flops": 6 * n * d, "loss": loss})


def attention(N, D):
    return 6 * N * D * (1 + 30 * N ** (-1 / 3))


def lifetime(N, D):
    """Training and inference (Sardana et al. 2023, arXiv:2401.00448)."""
    return 6 * N * D + 2 * N * GENERATED


def saturating(N, D):
    """A cost that grows faster than D: longer runs use longer contexts."""
    return 6 * N * D * (1 + (D / 1e11) ** 0.3)


BASE = fit(grid())
LAWS = {  # planted parameters, in the units of `grid`
    "chinchilla": TRUTH, "tied_chinchilla": {"E": 1.7, "A": 300.0, "B": 900.0, "alpha": 0.31},
    "overtraining": {"E": 1.7, "A": 60.0, "B": 100.0, "eta": 0.14},
    "kaplan": {"A": 17.0, "alpha": 0.095, "beta": 0.115, "log_ratio": 6.3},
    "interaction": TRUTH | {"G": -2e4},
    "farseer": {"E": 2.797, "B": 2.0e5, "beta": 0.557, "beta_slope": -0.1831, "beta_power": -0.05, "B_slope": -2.283,
                "B_power": -0.245, "E_slope": -0.1119, "E_power": -0.085},
    "data_constrained": TRUTH | {"R_D": 15.0, "R_N": 5.0, "G": 0.5}}


def planted(name, **params):
    """A Fit of a law whose parameters are known, on the runs of BASE."""
    form = get_form(name)
    runs = dataclasses.replace(BASE.runs, frame=BASE.runs.frame.assign(unique=1e10),
                               columns={**BASE.runs.columns, "U": "unique"})
    return dataclasses.replace(BASE, form=form, params=LAWS[name] | params, runs=runs)


def affordable(cost, N, budget):
    """D with cost(N, D) = budget, by bisection of its logarithm."""
    low, high = 1e-20, 1e40
    for _ in range(200):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if cost(N, middle) < budget else (low, middle)
    return middle


def loss(law, N, D, **more):
    values = {"N": N, "D": D, "C": 6 * N * D, "M": D / N} | more
    return law.predict(**{name: values[name] for name in law.form.inputs})


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(LAWS)), budget=st.floats(18, 23).map(lambda x: 10 ** x),
       cost=st.sampled_from([six_n_d, attention, lifetime, saturating]))
def test_a_frontier_point_beats_its_neighbours_at_equal_cost(name, budget, cost):
    law = planted(name)
    more = {"U": 1e10} if name == "data_constrained" else {}
    row = frontier(law, budget, cost, **more).iloc[0]
    assert cost(row.params, row.data) == pytest.approx(budget, rel=1e-9)
    assert loss(law, row.params, row.data, **more) == pytest.approx(row.loss, rel=1e-9)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        N = row.params * factor
        if cost(N, 1e-9) < budget:
            assert loss(law, N, affordable(cost, N, budget), **more) > row.loss
    for end in (row.params_within_low, row.params_within_high):
        assert loss(law, end, affordable(cost, end, budget), **more) == pytest.approx(1.001 * row.loss, rel=1e-5)
    assert row.params_within_low < row.params < row.params_within_high


@settings(max_examples=20, deadline=None)
@given(alpha=st.floats(0.1, 0.9), beta=st.floats(0.1, 0.9), ratio=st.floats(0.1, 10), budget=st.floats(18, 24))
def test_the_frontier_is_the_closed_form_of_6nd(alpha, beta, ratio, budget):
    A = 0.4 * 1e9 ** alpha           # a loss of 0.4 at the runs' scale, so that optima are near it
    law, C = planted("chinchilla", alpha=alpha, beta=beta, A=A, B=0.4 * ratio * 1e10 ** beta), 10 ** budget
    p, row = law.params, frontier(law, C).iloc[0]
    N = (alpha * A / (beta * p["B"])) ** (1 / (alpha + beta)) * (C / 6) ** (beta / (alpha + beta))
    assert row.params == pytest.approx(N, rel=1e-6) and row.data == pytest.approx(C / 6 / N, rel=1e-6)
    assert row.loss == pytest.approx(p["E"] + A * N ** -alpha + p["B"] * (C / 6 / N) ** -beta, rel=1e-10)


def test_closed_forms_of_other_laws():
    law = planted("kaplan")                                # Kaplan et al. 2020, appendix B
    row, p = frontier(law, 1e21).iloc[0], law.params
    assert (p["alpha"] / p["beta"]) * row.params ** (-p["alpha"] / p["beta"]) == pytest.approx(
        np.exp(p["log_ratio"]) / row.data, rel=1e-5)
    law = planted("overtraining")                          # tokens a parameter do not depend on the budget
    for row in frontier(law, [1e18, 1e22]).itertuples():
        assert row.data / row.params == pytest.approx((100 / 60) ** (0.5 / 0.14), rel=1e-5)


@pytest.mark.parametrize("scale_n, scale_d", [(1e-6, 1e-9), (1e9, 1.0), (1.0, 1e-12)])
def test_only_units_change_with_units(scale_n, scale_d):
    runs = grid(noise=0.003)
    base = frontier(fit(runs), [1e19, 1e23])
    law = fit(runs.assign(params=runs.params * scale_n, tokens=runs.tokens * scale_d))
    other = frontier(law, [1e19, 1e23], lambda N, D: 6 * (N / scale_n) * (D / scale_d))
    assert (other.params / scale_n).to_numpy() == pytest.approx(base.params.to_numpy(), rel=1e-5)
    assert (other.data / scale_d).to_numpy() == pytest.approx(base.data.to_numpy(), rel=1e-5)
    assert (other.params_within_high / scale_n).to_numpy() == pytest.approx(base.params_within_high.to_numpy(), rel=1e-4)
    assert other.loss.to_numpy() == pytest.approx(base.loss.to_numpy(), rel=1e-9)


def test_intervals_are_those_of_each_refits_own_optimum():
    law = fit(grid(noise=0.005))
    boot = bootstrap(law, 200)
    row, p = frontier(law, 1e21, boot=boot).iloc[0], boot.draws
    both = p.alpha + p.beta
    N = (p.alpha * p.A / (p.beta * p.B)) ** (1 / both) * (1e21 / 6) ** (p.beta / both)
    assert (row.params_low, row.params_high) == pytest.approx(tuple(np.quantile(N, [0.05, 0.95])), rel=1e-4)
    assert (row.data_low, row.data_high) == pytest.approx(tuple(np.quantile(1e21 / 6 / N, [0.05, 0.95])), rel=1e-4)
    assert row.params_low < row.params < row.params_high and row.loss_low < row.loss < row.loss_high
    found = optima(law, [1e20, 1e21], p.to_numpy())
    assert found.log_params.shape == (200, 2) and np.exp(found.log_params[:, 1]) == pytest.approx(N, rel=1e-4)


def test_refits_without_a_trade_off_widen_an_interval_and_do_not_vanish():
    law = planted("chinchilla")
    draws = pd.DataFrame([law.params] * 9 + [law.params | {"B": 0.0}])[list(law.form.names)]
    boot = Bootstrap(law, draws, np.full(10, 0.01), "case", 0)
    row = frontier(law, 1e21, boot=boot).iloc[0]
    assert row.params_high > 100 * row.params and row.params_low == pytest.approx(row.params, rel=1e-4)


# ----------------------------------------------------------------------------------------- other costs and inputs

def test_counted_flops_are_the_runs_own():
    runs = grid()
    for size, cost in ((1.0, six_n_d), (0.98, attention)):
        count = counted(runs.assign(flops=cost(runs.params, runs.tokens)))
        assert count(runs.params.to_numpy(), runs.tokens.to_numpy()) == pytest.approx(
            cost(runs.params, runs.tokens).to_numpy(), rel=1e-9 if size == 1 else 5e-3)
        for far in (2e5, 2e11):  # beyond the runs the curve is straight: costs grow about as N does
            assert count(far * 1.01, 1e9) > count(far, 1e9)
    assert frontier(BASE, 1e21, counted(runs)).params[0] == pytest.approx(frontier(BASE, 1e21).params[0], rel=1e-6)
    one = counted(runs[runs.params < 3e7].assign(flops=lambda f: f.flops * 1.5))
    assert one(1e8, 1e9) == pytest.approx(9e17, rel=1e-9)


def test_a_lifetime_of_inference_makes_models_smaller():
    train, live = (frontier(BASE, 1e22, cost).iloc[0] for cost in (six_n_d, lifetime))
    assert live.params < train.params / 2 and live.data > train.data
    with pytest.raises(LawError, match="no model costs as little"):
        frontier(BASE, 1e10, lambda N, D: 6 * N * D + 1e12)


def test_unique_data_is_given_and_repeating_it_costs():
    law = planted("data_constrained")
    rows = frontier(law, [1e22] * 5, U=np.geomspace(1e9, 1e13, 5))
    assert np.all(np.diff(rows.loss) < 1e-12) and rows.loss.iloc[0] > rows.loss.iloc[-1] + 0.05
    fresh = frontier(planted("chinchilla"), 1e22).iloc[0]
    assert rows.loss.iloc[-1] >= fresh.loss - 1e-9
    with pytest.raises(LawError, match="takes U beside the budget, but nothing else was given; write .*, U=...."):
        frontier(law, 1e22)
    with pytest.raises(LawError, match="U must be positive"):
        frontier(law, 1e22, U=-1)
    with pytest.raises(LawError, match="takes nothing else beside the budget, but U"):
        frontier(BASE, 1e22, U=1e10)


def test_a_frontier_refuses_what_has_none():
    x = np.geomspace(1, 1e4, 8)
    power = fit({"x": x, "loss": 1 + x ** -0.3}, "saturating_power")
    with pytest.raises(LawError, match="needs a law in N and D"):
        frontier(power, 1e20)
    for term in ("A", "B"):
        with pytest.raises(LawError, match="no trade-off of N against D at 1e"):
            frontier(planted("chinchilla", **{term: 0.0}), 1e20)
    for cost in (lambda N, D: 6 * N + 0 * D, lambda N, D: -N * D):
        with pytest.raises(LawError, match="positive and grow with D"):
            frontier(BASE, 1e20, cost)
    for bad in (-1.0, [1e20, np.nan], [[1e20]]):
        with pytest.raises(LawError, match="positive and finite"):
            frontier(BASE, bad)


def test_the_published_optimum_of_chinchillas_compute():
    data, expected = case("epoch_chinchilla")
    targets = {t["name"]: t for t in expected["targets"]}
    law = fit(data[data.kept])
    target = targets["compute_optimal_at_5.76e23"]
    row = frontier(law, 5.76e23).iloc[0]
    assert row.params == pytest.approx(target["values"]["N"], rel=target["tol_rel"])
    assert row.data == pytest.approx(target["values"]["D"], rel=target["tol_rel"])
    assert row.data / row.params == pytest.approx(target["values"]["tokens_per_param"], rel=target["tol_rel"])
    budgets = np.geomspace(1e19, 1e22, 4)
    slopes = np.diff(np.log(frontier(law, budgets).params)) / np.diff(np.log(budgets))
    assert slopes == pytest.approx([targets["true_optimum"]["values"]["a_N_exponent"]] * 3, abs=1e-4)
    low, high = bootstrap(law, 400).interval(lambda p: p.beta / (p.alpha + p.beta))
    assert high - low == pytest.approx(3.29 * targets["bootstrap_recomputed"]["a_se"], rel=0.2)
    assert low < slopes[0] < high
