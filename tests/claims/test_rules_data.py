"""The rules about quality, augmentation, copies and dimension give the right verdicts on records whose truth is planted."""

import functools
import importlib

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from claims.planted import most

from experiments import claims
from scaling import cost
from scaling.claims import REFUTED, REPRODUCED, UNDECIDED, Trained
from scaling.data.glyphs.render import RANGES
from scaling.families._sums import mean_of
from scaling.fields import leaves
from scaling.study.restored import RestoredRun

quality, augment, copy, dimension = (importlib.import_module(f"experiments.claims.{name}")
                                     for name in ("quality", "augment", "copy", "dimension"))


@functools.cache
def with_fields(name, part):
    """The fields of the runs of a claim, with D, and with N where it is needed: tracing a model takes a second."""
    rows = []
    for run in claims.find(name).parts("5m")[part].sweep:
        seen, unit = run.data.steps * run.data.per_step, run.data.unit
        fields = {path: value for path, (value, _) in leaves(run).items()}
        rows.append(fields | {f"{unit}_seen": seen, f"{unit}_unique": min(seen, run.data.unique or seen)})
        if name == "dimension":
            rows[-1]["params_non_embedding"] = params(run.family)
    return pd.DataFrame(rows)


@functools.cache
def params(family):
    return cost.param_count(family)["non_embedding"]


def verdicts(name, part, loss, noise, metric, studies=4):
    claim, table, found = claims.find(name), with_fields(name, part), []
    for study in range(studies):
        moved = np.random.default_rng(study).normal(0, noise, len(table))
        records = table.assign(**{metric: np.exp(np.log(loss(table)) + moved)})
        found.append(claim.decide(claim.analyse(part, Trained(records, ""))))
    return found


# ---- quality


def noisy_loss(t, unit, cost=3.0, bend=0.0, harm=0.0, power=0.12):
    """A loss of which noise takes an amount of data (`cost`) or the exponent (`bend`); a dirty half adds `harm`."""
    seen, mixed = t[f"{unit}_seen"], t["data.dirty"] < 1
    noise = t["data.noise"].where(~mixed, 0)
    worth = seen * np.where(mixed, 0.5, 1.0) / (1 + cost * noise)
    return 6 * worth ** -(power * (1 - bend * noise)) * np.where(mixed, 1 + harm, 1.0) + 0 * t[f"{unit}_unique"]


@pytest.mark.parametrize("part,unit,power,noise", [
    ("transformer", "tokens", 0.12, 0.004), ("vae", "examples", 0.12, 0.004), ("labels", "examples", 0.12, 0.004),
    ("gan", "examples", 0.6, 0.02)])
def test_quality_is_reproduced_where_noise_costs_data_alone_and_dirty_data_harm(part, unit, power, noise):
    harm = 12 * noise

    def found(**options):
        return verdicts("quality", part, lambda t: noisy_loss(t, unit, power=power, **options), noise,
                        quality.METRICS[part])

    assert most(found(harm=harm), REPRODUCED)
    assert most(found(harm=harm, bend=2.5), REFUTED)  # half of the exponent at 20% of noise
    assert most(found(harm=-harm), REFUTED)  # the dirty half helped
    assert REPRODUCED not in found(harm=0.0)[1:]


def test_the_worth_of_noisy_examples_and_the_cost_of_duplicates_are_found():
    table = with_fields("quality", "transformer")
    copies = np.where(table["tokens_unique"] < 0.9 * table["tokens_seen"], 1.02, 1.0)
    records = table.assign(bits_per_byte=noisy_loss(table, "tokens", cost=5.0) * copies)
    found = quality.tabulate("transformer", records)
    assert found["copies"].sum() == 4 and (found["dirty"] < 1).sum() == 4
    for noise in (0.2, 0.4):
        share, reached = quality.worth(found, noise)
        assert reached and abs(share * (1 + 5 * noise) - 1) < 0.02
    said = quality.analyse("transformer", Trained(records, "")).said
    assert "does for 1.5 with 10% of noise, 2.0 with 20%" in said and "40% of duplicates raise the loss by 1.98%" in said
    assert not quality.worth(quality.tabulate("transformer", records.assign(bits_per_byte=noisy_loss(
        table, "tokens", cost=500.0))), 0.4)[1]


# ---- augment


def augmented_loss(t, part, gain, far=1.0):
    """A loss of different images, of which augmentation makes `gain` times as many where they are few, and `far` times as
    many where they are most."""
    _, fields = next(iter(augment.AUGMENTATIONS[part].items()))
    on = np.logical_and.reduce([t[field] == value for field, value in fields.items()])
    place = np.log(t.examples_unique / t.examples_unique.min()) / np.log(t.examples_unique.max() / t.examples_unique.min())
    worth = t.examples_unique * np.where(on, gain ** (1 - place) * far ** place, 1.0)
    return 0.3 + 9 * worth ** -0.4


@pytest.mark.parametrize("part,noise", [("vae", 0.01), ("gan", 0.06)])
def test_augment_is_reproduced_where_it_is_worth_data_that_are_few(part, noise):
    def found(gain, far):
        return verdicts("augment", part, lambda t: augmented_loss(t, part, gain, far), noise, augment.METRICS[part])

    assert most(found(4.0, 0.5), REPRODUCED)
    assert most(found(0.25, 0.25), REFUTED)  # it harms
    assert most(found(1.0, 4.0), REFUTED) or UNDECIDED in found(1.0, 4.0)  # it helps the more the more data there are


def test_the_worth_of_augmentation_is_found():
    table = with_fields("augment", "vae")
    records = table.assign(bits_per_dim=augmented_loss(table, "vae", 4.0))
    found = augment.worth(augment.tabulate("vae", records), "shift")
    assert abs(found.ratio[128.0] - 4) < 0.5 and abs(found.ratio[8192.0] - 1) < 0.01
    assert list(found.bound) == [""] * len(found)
    assert "by mirror, D_eff/D is 1 at 128" in augment.analyse("vae", Trained(records, "")).said


def test_a_worth_beyond_what_was_tried_is_a_bound():
    table = with_fields("augment", "vae")
    for gain, few, many, words in ((200.0, "at least", "at least", "by shift, D_eff/D is at least 64 at 128"),
                                   (0.25, "at most", "", "by shift, D_eff/D is at most 1 at 128")):
        records = table.assign(bits_per_dim=augmented_loss(table, "vae", gain, gain))
        found = augment.analyse("vae", Trained(records, ""))
        shift = found.panel.lines[0]
        assert (shift.bounds[0], shift.bounds[-1]) == (few, many) and words in found.said


# ---- copy


def memorised(bits, power=1.0, noise=0.03, study=0):
    """Strings of which models of N parameters memorise `bits` for each, times (N / 5000)^(power - 1)."""
    rng, rows = np.random.default_rng(study), []
    for size in (2000, 5000, 10_000):
        for fill in copy.FILLS:
            given, room = fill * copy.PUBLISHED * size, bits * size * (size / 5000) ** (power - 1)
            rows += [{"size": size, "given": given, "seed": seed, "bits": min(given, room) * np.exp(rng.normal(0, noise))}
                     for seed in range(3)]
    return pd.DataFrame(rows)


def test_copy_is_judged_by_bits_for_each_parameter_and_their_growth():
    claim = claims.find("copy")

    def found(*given):
        return [claim.decide(copy.judge_strings(memorised(*given, study=study))) for study in range(4)]

    assert most(found(3.6), REPRODUCED)
    assert most(found(1.0), REFUTED) and most(found(8.0), REFUTED) and most(found(3.6, 0.4), REFUTED)
    assert most(found(2.4), UNDECIDED)


def test_copies_of_a_gan_are_judged_by_their_fall():
    claim, table = claims.find("copy"), with_fields("copy", "gan")

    def decide(share, study):
        moved = np.random.default_rng(study).normal(0, 0.01, len(table))
        return claim.decide(copy.judge_images(table.assign(memorised=(share(table.examples_unique) + moved).clip(0))))

    assert most([decide(lambda d: 0.01 + 0.6 * np.exp(-d / 300), study) for study in range(4)], REPRODUCED)
    assert most([decide(lambda d: 0.01 + 0 * d, study) for study in range(4)], REFUTED)


def test_memorised_bits_are_counted_against_uniform_tokens():
    """A model that starts from small weights knows nothing of random strings; one whose loss is 0 knows all of them."""
    experiment = copy.memoriser(8, 1, 64, seed=0)
    strings = experiment.data.unique_tokens // copy.LENGTH
    assert abs(strings * copy.LENGTH * copy.BITS / (copy.PUBLISHED * 1832) - 1) < 0.2

    class Model:
        def evaluate(self, params, batch, key):
            assert batch["tokens"].shape == (strings, copy.LENGTH + 1)
            return {"loss": mean_of(params * jnp.ones(strings))}

    def bits(nats):
        class Run(RestoredRun):
            family, source = Model(), experiment.data.load()
        return copy.memorised_bits(Run({"fingerprint": "x"}, experiment, nats, None))

    whole = strings * copy.LENGTH * copy.BITS
    assert bits(0.0) == whole and abs(bits(np.log(64))) < 1e-3 * whole and abs(bits(np.log(8)) - whole / 2) < 1e-3 * whole
    windows = np.concatenate([experiment.data.load().batch(0, step)["tokens"] for step in range(2)])
    teacher = experiment.data.load().teacher  # the strings of training are the first ones of the teacher
    np.testing.assert_array_equal(windows[:8], teacher.read(teacher.tables, np.arange(8, dtype=np.uint32), copy.LENGTH + 1))


# ---- dimension


def test_dimension_is_reproduced_by_4_over_d():
    def found(exponent):
        def loss(t):
            d = t["data.name"].map({dimension.letter_with(d): d for d in dimension.DIMENSIONS})
            return 0.8 * (t.params_non_embedding / 5000.0) ** -exponent(d) + d.map(dimension.factor_bits)
        return verdicts("dimension", "vae", loss, 0.01, dimension.METRIC)

    assert most(found(lambda d: 4 / d), REPRODUCED)
    assert most(found(lambda d: 1.2 + 0 * d), REFUTED)  # one exponent, whatever the data; on average as claimed
    assert most(found(lambda d: 0.4 / d), REFUTED)  # it falls as 1/d, and is a tenth of 4/d


def test_the_entropy_of_factors_is_that_of_their_ranges():
    assert dimension.factor_bits(1) == np.log2(RANGES["shift_x"][1] - RANGES["shift_x"][0] + 1) / 256
    bits = [dimension.factor_bits(d) for d in range(1, 9)]
    assert (np.diff(bits) > 0).all() and bits[-1] < 0.4
