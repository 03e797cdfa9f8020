"""A name of another kind of data is said to be that, by every kind."""

import pytest

from scaling import data
from scaling.data.other_kinds import BEGINNINGS, of_other_kind
from scaling.fields import DataError

READ = {"text": lambda name: data.load_text(name), "images": lambda name: data.load_images(name),
        "pairs of texts": lambda name: data.load_pairs(name, source_length=8, length=8, batch=2),
        "texts with labels": lambda name: data.load_labelled(name, length=8, classes=2, batch=2)}


@pytest.mark.parametrize("kind", READ)
def test_a_name_of_another_kind_is_said_to_be_that(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path))
    for other in BEGINNINGS.keys() - {kind}:
        for first in BEGINNINGS[other]:
            with pytest.raises(DataError, match=rf"^{first}/x names {other}, and {kind} (is|are) read here; write") as said:
                READ[kind](f"{first}/x")
            assert "\n" not in str(said.value)
    with pytest.raises(DataError, match="'nothing'"):
        READ[kind]("nothing")


def test_every_kind_has_beginnings_of_its_own():
    assert READ.keys() == BEGINNINGS.keys()
    beginnings = [first for known in BEGINNINGS.values() for first in known]
    assert len(set(beginnings)) == len(beginnings)
    assert not any(of_other_kind(f"{first}:x", kind) for kind, known in BEGINNINGS.items() for first in (*known, "tfds"))
