"""Coordinate checks: sizes of activations and outputs, and their changes after some steps, hardly depend on width or depth.

`tests/coordinates.py` measures them.
"""

import pytest
from coordinates import STANDING, by_axis, measured, slopes

QUICK, SLOW = ["transformer"], ["vae", "gan", "diffusion", "fsq", "classifier", "transformer tied", "transformer experts",
                                "transformer parallel", "vae conv", "gan conv", "gan dcgan", "recurrent", "recurrent gru",
                                "recurrent mingru", "textgan", "masked", "coded", "multimodal"]
CASES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
RATES = {"adamw": 2e-3, "muon": 4e-3}
BAND = 0.3  # of slopes against log width, where narrow models have some random part of everything
# The changes of these at 16 are a third larger than at 32, and level off from there on; so does what the last MLP of
# multimodal writes, which is nearly twice as much at 16. Those of fsq jump with what is rounded to another level, so that
# slopes over a factor of four scatter by as much as the band.
WIDTHS = {**dict.fromkeys(("recurrent gru", "textgan", "multimodal"), (32, 64, 128)), "fsq": (16, 32, 64, 128, 256)}
# A layer sees what the layers before it have moved, so that changes rise from the first layer to the last, in coded by a
# factor of five. Means over layers stand at (layers - 1) / (2 layers) of that way, 1/4 with two layers and 7/16 with eight,
# and so rise too, as layers^0.33 from two to eight, although the layer in the middle and the logits change alike.
DEPTHS = {"coded": (4, 8, 16)}
PARALLEL = {"family.parallel": True, "family.rope_share": 0.5, "family.attention_biases": "all",
            "family.activation": "exact_gelu"}


def wide(name, width, **changes):
    family, _, body = name.partition(" ")
    own = {"family.layers": 2, "family.width": width, **changes}
    if family == "transformer":
        own |= {"family.heads": None, "family.kv_heads": None, "family.mlp": None, "family.head_dim": 16,
                "family.tied": body == "tied", "family.experts": 4 * (body == "experts")}
        own |= PARALLEL if body == "parallel" else {}
    if family == "masked":
        own |= {"family.heads": None, "family.mlp": None, "family.head_dim": 16}
    return own | ({"family.head_dim": 16} if family in ("textgan", *STANDING) else {})


def measure(name, optimiser, changes):
    name = name.replace(" tied", "").replace(" experts", "").replace(" parallel", "")
    return measured(name, optimiser, RATES[optimiser], tuple(sorted(changes.items(), key=lambda item: item[0])))


def widths(name, optimiser, sizes=None, **changes):
    sizes = sizes or WIDTHS.get(name, (16, 32, 64))
    return {width: measure(name, optimiser, wide(name, width, **changes)) for width in sizes}


def depths(name, optimiser, sizes=None, **changes):
    sizes = sizes or DEPTHS.get(name, (2, 4, 8))
    return {layers: measure(name, optimiser, wide(name, 32, **{"family.layers": layers, **changes})) for layers in sizes}


def worst(found, what, aggregate=lambda sizes: sizes):
    each = slopes({x: aggregate(values[what]) for x, values in found.items()})
    return max(each.items(), key=lambda item: abs(item[1]))


@pytest.mark.parametrize("optimiser", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_coordinates_do_not_change_with_the_width(name, optimiser):
    found = widths(name, optimiser)
    for what in ("size", "change", "output change"):
        place, slope = worst(found, what)
        assert abs(slope) < BAND, (what, place, slope)
    outputs = slopes({width: values["output size"] for width, values in found.items()})
    assert max(outputs.values()) < BAND  # what is random at first falls with the width
    for what in ("router size", "router change"):  # four steps change routers by hardly more than what is random
        assert max(slopes({width: values[what] for width, values in found.items()}).values(), default=0) < BAND


@pytest.mark.parametrize("optimiser", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", QUICK)
def test_the_standard_parametrisation_fails_the_check(name, optimiser):
    found = widths(name, optimiser, **{"optim.parametrization": "standard"})
    assert max(worst(found, what)[1] for what in ("change", "output change")) > 0.45


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", RATES)
@pytest.mark.parametrize("name", ["transformer", "vae", "gan", "diffusion", "fsq", "classifier", "gan conv", "recurrent",
                                  "textgan", "masked", "coded", "multimodal"])
@pytest.mark.parametrize("exponent", [1.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_coordinates_do_not_change_with_the_depth(name, optimiser, exponent):
    if name == "gan conv" and exponent != 1:
        pytest.skip("its blocks are not stacked, so it takes CompleteP alone")
    found = depths(name, optimiser, **{"family.base_layers": 2, "family.depth_exponent": exponent})
    for what in ("size", "change", "output change"):
        place, slope = worst(found, what, by_axis)
        assert abs(slope) < BAND, (what, place, slope)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", RATES)
@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_coordinates_do_not_change_over_a_factor_of_sixteen_in_width(name, optimiser):
    found = widths(name, optimiser, (16, 32, 64, 128, 256))
    for what in ("size", "change", "output change"):
        place, slope = worst(found, what)
        assert abs(slope) < BAND, (what, place, slope)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", RATES)
def test_coordinates_do_not_change_from_2_to_32_layers(optimiser):
    found = depths("transformer", optimiser, (2, 4, 8, 16, 32), **{"family.base_layers": 2})
    for what in ("size", "change", "output change"):
        place, slope = worst(found, what, by_axis)
        assert abs(slope) < BAND, (what, place, slope)
