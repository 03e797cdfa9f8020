"""Two recipes compared: planted speed-ups come back, rungs are matched, verdicts follow the rule, refusals help."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted_recipes import Planted, ladders, loss, table

from scaling import laws
from scaling.laws.recipes.verdict import MARGIN, RULES, VERDICTS, Evidence, WithEnds, advice, decide

QUIET = Planted(1.3, 0.9, noise=1e-6, seeds=2)


def rng(seed=0):
    return np.random.default_rng(seed)


def compared(plan, seed=0, **options):
    return laws.speedup(*ladders(plan, rng(seed)), **{"draws": 300, **options})


# ----------------------------------------------------------------------------------------- the estimate


@pytest.mark.parametrize("plan", [QUIET, QUIET._replace(cost=1.3), QUIET._replace(paired=False),
                                  Planted(0.8, 1.1, 2, 3, 1e-6)])
def test_without_noise_the_planted_speedups_come_back(plan):
    found = compared(plan)
    assert found.table["speedup"].tolist() == pytest.approx(plan.speedup(found.flops).tolist(), rel=1e-3)
    assert np.exp(found.at(found.target).value) == pytest.approx(plan.speedup(found.target), rel=5e-3)
    assert np.exp(found.slope.value) == pytest.approx(plan.decade, rel=1e-3)
    assert found.target == pytest.approx(10 * found.flops[-1]) and found.paired == plan.paired


def test_runs_of_one_seed_are_paired_which_narrows_the_intervals():
    base, change = ladders(Planted(shared=0.95), rng(1))
    paired = laws.speedup(base, change, draws=300)
    alone = laws.speedup(*(dataclasses.replace(each, seeded=False) for each in (base, change)), draws=300)
    assert paired.paired and not alone.paired
    widths = [np.log(found.table["high"] / found.table["low"]) for found in (paired, alone)]
    assert (widths[0] < 0.6 * widths[1]).all()
    shifted = dataclasses.replace(change, frame=change.frame.assign(seed=change.frame["seed"] + 10))
    assert not laws.speedup(base, shifted, draws=300).paired  # no seed is shared


def test_more_seeds_of_the_base_serve_its_law_and_pairs_are_those_of_common_seeds():
    runs = table(Planted(seeds=4), rng())
    base = laws.make_ladder("base", "loss", runs[runs["recipe"] == "base"])
    change = laws.make_ladder("change", "loss", runs[(runs["recipe"] == "change") & (runs["seed"] < 2)])
    found = laws.speedup(base, change, draws=300)
    assert found.paired and (found.table["pairs"] == 2).all() and len(found.law.runs) == 20


def test_a_rung_that_the_base_lacks_is_read_off_its_law_and_one_beyond_its_compute_is_left_out():
    base, change = ladders(QUIET._replace(rungs=6), rng())
    fewer = laws.make_ladder("base", "loss", base.frame[~base.frame["rung"].isin([2, 5])])
    found = laws.speedup(fewer, change, draws=300)
    assert len(found.table) == 5 and found.table["base"].isna().tolist() == [False, False, True, False, False]
    assert found.table["speedup"].tolist() == pytest.approx(QUIET.speedup(found.flops).tolist(), rel=2e-3)
    assert any("read off its law" in said for said in found.said) and any("is left out" in said for said in found.said)


def test_a_grid_of_sizes_and_data_is_compared_cell_by_cell_along_the_law_in_both():
    def value(n, d):
        return 1.0 + 25 * n ** -0.3 + 150 * d ** -0.35

    rows = [(n, d, value(n * f, d * f), name, seed) for name, f in (("base", 1.0), ("change", 1.2))
            for n in (1e4, 4e4, 1.6e5) for d in (1e6, 4e6, 1.6e7) for seed in (0, 1)]
    frame = pd.DataFrame(rows, columns=["N", "D", "loss", "recipe", "seed"]).assign(flops=lambda f: 6 * f["N"] * f["D"])
    frame["loss"] *= np.exp(1e-5 * rng().standard_normal(len(frame)))
    frame["rung"] = frame["N"].astype(str) + frame["D"].astype(str)
    base, change = (laws.make_ladder(name, "loss", frame[frame["recipe"] == name]) for name in ("base", "change"))
    found = laws.speedup(base, change, draws=200)
    assert base.grid and found.law.form.name == "chinchilla" and len(found.table) == 9
    assert found.table["speedup"].tolist() == pytest.approx([1.44] * 9, rel=5e-3)  # of N and of D, 1.2 each


def test_a_loss_that_the_base_never_reaches_is_said():
    runs = table(Planted(noise=1e-5), rng())
    runs.loc[runs["recipe"] == "change", "loss"] *= 0.5
    found = laws.speedup(*(laws.make_ladder(n, "loss", runs[runs["recipe"] == n]) for n in ("base", "change")), draws=200)
    assert any("never reaches" in said for said in found.said)


def test_the_answer_does_not_depend_on_the_order_of_runs_and_repeats_with_its_seed():
    runs = table(Planted(), rng())
    one, two = (laws.speedup(*(laws.make_ladder(name, "loss", each[each["recipe"] == name]) for name in ("base", "change")),
                             draws=300) for each in (runs, runs.sample(frac=1, random_state=0)))
    pd.testing.assert_frame_equal(one.table, two.table)
    assert one.to_json() == two.to_json()


# ------------------------------------------------------------------------------------------ the verdict


def evidence(first=0.3, last=0.3, target=0.3, slope=0.0, wide=0.01, **more):
    ends = {name: WithEnds(value, value - wide, value + wide) for name, value in
            (("first", first), ("last", last), ("target", target), ("slope", slope))}
    return Evidence(**ends, **{"fits": True, "known": True, **more})


@pytest.mark.parametrize("found, verdict", [
    (evidence(), "keeps"), (evidence(slope=0.05), "keeps"), (evidence(slope=-0.05), "fades"),
    (evidence(slope=-0.05, target=-0.2), "reverses"), (evidence(slope=-0.05, last=-0.2, fits=False), "reverses"),
    (evidence(slope=-0.05, first=0.0), "cannot tell"), (evidence(wide=0.07), "cannot tell"),
    (evidence(target=0.0), "cannot tell"), (evidence(fits=False), "cannot tell"), (evidence(known=False), "cannot tell"),
    (evidence(slope=-0.05, shaped=False), "cannot tell"), (evidence(last=-0.2, shaped=False), "reverses"),
    (evidence(slope=np.log(1 - MARGIN) + 0.02, wide=0.04), "cannot tell")])
def test_the_rule(found, verdict):
    assert decide(found) == verdict and verdict in VERDICTS and len(RULES) == 4


@pytest.mark.parametrize("plan, verdict, words", [
    (Planted(1.3, 1.0, noise=0.001), "keeps", "keeps: the speed-up is 1."),
    (Planted(1.8, 0.9, noise=0.001), "fades", "an interval below zero"),
    (Planted(1.2, 0.8, noise=0.001), "reverses", "below 1"),
    (Planted(1.05, 1.0, noise=0.01), "cannot tell", "may be 1 or less")])
def test_planted_trends_get_their_verdicts_and_reasons(plan, verdict, words):
    found = compared(plan, seed=3)
    assert found.verdict == verdict and words in found.because and found.because in str(found)
    assert bool(found.advice) == (verdict == "cannot tell") and found.advice in str(found)


def test_a_ladder_off_the_line_is_refused_and_one_run_a_rung_cannot_test_it():
    runs = table(Planted(1.3, 1.0, noise=0.0005), rng())
    runs.loc[(runs["recipe"] == "change") & (runs["rung"] == 2), "loss"] *= 1.01
    found = laws.speedup(*(laws.make_ladder(n, "loss", runs[runs["recipe"] == n]) for n in ("base", "change")), draws=300)
    assert found.misfit.refused and found.verdict == "cannot tell" and "do not lie on a line" in found.because
    single = compared(Planted(seeds=1))
    assert np.isnan(single.misfit.p) and single.noise.source == "line" and "one run a rung" in str(single)


def test_what_cannot_bend_gets_no_trend_unless_the_user_says_so():
    short = compared(Planted(rungs=2))
    assert short.law.form.name == "power" and short.verdict == "cannot tell" and "levels off" in short.because
    assert "--law=power" in short.advice and compared(Planted(rungs=2), law="power").shaped
    worse = compared(Planted(0.7, rungs=2, noise=0.001))
    assert worse.verdict == "reverses"  # which needs no slope


def test_noise_that_is_assumed_or_unknown_is_said():
    alone = compared(Planted(rungs=2, seeds=1))
    assert alone.verdict == "cannot tell" and alone.table["low"].isna().all() and "second seed" in alone.advice
    assumed = compared(Planted(rungs=2, seeds=1), noise=0.003)
    assert assumed.table["low"].notna().all() and "assumed" in str(assumed)
    assert assumed.to_json()["noise"]["freedom"] is None


@pytest.mark.parametrize("ratios, noise, verdict", [
    ([1.315, 1.228], 0.01, "fades"), ([1.315, 1.228], None, "cannot tell"), ([1.31, 1.23, 1.19, 1.14], None, "fades"),
    ([1.3, 1.3, 1.3, 1.31], 0.005, "keeps"), ([1.1, 1.0, 0.9], 0.01, "reverses")])
def test_speedups_that_are_given(ratios, noise, verdict):
    """The first three are Muon over AdamW (Wen et al. 2025, arXiv:2509.02046)."""
    found = laws.speedup_of_ratios(1e18 * 4.0 ** np.arange(len(ratios)), ratios, noise=noise)
    assert found.verdict == verdict
    assert found.table["speedup"].tolist() == pytest.approx(ratios)


def test_the_advice_is_the_least_number_of_seeds_that_decides_and_says_whether_a_rung_does():
    found = evidence(wide=0.09)
    said = advice(found, decide(found), (0.4, 0.5), 3.0, 1e17, given=False)
    count = int(said.split(" times as many seeds")[0].split()[-1])
    fewer, enough = (decide(found.narrowed(times ** -0.5)) for times in (count - 1, count))
    assert fewer == "cannot tell" != enough and "3e+17 FLOPs would decide it, or" in said
    assert "alone would not" in advice(found, decide(found), (0.9, 0.9), 3.0, 1e17, given=False)
    border = evidence(target=1e-4, wide=0.09)
    assert "train larger rungs" in advice(border, decide(border), (0.9, 0.9), 3.0, 1e17, given=False)
    assert advice(evidence(), "keeps", (0.4, 0.5), 3.0, 1e17, given=False) == ""


# -------------------------------------------------------------------------------------- tables and refusals


def write(path, frame):
    frame.to_csv(path, index=False)
    return path


def test_a_table_without_rungs_or_seeds_is_read_by_compute(tmp_path):
    runs = table(QUIET, rng())
    path = write(tmp_path / "a.csv", runs.drop(columns=["rung", "seed"]).assign(flops=lambda f: f["flops"] * 1.001))
    found = laws.speedup(*laws.ladders_of_table(path), draws=200)
    assert not found.paired and (found.table["base_runs"] == 2).all() and len(found.table) == 5
    labelled = laws.ladders_of_table(write(tmp_path / "b.csv", runs.assign(rung="r" + runs["rung"].astype(str))))
    assert laws.speedup(*labelled, draws=200).paired and labelled[0].label[0] == "r0"


def test_runs_without_a_loss_are_left_out_and_said(tmp_path):
    runs = table(QUIET._replace(seeds=3), rng())
    runs.loc[0, "loss"] = np.nan
    found = laws.speedup(*laws.ladders_of_table(write(tmp_path / "a.csv", runs)), draws=200)
    assert found.table["pairs"].tolist() == [2, 3, 3, 3, 3] and any("no finite loss" in said for said in found.said)


@pytest.mark.parametrize("change, part", [
    (lambda runs: runs.drop(columns="recipe"), "no column 'recipe'"),
    (lambda runs: runs.replace({"base": "a", "change": "b"}), "recipes=a,b"),
    (lambda runs: runs.drop(columns="flops"), "compute=<column>"),
    (lambda runs: runs[runs["rung"] == 0], "share one rung"),
    (lambda runs: runs.assign(flops=np.where(runs["recipe"] == "base", 1e-6, 1) * runs["flops"]).drop(columns="rung"),
     "do not overlap"),
    (lambda runs: runs.assign(seed=0), "two runs of seed 0"),
    (lambda runs: runs.assign(loss=-runs["loss"]), "must be positive")])
def test_refusals_are_one_sentence(change, part, tmp_path):
    path = write(tmp_path / "a.csv", change(table(QUIET, rng())))
    with pytest.raises(laws.LawError) as refused:
        laws.speedup(*laws.ladders_of_table(path), draws=200)
    assert part in str(refused.value) and "\n" not in str(refused.value)


def test_a_law_that_is_neither_of_compute_nor_of_size_and_data_is_refused():
    with pytest.raises(laws.LawError, match="must be in compute"):
        compared(QUIET, law="data_constrained")
    assert loss(1e15) > loss(1e16)
