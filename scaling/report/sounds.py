"""Sound that models made, as sounds.json lists it: players, and spectrograms to see what they play."""

from __future__ import annotations

import base64

import numpy as np

from scaling.data.waves import read_wav
from scaling.figures import words
from scaling.figures.pixels import grey_png

WINDOW, HOP = 0.032, 0.008  # seconds: of sound in a column of a spectrogram, and between columns
RANGE = 60.0                # decibels between white and black
SUNG = "Tunes that the models wrote, played as tones: the parser of the notation reads the prompt and what follows it."
DRAWN = ("Recordings, one after another in each player: some of the data that no model was trained on, and those that the "
         "smallest and the largest model drew, each from its beginning on.")
SCORED = " The scores show the whole texts, and the players their first seconds."
SEEN = " In the spectrograms time runs to the right and frequency upwards, and black is loud."


def spectrogram(wave: np.ndarray, rate: int) -> np.ndarray:
    """The loudness by frequency and time, uint8 [frequencies, columns]: 255 is silence or `RANGE` below the loudest, 0 the
    loudest, and the first row half the rate."""
    from scipy import signal

    size, hop = round(WINDOW * rate), round(HOP * rate)
    wave = np.pad(wave, (0, max(0, size - len(wave))))
    _, _, power = signal.spectrogram(wave, rate, nperseg=size, noverlap=size - hop, mode="psd")
    loud = 10 * np.log10(power / max(power.max(), 1e-12) + 1e-12)
    return np.round(255 * np.clip(-loud / RANGE, 0, 1))[::-1].astype(np.uint8)


def sounds(study) -> dict | None:
    """The introduction and the players, or None without a sound."""
    if not study.sounds:
        return None
    written = any("prompt" in entry for entry in study.sounds)
    prompts = list(dict.fromkeys(entry.get("prompt") for entry in study.sounds))
    beside = sorted(study.sounds, key=lambda entry: prompts.index(entry.get("prompt")))  # models of one prompt together
    scored = SCORED if any("svg" in entry for entry in study.sounds) else ""
    return {"introduction": (SUNG if written else DRAWN) + scored + SEEN, "sides": [_player(entry) for entry in beside]}


def _player(entry: dict) -> dict:
    wave, rate = read_wav(entry["wav"])
    picture = spectrogram(wave, rate)
    size = entry.get("params_non_embedding")
    return {"score": "data:image/svg+xml;base64," + base64.b64encode(entry["svg"]).decode() if "svg" in entry else "",
            "uri": "data:audio/wav;base64," + base64.b64encode(entry["wav"]).decode(),
            "picture": "data:image/png;base64," + base64.b64encode(grey_png(picture)).decode(),
            "height": picture.shape[0], "width": picture.shape[1], "seconds": words.number(len(wave) / rate, 2),
            "top": f"{words.number(rate / 2000, 2)} kHz", "fingerprint": entry.get("fingerprint") or "",
            "title": entry["label"].capitalize() if size is None else f"{words.count(size)} parameters",
            "label": "" if size is None else entry["label"], "prompt": words.printable(entry.get("prompt") or "")}
