"""The rules of the claims on recurrences, pretraining, frozen layers and translation, on tables whose truth is planted."""

import jax
import numpy as np
import pandas as pd
import pytest
from claims.planted import most, refuting

from experiments import _sequences, claims
from experiments.claims import _encoders, _scores, frozen, pretraining, recurrence, translation
from scaling.claims import REFUTED, REPRODUCED, UNDECIDED
from scaling.experiment import bases
from scaling.experiment.start import taken
from scaling.families import find as family_of

STUDIES = 3


def decided(name, findings):
    return [claims.find(name).decide(found) for found in findings]


# ---- recurrence


def by_kind(gap, widens, late, study, noise=0.004, dearer=0.01):
    """Transformers and LSTMs of three sizes, which differ in log loss by `gap` in the largest and by `widens` less for each
    factor of e; LSTMs gain `late` of the log loss from 96 bytes of context to 224. `dearer`: less of a gap at equal FLOPs.
    """
    rng, rows = np.random.default_rng(study), []
    for n in (1e4, 3e4, 1e5):
        own = gap - widens * np.log(1e5 / n)
        for seed in range(3):
            for kind, tokens, above in (("transformer", 1e6, 0.0), ("lstm", 1e6, own), ("lstm", 1.4e6, own - dearer)):
                loss = 10 * n ** -0.12 * np.exp(above + rng.normal(0, noise))
                gained = {at: loss * np.exp(-(late if kind == "lstm" else 0.03) * np.log(at / 96) / np.log(224 / 96)
                                            + rng.normal(0, noise / 4)) for at in recurrence.CONTEXTS}
                rows.append({"kind": kind, "seed": seed, "N": n * 1.1 if kind == "lstm" else n, "tokens": tokens,
                             "loss": loss, **gained})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("gap,widens,late,verdict", [
    (0.08, 0.03, 0.001, REPRODUCED), (-0.05, 0.03, 0.001, REFUTED), (0.08, -0.03, 0.001, REFUTED),
    (0.08, 0.03, 0.04, REFUTED), (0.012, 0.03, 0.001, UNDECIDED)])
def test_recurrence_is_judged_by_the_gap_its_growth_and_the_plateau(gap, widens, late, verdict):
    found = [recurrence.judge(by_kind(gap, widens, late, study)) for study in range(STUDIES)]
    assert most(decided("recurrence", found), verdict)


@pytest.mark.parametrize("gap,dearer,rule", [(0.08, 0.13, "compute"), (-0.05, -0.13, "gap")])
def test_recurrence_is_judged_at_equal_tokens_and_at_equal_flops_alike(gap, dearer, rule):
    found = [recurrence.judge(by_kind(gap, 0.03, 0.001, study, dearer=dearer)) for study in range(STUDIES)]
    assert [refuting("recurrence", each) for each in found] == [{rule}] * STUDIES


def test_the_size_at_which_recurrences_fall_behind_is_found():
    table = recurrence.with_rungs(by_kind(0.04, 0.03, 0.0, 0, noise=0.0))
    at = 1e5 * np.exp(-0.04 / 0.03)
    assert f"crosses zero at N = {at:,.0f}" in recurrence.crossing_said(table, "lstm")
    assert "do not cross" in recurrence.crossing_said(recurrence.with_rungs(by_kind(0.2, 0.03, 0.0, 0)), "lstm")


def test_a_model_that_is_counted_once_is_compared_with_every_seed():
    table = by_kind(0.0, 0.0, 0.0, 0, noise=0.0)
    once = table[(table["kind"] == "lstm") & (table["tokens"] == 1e6) & (table["seed"] == 0)].assign(kind="ngram")
    table = recurrence.with_rungs(pd.concat([table, once]))
    assert len(recurrence.gaps_of(table, "ngram", True)) == 9


def test_recurrences_and_transformers_meet_at_equal_parameters_and_at_equal_flops(monkeypatch):
    monkeypatch.setitem(recurrence.SIZES, "5m", ((3e4,), 524_288, 1, ("lstm",)))  # one of the sizes
    base, same, longer = recurrence.parts("5m")["code"].sweep
    assert [_sequences.kind_of(run.family) for run in (base, same, longer)] == ["transformer", "lstm", "lstm"]
    sizes = [_sequences.non_embedding(run) for run in (base, same)]
    assert max(sizes) < 1.2 * min(sizes) and same.data.tokens == base.data.tokens and same.family == longer.family
    flops = [_sequences.flops_of_token(run) * run.data.tokens for run in (base, longer)]
    assert flops[0] == pytest.approx(flops[1], rel=0.02) and longer.data.tokens > base.data.tokens


def test_nats_of_tokens_are_those_of_the_evaluation():
    made = family_of("hmm").ladder(1e3, length=12, vocab=16)
    run = type("Run", (), {"family": made, "params": jax.jit(made.init)(jax.random.key(0))})
    tokens = np.random.default_rng(0).integers(0, 16, (5, 13))
    found = jax.jit(made.evaluate)(run.params, {"tokens": tokens}, jax.random.key(0))
    np.testing.assert_allclose(_scores.token_nats(run, tokens, together=3).mean(-1), found["loss"].over, rtol=1e-5)


# ---- pretraining


def on_labels(times, grows, study, noise=0.01, most_labels=4096):
    """Errors of runs from scratch that fall as a power of labels, and of pretrained ones whose labels are worth `times` as
    many at 64 labels and N = 40,000; what they add grows as D_F^0.18 N^`grows`."""
    rng, rows = np.random.default_rng(study), []
    for n in (6e3, 1.5e4, 4e4):
        for seed in range(3):
            for tuned, amounts in ((False, [64, 256, 1024, most_labels]), (True, [64, 256])):
                for labels in amounts:
                    added = 64 * (times - 1) * (labels / 64) ** 0.18 * (n / 4e4) ** grows if tuned else 0.0
                    error = 1.5 * (labels + added) ** -0.2 * np.exp(rng.normal(0, noise))
                    rows.append({pretraining.N: n, "seed": seed, "tuned": tuned, "labels": labels, "error": error})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("times,grows,verdict", [
    (20, 0.38, REPRODUCED), (3, 0.38, REFUTED), (20, -0.38, REFUTED), (10, 0.38, UNDECIDED)])
def test_pretraining_is_judged_by_the_labels_it_saves_and_their_growth(times, grows, verdict):
    found = [pretraining.judge(on_labels(times, grows, study)) for study in range(2)]
    assert decided("pretraining", found) == [verdict] * 2


def test_the_exponents_of_the_labels_that_are_saved_are_found():
    found = pretraining.exponents(pretraining.worth(on_labels(20, 0.38, 0, noise=0.0)))
    assert found["N"] == pytest.approx(0.38, abs=0.08) and found["D_F"] == pytest.approx(0.18, abs=0.08)


def test_a_pretrained_run_that_beats_all_from_scratch_is_worth_at_least_their_most_labels():
    found = pretraining.judge(on_labels(1000, 0.0, 0))
    times = found.estimates["times"]
    assert times.value == pytest.approx(64) and times.high == np.inf and "lower bound" in times.note
    assert claims.find("pretraining").decide(found) == UNDECIDED  # how it grows with N is not known


# ---- frozen layers


def by_trained(last, scratch, study, noise=0.01):
    rng = np.random.default_rng(study)
    levels = {"head": 0.4, "last:1": last, "last:2": 0.65, "all": 0.7, "scratch": scratch}
    return pd.DataFrame([{"seed": seed, "trains": trains, "accuracy": level + rng.normal(0, noise), "family.layers": 4}
                         for seed in range(4) for trains, level in levels.items()])


@pytest.mark.parametrize("last,scratch,verdict", [
    (0.69, 0.5, REPRODUCED), (0.5, 0.5, REFUTED), (0.69, 0.75, REFUTED), (0.63, 0.5, UNDECIDED)])
def test_frozen_layers_are_judged_by_the_accuracy_that_the_last_quarter_keeps(last, scratch, verdict):
    found = [frozen.judge(by_trained(last, scratch, study)) for study in range(STUDIES)]
    assert most(decided("frozen", found), verdict)


@pytest.mark.parametrize("name,scratch", [("pretraining", 4), ("frozen", 1)])
def test_every_seed_has_its_own_pretrained_encoder(name, scratch):
    runs = claims.find(name).parts("5m")["labels"].sweep
    runs = [run for run in runs if run.family.width == runs[0].family.width]
    begun = [run for run in runs if run.start is not None]
    for run in begun:
        assert bases(run)[0].seed == run.seed and bases(run)[0].family.width == run.family.width
        assert {path.split("/")[1] for path in taken(run)} == set(_encoders.TAKEN)
    seeds = len({run.seed for run in runs})
    assert seeds >= 3 and len(runs) - len(begun) == scratch * seeds


# ---- translation


def by_pairs(power, deep, noisy, study, noise=0.01):
    rng = np.random.default_rng(study)
    powers = {"even": (power, 1.0), "deep encoder": (power + deep, 0.9), translation.NOISY: (power + noisy, 1.3)}
    return pd.DataFrame([{"series": name, "seed": seed, "examples_seen": pairs,
                          "bits_per_byte": level * (pairs / 2048) ** -own * np.exp(rng.normal(0, noise))}
                         for name, (own, level) in powers.items() for pairs in 2048 * 2 ** np.arange(5)
                         for seed in range(3)])


@pytest.mark.parametrize("power,deep,noisy,verdict", [
    (0.28, 0.0, 0.0, REPRODUCED), (0.8, 0.0, 0.0, REFUTED), (0.05, 0.0, 0.0, REFUTED), (0.28, 0.15, 0.0, REFUTED),
    (0.28, 0.0, -0.15, REFUTED), (0.36, 0.0, 0.0, UNDECIDED)])
def test_translation_is_judged_by_the_exponent_and_by_what_moves_it(power, deep, noisy, verdict):
    found = [translation.judge(by_pairs(power, deep, noisy, study)) for study in range(STUDIES)]
    assert most(decided("translation", found), verdict)


def test_bleu_that_goes_its_own_way_is_in_no_order():
    rng, flops = np.random.default_rng(0), np.repeat(1e9 * 4.0 ** np.arange(5), 4)
    runs = pd.DataFrame({"flops": flops, "bits_per_byte": 1.2 * (flops / 1e9) ** -0.25 * np.exp(rng.normal(0, 0.003, 20)),
                         "bleu": 50 + rng.normal(0, 1.0, 20)})
    assert refuting("translation", translation.judge_bleu(runs)) == {"order"}


@pytest.mark.parametrize("wrong,verdict", [(0.0, REPRODUCED), (-0.3, REFUTED)])
def test_bleu_is_judged_by_the_error_of_its_forecast(wrong, verdict):
    findings = []
    for study in range(2):
        rng, flops = np.random.default_rng(study), np.repeat(1e9 * 4.0 ** np.arange(5), 4)
        loss = 1.2 * (flops / 1e9) ** -0.25 * np.exp(rng.normal(0, 0.003, len(flops)))
        bleu = 100 * np.exp(-1.5 * loss) + rng.normal(0, 1.0, len(flops)) + 100 * wrong * (flops == flops.max())
        findings.append(translation.judge_bleu(pd.DataFrame({"flops": flops, "bits_per_byte": loss, "bleu": bleu})))
    found = decided("translation", findings)
    assert found == [verdict] * 2
    assert "was forecast through the loss" in findings[0].said


def test_the_lines_of_translation_differ_in_what_they_are_said_to():
    runs = translation.parts("5m")["pairs"].sweep
    shapes = {(run.family.encoder_layers, run.family.layers, run.data.noise) for run in runs}
    assert shapes == {(2, 2, 0.0), (3, 1, 0.0), (2, 2, translation.NOISE)}
    assert len(runs) == 3 * 5 * 3 and len({run.seed for run in runs}) == 3
    ladder = translation.parts("5m")["bleu"].sweep
    assert {run.data.samples for run in ladder} == {translation.SAMPLES}
    assert all(run.data.examples <= run.data.unique_examples for run in (*runs, *ladder))  # no pair is seen twice
