"""The figures of a claim's page: bounds are triangles, panels wrap, and a number lies in the region that decided it."""

import math

import pytest

from scaling.claims import REFUTED, REPRODUCED, UNDECIDED, Criterion, Estimate, pages, verdict_figures

PANEL = {"x": "tokens", "y": "worth", "labels": "", "log_x": True, "log_y": False}


def line(x, y, **given):
    return {"name": "all", "x": x, "y": y, "low": [], "high": [], "dots": True} | given


def of_panels(*panels):
    return {"parts": {f"part {i}": {"panel": panel} for i, panel in enumerate(panels)}}


def test_a_point_that_is_a_bound_is_a_triangle_and_the_page_says_so():
    for bounds, markers, said in ((["at most", "", "at least"], ["v", "o", "^"], True), ([], ["o", "o", "o"], False)):
        shown = line([1, 10, 100], [1.0, 2.0, 3.0]) | ({"bounds": bounds} if bounds else {})  # old records have no such key
        found = of_panels(PANEL | {"lines": [shown]})
        axes = verdict_figures.draw_panels(found).axes[0]
        assert [drawn.get_marker() for drawn in axes.lines if len(drawn.get_xdata()) == 1] == markers
        assert pages.caption(found["parts"]).endswith("points.") == said


def test_the_caption_is_about_what_is_drawn():
    plain = line([1, 10], [1.0, 2.0])
    bars, dashed = line([1, 10], [1.0, 2.0], low=[0.5, 1.5], high=[1.5, 2.5]), line([1, 10], [1.0, 2.0], dots=False)
    for lines, said in (([plain], []), ([plain, bars], ["Bars"]), ([plain, dashed], ["dashed"]), ([bars, dashed],
                                                                                                 ["Bars", "dashed"])):
        text = pages.caption(of_panels(PANEL | {"lines": lines})["parts"])
        assert [word for word in ("Bars", "dashed", "triangle") if word in text] == said


@pytest.mark.parametrize("count", [1, 3, 4, 5, 7])
def test_many_panels_go_into_rows(count):
    figure = verdict_figures.draw_panels(of_panels(*[PANEL | {"lines": [line([1, 10], [1.0, 2.0])]}] * count))
    assert sum(axes.axison for axes in figure.axes) == count
    assert figure.get_figwidth() / figure.get_figheight() <= 4.1 and len(figure.axes) - count < count


def test_the_name_of_a_line_stands_where_the_line_ends_at_the_right():
    """Lines may run to the left, such as those of temperatures."""
    lines = [line([30, 10], [5.0, 1.0], name="falls"), line([10, 30], [4.0, 2.0], name="rises")]
    axes = verdict_figures.draw_panels(of_panels(PANEL | {"lines": lines})).axes[0]
    heights = {text.get_text(): text.xy[1] for text in axes.texts}
    assert heights["falls"] > heights["rises"]


CASES = [(0.2, None), (None, 0.2), (0.1, 0.4), (1e-3, None)]
ESTIMATES = [(0.3, 0.25, 0.35), (0.1, 0.05, 0.15), (0.2, 0.1, 0.3), (5.0, 0.5, 50.0), (0.3, None, None),
             (0.3, 0.25, None), (None, None, None)]


@pytest.mark.parametrize("low, high", CASES)
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_an_interval_is_drawn_inside_of_the_region_exactly_where_the_claim_is_reproduced(low, high, estimate):
    value, *ends = estimate
    rule = Criterion("a number", *(given if given is not None else infinite for given, infinite in
                                   ((low, -math.inf), (high, math.inf))))
    known = None not in ends
    verdict = rule.decide(Estimate(value, *ends, 3)) if known else UNDECIDED
    parts = {"vae": {"estimates": {"a": {"value": value, "low": ends[0], "high": ends[1], "verdict": verdict}}}}
    [axes] = verdict_figures.draw_numbers({"rules": {"a": {"quantity": "a number", "low": low, "high": high}},
                                           "parts": parts}).axes
    [region] = axes.patches
    first, last = axes.get_xlim()
    left, right = region.get_x(), region.get_x() + region.get_width()
    drawn = axes.lines[0].get_xdata()
    inside, beside = left <= drawn[0] and drawn[1] <= right, drawn[1] < left or drawn[0] > right
    if known:
        assert (inside, beside) == (verdict == REPRODUCED, verdict == REFUTED)
        assert first < drawn[0] and drawn[1] < last
    assert (axes.lines[0].get_linestyle() == ":") == (ends == [None, None])
    assert all(first <= bound <= last for bound in (low, high) if bound is not None)


def test_rules_of_one_reason_are_named_together_and_a_rule_that_decided_nothing_is_not():
    rules = {name: {"quantity": f"the {name}", "low": 0.0, "high": None, "why": why}
             for name, why in (("flops", "Dear."), ("loss", "Other."), ("seconds", "Dear."), ("joules", "Dear."))}
    number = {"value": 0.3, "low": 0.2, "high": 0.4}
    parts = {"vae": {"estimates": dict.fromkeys(("flops", "loss", "seconds"), number)}}
    found = pages._reasons({"rules": rules, "parts": parts})
    assert found == {"Dear.": ["the flops", "the seconds"], "Other.": ["the loss"]}
