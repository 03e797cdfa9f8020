"""Rotary positions with a share of the vector and with scaled wavelengths are those of their formulas in NumPy."""

import numpy as np
import pytest

from scaling import nn

X = np.random.default_rng(0).standard_normal((2, 9, 3, 16)).astype(np.float32)
PLACES = np.arange(9)[None] * 5


def turned(x, wavelengths):
    """Pairs (i, i + half) as complex numbers, times exp(2 pi i place / wavelength)."""
    half = x.shape[-1] // 2
    pairs = (x[..., :half] + 1j * x[..., half:]) * np.exp(2j * np.pi * PLACES[..., None, None] / wavelengths)
    return np.concatenate([pairs.real, pairs.imag], -1)


def wavelengths(pairs, base):
    return 2 * np.pi * base ** (np.arange(pairs) / pairs)


def llama3(wavelength, factor, low, high, length):
    """As the authors of Llama 3.1 published it, in terms of wavelengths."""
    if wavelength < length / high:
        return wavelength
    if wavelength > length / low:
        return wavelength * factor
    smooth = (length / wavelength - low) / (high - low)
    return 1 / ((1 - smooth) / (factor * wavelength) + smooth / wavelength)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.125])
def test_the_first_part_is_turned_and_the_rest_stays(share):
    part = int(16 * share)
    found = np.asarray(nn.rotate(X, PLACES, nn.Rotary(100.0, share)))
    np.testing.assert_allclose(found[..., :part], turned(X[..., :part], wavelengths(part // 2, 100.0)), atol=2e-5)
    assert (found[..., part:] == X[..., part:]).all()


def test_scaled_wavelengths_are_those_of_the_formula():
    own = wavelengths(8, 100.0)
    scaled = np.array([llama3(each, 8, 1, 4, 100) for each in own])
    kept, stretched = (scaled == own).sum(), np.isclose(scaled, 8 * own).sum()
    assert kept and stretched and kept + stretched < 8  # there are pairs in all three bands
    found = nn.rotate(X, PLACES, nn.Rotary(100.0, scaling="llama3:8,1,4,100"))
    np.testing.assert_allclose(found, turned(X, scaled), atol=2e-5)
    np.testing.assert_allclose(nn.rotate(X, PLACES, nn.Rotary(100.0, scaling="linear:4")), turned(X, 4 * own), atol=2e-5)


@pytest.mark.parametrize("text", ["linear", "linear:", "linear:0", "linear:nan", "linear:2,3", "llama3:8,1,4",
                                  "llama3:8,4,4,9", "4", "yarn:4", "linear:four"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError):
        nn.read_scaling(text)
