"""Glyphs with a planted correlation: its share, what stays as it was, how it is named, and what is refused."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import experiment
from scaling.fields import ConfigError, DataError

MANY = 20_000


def agreement(source, split="iid"):
    pictures = source.pictures
    drawn = pictures.draw(np.arange(MANY), split)
    return np.mean(pictures.half(pictures.correlated[0], drawn) == pictures.half(pictures.correlated[1], drawn))


@pytest.mark.parametrize("correlate", ["weight,size", "character,slant", "slant,shift_x"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_style_agrees_with_the_class_in_the_share_of_images_that_was_asked_for(load_glyphs, correlate, share):
    source = load_glyphs("glyphs/digits", correlate=correlate, agree=share)
    for split in ("train", *source.splits):
        assert abs(agreement(source, split) - share) <= 4 * np.sqrt(0.25 / MANY) * (0 < share < 1)


@pytest.mark.parametrize("correlate", ["weight,size", "character,weight"])
def test_only_the_style_changes(load_glyphs, correlate):
    plain, planted = load_glyphs("glyphs/digits"), load_glyphs("glyphs/digits", correlate=correlate, agree=0.9)
    kind, style = correlate.split(",")
    before, after = (source.factors("train", 2000) for source in (plain, planted))
    kept = set(before) - ({style} if style == "size" else {"font", "weight", "slant"})
    for name in kept:
        np.testing.assert_array_equal(before[name], after[name])
    assert (before[style] != after[style]).mean() > 0.3
    low, high = (np.quantile(source.factors("iid", MANY)["size"], [0, 1]) for source in (plain, planted))
    np.testing.assert_allclose(low, high, atol=1e-3)


@pytest.mark.parametrize("correlate", ["weight,size", "character,weight"])
def test_images_are_the_same_however_they_are_fed(load_glyphs, correlate):
    source = load_glyphs("glyphs/digits", correlate=correlate, agree=0.8, label="weight", classes=2)
    found = jax.jit(source.slice)(jax.tree.map(jnp.asarray, source.arrays()), 3, 5)
    for name, values in source.batch(3, 5).items():
        np.testing.assert_array_equal(found[name], values)


def test_splits_that_lack_a_style_are_left_out(load_glyphs):
    source = load_glyphs("glyphs/digits", correlate="weight,slant", agree=0.9)
    assert source.splits == ("iid", "character") and source.contents["evaluation"].keys() == {"iid", "character"}
    assert load_glyphs("glyphs/digits", correlate="weight,size").splits == ("iid", "character", "font")


def test_the_correlation_is_part_of_the_names(load_glyphs):
    options = [{}, *({"correlate": c, "agree": s} for c in ("weight,size", "weight,slant") for s in (0.5, 0.9))]
    assert len({load_glyphs("glyphs/digits", **each).fingerprint for each in options}) == len(options)
    assert "the size of an image goes with its weight in 90.0% of images" in " ".join(
        load_glyphs("glyphs/digits", correlate="weight,size", agree=0.9).summary())
    base = experiment.from_config(experiment.config("vae"))
    planted = base.replace({"data.correlate": "weight,size", "data.agree": 0.9})
    assert planted.data.source_fields()["correlate"] == "weight,size" and planted != base


@pytest.mark.parametrize("options,message", [
    ({"correlate": "weight"}, "write a class"), ({"correlate": "size,weight"}, "write a class"),
    ({"correlate": "weight,weight"}, "another factor"), ({"correlate": "weight,contrast"}, "shift_y"),
    ({"correlate": "weight,slat"}, "did you mean.*slant"), ({"correlate": "font,weight"}, "no glyph of glyphs/digits")])
def test_what_cannot_be_planted_is_refused(load_glyphs, options, message):
    with pytest.raises(DataError, match=message):
        load_glyphs("glyphs/digits", **options)


def test_a_share_needs_factors_and_factors_need_glyphs(load_glyphs):
    base = experiment.from_config(experiment.config("vae"))
    with pytest.raises(ConfigError, match="write data.correlate= as well"):
        base.replace({"data.agree": 0.9})
    with pytest.raises(DataError, match="is for glyphs"):
        load_glyphs("teacher", levels=4, size=8, correlate="weight,size")
