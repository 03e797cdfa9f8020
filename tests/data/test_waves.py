"""Waves as mu-law codes: nothing is lost but half a step of loudness, pitch stays, and files say what was written."""

import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scaling.data import tones, waves

SAMPLES = arrays.arrays(np.float64, st.integers(1, 50), elements=st.floats(-1, 1))


def pitch_of(sound):
    """The frequency of the loudest part of a wave, in Hz, between the bins of its spectrum."""
    power = np.log(np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * len(sound))) + 1e-9)
    peak = int(power[1:-1].argmax()) + 1
    before, at, after = power[peak - 1:peak + 2]
    return (peak + 0.5 * (before - after) / (before - 2 * at + after)) * waves.RATE / (8 * len(sound))


@given(SAMPLES)
def test_a_code_is_within_half_a_step_of_its_sample(sound):
    codes = waves.encode_wave(sound)
    assert codes.dtype == np.uint8 and codes.min() >= 1  # 0 ends recordings
    apart = waves.compand(waves.decode_wave(codes)) - waves.compand(sound)
    assert np.abs(apart).max() <= 0.5 / waves.LEVELS + 1e-6


def test_every_code_comes_back_and_silence_is_exact():
    codes = np.arange(1, 256)
    np.testing.assert_array_equal(waves.encode_wave(waves.decode_wave(codes)), codes)
    assert waves.decode_wave([waves.SILENCE, 0]).tolist() == [0, 0] and waves.encode_wave(np.zeros(1)) == waves.SILENCE
    np.testing.assert_allclose(waves.decode_wave(codes), -waves.decode_wave(codes[::-1]))
    assert (np.diff(waves.decode_wave(codes)) > 0).all() and waves.encode_wave(np.array([5.0]))[0] == 255


@pytest.mark.parametrize("timbre", tones.TIMBRES)
@pytest.mark.parametrize("pitch", [57, 69, 76.5])
def test_a_tone_has_its_pitch_before_and_after_it_is_coded(pitch, timbre):
    sound = tones.render_note((pitch,), 0.25, timbre)
    for heard in (sound, waves.decode_wave(waves.encode_wave(sound))):
        cents = 1200 * np.log2(pitch_of(heard) / tones.frequency(pitch))
        assert abs(cents) < 10
    assert np.abs(sound).max() <= tones.LOUDNESS and sound[0] == 0


def test_a_chord_has_every_pitch_and_a_rest_none():
    spectrum = np.abs(np.fft.rfft(tones.render_note((60, 67), 1.0)))
    loud = {60: spectrum[round(tones.frequency(60))], 67: spectrum[round(tones.frequency(67))]}
    assert min(loud.values()) > 20 * np.median(spectrum) and not tones.render_note((), 0.1).any()


@given(SAMPLES)
def test_a_file_holds_the_wave(sound):
    found, rate = waves.read_wav(waves.wav_bytes(sound))
    assert rate == waves.RATE
    np.testing.assert_allclose(found, sound, atol=0.51 / 32767, rtol=1e-6)


def test_what_is_no_file_of_one_channel_is_refused(tmp_path):
    with wave.open(str(tmp_path / "two.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0" * 8)
    with pytest.raises(ValueError, match="2 channels of 16 bits; write one channel"):
        waves.read_wav((tmp_path / "two.wav").read_bytes())
    with pytest.raises(ValueError, match="no WAV file"):
        waves.read_wav(b"RIFF")


def test_codes_are_tokens_whose_documents_are_bytes():
    codes = waves.MuLaw()
    assert codes.pack([b"\x80\x81", b"", b"\x01"]).tolist() == [128, 129, 0, 0, 1, 0]
    assert codes.decode([128, 0]) == "128 0 " and (codes.bytes_per_token == 1).all() and codes.vocab == 256
