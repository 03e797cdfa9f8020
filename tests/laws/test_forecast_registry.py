"""A registration cannot be undone without a trace: the log holds it, and whatever happens to the log is noticed."""
import json
import multiprocessing
import os
import signal

import pytest
from planted_forecast import fitted, grid, surface

from scaling import laws
from scaling.laws.forecasts import forecast, registry
from scaling.store import files

GOAL = {"N": 1e10, "D": 1e11}
OBSERVED = surface(1e10, 1e11)


@pytest.fixture
def scored(tmp_path):
    """A folder with two forecasts, of which the first is scored: (its path, the lines of the log)."""
    path = tmp_path / "f.json"
    forecast.write(path, *fitted(named=False), GOAL)
    forecast.write(tmp_path / "g.json", *fitted(named=False), GOAL | {"D": 2e11})
    forecast.check(path, OBSERVED, grid())
    return path, (tmp_path / registry.FILE).read_bytes().splitlines(keepends=True)


def problems(path):
    return " ".join(forecast.verify(path, grid()).problems)


def test_the_log_holds_every_registration_and_score_in_a_chain(scored):
    path, lines = scored
    entries = registry.read_log(path.parent).entries
    assert [(e["event"], e["file"]) for e in entries] == [
        ("registered", "f.json"), ("registered", "g.json"), ("scored", "f.json")]
    assert [e["previous"] for e in entries] == [None, *(e["hash"] for e in entries[:-1])]
    content = forecast.read(path)
    assert entries[0]["forecast"] == entries[2]["forecast"] == content["hash"]
    assert entries[0]["predicted"] == content["predicted"] and entries[2]["observed"] == OBSERVED
    found = forecast.verify(path, grid())
    assert found.ok and not found.sentences and found.registrations == [entries[0]]
    assert len(lines) == 3


@pytest.mark.parametrize("edit, words", [
    (lambda lines: None, "forecasts.jsonl, in which f.json was registered, is gone"),
    (lambda lines: [], "is empty"),
    (lambda lines: lines[1:], "line 1 that does not follow"),
    (lambda lines: [lines[0], lines[2]], "line 2 that does not follow"),
    (lambda lines: [lines[1], lines[0], lines[2]], "line 1 that does not follow"),
    (lambda lines: lines[:2], "does not hold f_check.json in line 3"),
    (lambda lines: [*lines[:2], lines[2][:-20]], "changed in line 3"),
    (lambda lines: [*lines[:2], lines[2][:-1]], "cut off in its last line"),
    (lambda lines: [*lines, lines[2]], "line 4 that does not follow"),
    (lambda lines: [lines[0].replace(b"2.17", b"2.27"), *lines[1:]], "changed in line 1"),
    (lambda lines: [*lines, b"\n"], "changed in line 4"),
    (lambda lines: [*lines, b"\xff\n"], "changed in line 4")])
def test_whatever_happens_to_the_log_is_noticed(scored, edit, words):
    path, lines = scored
    log, edited = path.parent / registry.FILE, edit(lines)
    log.unlink()
    if edited is not None:
        log.write_bytes(b"".join(edited))
    assert words in problems(path)
    if edited is not None and "does not hold" not in words:  # a chain that ends early goes on from there
        with pytest.raises(laws.LawError, match="forecasts.jsonl"):
            forecast.write(path.parent / "h.json", *fitted(named=False), GOAL | {"D": 3e11})


def test_a_check_without_its_log_is_scored_with_the_verdict_withheld(scored):
    path, _ = scored
    other = path.parent / "g.json"
    (path.parent / registry.FILE).unlink()
    result = forecast.check(other, surface(1e10, 2e11), grid())
    assert "No verdict: forecasts.jsonl, in which g.json was registered, is gone" in result["verdict"]
    assert "held" not in result["verdict"] and not forecast.verify(other, grid()).ok
    assert forecast.check(other, surface(1e10, 2e11), grid()) == result


def test_a_forecast_that_was_scored_cannot_be_written_again(scored):
    path, _ = scored
    path.unlink()
    assert "f.json was registered at" in problems(path)
    for name in ("f.json", "h.json"):  # the log knows the run under any name
        with pytest.raises(laws.LawError, match="the log says that the target was observed as"):
            forecast.write(path.parent / name, *fitted(named=False), GOAL)
    (path.parent / registry.FILE).unlink()
    with pytest.raises(laws.LawError, match="f_check.json holds the score of an earlier forecast"):
        forecast.write(path, *fitted(named=False), GOAL)
    assert not path.exists()


def test_a_forecast_written_again_before_it_was_scored_shows_both(scored):
    path, _ = scored
    again = path.parent / "g.json"
    first = forecast.read(again)
    again.unlink()
    second = forecast.write(again, *fitted(named=False), GOAL | {"D": 2e11})
    assert [one["forecast"] for one in second["registered_again"]] == [first["hash"]]
    found = forecast.verify(again, grid())
    assert found.ok and "g.json had been registered at" in found.notes[0]
    assert [e["forecast"] for e in found.registrations] == [first["hash"], second["hash"]]
    files.atomic_write(again, json.dumps(first, indent=1, ensure_ascii=False) + "\n")  # the first one is put back
    assert "registered again" in problems(again)


def test_a_score_that_was_deleted_comes_back_as_it_was(scored):
    path, lines = scored
    beside = path.parent / "f_check.json"
    before = beside.read_bytes()
    beside.unlink()
    assert "f_check.json is gone: forecasts.jsonl says that 2.19" in problems(path)
    with pytest.raises(laws.LawError, match="is gone, and forecasts.jsonl has another check .observed 2.19"):
        forecast.check(path, 2.0, grid())
    forecast.check(path, OBSERVED, grid())
    assert beside.read_bytes() == before and (path.parent / registry.FILE).read_bytes() == b"".join(lines)
    assert forecast.verify(path, grid()).ok


@pytest.mark.parametrize("edit", [
    lambda c: c.update(observed=2.18), lambda c: c.update(inside=False), lambda c: c.update(hash="0" * 64),
    lambda c: c.pop("registration"), lambda c: c.pop("hash"), lambda c: [c.pop("hash"), c.pop("registration")],
    lambda c: c.update(forecast_hash="0" * 64)])
def test_an_edited_score_is_noticed(scored, edit):
    path, _ = scored
    beside = path.parent / "f_check.json"
    content = json.loads(beside.read_text())
    edit(content)
    beside.write_text(json.dumps(content, indent=1) + "\n")
    assert problems(path)


def dies_before(name, work):
    """Runs `work` in a process that is killed when it is about to write the file `name`."""
    whole = files.atomic_write

    def write(path, *arguments, **more):
        if os.path.basename(path) == name:
            os.kill(os.getpid(), signal.SIGKILL)
        whole(path, *arguments, **more)

    def run():
        files.atomic_write = write
        work()
    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_a_kill_between_the_log_and_the_file_is_said_and_recovered(tmp_path):
    path = tmp_path / "f.json"

    dies_before("f.json", lambda: forecast.write(path, *fitted(named=False), GOAL))
    assert not path.exists() and "f.json was registered at" in problems(path)
    content = forecast.write(path, *fitted(named=False), GOAL)
    assert len(content["registered_again"]) == 1 and "registered_late" not in content
    dies_before("f_check.json", lambda: forecast.check(path, OBSERVED, grid()))
    assert "f_check.json is gone" in problems(path)
    forecast.check(path, OBSERVED, grid())
    assert forecast.verify(path, grid()).ok and len(registry.read_log(tmp_path).scored()) == 1


def append_some(folder, name):
    for number in range(4):
        with registry.alone(folder) as log:
            log.append({"event": "registered", "time": "now", "file": f"{name}-{number}", "forecast": "0"})


def test_processes_that_write_at_once_keep_one_chain(tmp_path):
    start = multiprocessing.get_context("fork").Process
    writers = [start(target=append_some, args=(tmp_path, name)) for name in "abcde"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    log = registry.read_log(tmp_path)
    assert not log.broken and len({entry["file"] for entry in log.entries}) == len(log.entries) == 20


def test_a_log_of_another_process_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "PATIENCE", 0.1)
    with registry.alone(tmp_path), pytest.raises(laws.LawError, match="another process has held .*forecasts.jsonl"):
        forecast.write(tmp_path / "f.json", *fitted(named=False), GOAL)
    assert not os.path.exists(tmp_path / "f.json")
