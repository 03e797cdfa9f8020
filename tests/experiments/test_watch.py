"""The command that watches: its text and its JSON end at once, and a workdir that is none is refused."""

import json

import pytest
from boxed_flags import Box, status_of
from report_study import SIZES
from underway_study import begin

from experiments import __main__ as script

BOX = Box()
with BOX:
    from experiments import watch


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("watched")
    begin(workdir, finished=lambda run: run["params_non_embedding"] < SIZES[1])
    return workdir


def test_the_text_names_states_failures_the_time_and_why_there_is_no_law(begun, monkeypatch, capsys):
    assert status_of(BOX, watch, [f"--workdir={begun}", "--once"], monkeypatch) == 0
    out = capsys.readouterr().out
    assert "48 runs: 2 running, 1 silent, 1 failed, 11 finished, 33 planned" in out
    for says in ("diverged at step 17: not finite", "are left, ", "No law can be fitted yet:", "and 21 more that are"):
        assert says in out, says


def test_the_json_is_one_line(begun, monkeypatch, capsys):
    assert status_of(BOX, watch, [f"--workdir={begun}", "--json"], monkeypatch) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["states"]["running"] == 2


def test_a_workdir_that_is_none_is_refused_in_one_sentence(tmp_path, monkeypatch, capsys):
    for more in (["--once"], ["--port=0"]):
        assert status_of(BOX, watch, [f"--workdir={tmp_path / 'none'}", *more], monkeypatch) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert "watch" in script.FIRST
