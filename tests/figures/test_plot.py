"""Labels at the ends of lines never overlap; ticks of an axis look different, and those of a linear one are regular."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.figures import plot


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_keep_their_order_and_a_gap_and_move_no_more_than_needed(heights):
    heights, gap = sorted(heights), 0.05
    moved = plot.spread_labels(heights, gap)
    assert np.all(np.diff(moved) >= gap - 1e-9)
    assert np.mean(moved) == pytest.approx(np.mean(heights))
    if len(heights) < 2 or np.diff(heights).min() >= gap:
        np.testing.assert_allclose(moved, heights)


@pytest.mark.parametrize(("values", "texts"), [
    ([1.050, 1.055, 1.060, 1.065], ["1.050", "1.055", "1.060", "1.065"]),
    ([1.0500, 1.0525, 1.0550], ["1.0500", "1.0525", "1.0550"]),
    ([12_310_000, 12_320_000, 12_330_000], ["12,310,000", "12,320,000", "12,330,000"]),
    ([1.0, 2.0, 5.0], ["1", "2", "5"])])
def test_no_two_ticks_of_an_axis_look_the_same(values, texts):
    assert plot.Amounts().format_ticks(values) == texts


@pytest.mark.parametrize("ends", [(10.0, 60.0), (2.0, 900.0), (-3.0, 4.0), (0.0, 1.0)])
def test_the_ticks_of_a_linear_axis_are_at_equal_distances(ends):
    figure, axes = plot.panels()
    plot.dress(axes[0, 0], "x", "y", log_x=False).plot(ends, (1.0, 2.0))
    plot.finish(axes[0, 0])
    steps = np.diff(axes[0, 0].get_xticks())
    assert len(steps) >= 2 and np.allclose(steps, steps[0]) and not len(axes[0, 0].get_xticks(minor=True))
