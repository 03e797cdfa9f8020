"""Masters of glyphs: rules that leave glyphs out, distance fields, and groups of characters that are held out together."""
import shutil
import string

import numpy as np
import pytest

from scaling.data.glyphs import fonts, groups, masters


@pytest.mark.parametrize("name, out", [("cmex10", True), ("cmmi10", True), ("cmsy10", True), ("cmr10", False),
                                       ("DejaVuSans", False), ("STIXGeneral", False)])
def test_fonts_with_other_glyphs_for_letters_and_digits_are_left_out(name, out):
    (path,) = [p for p in fonts.font_files() if p.stem == name]
    assert fonts.misencoded(fonts.labels(path)) == out


@pytest.mark.parametrize("code, name, out", [
    (ord("A"), "A", False), (ord("<"), "exclamdown", True), (0xa1, "Gamma", True), (0x393, "Gamma", False),
    (ord("\\"), "uni005C", False), (0x2219, "caron", True), (0x4e00, "uni4E00", False)])
def test_glyphs_under_the_name_of_another_character_are_left_out(code, name, out):
    assert fonts.mislabelled(code, name) == out


def test_ascii_keeps_letters_digits_and_marks_but_not_dots(load_glyphs):
    source = load_glyphs("glyphs/ascii")
    kept = {chr(code) for code in source.pictures.characters}
    assert set(string.ascii_letters + string.digits + "!#$%&()*+/<=>?@[\\]^{|}~") <= kept
    assert sorted(kept & set(" .\n\x7f")) == []                 # white space, controls and dots
    counts = source.pictures.counts
    assert counts["tiny"] and counts["mislabelled"] and counts["unprintable"] and counts["encoding"]
    private = [p for p in fonts.font_files() if p.stem == "STIXNonUni"]
    assert len(masters.draw_masters(lambda code: True, private, progress=False).glyphs) < 3
    assert not any("LastResort" in p.name for p in fonts.font_files())


def test_missing_glyphs_and_exact_duplicates_are_left_out(tmp_path):
    (path,) = [p for p in fonts.font_files() if p.stem == "DejaVuSansMono"]
    shutil.copy(path, tmp_path / "again.ttf")
    once = masters.draw_masters(lambda code: 48 <= code < 122, [path], progress=False)
    twice = masters.draw_masters(lambda code: 48 <= code < 122, [path, tmp_path / "again.ttf"], progress=False)
    assert len(twice.glyphs) == len(once.glyphs) and twice.counts["duplicate"] == len(once.glyphs)
    missing = masters.Rasteriser(path).missing
    assert missing is not None and masters.flaw(missing, missing) == "missing"
    omicron = masters.draw_masters(lambda code: code in (ord("o"), 0x3bf), [path], progress=False)
    assert omicron.twins == [(ord("o"), 0x3bf)] and [g.character for g in omicron.glyphs] == [ord("o")]


def test_masters_share_a_base_line_and_respect_the_margins(drawn):
    code = np.array([chr(g.character) for g in drawn.glyphs])
    ink = drawn.pictures > 127
    assert not ink[:, [*range(masters.MARGIN), *range(-masters.MARGIN, 0)]].any()
    assert not ink[:, :, [*range(masters.MARGIN), *range(-masters.MARGIN, 0)]].any()
    lowest = 63 - ink.any(2)[:, ::-1].argmax(1)
    assert (np.abs(lowest[np.isin(code, list("ABDEHIx"))] - (masters.BASELINE - 1)) <= 1).all()
    assert (lowest[np.isin(code, list("gpqy"))] > masters.BASELINE + 4).all()


def test_distance_fields_agree_with_exact_distances():
    """A disc and strips, drawn with exact coverage, with edges at and between pixels."""
    y, x = np.mgrid[-32:32:1 / 8, -32:32:1 / 8] + 1 / 16
    cases = [10.3 - np.hypot(x, y), 5 - np.abs(x), 4.7 - np.abs(y), 3.4 - np.abs(0.8 * x + 0.6 * y)]
    for fine in cases:
        coverage = (fine > 0).reshape(64, 8, 64, 8).mean((1, 3))
        (found,) = masters.distance_fields(np.rint(255 * coverage).astype(np.uint8)[None])
        exact = np.clip(fine.reshape(64, 8, 64, 8).mean((1, 3)), -6, 6)
        error = np.abs(np.clip((found.astype(float) - 128) / 16, -6, 6) - exact)[8:-8, 8:-8]
        assert error.max() < 0.5 and error.mean() < 0.1


def test_no_held_out_character_has_a_near_twin_in_training(drawn, letters):
    """Measured by the cosine of two pictures at 16 x 16 after removing size and place of the ink."""
    found = letters.factors("train", 20_000)["character"]
    trained = {ord(letters.classes("character")[i]) for i in np.unique(found)}
    code = np.array([glyph.character for glyph in drawn.glyphs])
    is_trained = np.isin(code, list(trained))
    held_out, rest = drawn.pictures[~is_trained], drawn.pictures[is_trained]
    assert groups.similarity(held_out, rest).max() < groups.NEAR
    # a split by character alone would separate near twins
    i = code == ord("I")
    assert groups.similarity(drawn.pictures[i], drawn.pictures[code == ord("l")]).max() >= groups.NEAR


def test_groups_join_base_letters_and_lookalikes():
    codes = [ord(c) for c in "aAáⓐbl|IoОx"]                         # the last o is Cyrillic
    found = groups.group_characters(codes, [(ord("l"), ord("|")), (ord("|"), ord("I")), (ord("o"), ord("О"))])
    by_root = {frozenset(chr(c) for c in codes if found[c] == root) for root in found.values()}
    assert by_root == {frozenset(s) for s in ("aAáⓐ", "b", "l|I", "oО", "x")}


def test_held_out_are_at_most_a_tenth_by_a_fixed_hash():
    sizes = {f"font {i}": 10 + i for i in range(50)}
    chosen = groups.hold_out(sizes)
    assert chosen == groups.hold_out(dict(reversed(sizes.items())))
    assert 0.08 < sum(sizes[name] for name in chosen) / sum(sizes.values()) <= groups.HELD_OUT
