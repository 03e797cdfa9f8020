"""Glyphs of which only some factors vary."""
import numpy as np
import pytest

from scaling.data.glyphs import render
from scaling.fields import DataError


def values(source, count=200):
    found = source.pictures.draw(np.arange(count), "train")
    return {name: len(np.unique(found[name])) for name in render.FACTORS}


@pytest.mark.parametrize("varied", ["rotation", "shift_x,shift_y", "size,master", "contrast,ground"])
def test_only_the_factors_that_a_name_lists_vary(load_glyphs, varied):
    found = values(load_glyphs(f"glyphs/letters:{varied}"))
    moved = {name for name, count in found.items() if count > 1} - ({"ground"} if "contrast" in varied else set())
    assert moved == set(varied.split(",")) - ({"ground"} if "contrast" in varied else set())


def test_a_factor_has_the_same_values_whatever_else_varies(load_glyphs):
    all_, some = (load_glyphs(f"glyphs/letters{varied}").pictures.draw(np.arange(50), "train") for varied in ("", ":size"))
    np.testing.assert_array_equal(all_["size"], some["size"])
    assert (some["rotation"] == 0).all() and (some["contrast"] == sum(render.RANGES["contrast"]) // 2).all()
    assert (some["ink"] > some["ground"]).all()


def test_the_order_of_the_names_is_no_part_of_the_data_and_other_names_are_refused(load_glyphs):
    one, other = load_glyphs("glyphs/letters:size,shear"), load_glyphs("glyphs/letters:shear,size")
    assert one.fingerprint == other.fingerprint != load_glyphs("glyphs/letters:size").fingerprint
    assert one.fingerprint != load_glyphs("glyphs/letters").fingerprint and "rotation" in one.summary()[-1]
    assert load_glyphs(f"glyphs/letters:{','.join(render.FACTORS)}").fingerprint == load_glyphs().fingerprint
    colours = load_glyphs("glyphs/letters:size", channels=3).batch(0, 0)["image"]
    assert colours.shape[-1] == 3 and load_glyphs("glyphs/digits:size").name == "glyphs/digits:size"
    for names, says in (("rotations", "did you mean rotation"), ("", "has '', which is no factor; write some of size")):
        with pytest.raises(DataError, match=says):
            load_glyphs(f"glyphs/letters:{names}")
