"""No byte of a forecast, its score or the log changes unseen, and forecasts of older versions are read as they were."""
import functools
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from old_workdirs import unpack_old
from planted_forecast import RECORDS, TARGET, fitted, grid, surface

from scaling import laws
from scaling.laws.forecasts import evidence, forecast, sealed
from scaling.results.records import Records

FILES = ("f.json", "f_check.json", "forecasts.jsonl")


@functools.cache
def made():
    """{name: bytes} of a forecast, its score and the log."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.json"
        forecast.write(path, *fitted(named=False), {"N": 1e10, "D": 1e11})
        forecast.check(path, surface(1e10, 1e11), grid())
        return {name: (Path(folder) / name).read_bytes() for name in FILES}


def noticed(folder, name, place, byte, how):
    """Whether `verify` finds a problem, and whether there is one, when a byte of a file is changed."""
    for each, content in made().items():
        (folder / each).write_bytes(content)
    before = made()[name]
    i = int(place * len(before))
    after = before[:i] + (b"" if how == "cut" else bytes([byte])) + before[i if how == "in" else i + 1:]
    (folder / name).write_bytes(after)
    return not forecast.verify(folder / "f.json", records={}).ok, after != before


edits = {"place": st.floats(0, 1, exclude_max=True), "byte": st.integers(0, 255),
         "how": st.sampled_from(["put", "cut", "in"])}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=200, deadline=None, derandomize=True)
@given(**edits)
def test_any_byte_that_is_changed_is_noticed(tmp_path_factory, name, place, byte, how):
    found, changed = noticed(tmp_path_factory.getbasetemp(), name, place, byte, how)
    assert found == changed


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 0.9999999])
@pytest.mark.parametrize("how", ["put", "cut", "in"])
def test_a_byte_that_is_changed_here_or_there_is_noticed(tmp_path, name, place, how):
    found, changed = noticed(tmp_path, name, place, ord("7"), how)
    assert found == changed


def test_the_records_of_a_workdir_are_compared(tmp_path):
    path, store = tmp_path / "forecast.json", Records(tmp_path)
    forecast.write(path, *fitted(), TARGET, laws.record_hashes(RECORDS))
    forecast.check(path, 2.19, laws.record_hashes(RECORDS))
    assert "not here" in forecast.verify(path).notes[0]
    for record in RECORDS:
        store.write(record)
    assert forecast.verify(path) == forecast.Verification([], [], forecast.verify(path).registrations)
    store.path("run3").unlink()
    store.write(RECORDS[3] | {"bits_per_byte": 2.93})
    assert "not as they were (changed: run3)" in forecast.verify(path).problems[0]
    store.path("run3").unlink()
    assert "missing: run3" in forecast.verify(path).problems[0]
    store.write(RECORDS[3])
    store.write({"fingerprint": "target", "bits_per_byte": 2.18, "finished": "2000-01-01T00:00:00+00:00"})
    said = " ".join(forecast.verify(path).problems)
    assert "record of the target has bits_per_byte = 2.18" in said and "finished at 2000-01-01" in said


@pytest.fixture
def old(tmp_path):
    """The workdir of a finished study of results version 2."""
    return unpack_old("finished", tmp_path)


def test_a_forecast_of_an_older_version_is_verified_without_a_log(old):
    path = old / "forecast.json"
    found = forecast.verify(path)
    assert found.ok and found.notes == ["forecast.json was registered without a log, by an older version of scaling."]
    store, written = Records(old), forecast.read(path)
    whole = laws.record_hashes((store.read(name) for name in written["records"]), without=())
    check = json.loads((old / "forecast_check.json").read_text())
    assert forecast.check(path, check["observed"], whole) == check
    (old / "forecast_check.json").unlink()
    again = forecast.check(path, check["observed"], whole)
    assert {name: again[name] for name in ("inside", "z", "rank", "verdict")} == {
        name: check[name] for name in ("inside", "z", "rank", "verdict")}
    assert forecast.verify(path).ok


@pytest.mark.parametrize("edit", [
    lambda c: c.update(inside=True), lambda c: c.update(z=0.1), lambda c: c.update(observed=0.3),
    lambda c: c.update(interval=[0.1, 0.9]), lambda c: c.pop("rank"), lambda c: c.update(note="x")])
def test_an_edited_score_of_an_older_version_is_noticed(old, edit):
    path = old / "forecast_check.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content, indent=1) + "\n")
    assert not forecast.verify(old / "forecast.json").ok


def test_a_forecast_that_is_put_in_place_of_a_registered_one_is_noticed(tmp_path):
    path = tmp_path / "f.json"
    content = forecast.write(path, *fitted(named=False), {"N": 1e10, "D": 1e11})
    older = {key: value for key, value in content.items() if key not in ("hash", "registration")} | {"predicted": 2.19}
    path.write_text(sealed.to_text(older | {"hash": evidence.json_digest(older)}))
    assert "the file was replaced" in forecast.verify(path, grid()).problems[0]
