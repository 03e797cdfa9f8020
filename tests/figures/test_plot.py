"""Labels at the ends of lines never overlap."""

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
