"""The tool that draws rate curves finds planted best rates and their slope, and draws one panel for each name."""

import math

import pytest
from boxed_flags import Box

with Box():
    from tools import draw_recipes


def planted(slope, rates=(1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)):
    def best(value):
        return 8e-3 * (value / 16) ** slope

    return {value: {rate: 2 + 0.1 * math.log(rate / best(value)) ** 2 for rate in rates} for value in (16.0, 32.0, 64.0)}


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.3])
def test_the_slope_of_the_best_rate_is_found(slope):
    said = draw_recipes.table("AdamW", "width", planted(slope))
    assert f"slope of log rate: {slope:+.3f}" in said.replace("-0.000", "+0.000")
    assert f"largest over smallest: {4 ** abs(slope):.2f}" in said
    assert "16: 0.008, 2.0000" in said


def test_a_best_rate_at_the_edge_is_flagged_and_has_no_slope():
    said = draw_recipes.table("AdamW", "width", planted(0.0, rates=(1.6e-2, 3.2e-2)))
    assert said.count("(at the edge)") == 3 and "slope" not in said


def test_the_figure_has_a_panel_for_each_name_and_a_curve_for_each_value():
    figure = draw_recipes.draw({"AdamW": planted(0.0), "Muon": planted(0.2)}, "width", "bits_per_byte")
    assert len(figure.axes) == 2
    for panel in figure.axes:
        assert {text.get_text() for text in panel.texts} == {"16", "32", "64"} and len(panel.lines) == 6
