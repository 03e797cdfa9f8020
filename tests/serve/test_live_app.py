"""The live page: it shows what the workdir holds, reads without a trace, and asks nobody else for anything."""

import fcntl
import json
import os
import shutil
import sys

import pytest
from report_page import Page
from report_study import SIZES
from starlette.testclient import TestClient
from underway_study import begin

from scaling.serve.live_app import make_live_app
from scaling.study.watching import Watcher, describe_sight


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A sweep with the results of two sizes, which are too few for a law."""
    workdir = tmp_path_factory.mktemp("watched")
    begin(workdir, finished=lambda run: run["params_non_embedding"] < SIZES[1])
    return workdir


@pytest.fixture(scope="module")
def watched(begun):
    """(a client of its page, what a look at it changed or locked)."""
    done = []

    def hook(event, arguments):  # no hook can be removed, so that it looks at this workdir alone
        if not done or done[0] != "armed":
            return
        path = os.fspath(arguments[0]) if arguments and isinstance(arguments[0], (str, os.PathLike)) else ""
        inside = str(path).startswith(str(begun))
        writes = event == "open" and (set(str(arguments[1] or "")) & set("wax+") or (arguments[2] or 0) & (
            os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if event in ("fcntl.flock", "fcntl.lockf") or inside and (writes or event.startswith((
                "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.truncate", "os.utime", "os.chmod"))):
            done.append((event, arguments))

    sys.addaudithook(hook)
    with TestClient(make_live_app(Watcher(begun, wait=True), seconds=1e6), raise_server_exceptions=False) as client:
        done.append("armed")
        client.get("/")
        client.get("/state")
        touched, done[:] = done[1:], []
        yield client, touched


def test_looking_writes_nothing_and_takes_no_lock(begun, watched, tmp_path):
    assert watched[1] == []
    with open(tmp_path / "probe", "w") as file:  # the hook is not blind
        fcntl.flock(file, fcntl.LOCK_EX)
    assert sorted(path.name for path in begun.iterdir()) == ["curves", "logs", "records", "study.json"]


def test_the_page_has_all_parts_and_loads_nothing_from_elsewhere(watched):
    answer = watched[0].get("/")
    page = Page(answer.text)
    parts = [each["id"] for each in page.elements if "data-live" in each]
    assert parts == ["part-now", "part-curves", "part-law", "part-runs"]
    assert len(page.all("svg")) >= 3 and "figure-curves" in page.ids
    assert all(value.startswith(("#", "data:")) for value in page.references)
    [policy] = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and policy.endswith("connect-src 'self'")
    for says in ("diverged at step 17: not finite", "its log last grew 2 h", "No law can be fitted yet:"):
        assert says in page.text, says


def test_an_unchanged_page_is_not_sent_again(watched):
    first = watched[0].get("/")
    again = watched[0].get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["cache-control"] == "no-store"


def test_the_state_is_the_page_as_json(watched):
    state = watched[0].get("/state").json()
    assert state["states"] == {"running": 2, "silent": 1, "failed": 1, "stopped": 0, "finished": 11, "planned": 33}
    assert len(state["runs"]) == 48 and 0 < state["share"] < 1 and state["seconds_left"] > 0
    assert state["fit"] is None and state["fit_note"].startswith("No law can be fitted yet:")
    assert json.loads(json.dumps(state, allow_nan=False)) == state


def test_what_is_not_served_says_what_is(watched):
    for path in ("/nothing", "/../study.json", "/records"):
        answer = watched[0].get(path)
        assert answer.status_code == 404 and "GET /, /state and /health are" in answer.text
    assert watched[0].post("/").status_code == 405 and watched[0].get("/health").json() == {"status": "ok"}


def test_a_workdir_that_is_out_of_reach_is_said_and_comes_back(begun, tmp_path):
    workdir = shutil.copytree(begun, tmp_path / "there")
    with TestClient(make_live_app(Watcher(workdir), seconds=0.0), raise_server_exceptions=False) as client:
        workdir.rename(tmp_path / "gone")
        answer = client.get("/state")
        assert answer.status_code == 503 and "is not a directory" in answer.text
        (tmp_path / "gone").rename(workdir)
        assert client.get("/state").status_code == 200


def test_damaged_files_are_named_and_the_rest_is_shown(begun, tmp_path):
    workdir = shutil.copytree(begun, tmp_path / "damaged")
    record = next((workdir / "records").iterdir())
    record.write_bytes(record.read_bytes()[:100])
    (workdir / "fit.json").write_text('{"form":')
    with pytest.warns(UserWarning):
        sight = Watcher(workdir, wait=True).look()
    assert any(record.name in said for said in sight.problems) and any("fit.json" in said for said in sight.problems)
    assert f"note: {sight.problems[0]}" in describe_sight(sight)
    assert sight.now.count("finished") + sight.now.count("failed") == 11


@pytest.mark.slow
def test_the_law_so_far_is_that_of_the_runs_that_have_finished(tmp_path):
    begin(tmp_path)
    watcher = Watcher(tmp_path)
    assert watcher.look().study.fit is None  # it is being made
    watcher._wait = True
    sight = watcher.look()
    assert sight.note == "This is the law of the 12 tuned runs so far."
    assert len(sight.study.fit["points"]) == 12
    low, high = sight.study.fit["intervals"]["alpha"]
    assert low < 0.31 < high and sight.study.fit["selection"]["table"]
