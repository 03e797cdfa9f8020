"""Rules of the claims on range, tasks, sudden abilities and optimisers, on records whose truth is planted."""

import functools
import math
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from claims.planted import most, refuting

from experiments import claims
from experiments.claims import _scores
from scaling.claims import REFUTED, REPRODUCED, UNDECIDED, Trained
from scaling.families import find as family_of


def module(name):
    return sys.modules[claims.find(name).analyse.__module__]


@functools.cache
def rows(name, part):
    """A row for each 5-minute run of a claim, with about its N and C: counting those of images takes longer than a test."""
    found = []
    for run in claims.find(name).parts("5m")[part].sweep:
        data, width = run.data, run.family.width
        found.append({"seed": run.seed, "flops": 450.0 * width ** 2 * data.seen, "params_total": 80 * width ** 2,
                      "params_non_embedding": 75 * width ** 2, f"{data.unit}_seen": data.seen,
                      f"{data.unit}_unique": data.unique or data.seen, "family.layers": run.family.layers,
                      "optim.name": run.optim.name, "loss": math.nan})  # which is in nats, and no rule judges it
    return pd.DataFrame(found)


def verdicts(name, part, loss, noise, metric, studies=3):
    """The verdicts of a claim on records of its runs whose log loss is that of `loss(table)` with noise."""
    found = []
    for study in range(studies):
        moved = np.random.default_rng(study).normal(0, noise, len(rows(name, part)))
        records = rows(name, part).assign(**{metric: loss(rows(name, part)) * np.exp(moved)})
        found.append(decided(name, claims.find(name).analyse(part, Trained(records, ""))))
    return found


def decided(name, finding):
    return claims.find(name).decide(finding)


# ---- the parts of VAEs and GANs


def test_the_size_of_a_vae_and_of_a_gan_is_judged_alike():
    for part, metric, noise in (("vae", "bits_per_dim", 0.003), ("gan", "fd_infinity_relative", 0.08)):
        def power(t, alpha):
            return t.params_non_embedding ** -alpha

        good = 0.06 if part == "vae" else 0.3
        assert most(verdicts("size", part, lambda t, good=good: power(t, good), noise, metric), REPRODUCED)
        assert most(verdicts("size", part, lambda t: power(t, 0.0), noise, metric), REFUTED)


@pytest.mark.parametrize("part,metric,noise", [
    ("vae", "bits_per_dim", 0.002), pytest.param("gan", "fd_infinity_relative", 0.08, marks=pytest.mark.slow)])
def test_repeats_of_images_are_judged_by_what_four_epochs_and_64_bring(part, metric, noise, monkeypatch):
    monkeypatch.setattr(module("data"), "worth", lambda runs: 1.0)  # R_D*, which takes most of the time and is not judged
    power = 0.2 if part == "vae" else 0.6

    def repeated(t, worth):
        epochs = t.examples_seen / t.examples_unique
        return (t.examples_unique * (1 + worth * (1 - np.exp(-(epochs - 1) / worth)))) ** -power

    assert most(verdicts("data", part, lambda t: repeated(t, 15.4), noise, metric), REPRODUCED)
    assert most(verdicts("data", part, lambda t: repeated(t, 0.3), noise, metric), REFUTED)


def test_the_split_of_a_vae_is_judged_and_slices_without_an_optimum_are_undecided():
    slices, seeds = module("split").SLICES["5m"]["vae"]
    table = pd.DataFrame([{"flops": flops, "params_non_embedding": 75 * width ** 2, "seed": seed,
                           "examples_seen": flops / (5400 * width ** 2)}
                          for flops, widths in slices for width in widths for seed in range(seeds)])

    def found(alpha, beta):
        size, data = table["params_non_embedding"] / 1.92e4, table["examples_seen"] / 6.5e3
        loss = 1.5 + 0.6 * beta / (alpha + beta) * size ** -alpha + 0.6 * alpha / (alpha + beta) * data ** -beta
        records = table.assign(bits_per_dim=loss * np.exp(np.random.default_rng(0).normal(0, 2e-4, len(table))))
        return module("split").analyse("vae", Trained(records, ""))

    assert abs(found(0.3, 0.3).estimates["exponent"].value - 0.5) < 0.1
    assert refuting("split", found(1.0, 1.0)) == {"valley"}  # which is steep
    far = found(0.15, 0.45)
    assert abs(far.estimates["exponent"].value - 0.75) < 0.15 and decided("split", far) != REPRODUCED
    assert decided("split", found(0.5, 1e-9)) == UNDECIDED  # the largest model is always the best


@pytest.mark.parametrize("power,rules", [(0.5, set()), (1.5, {"distance"})])
def test_the_split_of_a_gan_has_a_valley_of_its_own(power, rules):
    slices, seeds = module("split").SLICES["5m"]["gan"]
    table = pd.DataFrame([{"flops": flops, "params_non_embedding": 75 * width ** 2, "seed": seed,
                           "examples_seen": flops / (5400 * width ** 2)}
                          for flops, widths in slices for width in widths for seed in range(seeds)])
    size, data = table["params_non_embedding"] / 1e4, table["examples_seen"] / 3e4
    noise = np.exp(np.random.default_rng(0).normal(0, 0.01, len(table)))
    found = module("split").analyse("gan", Trained(table.assign(
        fd_infinity_relative=(size ** -power + data ** -power) * noise), ""))
    assert refuting("split", found) == rules and set(found.estimates) == {"exponent", "distance"}


# ---- range


def by_context(far, growth, seed, noise=0.003):
    """Bits by context, where the widest model saves `far` of the log loss beyond 32 bytes and others less by `growth`."""
    rng, reach = np.random.default_rng(seed), module("reach")
    return pd.DataFrame([
        {"context": context, "width": width, "seed": each, "params": 100 * width ** 2,
         "bits": 3 * width ** -0.1 * np.exp(-(far - growth * (2 - i)) * np.log(context / 32) / np.log(7)
                                            + rng.normal(0, noise))}
        for i, width in enumerate((16, 32, 64)) for each in range(4) for context in reach.CONTEXTS])


@pytest.mark.parametrize("far,growth,verdict", [(0.06, 0.01, REPRODUCED), (0.0, 0.0, REFUTED), (0.06, -0.01, REFUTED)])
def test_range_is_judged_by_what_distant_context_saves(far, growth, verdict):
    found = [decided("reach", module("reach").judge_reach(by_context(far, growth, seed))) for seed in range(5)]
    assert most(found, verdict)


def test_bits_by_context_hide_what_lies_too_far_back():
    """A predictor that knows the first byte it was shown a distance back: only contexts of that distance find it."""
    reach = module("reach")
    windows = np.random.default_rng(0).integers(1, 200, (20, reach.LENGTH + 1))
    windows[:, 100] = 255  # 124 bytes before the first byte that is scored

    def scored(tokens):
        seen = np.maximum.accumulate(tokens == 255, 1)[:, :-1]
        return np.where(seen, 0.0, np.log(2) * 8)

    def found(nats):
        return _scores.bits_by_context(nats, windows, reach.CONTEXTS, reach.TAIL)

    assert found(scored) == {16: 8.0, 32: 8.0, 64: 8.0, 128: 0.0, 224: 0.0}

    def position(tokens):  # the byte itself, so that the bytes that are scored can be told
        return np.log(2) * tokens[:, 1:]

    mean = windows[:, -reach.TAIL:].mean()
    assert all(abs(bits - mean) < 1e-9 for bits in found(position).values())


@pytest.mark.parametrize("left,verdict", [(0.1, REPRODUCED), (0.95, REFUTED), (0.5, UNDECIDED)])
def test_induction_is_judged_by_the_excess_that_two_layers_leave(left, verdict):
    table, found = rows("reach", "induction"), []
    for study in range(4):
        moved = np.random.default_rng(study).normal(0, 0.15, len(table))
        records = table.assign(excess=np.where(table["family.layers"] == 2, left, 1.0) * np.exp(moved))
        found.append(decided("reach", module("reach").analyse("induction", Trained(records, ""))))
    assert most(found, verdict)


# ---- tasks


def with_failures(name, wrong, seed, noise=0.01):
    """Records whose loss is a power of compute and whose failures follow from it, but for the target, which is off."""
    rng, table = np.random.default_rng(seed), rows("downstream", name)
    loss = 3 * (table.flops / table.flops.min()) ** -0.07 * np.exp(rng.normal(0, 0.003, len(table)))
    failed = 0.9 - 5 * np.exp(-loss) if name == "transformer" else 1 - 3 * np.exp(-0.6 * loss)
    target = table.flops == table.flops.max()
    return table.assign(loss=loss, failed=failed + wrong * target + rng.normal(0, noise, len(table)))


@pytest.mark.parametrize("name", ["transformer", pytest.param("vae", marks=pytest.mark.slow)])
def test_tasks_are_judged_by_the_error_of_the_forecast(name):
    judge = module("downstream").judge
    found = {wrong: [decided("downstream", judge(name, with_failures(name, wrong, seed))) for seed in range(3)]
             for wrong in (0.0, -0.3)}
    assert found[0.0].count(REPRODUCED) >= 2 and REFUTED not in found[0.0]
    assert most(found[-0.3], REFUTED)


def test_tasks_that_do_not_follow_the_loss_are_in_no_order():
    table = with_failures("transformer", 0.0, 0)
    flat = table.assign(failed=0.5 + np.random.default_rng(0).normal(0, 0.01, len(table)))
    assert refuting("downstream", module("downstream").judge("transformer", flat)) == {"order"}


def test_a_link_that_runs_away_forecasts_a_share():
    table = with_failures("vae", 0.0, 0)
    below = table["loss"] < table.loc[table.flops < table.flops.max(), "loss"].min() * 1.02
    cliff = table.assign(failed=np.where(below, 0.8, 0.98) - 0.2 * (table.flops == table.flops.max()))
    found = module("downstream").judge("vae", cliff).estimates["error"]
    assert -1 <= found.low <= found.value <= found.high <= 1.1


@pytest.mark.parametrize("text,whole", [
    ("def f(x):\n    return x\n", True), ("def f(x):\n    return x\n    y = (1,", True), ("def f(x):\n    return x", False),
    ("def f(x):\n    return (x\n", False), ("def f(x):\n    if x:\n", False), ("def f(x):\n    \n\n", False),
    ("def f(x):\n    x = 1\n\nclass A(:\n", True), ("def f(x):\n    break\n", False), ("def f(x):\n    x = '\0'\n", False)])
def test_a_function_compiles_by_its_whole_lines(text, whole):
    assert module("downstream").compiles(text) == whole


# ---- sudden abilities


def test_suddenness_is_judged_by_what_comes_late():
    sudden, table = module("sudden"), rows("sudden", "transformer")

    def verdict(exponent, bend, seed):
        rng, share = np.random.default_rng(seed), np.log(table.flops / table.flops.min())
        share = share / share.max()
        accuracy = 0.3 + 0.4 * share ** bend + rng.normal(0, 0.004, len(table))
        records = table.assign(accuracy=accuracy, exact=accuracy ** exponent, bits_per_byte=4 - 5 * accuracy)
        return decided("sudden", sudden.judge(records))

    assert most([verdict(8, 1, seed) for seed in range(4)], REPRODUCED)
    assert most([verdict(1, 1, seed) for seed in range(4)], REFUTED)  # no more sudden than the loss
    assert most([verdict(8, 4, seed) for seed in range(4)], REFUTED)  # the loss is sudden as well


def test_exact_matches_need_every_byte_of_a_span():
    right = np.array([[1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1]], bool)
    tokens = np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 4, 4]])
    assert module("sudden").exact_share(right, tokens, 3, 1) == (1 + 0 + 0 + 0 + 4) / 8
    assert module("sudden").exact_share(right, tokens, 3, 3) == (1 + 0 + 0 + 0 + 2) / 6  # the last two of row two repeat
    assert module("sudden").exact_share(right, tokens, 3, 2) == (1 + 0 + 0 + 0 + 3) / 7


def test_scores_of_tokens_are_those_of_the_evaluation_in_any_number():
    family = family_of("transformer").ladder(5e3, length=12, vocab=16)
    params = jax.jit(family.init)(jax.random.key(0))
    run = type("Run", (), {"family": family, "params": params})
    tokens = np.random.default_rng(0).integers(0, 16, (5, 13))
    nats, right = _scores.token_scores(run, tokens, together=3)
    found = jax.jit(family.evaluate)(params, {"tokens": tokens}, jax.random.key(0))
    np.testing.assert_allclose(nats.mean(-1), found["loss"].over, rtol=1e-5)
    np.testing.assert_allclose(right.mean(-1), found["accuracy"].over, rtol=1e-6)


# ---- optimisers


def with_gain(name, first, per_decade, seed, noise):
    rng, table = np.random.default_rng(seed), rows("fade", name)
    luck = table.groupby(["flops", "seed"]).ngroup().map(dict(enumerate(rng.normal(0, noise, len(table)))))
    muon = table["optim.name"] == "muon"
    speed = np.where(muon, first * np.exp(per_decade * np.log10(table.flops / table.flops.min())), 1.0)
    loss = 1.0 + 40 * (table.flops * speed) ** -0.15
    return table.assign(**{module("fade").METRICS[name]: loss * np.exp(luck + rng.normal(0, noise / 2, len(table)))})


def test_the_plan_has_pairs_of_both_optimisers_at_the_same_data():
    runs = claims.find("fade").parts("5m")["vae"].sweep
    for muon, adamw in zip(runs[::2], runs[1::2]):
        assert (muon.optim.name, adamw.optim.name) == ("muon", "adamw")
        assert (muon.family, muon.data, muon.seed) == (adamw.family, adamw.data, adamw.seed)


def test_speed_ups_that_bend_have_a_wider_interval():
    fade, flops = module("fade"), np.array([1e10, 4e10, 1.6e11, 6.4e11, 2.6e12])
    found = [fade.bent(pd.DataFrame({"flops": flops, "speedup": speedup}), 40) for speedup in (
        [3.0, 2.0, 1.7, 1.2, 1.0], [1.5, 3.0, 1.2, 2.8, 1.3], [np.nan, np.nan, np.nan, 2.0, 1.0])]
    assert found[0].high < 0 < found[1].high and found[1].low < 0 and np.isnan(found[2].low)
    assert [fade.CLAIM.rules["trend"].decide(each) for each in found] == [REPRODUCED, UNDECIDED, UNDECIDED]


@pytest.mark.parametrize("name", ["transformer", "vae"])
def test_fading_is_judged_by_the_slope_of_the_speed_up(name):
    def verdict(first, per_decade, seed):
        records = with_gain(name, first, per_decade, seed, 0.001)
        return decided("fade", module("fade").analyse(name, Trained(records, "")))

    assert most([verdict(1.5, -0.15, seed) for seed in range(3)], REPRODUCED)
    assert most([verdict(1.3, 0.15, seed) for seed in range(3)], REFUTED)
    assert most([verdict(0.7, -0.1, seed) for seed in range(3)], REFUTED)  # there is no gain
