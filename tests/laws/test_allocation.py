"""Frontiers are optimal at any cost and for every law in N and D; exponents are what each approach makes of
the data."""
import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import case

from scaling.laws import LawError, Runs, fit
from scaling.laws.forms.catalogue import get_form
from scaling.laws.intervals.uncertainty import Bootstrap, bootstrap
from scaling.laws.optimum.allocation import counted, frontier, optima, recount, six_n_d
from scaling.laws.optimum.exponents import exponents

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
GENERATED = 2e12  # tokens that a model is to write in its life


def grid(sizes=np.geomspace(2e7, 2e9, 5), seen=np.geomspace(1e9, 3e10, 4), noise=0.0, seed=0, p=TRUTH):
    n, d = (v.ravel() for v in np.meshgrid(sizes, seen))
    loss = p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["beta"]
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)))
    return pd.DataFrame({"params": n, "tokens": d, "flops": 6 * n * d, "loss": loss})


def attention(N, D):
    return 6 * N * D * (1 + 30 * N ** (-1 / 3))


def lifetime(N, D):
    """Training and inference (Sardana et al. 2023, arXiv:2401.00448)."""
    return 6 * N * D + 2 * N * GENERATED


def saturating(N, D):
    """Not proportional to D: longer runs use longer contexts."""
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
    """log-bisection for D with cost(N, D) = budget."""
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


# --------------------------------------------------------------------------------- other costs, counts and inputs

def test_counted_flops_are_the_runs_own():
    runs = grid()
    for size, cost in ((1.0, six_n_d), (0.98, attention)):
        count = counted(runs.assign(flops=cost(runs.params, runs.tokens)))
        assert count(runs.params.to_numpy(), runs.tokens.to_numpy()) == pytest.approx(
            cost(runs.params, runs.tokens).to_numpy(), rel=1e-9 if size == 1 else 5e-3)
        for far in (2e5, 2e11):  # no parabola out there: costs grow about as N does
            assert count(far * 1.01, 1e9) > count(far, 1e9)
    assert frontier(BASE, 1e21, counted(runs)).params[0] == pytest.approx(frontier(BASE, 1e21).params[0], rel=1e-6)
    one = counted(runs[runs.params < 3e7].assign(flops=lambda f: f.flops * 1.5))
    assert one(1e8, 1e9) == pytest.approx(9e17, rel=1e-9)


def test_a_lifetime_of_inference_makes_models_smaller():
    train, live = (frontier(BASE, 1e22, cost).iloc[0] for cost in (six_n_d, lifetime))
    assert live.params < train.params / 2 and live.data > train.data
    with pytest.raises(LawError, match="no model costs as little"):
        frontier(BASE, 1e10, lambda N, D: 6 * N * D + 1e12)


def test_parameters_are_counted_in_another_way():
    runs = grid().assign(total=lambda f: f.params + 5e4 * np.cbrt(f.params))
    count = recount(runs, "total")
    assert count(runs.params.to_numpy()) == pytest.approx(runs.total.to_numpy(), rel=1e-12)
    between = np.geomspace(2e7, 2e9, 40)
    assert count(between) == pytest.approx(between + 5e4 * np.cbrt(between), rel=0.03)
    far = np.geomspace(1e5, 1e14, 50)
    assert np.all(count(far) >= far * (1 - 1e-12))      # embeddings are never negative
    law = fit(runs.assign(loss=grid(noise=0.003).loss))
    row = frontier(law, 1e20, boot=bootstrap(law, 50), also=("total",)).iloc[0]
    for name in ("", "_low", "_high"):
        assert row[f"total{name}"] == pytest.approx(count(row[f"params{name}"]), rel=1e-3)
    with pytest.raises(LawError, match="no column 'all'"):
        frontier(BASE, 1e20, also=("all",))


def test_unique_data_is_given_and_repeating_it_costs():
    law = planted("data_constrained")
    rows = frontier(law, [1e22] * 5, U=np.geomspace(1e9, 1e13, 5))
    assert np.all(np.diff(rows.loss) < 1e-12) and rows.loss.iloc[0] > rows.loss.iloc[-1] + 0.05
    fresh = frontier(planted("chinchilla"), 1e22).iloc[0]
    assert rows.loss.iloc[-1] >= fresh.loss - 1e-9
    with pytest.raises(LawError, match="at given U, but nothing else was given; write frontier.fit, compute, U=...."):
        frontier(law, 1e22)
    with pytest.raises(LawError, match="U must be positive"):
        frontier(law, 1e22, U=-1)
    with pytest.raises(LawError, match="nothing else, but U"):
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
    table = exponents(law, draws=100).set_index("approach")
    assert table.a["law"].to_numpy() == pytest.approx([targets["true_optimum"]["values"]["a_N_exponent"]] * 4, abs=1e-4)
    boot = bootstrap(law, 400)
    row = exponents(law, boot=boot, draws=100).iloc[0]
    assert row.a_high - row.a_low == pytest.approx(3.29 * targets["bootstrap_recomputed"]["a_se"], rel=0.2)
    assert row.a_low < row.a < row.a_high


# ------------------------------------------------------------------------------------------------------ exponents

def test_every_approach_finds_the_exponent_of_a_noiseless_law():
    C = np.repeat(np.geomspace(1e19, 1e22, 7), 9)
    n = 1.3 * (C / 6) ** (0.28 / 0.62) * np.tile(np.geomspace(0.4, 2.5, 9), 7)
    runs = pd.DataFrame({"params": n, "tokens": C / 6 / n, "flops": C})
    runs["loss"] = TRUTH["E"] + TRUTH["A"] * runs.params ** -0.34 + TRUTH["B"] * runs.tokens ** -0.28
    table = exponents(fit(runs), draws=200)
    truth = 0.28 / 0.62
    assert table.approach.tolist() == ["law"] * 4 + ["isoflop", "envelope"]
    assert table.a[:5].to_numpy() == pytest.approx([truth] * 5, abs=5e-3)
    assert table.a.iloc[5] == pytest.approx(truth, abs=0.03)
    assert (table.a + table.b)[:4].to_numpy() == pytest.approx(np.ones(4), abs=1e-6)
    last = table.iloc[4]
    assert last.a_low <= last.a <= last.a_high and (last.loss > 0)
    local = table.loss[1:4].to_numpy()      # without the irreducible loss, L*(C) flattens
    assert local[0] > local[1] > local[2] > 0


def test_kaplans_exponent_comes_of_counting_no_embeddings():
    """Pearce and Song 2024: Chinchilla's own law looks like N* ~ C^0.73 to who leaves embeddings out at small
    scale."""
    small = np.geomspace(768, 1.5e9, 24)
    p = {"E": 1.817, "A": 482.0, "B": 2085.0, "alpha": 0.3478, "beta": 0.3658}
    runs = grid(small, np.geomspace(1e7, 1e11, 9), p=p).rename(columns={"params": "bare"})
    runs["total"] = runs.bare + 47491 * np.cbrt(runs.bare)
    runs["loss"] = p["E"] + p["A"] * runs.total ** -p["alpha"] + p["B"] * runs.tokens ** -p["beta"]
    law = fit(Runs.from_dataframe(runs.drop(columns="flops"), params="total"))
    table = exponents(law, also=("bare",), draws=200).set_index(["N", "approach"])
    chinchilla, kaplan = table.loc["total"], table.loc["bare"]
    truth = p["beta"] / (p["alpha"] + p["beta"])
    assert chinchilla.a["law"].to_numpy() == pytest.approx([truth] * 4, abs=1e-4)
    assert chinchilla.a["envelope"] == pytest.approx(truth, abs=0.05)
    low, high = kaplan.flops_low["law"].iloc[0], kaplan.flops_high["law"].iloc[0]
    C, found = _best_by_brute_force(p, low, high)
    assert kaplan.a["law"].iloc[0] == pytest.approx(np.polyfit(np.log(C), np.log(found), 1)[0], abs=0.02)
    assert 0.7 < kaplan.a["law"].iloc[0] < 0.82 and 0.68 < kaplan.a["envelope"] < 0.82
    assert kaplan.a["law"].iloc[3] < 0.56    # at 1e21 FLOPs embeddings matter no more


def _best_by_brute_force(p, low, high):
    """(C, N* without embeddings) where C = 6 N D leaves embeddings out too, on a fine grid of N."""
    C, bare = np.geomspace(low, high, 9), np.geomspace(1e2, 1e11, 40001)
    total = bare + 47491 * np.cbrt(bare)
    value = p["A"] * total ** -p["alpha"] + p["B"] * (C[:, None] / 6 / bare) ** -p["beta"]
    return C, bare[value.argmin(1)]


def test_what_an_approach_cannot_say_is_noted():
    law = fit(grid(np.geomspace(2e7, 2e9, 5), np.geomspace(1e9, 1.3e11, 4), noise=0.002))  # no slices
    table = exponents(law, compute=(1e19, 1e21), boot=bootstrap(law, 100), draws=100).set_index("approach")
    assert np.isnan(table.a["isoflop"]) and "about equal compute" in table.note["isoflop"]
    row = table.loc["law"].iloc[0]
    assert (row.flops_low, row.flops_high) == (1e19, 1e21) and row.a_low < row.a < row.a_high
    flat = exponents(planted("chinchilla", B=0.0), draws=100).iloc[0]
    assert np.isnan(flat.a) and "no trade-off" in flat.note
    with pytest.raises(LawError, match="0 < low < high"):
        exponents(law, compute=(1e21, 1e19))
    with pytest.raises(LawError, match="no column 'run'"):
        exponents(law, cluster="run")


def test_points_of_one_curve_are_resampled_together():
    runs = grid(np.geomspace(1e7, 1e9, 8), np.geomspace(1e8, 3e10, 40), noise=0.01)
    runs["run"] = runs.groupby("params").ngroup()
    law = fit(runs)
    rows = [exponents(law, draws=300, cluster=c).set_index("approach").loc["envelope"] for c in (None, "run")]
    assert rows[0].a == rows[1].a
    assert rows[1].a_high - rows[1].a_low > rows[0].a_high - rows[0].a_low
