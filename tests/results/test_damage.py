"""A record or a curve that is not as it was written does not count as whole, and every reader says so."""
import json
import random

import pytest

from scaling.results import logs, planned, records
from scaling.store import files


def record(fingerprint="aa", **fields):
    return {"fingerprint": fingerprint, "loss": 2.5, "note": None, "versions": {"jax": "0.10.2"}, **fields}


def points(number=8):
    return [{"step": i, "loss": 3.0 - i / 9, "tokens": 128 * i} for i in range(1, number + 1)]


def flipped(content, bit):
    content = bytearray(content)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def test_a_flipped_bit_of_a_record_makes_its_run_unfinished_or_changes_nothing(tmp_path):
    runs = records.Records(tmp_path)
    runs.write(record())
    path = runs.path("aa")
    whole, rng = path.read_bytes(), random.Random(0)
    for bit in rng.sample(range(8 * len(whole) - 8), 150):
        path.write_bytes(flipped(whole, bit))
        again = records.Records(tmp_path)
        with pytest.warns(UserWarning, match=r"aa\.jsonl: torn or damaged last line.*trained again"):
            assert not again.done("aa")
        with pytest.warns(UserWarning, match=r"aa\.jsonl"):
            assert records.load_records(tmp_path).empty
        with pytest.raises(KeyError):
            again.read("aa")
    again.write(record())  # the run was trained again
    assert again.read("aa") == record() and path.read_bytes().startswith(flipped(whole, bit).rstrip(b"\n"))


@pytest.mark.parametrize("content", ["{}", '{"fingerprint": "aa"}', '{"fingerprint": "bb"}', "[]", "null", ""])
def test_what_is_no_record_of_the_run_does_not_count_as_done(tmp_path, content):
    old = {"family": "vae", "role": "sweep", "diverged": False, "experiment": {}}
    path = records.Records(tmp_path).path("aa")
    files.atomic_write(path, content if content != '{"fingerprint": "bb"}' else json.dumps({"fingerprint": "bb", **old}))
    with pytest.warns(UserWarning, match=r"aa\.jsonl.*trained again"):
        assert not records.Records(tmp_path).done("aa")
    path.write_text(json.dumps({"fingerprint": "aa", **old}) + "\n")  # of an older version, without a digest
    assert records.Records(tmp_path).read("aa") == {"fingerprint": "aa", **old}


def test_a_curve_that_lost_or_altered_points_says_so(tmp_path):
    path, seal = tmp_path / "a.jsonl", logs.curve_seal(points())
    logs.write_curve(path, points())
    assert logs.examine_curve(path, seal) == (points(), None) == logs.examine_curve(path)
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged, said in ((lines[:5], "points are missing, and 5 points of 8 are left"),
                          ([*lines[:-1], lines[-1][:9]], "1 torn or damaged line.* and 7 points of 8 are left"),
                          ([*lines[:-1], lines[-1].replace(b"1024", b"1025")], "points were altered"),
                          ([], "0 points of 8")):
        path.write_bytes(b"".join(damaged))
        with pytest.warns(UserWarning, match=rf"a\.jsonl: {said}" if damaged else said):
            logs.read_curve(path, seal)
    path.unlink()
    assert "0 points of 8" in logs.examine_curve(path, seal)[1]
    logs.write_curve(path, points())
    assert "lost when training resumed" in logs.examine_curve(path, logs.curve_seal(points(), lost=2))[1]


@pytest.mark.parametrize("change, said", [
    (lambda lines: lines, None), (lambda lines: lines[:2] + lines[3:], "it lost 1 or more of its 4 points"),
    (lambda lines: [lines[0].replace(b"2.", b"3."), *lines[1:]], "it lost 1 or more"),
    (lambda lines: [], "it lost 4 or more")])
def test_a_log_that_lost_points_before_its_run_resumes_says_so(tmp_path, change, said, recwarn):
    with logs.Logger(tmp_path, "run", resume_step=0) as log:
        for point in points()[:4]:
            log.write(point.pop("step"), point)
        seal = log.seal()
        log.write(5, {"loss": 1.0})  # after the checkpoint that holds the seal
    path = tmp_path / "curves" / "run.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with logs.Logger(tmp_path, "run", resume_step=5, seal=seal) as log:
        log.write(5, {"loss": 2.0})
        found = log.seal()
    messages = [str(w.message) for w in recwarn]
    if said is None:
        assert not messages and found == logs.curve_seal(logs.read_curve(path)) and found["points"] == 5
    else:
        assert len(messages) == 1 and said in messages[0] and "run.jsonl" in messages[0] and found["lost"] >= 1


def test_a_record_tells_the_seal_of_its_curve_to_the_table(tmp_path):
    runs = records.Records(tmp_path)
    runs.write(record("aa", curve=logs.curve_seal(points())))
    runs.write(record("bb", curve=logs.curve_seal(points(), lost=1)))
    runs.write(record("cc"))
    assert records.curve_seals(records.load_records(tmp_path)) == [
        logs.curve_seal(points()), logs.curve_seal(points(), lost=1), None]


def test_a_damaged_forecast_is_said_where_runs_are_chosen_by_it(tmp_path):
    files.write_json(tmp_path / "study.json", {"runs": ["a"]})
    (tmp_path / "forecast.json").write_text('{"target": ')
    with pytest.warns(UserWarning, match="forecast.json.*known in part"):
        assert planned.planned_runs(tmp_path) == {"a"}
