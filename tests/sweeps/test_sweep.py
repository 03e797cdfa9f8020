"""Sweeps are lists of experiments. A plan groups them by the program, pack and trunk that they can share."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import tiny

from scaling import cost, laws
from scaling import experiment as experiments
from scaling.experiment import chain, grid, where, zipped
from scaling.fields import ConfigError
from scaling.sweeps.plan import make_plan
from scaling.training.counts import counts, step_flops, step_flops_executed
from scaling.training.step import run_span

E = tiny("transformer")
TOKENS = [8 * 16 * n for n in (10, 20, 40)]


def content(e):
    return "data"


def test_grid_zipped_and_chain_are_plain_lists():
    rates, seeds = [1e-3, 2e-3], [0, 1, 2]
    runs = grid(E, {"optim.learning_rate": rates, "seed": seeds})
    assert [(e.optim.learning_rate, e.seed) for e in runs] == list(itertools.product(rates, seeds))
    pairs = zipped(E, {"optim.learning_rate": rates, "seed": [5, 6]})
    assert [(e.optim.learning_rate, e.seed) for e in pairs] == [(1e-3, 5), (2e-3, 6)]
    assert grid(grid(E, {"seed": seeds}), {"optim.learning_rate": rates})[1].optim.learning_rate == 2e-3
    assert chain(runs, runs[:2], pairs) == runs + pairs
    assert where(runs, seed=lambda s: s > 0, optim=lambda o: o.learning_rate < 2e-3) == runs[1:3]
    with pytest.raises(ConfigError, match="as many values"):
        zipped(E, {"seed": [1], "optim.learning_rate": rates})
    with pytest.raises(ConfigError, match="learning_rate"):
        grid(E, {"optim.lerning_rate": rates})


@settings(max_examples=25, deadline=None)
@given(rates=st.lists(st.sampled_from([1e-3, 2e-3, 3e-3, 4e-3]), min_size=1, max_size=4, unique=True),
       widths=st.lists(st.sampled_from([16, 32]), min_size=1, max_size=2, unique=True),
       tokens=st.lists(st.sampled_from(TOKENS), min_size=1, max_size=3, unique=True),
       schedule=st.sampled_from(["wsd", "cosine", "constant"]), pack=st.integers(1, 3))
def test_a_plan_holds_every_run_once_and_packs_share_a_program(rates, widths, tokens, schedule, pack):
    base = E.replace({"optim.schedule": schedule})
    families = [type(E.family)(vocab=32, length=16, width=w, layers=1) for w in widths]
    runs = grid(base, {"family": families, "optim.learning_rate": rates, "data.tokens": tokens})
    plan = make_plan(runs + runs[:1], content, pack)
    assert sorted(r.fingerprint for r in plan.runs) == sorted({experiments.fingerprint(e, "data") for e in runs})
    for p in plan.packs:
        assert len({experiments.program_key(r.experiment) for t in p.trunks for r in t.runs}) == 1
        assert len(p.trunks) <= pack and len({t.spans for t in p.trunks}) == 1
        for trunk in p.trunks:
            knobs = [experiments.knobs(r.experiment) for r in trunk.runs]
            assert len({tuple(v for k, v in each.items() if k != "data.tokens") for each in knobs}) == 1
            assert [r.experiment.steps for r in trunk.runs] == sorted({r.experiment.steps for r in trunk.runs})
    shared = schedule != "cosine"
    assert len([t for p in plan.packs for t in p.trunks]) == len(rates) * len(widths) * (1 if shared else len(tokens))


@settings(max_examples=25, deadline=None)
@given(first=st.integers(1, 7), again=st.integers(1, 7), done=st.sets(st.integers(0, 6)))
def test_packs_under_way_stay_together_on_any_number_of_devices(first, again, done):
    runs = grid(E, {"optim.learning_rate": [k * 1e-3 for k in range(1, 8)], "data.tokens": TOKENS})
    before = make_plan(runs, content, first).packs
    under_way = [p.name for i, p in enumerate(before) if i not in done]
    plan = make_plan(runs, content, again, under_way=[*under_way, "another"])
    assert set(under_way) <= {p.name for p in plan.packs}
    assert [r.fingerprint for r in plan.runs] == [r.fingerprint for p in before for t in p.trunks for r in t.runs]
    assert all(len(p.trunks) <= again for p in plan.packs if p.name not in under_way)
    if not under_way:
        assert plan == make_plan(runs, content, again)


def test_a_trunk_costs_less_than_its_runs_and_the_plan_of_one_run_costs_as_much_as_the_run():
    runs = grid(E, {"data.tokens": TOKENS})
    together, apart = make_plan(runs, content, 1).flops(), sum(counts(e, 0)["flops"] for e in runs)
    assert counts(runs[-1], 0)["flops"] < together < apart
    for e in runs:
        assert make_plan([e], content, 1).flops() == counts(e, 0)["flops"]


def test_counts_hold_the_data_seen_and_the_unique_data():
    e = E.replace({"data.tokens": 8 * 16 * 10})
    assert counts(e, 10**9)["tokens_seen"] == counts(e, 10**9)["tokens_unique"] == 8 * 16 * 10
    assert counts(e, 500)["tokens_unique"] == 500
    n = cost.param_count(e.family)["non_embedding"]
    assert counts(e, 0)["flops_6nd"] == 6 * n * 8 * 16 * 10


def test_only_the_executed_flops_of_a_step_include_those_of_its_optimiser():
    muon = E.replace({"optim.name": "muon"})
    assert step_flops(E) == step_flops(muon) == cost.train_flops(E.family, E.data.batch)
    assert step_flops_executed(E) < step_flops_executed(muon)


def test_the_compute_of_a_size_is_interpolated_between_those_counted():
    import numpy as np
    import pandas as pd
    rows = [counts(E.replace({"family": type(E.family)(vocab=32, length=16, width=w, layers=2)}), 0)
            for w in (16, 32, 48, 64)]
    price = laws.counted(pd.DataFrame(rows), data="tokens_seen")
    for row in rows:
        assert price(row["params_non_embedding"], row["tokens_seen"]) == pytest.approx(row["flops"], rel=0.05)
    grid = price(np.geomspace(1e2, 1e7, 50), 1.0)
    assert (np.diff(grid) > 0).all()


def test_spans_of_schedules():
    e = E.replace({"data.tokens": 8 * 16 * 20, "optim.cooldown": 0.25})
    assert run_span(e) == (15, 20)
    assert run_span(e.replace({"optim.schedule": "cosine"})) == (0, 20)
    assert run_span(e.replace({"optim.schedule": "constant"})) == (20, 20)
