"""tools.content_filter: what it says of a filter is what its probabilities find on the held-out examples."""

import json

import numpy as np
import pytest
from boxed_flags import Box, status_of
from report_page import Page
from serving import write_run
from telling import telling_run

import scaling
from scaling.study.classifying import ClassifierRun

with (BOX := Box()):
    from tools import content_filter


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run that was never trained, on a file of texts with three labels."""
    folder, rng = tmp_path_factory.mktemp("filter"), np.random.default_rng(0)
    rows = [{"text": "".join(rng.choice([*"abcdefgh"], 12)), "label": ["fine", "odd", "rude"][i % 3]} for i in range(3000)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = telling_run()
    changed = run.experiment.replace({"data.name": f"labelled:{folder}/texts.jsonl", "data.length": 16, "data.classes": 3})
    object.__setattr__(run, "experiment", changed.replace({"family": run.family}))
    return write_run(run, folder / "runs")


def test_the_numbers_are_those_of_the_probabilities_and_the_page_has_them(workdir, tmp_path, monkeypatch, capsys):
    words = [f"--workdir={workdir}", "--run=mmmm", "--labels=rude,odd", "--thresholds=0.6,0.3", f"--output={tmp_path}"]
    assert status_of(BOX, content_filter, [*words, "--json"], monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    told = ClassifierRun(scaling.restore(workdir))
    numbers = told.numbers(["rude", "odd"])
    held = told.run.source.evaluation(told.run.source.splits[0], 0)
    scores, true = told.probabilities(held["text"])[:, numbers].sum(1), np.isin(held["label"], numbers)
    assert (found["examples"], found["positive"]) == (len(true), true.sum()) and len(true) > 50
    assert [row["threshold"] for row in found["thresholds"]] == [0.3, 0.6]
    for row in found["thresholds"]:
        flagged = scores >= row["threshold"]
        assert row["flagged"] == flagged.sum()
        assert row["recall"]["value"] == pytest.approx((flagged & true).sum() / true.sum())
        if flagged.any():
            assert row["precision"]["value"] == pytest.approx(true[flagged].mean())
    assert [row["label"] for row in found["mistakes"]] == ["fine"]
    text = (tmp_path / "index.html").read_text()
    page = Page(text)
    assert found["page"] == str(tmp_path / "index.html") and "average precision" in page.all("main")[0]["text"]
    assert all(link.startswith(("#", "data:")) for link in page.references) and (
        tmp_path / "figures/precision-recall.png").exists()


@pytest.mark.parametrize("words,status,says", [
    (["--labels=absent"], 1, "no label of RestoredRun(mmmm"), (["--labels="], 2, "name the labels"),
    (["--labels=rude", "--thresholds=2"], 2, "probabilities above 0 and at most 1, not '2'"),
    (["--labels=rude,odd,fine"], 1, "some that should and some that should not")])
def test_what_cannot_be_judged_is_one_sentence(workdir, monkeypatch, capsys, words, status, says):
    assert status_of(BOX, content_filter, [f"--workdir={workdir}", "--run=mmmm", *words], monkeypatch) == status
    said = capsys.readouterr().err
    assert said.startswith("error: ") and says in said and said.count("\n") == 1
