"""Tunes are judged by the parser of their notation, by the metre that they state and by their key."""

import numpy as np
import pytest

from scaling import experiment
from scaling.evaluate import music
from scaling.evaluate.text_judge import MEASURED_TEXT, MEASURED_TUNES
from scaling.results import metrics

pytest.importorskip("music21")
HEAD = "\0M:3/4\nL:1/4\nK:G\n"


@pytest.mark.parametrize("tune,parses,metre,key", [
    ("G|ABc|def|g2g|g2|]\0", 1, 1, 1), ("G|ABcd|def|g2g|g2|]\0", 1, 2 / 3, 1), ("G|ABcdef|g2g|g2|]\0", 1, 1, 1),
    ("=f|^ABc|Bcd|]\0", 1, 1, 5 / 7), ("ABc", 0, 0, 0), ("A|B|]\nM:4/x\nc|]\0", 0, 0, 0)])
def test_a_planted_tune_has_the_scores_that_it_must_have(tune, parses, metre, key):
    found = music.tune_scores([HEAD + tune] * 16)
    assert found["tunes_parse"].value == parses
    assert found["in_metre"].value == pytest.approx(metre) and found["in_key"].value == pytest.approx(key)
    assert all(score.error == pytest.approx(0, abs=1e-12) for score in found.values())


def test_shuffled_notes_keep_their_key_and_lose_their_metre():
    rng = np.random.default_rng(0)
    bars = ["ABc", "d2B", "G3", "A/B/cd", "e>fg"]
    sound = ["|".join(rng.choice(bars, 12)) for _ in range(64)]
    loose = ["".join(rng.permutation(list(text.replace("/", "").replace(">", "")))) for text in sound]
    right, wrong = (music.tune_scores([f"{HEAD}A|{text}|]\0" for text in texts]) for texts in (sound, loose))
    assert right["in_metre"].value == 1 > wrong["in_metre"].value + 5 * wrong["in_metre"].error
    assert right["in_key"].value == wrong["in_key"].value == 1


def test_data_of_tunes_are_judged_as_tunes_and_other_text_is_not():
    fields = {"data.samples": 16, "data.length": 64}
    tunes, code = (experiment.from_config(experiment.config("transformer", **{"data.name": name, **fields})).data
                   for name in ("music/abc", "pycode/stdlib"))
    assert tunes.judged() == MEASURED_TEXT + MEASURED_TUNES and not set(code.judged()) & set(MEASURED_TUNES)
    assert tunes.judge_fields()["abc"] and "abc" not in code.judge_fields()
    assert metrics.find_metric("in_metre").rises and metrics.find_metric("in_metre_real").label != "in metre real"
