"""The command that sends a workdir to other writers says how many runs it sent, and refuses in one sentence."""

import json

import pytest
from boxed_flags import Box, status_of
from report_study import SIZES
from underway_study import begin

BOX = Box()
with BOX:
    from experiments import upload


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sent")
    begin(folder, finished=lambda run: run["params_non_embedding"] == SIZES[0] and run["steps"] == 64)
    return folder


def test_the_command_says_what_it_sent_and_what_was_there(workdir, monkeypatch, capsys):
    for says in ("tensorboard: 3 runs sent\n", "tensorboard: 0 runs sent, 3 were there already\n"):
        assert status_of(BOX, upload, [f"--workdir={workdir}", "--writers=tensorboard"], monkeypatch) == 0
        assert capsys.readouterr().out == says
    assert status_of(BOX, upload, [f"--workdir={workdir}", "--writers=tensorboard", "--json"], monkeypatch) == 0
    assert len(json.loads(capsys.readouterr().out)["tensorboard"]["there"]) == 3


@pytest.mark.parametrize("argv,status,says", [
    (["--writers=csv"], 1, "unknown log writer 'csv'"), (["--writers="], 2, "--writers must name where to send"),
    (["--writers=tensorboard", "more"], 2, "unexpected argument 'more'")])
def test_what_is_wrong_is_one_sentence(workdir, monkeypatch, capsys, argv, status, says):
    assert status_of(BOX, upload, [f"--workdir={workdir}", *argv], monkeypatch) == status
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
