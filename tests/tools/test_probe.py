"""tools.probe looks into runs from end to end: a page and JSON of every part that runs can give, and why not the others."""

import json

import pytest
from absl.testing import flagsaver
from boxed_flags import Box
from tiny_workdir import text_workdir

import scaling
from scaling.insight import looking

BOX = Box()
with BOX:
    from tools import _checkpoints, probe


@pytest.fixture(scope="module")
def workdir(corpus, tmp_path_factory):
    return text_workdir(tmp_path_factory.mktemp("text") / "runs", corpus, target=False)


@pytest.fixture
def said(capsys):
    """said(*arguments) -> (exit status, standard output, standard error)."""
    def call(*arguments):
        code = 0
        with BOX, flagsaver.flagsaver():
            try:
                _checkpoints._run(probe.main, _checkpoints._parse(["probe", *map(str, arguments)]))
            except SystemExit as left:
                code = left.code
        return code, *capsys.readouterr()
    return call


def test_a_page_and_json_say_what_was_measured_of_every_run(workdir, said, tmp_path):
    parts = [f"--part={name}" for name in ("probes", "induction", "lens", "prompt")]
    code, out, err = said(f"--workdir={workdir}", "--runs=all", f"--output={tmp_path}", "--prompt=ab c", "--json", *parts)
    assert code == 0, err
    found = json.loads(out)
    names = {row["run"] for row in found["runs"]}
    assert len(names) == 2 and found["shown"] in names and json.loads((tmp_path / "insight.json").read_text())["runs"]
    layers = {row["run"]: row["layers"] for row in found["runs"]}
    for run in names:
        assert {row["layer"] for row in found["probes"] if row["run"] == run} == {*range(layers[run] + 1)}
        last = [row for row in found["lens"] if row["run"] == run and row["layer"] == layers[run]]
        assert [(row["kl"], row["agrees"]) for row in last] == [(0, 1)]
        assert all(len(row["heads"]) == layers[run] for row in found["induction"] if row["run"] == run)
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in found["probes"])
    assert found["prompt"]["attribution"]["complete"] and len(found["prompt"]["tokens"]) == 5
    page = (tmp_path / "index.html").read_text()
    assert all(run in page for run in names) and "completeness test is passed" in page
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == {"probes", "induction", "lens", "attribution",
                                                                           "attention"}


@pytest.mark.slow
def test_an_autoencoder_in_the_place_of_activations_costs_less_than_their_mean(workdir):
    rows = looking.autoencoder_rows(scaling.restore(workdir), seeds=(0,), multiples=(2,))
    assert [row["steps"] for row in rows] == [100, 200, 300, 400]
    assert rows[-1]["nats_clean"] <= rows[-1]["nats"] + 0.01 and rows[-1]["error"] < rows[0]["error"]


def test_what_cannot_be_looked_into_is_one_sentence(workdir, said, tmp_path):
    for arguments, code, words in (
            ((), 2, "give --workdir"), ((f"--workdir={tmp_path / 'none'}",), 1, "none"),
            ((f"--workdir={workdir}", "--runs=zzz"), 1, "no finished run in"),
            ((f"--workdir={workdir}", "--part=prompt", f"--prompt={'a' * 99}"), 1, "has 99 tokens; write 1 to 31"),
            ((f"--workdir={workdir}", "--part=heads"), 2, "heads")):
        status, out, err = said(*arguments)
        assert status == code and words in err and not out and "Traceback" not in err
