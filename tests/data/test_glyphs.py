"""Rendered characters: the same bits however they are fed, known factors, and splits that share nothing."""
import shutil
import string

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from scaling import data
from scaling.data import glyphs
from scaling.data.glyphs import fonts, groups, render
from scaling.fields import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def load(root, name="glyphs/letters", **kwargs):
    return data.load_images(name, data_dir=root, progress=False, **{"batch": 8, **kwargs})


@pytest.fixture(scope="module")
def letters(root):
    return load(root)


@pytest.fixture(scope="module")
def drawn():
    return fonts.draw(lambda code: chr(code) in string.ascii_letters, fonts.files(), progress=False)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("options", [
    {}, {"size": 32, "channels": 3, "levels": 16, "label": "font", "caption": 40, "unique_examples": 20},
    {"size": 64, "levels": 2}, {"size": 13, "flip": True, "shift": 3, "channels": 3, "unique_examples": 21}])
def test_resident_equals_streamed_equals_batch_to_the_bit(root, options):
    source = load(root, **options)
    arrays, resident = jax.tree.map(jnp.asarray, source.arrays()), jax.jit(source.slice)
    for step, streamed in zip(range(1, 5), source.stream(7, 1, 5), strict=True):
        assert_equal(streamed, source.batch(7, step))
        assert_equal(jax.tree.map(np.asarray, resident(arrays, 7, step)), streamed)
        for rows in (range(0, 4), range(4, 8)):
            assert_equal(source.batch(7, step, rows), {name: value[rows] for name, value in streamed.items()})
    image = source.batch(7, 0)["image"]
    assert image.dtype == np.uint8 and image.shape == (8, source.size, source.size, source.channels)
    assert image.max() < source.levels


def test_slice_under_vmap_and_in_a_loop(root):
    source = load(root, unique_examples=20)
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


def test_smaller_data_are_prefixes_and_later_epochs_are_permutations(root, letters):
    stream = np.concatenate([letters.batch(3, step)["image"] for step in range(6)])
    np.testing.assert_array_equal(letters.batch(4, 0)["image"], stream[:8])              # for every seed
    assert len({image.tobytes() for image in stream}) == 48 and letters.unique_examples == 2**31 - 1
    some = load(root, unique_examples=16)
    assert some.fingerprint == letters.fingerprint and some.unique_examples == 16
    seen = np.concatenate([some.batch(3, step)["image"] for step in range(6)]).reshape(3, 16, -1)
    np.testing.assert_array_equal(seen[0], stream[:16].reshape(16, -1))
    assert all(sorted(map(bytes, epoch)) == sorted(map(bytes, seen[0])) for epoch in seen)
    assert len({epoch.tobytes() for epoch in seen}) == 3


def test_far_steps_of_the_stream(letters):
    step = (2**31 - 1) // 8 - 1
    found = jax.jit(letters.slice)(letters.arrays(), 0, step)["image"]
    np.testing.assert_array_equal(found, letters.batch(0, step)["image"])


@pytest.mark.parametrize("options", [{}, {"size": 32, "label": "block", "caption": 30}])
def test_evaluation_is_nested_and_disjoint_from_training(root, options):
    source = load(root, **options)
    assert source.splits == ("iid", "character", "font")
    trained = {i.tobytes() for step in range(100) for i in source.batch(0, step)["image"]}
    for split in source.splits:
        large, small = source.evaluation(split, 50), source.evaluation(split, 20)
        assert_equal(small, {name: value[:20] for name, value in large.items()})
        assert large.keys() == source.batch(0, 0).keys()
        assert not trained & {image.tobytes() for image in large["image"]}
    ranges = [range(first, first + source.pictures.available(s)) for s, first in glyphs.FIRST.items()]
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


def test_no_held_out_character_has_a_near_twin_in_training(drawn, letters):
    """The measure: the cosine of two pictures at 16 x 16 once size and place of the ink are taken away."""
    trained = {ord(c) for c in values(letters, "train", "character")}
    code = np.array([glyph.character for glyph in drawn.glyphs])
    is_trained = np.isin(code, list(trained))
    held_out, rest = drawn.pictures[~is_trained], drawn.pictures[is_trained]
    assert groups.similarity(held_out, rest).max() < groups.NEAR
    # a split by character alone has them
    i = code == ord("I")
    assert groups.similarity(drawn.pictures[i], drawn.pictures[code == ord("l")]).max() >= groups.NEAR


def test_groups_join_base_letters_and_what_looks_alike():
    codes = [ord(c) for c in "aAáⓐbl|IoОx"]                         # the last o is Cyrillic
    found = groups.groups(codes, [(ord("l"), ord("|")), (ord("|"), ord("I")), (ord("o"), ord("О"))])
    by_root = {frozenset(chr(c) for c in codes if found[c] == root) for root in found.values()}
    assert by_root == {frozenset(s) for s in ("aAáⓐ", "b", "l|I", "oО", "x")}


def test_held_out_are_at_most_a_tenth_by_a_fixed_hash():
    sizes = {f"font {i}": 10 + i for i in range(50)}
    chosen = groups.hold_out(sizes)
    assert chosen == groups.hold_out(dict(reversed(sizes.items())))
    assert 0.08 < sum(sizes[name] for name in chosen) / sum(sizes.values()) <= groups.HELD_OUT


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


# ---- rendering

PLAIN = {"size": render.ONE, "shift_x": 0, "shift_y": 0, "shear": 0, "rotation": 0, "stroke": 0,
         "contrast": render.ONE, "master": 0}


def picture(letters, pixels=64, channels=1, ground=0, ink=255, **changes):
    factors = {name: np.array([value], np.int32) for name, value in (PLAIN | changes).items()}
    factors |= {name: np.full((1, channels), level, np.int32)
                for name, level in (("ground", ground), ("ink", ink))}
    return render.render(letters.pictures.fields, factors, pixels)[0].astype(float)


def master(letters, character, font="DejaVu Sans Bold"):
    pictures = letters.pictures
    wanted = pictures.classes("font").index(font)
    (found,) = np.flatnonzero((pictures._code == ord(character)) & (pictures._ids["font"] == wanted))
    return int(found)


def moments(image):
    """Mass, and centre and covariance in (x, y), y downwards."""
    weight = image[..., 0] / image.sum()
    grid = np.stack(np.meshgrid(*[np.arange(len(image))] * 2), -1).astype(float)
    centre = np.einsum("yx,yxd->d", weight, grid)
    return image.sum(), centre, np.einsum("yx,yxd,yxe->de", weight, grid - centre, grid - centre)


def test_without_transformations_the_master_itself_comes_back(letters, drawn):
    for character in "aQfW":
        place = next(i for i, g in enumerate(drawn.glyphs)
                     if chr(g.character) == character and drawn.fonts[g.font].name == "DejaVu Sans Bold")
        expected = drawn.pictures[place].astype(float)
        found = picture(letters, master=master(letters, character))[..., 0]
        assert np.abs(found - expected).mean() < 4
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
        small = picture(letters, 16, master=master(letters, character))[..., 0]
        area = expected.reshape(16, 4, 16, 4).mean((1, 3))
        assert np.corrcoef(small.ravel(), area.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("pixels", [16, 32, 64])
def test_each_factor_changes_the_image_as_it_says(letters, pixels):
    bar = dict(master=master(letters, "l", "DejaVu Sans Bold"), size=int(0.75 * render.ONE))
    mass, centre, spread = moments(picture(letters, pixels, **bar))
    scale = pixels / 64
    _, moved, _ = moments(picture(letters, pixels, **bar, shift_x=3 << 8, shift_y=-2 << 8))
    np.testing.assert_allclose(moved - centre, [3 * scale, -2 * scale], atol=0.12)
    grown, _, wider = moments(picture(letters, pixels, **bar | {"size": render.ONE}))
    np.testing.assert_allclose(wider[1, 1] / spread[1, 1], (4 / 3) ** 2, rtol=0.08)
    assert grown > 1.5 * mass
    for name in ("rotation", "shear"):                           # the top goes left, and right
        _, _, turned = moments(picture(letters, pixels, **bar, **{name: int(0.2 * render.ONE)}))
        slope = -turned[0, 1] / turned[1, 1]                     # x of the bar as it goes up
        np.testing.assert_allclose(slope, -np.tan(0.2) if name == "rotation" else 0.2, atol=0.04)
    bold = moments(picture(letters, pixels, **bar, stroke=256))[0]
    light = moments(picture(letters, pixels, **bar, stroke=-128))[0]
    assert light < mass < bold
    image = picture(letters, pixels, ground=200, ink=50, **bar)
    assert image[0, 0, 0] == 200 and 50 <= image.min() < 80


def test_described_factors_draw_the_image_again(letters):
    """From the units in `describe` back to the same image, up to rounding, by floating-point mathematics."""
    source, found = letters.pictures, letters.factors("iid", 40)
    images = letters.evaluation("iid", 40)["image"].astype(float)
    rows = source.draw(np.arange(40), "iid")["master"]
    centre = (np.arange(16) + 0.5) / 16 - 0.5
    for k in range(40):
        f = {name: value[k] for name, value in found.items()}
        x, y = np.meshgrid(centre - f["shift_x"], centre - f["shift_y"])
        c, s = np.cos(f["rotation"]), np.sin(f["rotation"])
        x, y = c * x - s * y, s * x + c * y                      # undo the rotation, then shear, then size
        x, y = (x + f["shear"] * y) / f["size"], y / f["size"]
        field = (source.fields[rows[k]].astype(float) - 128) / 16
        at = np.stack([64 * y + 31.5, 64 * x + 31.5])
        inside = np.clip(at, 0, 63)
        distance = ndimage.map_coordinates(field, inside, order=1) - np.abs(at - inside).sum(0)
        coverage = np.clip((distance + 64 * f["stroke"]) * f["size"] / 4 + 0.5, 0, 1)
        expected = f["ground"] + (f["ink"] - f["ground"]) * coverage
        assert np.abs(images[k, ..., 0] - expected).max() < 4


def test_colours_of_ink_and_ground_differ_by_the_contrast_in_every_channel(root):
    source = load(root, channels=3)
    found = source.factors("train", 500)
    steps = np.abs(found["ink"] - found["ground"])
    np.testing.assert_allclose(steps, 255 * found["contrast"].reshape(-1, 1) + np.zeros(3), atol=1)
    assert {tuple(row) for row in found["ink"] > found["ground"]} == {
        (r, g, b) for r in (False, True) for g in (False, True) for b in (False, True)}
    grey = load(root).factors("train", 500)
    assert (grey["ink"] > grey["ground"]).all()
    np.testing.assert_array_equal(grey["character"], found["character"])    # colour changes nothing else


# ---- masters

@pytest.mark.parametrize("name, out", [("cmex10", True), ("cmmi10", True), ("cmsy10", True), ("cmr10", False),
                                       ("DejaVuSans", False), ("STIXGeneral", False)])
def test_fonts_that_show_other_things_for_letters_and_digits_are_left_out(name, out):
    (path,) = [p for p in fonts.files() if p.stem == name]
    assert fonts.misencoded(fonts.labels(path)) == out


@pytest.mark.parametrize("code, name, out", [
    (ord("A"), "A", False), (ord("<"), "exclamdown", True), (0xa1, "Gamma", True), (0x393, "Gamma", False),
    (ord("\\"), "uni005C", False), (0x2219, "caron", True), (0x4e00, "uni4E00", False)])
def test_glyphs_under_the_name_of_another_character_are_left_out(code, name, out):
    assert fonts.mislabelled(code, name) == out


def test_what_is_left_of_ascii(root):
    source = load(root, "glyphs/ascii")
    kept = {chr(code) for code in source.pictures.characters}
    assert set(string.ascii_letters + string.digits + "!#$%&()*+/<=>?@[\\]^{|}~") <= kept
    assert sorted(kept & set(" .\n\x7f")) == []                 # white space, controls and dots
    counts = source.pictures.counts
    assert counts["tiny"] and counts["mislabelled"] and counts["unprintable"] and counts["encoding"]
    private = [p for p in fonts.files() if p.stem == "STIXNonUni"]
    assert len(fonts.draw(lambda code: True, private, progress=False).glyphs) < 3
    assert not any("LastResort" in p.name for p in fonts.files())


def test_missing_glyphs_and_exact_duplicates_are_left_out(tmp_path):
    (path,) = [p for p in fonts.files() if p.stem == "DejaVuSansMono"]
    shutil.copy(path, tmp_path / "again.ttf")
    once = fonts.draw(lambda code: 48 <= code < 122, [path], progress=False)
    twice = fonts.draw(lambda code: 48 <= code < 122, [path, tmp_path / "again.ttf"], progress=False)
    assert len(twice.glyphs) == len(once.glyphs) and twice.counts["duplicate"] == len(once.glyphs)
    missing = fonts.Rasteriser(path).missing
    assert missing is not None and fonts._flaw(missing, missing) == "missing"
    omicron = fonts.draw(lambda code: code in (ord("o"), 0x3bf), [path], progress=False)
    assert omicron.twins == [(ord("o"), 0x3bf)] and [g.character for g in omicron.glyphs] == [ord("o")]


def test_masters_share_a_base_line_and_keep_to_the_margins(drawn):
    code = np.array([chr(g.character) for g in drawn.glyphs])
    ink = drawn.pictures > 127
    assert not ink[:, [*range(fonts.MARGIN), *range(-fonts.MARGIN, 0)]].any()
    assert not ink[:, :, [*range(fonts.MARGIN), *range(-fonts.MARGIN, 0)]].any()
    lowest = 63 - ink.any(2)[:, ::-1].argmax(1)
    assert (np.abs(lowest[np.isin(code, list("ABDEHIx"))] - (fonts.BASELINE - 1)) <= 1).all()
    assert (lowest[np.isin(code, list("gpqy"))] > fonts.BASELINE + 4).all()


def test_distance_fields_agree_with_exact_distances():
    """Of a disc and of strips drawn with exact coverage, their edges at and between pixels."""
    y, x = np.mgrid[-32:32:1 / 8, -32:32:1 / 8] + 1 / 16
    cases = [10.3 - np.hypot(x, y), 5 - np.abs(x), 4.7 - np.abs(y), 3.4 - np.abs(0.8 * x + 0.6 * y)]
    for fine in cases:
        coverage = (fine > 0).reshape(64, 8, 64, 8).mean((1, 3))
        (found,) = fonts.fields(np.rint(255 * coverage).astype(np.uint8)[None])
        exact = np.clip(fine.reshape(64, 8, 64, 8).mean((1, 3)), -6, 6)
        error = np.abs(np.clip((found.astype(float) - 128) / 16, -6, 6) - exact)[8:-8, 8:-8]
        assert error.max() < 0.5 and error.mean() < 0.1


def test_found_again_without_drawing_and_the_fingerprint_follows_the_fonts(tmp_path, monkeypatch):
    chosen = [p for p in fonts.files() if p.stem in ("DejaVuSans", "cmr10", "cmss10")]
    copies = [shutil.copy(path, tmp_path / path.name) for path in chosen]
    monkeypatch.setattr(fonts, "files", lambda: copies)
    first = load(tmp_path / "a", "glyphs/digits")
    assert load(tmp_path / "b", "glyphs/digits").fingerprint == first.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(fonts, "draw", lambda *_: pytest.fail("drawn again"))
        assert load(tmp_path / "a", "glyphs/digits").fingerprint == first.fingerprint
    shutil.copy(next(p for p in chosen if p.stem == "cmss10"), tmp_path / "cmr10.ttf")
    assert load(tmp_path / "a", "glyphs/digits").fingerprint != first.fingerprint
    different = [load(tmp_path / "a", "glyphs/digits", **options).fingerprint
                 for options in ({"size": 32}, {"channels": 3}, {"levels": 2}, {"flip": True}, {"shift": 1})]
    assert len({first.fingerprint, *different}) == 6


# ---- labels and words

def test_labels_and_captions_name_what_is_drawn(root):
    source = load(root, label="character", classes=52, caption=64)
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
    short = load(root, caption=9).batch(0, 0)["caption"]
    np.testing.assert_array_equal(short, batch["caption"][:, :9])
    assert set(source.classes("weight")) == {"bold", "regular"} and source.classes("block") == ["Basic Latin"]


@pytest.mark.parametrize("name, options, message", [
    ("glyphs/leters", {}, "did you mean glyphs/letters"), ("glyfs", {}, "did you mean glyphs"),
    ("glyphs/letters", {"label": "caracter"}, "did you mean character"),
    ("glyphs/letters", {"label": "character", "classes": 51}, "write classes=52"),
    ("glyphs/letters", {"classes": 52}, "write label="), ("glyphs/letters", {"channels": 2}, "channels=2"),
    ("glyphs/letters", {"levels": 1}, "levels=1 is out of range"), ("glyphs/letters", {"size": 0}, "size=0"),
    ("glyphs/letters", {"batch": 0}, "batch=0"), ("glyphs/letters", {"size": 65}, "write 8 to 64"),
    ("glyphs/letters", {"resize": "bilinaer"}, "did you mean bilinear"),
    ("glyphs/letters", {"unique_examples": 2**31}, "unique_examples")])
def test_what_is_wrong_and_what_to_write(root, name, options, message):
    with pytest.raises(DataError, match=message):
        load(root, name, **options)


def test_splits_and_shards_that_are_not_there(letters):
    with pytest.raises(DataError, match="did you mean font"):
        letters.evaluation("fonts")
    with pytest.raises(DataError, match="write 1 to"):
        letters.evaluation("iid", 0)
    with pytest.raises(DataError, match="not within a batch"):
        letters.batch(0, 0, range(-1, 3))
