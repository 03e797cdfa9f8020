"""Numbers that were counted are the same when they are read, and no file of theirs ends a run."""

import json

import pytest

from scaling import families
from scaling.devices import remembered


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv(remembered.VARIABLE, str(tmp_path / "kept"))
    forget()
    yield tmp_path / "kept"
    monkeypatch.undo()
    forget()


def forget():
    """As in a new process."""
    remembered._path.cache_clear()
    remembered._load.cache_clear()


def counting():
    calls = []

    @remembered.remembered(lambda: "cpu")
    def count(family, batch):
        calls.append((family, batch))
        return {"total": family.width * batch, "parts": [1, 2.5]}

    return count, calls


def test_a_later_process_reads_what_was_counted(directory):
    family = families.find("transformer")(width=64)
    first, calls = counting()
    assert first(family, 3) == first(family, 3) == {"total": 192, "parts": [1, 2.5]} and len(calls) == 1
    forget()
    later, calls = counting()
    assert later(family, 3) == {"total": 192, "parts": [1, 2.5]} and not calls
    assert later(families.find("transformer")(width=128), 3)["total"] == 384 and later(family, 4)["total"] == 256
    assert len(calls) == 2


def test_a_class_of_another_package_is_counted_anew(directory):
    class Own:
        width = 2

    count, calls = counting()
    assert count(Own(), 3) == count(Own(), 3) and len(calls) == 2 and not directory.exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", "\udcff"])
def test_a_damaged_file_is_counted_anew_and_mended(directory, content):
    count, calls = counting()
    family = families.find("transformer")(width=64)
    expected = count(family, 3)
    [path] = directory.iterdir()
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    forget()
    assert count(family, 3) == expected and len(calls) == 2
    assert list(json.loads(path.read_text()).values()) == [expected]


def test_a_directory_that_cannot_be_made_costs_nothing_but_time(directory):
    directory.write_text("a file")
    count, calls = counting()
    assert count(families.find("transformer")(width=64), 3)["total"] == 192 and len(calls) == 1


def test_processes_keep_each_others_numbers(directory):
    remembered.remember("mine", 1)
    [path] = directory.iterdir()
    path.write_text(json.dumps({"theirs": 2}))
    remembered.remember("more", 3)
    assert json.loads(path.read_text()) == {"mine": 1, "theirs": 2, "more": 3}
    with pytest.raises(TypeError, match="JSON"):
        remembered.remember("tuple", (1, 2))
