"""The bins of positions in the context."""

import pytest

from scaling.study.positions import doubling_bins


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 63, 64, 100, 128, 255, 256, 300, 384, 511, 4096])
def test_bins_cover_every_position_once_double_and_none_is_left_with_few(count):
    found = doubling_bins(count)
    assert [place for first, last in found for place in range(first, last + 1)] == [*range(1, count + 1)]
    sizes = [last - first + 1 for first, last in found]
    assert sizes[:-1] == [2**i for i in range(len(sizes) - 1)]
    assert len(sizes) == 1 or sizes[-1] >= sizes[-2] / 2
    assert sizes[-1] <= 1.5 * 2 ** (len(sizes) - 1)
