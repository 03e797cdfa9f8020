"""The glyph stream: the same bits however it is fed, splits that share nothing, labels, and error messages."""
import shutil
import string

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scaling.data.glyphs import fonts, masters, stream
from scaling.fields import DataError


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("options", [
    {}, {"size": 32, "channels": 3, "levels": 16, "label": "font", "caption": 40, "unique_examples": 20},
    {"size": 64, "levels": 2}, {"size": 13, "flip": True, "shift": 3, "channels": 3, "unique_examples": 21}])
def test_resident_equals_streamed_equals_batch_to_the_bit(load_glyphs, options):
    source = load_glyphs(**options)
    arrays, resident = jax.tree.map(jnp.asarray, source.arrays()), jax.jit(source.slice)
    together = source.batches(7, 1, 5)
    for step, streamed in zip(range(1, 5), source.stream(7, 1, 5), strict=True):
        assert_equal(streamed, source.batch(7, step))
        assert_equal({name: values[step - 1] for name, values in together.items()}, streamed)
        assert_equal(jax.tree.map(np.asarray, resident(arrays, 7, step)), streamed)
        for rows in (range(0, 4), range(4, 8)):
            assert_equal(source.batch(7, step, rows), {name: value[rows] for name, value in streamed.items()})
    image = source.batch(7, 0)["image"]
    assert image.dtype == np.uint8 and image.shape == (8, source.size, source.size, source.channels)
    assert image.max() < source.levels


def test_slice_under_vmap_and_in_a_loop(load_glyphs):
    source = load_glyphs(unique_examples=20)
    arrays, seeds = jax.tree.map(jnp.asarray, source.arrays()), jnp.array([0, 1, 2**31 - 1])

    def body(step, out):
        return out.at[step].set(jax.vmap(lambda s: source.slice(arrays, s, step + 10)["image"])(seeds))

    found = jax.jit(lambda: jax.lax.fori_loop(0, 4, body, jnp.zeros((4, 3, 8, 16, 16, 1), jnp.uint8)))()
    for step in range(4):
        for s, seed in enumerate(seeds):
            np.testing.assert_array_equal(found[step, s], source.batch(int(seed), step + 10)["image"])


def test_batches_do_not_depend_on_the_mesh(letters):
    mesh = jax.make_mesh((8,), ("data",))
    over = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    arrays = jax.device_put(letters.arrays(), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    found = jax.jit(letters.slice, out_shardings=over)(arrays, 0, 5)["image"]
    assert len(found.sharding.device_set) == 8
    np.testing.assert_array_equal(found, letters.batch(0, 5)["image"])


def test_smaller_data_are_prefixes_and_later_epochs_are_permutations(load_glyphs, letters):
    stream = np.concatenate([letters.batch(0, step)["image"] for step in range(6)])
    other = np.concatenate([letters.batch(4, step)["image"] for step in range(6)])       # other seeds see other images
    assert len({image.tobytes() for image in [*stream, *other]}) == 96 and letters.unique_examples == 2**31 - 1
    some = load_glyphs(unique_examples=16)
    assert some.fingerprint == letters.fingerprint and some.unique_examples == 16
    seen = np.concatenate([some.batch(0, step)["image"] for step in range(6)]).reshape(3, 16, -1)
    np.testing.assert_array_equal(seen[0], stream[:16].reshape(16, -1))
    assert all(sorted(map(bytes, epoch)) == sorted(map(bytes, seen[0])) for epoch in seen)
    assert len({epoch.tobytes() for epoch in seen}) == 3


def test_the_last_steps_of_the_stream_do_not_overflow(letters):
    step = (2**31 - 1) // 8 - 1
    found = jax.jit(letters.slice)(letters.arrays(), 0, step)["image"]
    np.testing.assert_array_equal(found, letters.batch(0, step)["image"])


@pytest.mark.parametrize("options", [{}, {"size": 32, "label": "block", "caption": 30}])
def test_evaluation_is_nested_and_disjoint_from_training(load_glyphs, options):
    source = load_glyphs(**options)
    assert source.splits == ("iid", "character", "font")
    trained = {i.tobytes() for step in range(100) for i in source.batch(0, step)["image"]}
    for split in source.splits:
        large, small = source.evaluation(split, 50), source.evaluation(split, 20)
        assert_equal(small, {name: value[:20] for name, value in large.items()})
        assert large.keys() == source.batch(0, 0).keys()
        assert not trained & {image.tobytes() for image in large["image"]}
    ranges = [range(first, first + source.pictures.available(s)) for s, first in stream.FIRST.items()]
    assert all(a.stop <= b.start for a, b in zip(ranges, ranges[1:])) and ranges[-1].stop <= 2**32


def values(source, split, factor, count=20_000):
    return {source.classes(factor)[i] for i in np.unique(source.factors(split, count)[factor])}


def test_held_out_characters_and_fonts_are_never_trained_on(letters):
    trained, families = values(letters, "train", "character"), values(letters, "train", "font")
    assert values(letters, "iid", "character") == trained and values(letters, "iid", "font") == families
    new = values(letters, "character", "character")
    assert new and not {c.casefold() for c in new} & {c.casefold() for c in trained}
    assert new | trained == set(string.ascii_letters) and len(new) <= 6
    assert values(letters, "character", "font") <= families
    fresh = values(letters, "font", "font")
    assert fresh and not fresh & families and values(letters, "font", "character") <= trained


CONTINUOUS = ("size", "shift_x", "shift_y", "shear", "rotation", "stroke", "contrast")


def test_iid_evaluation_has_the_distribution_of_training(letters):
    train, test = letters.factors("train", 20_000), letters.factors("iid", 20_000)
    for name in CONTINUOUS:
        assert stats.ks_2samp(train[name], test[name]).pvalue > 1e-3, name
    for name in ("character", "font"):
        counts = [np.bincount(found[name], minlength=len(letters.classes(name))) for found in (train, test)]
        used = np.sum(counts, 0) > 0
        assert stats.chi2_contingency([c[used] for c in counts]).pvalue > 1e-3, name
    used = np.stack([train[name] for name in (*CONTINUOUS, "character")])
    assert np.abs(np.corrcoef(used) - np.eye(len(used))).max() < 0.03        # factors are independent


def test_masters_are_drawn_once_and_the_fingerprint_follows_the_fonts(load_glyphs, tmp_path, monkeypatch):
    chosen = [p for p in fonts.font_files() if p.stem in ("DejaVuSans", "cmr10", "cmss10")]
    copies = [shutil.copy(path, tmp_path / path.name) for path in chosen]
    monkeypatch.setattr(fonts, "font_files", lambda: copies)
    first = load_glyphs("glyphs/digits", data_dir=tmp_path / "a")
    assert load_glyphs("glyphs/digits", data_dir=tmp_path / "b").fingerprint == first.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(masters, "draw_masters", lambda *_: pytest.fail("drawn again"))
        assert load_glyphs("glyphs/digits", data_dir=tmp_path / "a").fingerprint == first.fingerprint
    shutil.copy(next(p for p in chosen if p.stem == "cmss10"), tmp_path / "cmr10.ttf")
    assert load_glyphs("glyphs/digits", data_dir=tmp_path / "a").fingerprint != first.fingerprint
    different = [load_glyphs("glyphs/digits", data_dir=tmp_path / "a", **options).fingerprint
                 for options in ({"size": 32}, {"channels": 3}, {"levels": 2}, {"flip": True}, {"shift": 1})]
    assert len({first.fingerprint, *different}) == 6


def test_labels_and_captions_name_what_is_drawn(load_glyphs):
    source = load_glyphs(label="character", classes=52, caption=64)
    batch, found = source.batch(0, 0), source.factors("train", 8)
    assert batch["label"].dtype == batch["caption"].dtype == np.int32
    np.testing.assert_array_equal(batch["label"], found["character"])
    assert source.classes("character") == sorted(string.ascii_letters)
    for row, code, font in zip(batch["caption"], found["code_point"], found["font"], strict=True):
        said = bytes(row.astype(np.uint8)).rstrip(b"\0").decode()
        case = "CAPITAL" if chr(code).isupper() else "SMALL"
        assert said == f"LATIN {case} LETTER {chr(code).upper()}, {source.classes('font')[font]}"
    said = [source.classes("character")[i] for i in batch["label"]]
    assert said == [chr(code) for code in found["code_point"]]
    short = load_glyphs(caption=9).batch(0, 0)["caption"]
    np.testing.assert_array_equal(short, batch["caption"][:, :9])
    assert set(source.classes("weight")) == {"bold", "regular"} and source.classes("block") == ["Basic Latin"]


@pytest.mark.parametrize("name, options, message", [
    ("glyphs/leters", {}, "did you mean glyphs/letters"), ("glyfs", {}, "did you mean glyphs"),
    ("glyphs/letters", {"label": "caracter"}, "did you mean character"),
    ("glyphs/letters", {"label": "character", "classes": 51}, "write data.classes=52"),
    ("glyphs/letters", {"classes": 52}, "write data.label="), ("glyphs/letters", {"channels": 2}, "channels=2"),
    ("glyphs/letters", {"levels": 1}, "levels=1 is out of range"), ("glyphs/letters", {"size": 0}, "size=0"),
    ("glyphs/letters", {"batch": 0}, "batch=0"), ("glyphs/letters", {"size": 65}, "write 8 to 64"),
    ("glyphs/letters", {"resize": "bilinaer"}, "did you mean bilinear"),
    ("glyphs/letters", {"unique_examples": 2**31}, "unique_examples")])
def test_errors_name_the_field_and_what_to_write(load_glyphs, name, options, message):
    with pytest.raises(DataError, match=message):
        load_glyphs(name, **options)


def test_missing_splits_and_rows_are_refused(letters):
    with pytest.raises(DataError, match="did you mean font"):
        letters.evaluation("fonts")
    with pytest.raises(DataError, match="write 1 to"):
        letters.evaluation("iid", 0)
    with pytest.raises(DataError, match="not within a batch"):
        letters.batch(0, 0, range(-1, 3))
