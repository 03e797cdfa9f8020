"""Numbers as texts keep their value, to the digits that are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.figures import words


@pytest.mark.parametrize("value, error, text", [
    (1.43217, 0.0123, "1.432 ± 0.012"), (0.03, 0.2, "0.03 ± 0.20"), (1234.5, 31.0, "1,234 ± 31"),
    (-0.002, 0.0004, "−0.00200 ± 0.00040"), (1.5, float("nan"), "1.500"), (None, 0.1, "–")])
def test_a_value_has_as_many_decimals_as_its_error(value, error, text):
    assert words.with_error(value, error) == text


@given(st.floats(1e-12, 1e15), st.integers(2, 5))
def test_a_written_number_has_the_value_of_its_digits(value, digits):
    ordinary = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-", ",")
    for signed in (value, -value):
        for write in (words.number, words.short, words.power):
            plain = float(write(signed, digits).replace(" × 10", "e").translate(ordinary))
            assert plain == pytest.approx(signed, rel=0.51 * 10.0 ** (1 - digits))
