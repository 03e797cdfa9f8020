"""Screens: what a filter that was learnt from labels detects, or what copies training text, is kept back or marked, in
whole answers and in streams, and counted."""

import numpy as np
import pytest
from serving import FAMILIES, LIMITS, ask, events, fresh_run, image_run
from starlette.testclient import TestClient
from telling import IMAGES, on_text_files, telling_run

from scaling.serve.app import make_app
from scaling.serve.errors import ServeError
from scaling.serve.screens import copy_screen, label_screen
from scaling.study.classifying import ClassifierRun

RUN, N = fresh_run(FAMILIES["transformer"]), 4
TOLD = ClassifierRun(telling_run())
WHOLE = RUN.generate(["def "] * 2, tokens=12, temperature=0.9, seed=7)


def client_of(*screens, run=RUN, **options):
    return TestClient(make_app(run, LIMITS, screens=screens, **options), raise_server_exceptions=False)


def verdicts(client):
    """{(screen, kind, verdict): count} in the figures of a server."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("scaling_screened_total{")]
    labels = [dict(part.split("=") for part in line[line.index("{") + 1:line.index("}")].split(",")) for line in lines]
    return {tuple(each[name].strip('"') for name in ("screen", "kind", "verdict")): float(line.rpartition(" ")[2])
            for each, line in zip(labels, lines)}


# ----- filters that were learnt from labels


def between(texts):
    """(labels, threshold) by which the filter detects the first of some texts and no other."""
    sets = [[0], [1], [2], [0, 1], [0, 2], [1, 2]]
    scores = np.stack([TOLD.score_texts(texts, labels) for labels in sets], 1)
    best = int(np.argmax(scores[0] - scores[1:].max(0)))
    assert scores[0, best] > scores[1:, best].max() + 1e-3
    return sets[best], float(scores[0, best] + scores[1:, best].max()) / 2


def test_a_filter_keeps_back_the_texts_that_have_the_label_and_no_others():
    for bad, good in ((0, 1), (1, 0)):
        labels, threshold = between([WHOLE[bad], WHOLE[good], "def "])
        with client_of(label_screen(TOLD, labels, threshold, of=RUN)) as client:
            choices = ask(client, n=2).json()["choices"]
            assert (choices[bad]["text"], choices[bad]["finish_reason"]) == ("", "content_filter")
            assert (choices[good]["text"], choices[good]["finish_reason"]) == (WHOLE[good], "length")
            for choice in choices:
                said = choice["content_filter_results"]["labels"]
                assert said["filtered"] == said["detected"] == (choice["index"] == bad) == (said["score"] >= threshold)
            assert verdicts(client) == {("labels", "prompt", "passed"): 1, ("labels", "text", "passed"): 1,
                                        ("labels", "text", "refused"): 1}


def test_a_stream_ends_before_the_piece_with_which_it_would_have_the_label():
    beginnings = ["def ", *(WHOLE[0][:n] for n in range(1, len(WHOLE[0]) + 1))]
    scores = np.stack([TOLD.score_texts(beginnings, [label]) for label in range(3)])
    before = np.maximum.accumulate(scores, axis=1)[:, :-1]  # of each beginning, the most that a shorter one has
    label, place = np.unravel_index(np.argmax((scores[:, 1:] - before)[:, 3:]), (3, len(beginnings) - 4))
    cut, threshold = place + 3, float(scores[label, place + 4] + before[label, place + 3]) / 2
    assert before[label, cut] < threshold <= scores[label, cut + 1]
    with client_of(label_screen(TOLD, [int(label)], threshold, of=RUN)) as client:
        parts = [part["choices"][0] for part in events(ask(client, stream=True))]
    assert "".join(part["text"] for part in parts) == WHOLE[0][:cut] and parts[-1]["finish_reason"] == "content_filter"
    assert parts[-1]["content_filter_results"]["labels"]["filtered"] and "content_filter_results" not in parts[0]


def test_a_prompt_with_the_label_is_refused_or_what_is_found_is_only_marked():
    labels, threshold = between(["def ", "import x"])
    with client_of(label_screen(TOLD, list(map(str, labels)), threshold, of=RUN)) as client:
        error = ask(client, prompt=["import x", "def "]).json()["error"]
        assert error["code"] == "content_filter" and f"it looks like {labels[0]}" in error["message"]
        assert ask(client, prompt="import x").status_code == 200
    with client_of(label_screen(TOLD, labels, 1e-6, of=RUN, refuses=False)) as client:
        answer = ask(client).json()["choices"][0]
        said = answer["content_filter_results"]["labels"]
        assert answer["text"] == WHOLE[0] and said["detected"] and not said["filtered"]
        parts = [part["choices"][0] for part in events(ask(client, stream=True))]
        assert "".join(part["text"] for part in parts) == WHOLE[0] and parts[-1]["content_filter_results"]["labels"] == said
        assert verdicts(client) == {("labels", "prompt", "marked"): 2, ("labels", "text", "marked"): 2}


def test_images_with_the_label_are_not_shown():
    run, told = image_run(), ClassifierRun(telling_run(IMAGES))
    scores = told.score_images(run.sample(4, 5, label=7), [1], run.family.levels)
    threshold = float(np.sort(scores)[1:3].mean())
    for refuses in (True, False):
        with client_of(label_screen(told, [1], threshold, of=run, refuses=refuses), run=run) as client:
            data = client.post("/v1/images/generations", json={"label": 7, "n": 4, "seed": 5}).json()["data"]
        assert [each["b64_json"] is None for each in data] == list((scores >= threshold) & refuses)
        assert [each["content_filter_results"]["labels"]["detected"] for each in data] == list(scores >= threshold)


def test_a_filter_that_cannot_be_is_refused():
    for told, labels, threshold, says in (
            (TOLD, [0, 1, 2], 0.5, "some of the 3 labels"), (TOLD, [], 0.5, "some of the 3 labels"),
            (TOLD, [0], 0.0, "a probability above 0"), (ClassifierRun(telling_run(IMAGES)), [0], 0.5, "writes text")):
        with pytest.raises(ServeError, match=says):
            label_screen(told, labels, threshold, of=RUN)
    with pytest.raises(ServeError, match="names of their own"):
        client_of(*[label_screen(TOLD, [0], of=RUN)] * 2)


# ----- copies of training text


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A run whose training text has what it writes after "def "."""
    folder = tmp_path_factory.mktemp("copied")
    rng = np.random.default_rng(0)
    for number in range(24):
        other = "".join(rng.choice([*"abcdefgh \n"], 400))
        (folder / f"{number}.txt").write_text(other + WHOLE[0] * 3 + other)
    return on_text_files(RUN, folder, length=64, batch=4)


def test_what_copies_the_training_text_is_counted(copied):
    look = copy_screen(copied, N).look
    assert look("Z" * 30).about == {"n": N, "share": 0.0, "longest": 0}
    assert look("ab").about == {"n": N, "share": None, "longest": 0}
    cuts = (bytes(row[1:31].tolist()) for step in range(9) for row in np.asarray(copied.source.batch(0, step)["tokens"]))
    text = next(cut.decode() for cut in cuts if cut.isascii() and 0 not in cut)
    assert look(text).about == {"n": N, "share": 1.0, "longest": 30}
    mixed = look("Z" * 30 + text).about
    assert mixed["longest"] == 30 and mixed["share"] == pytest.approx(27 / 57, abs=1e-4)
    assert look(WHOLE[0]).about["longest"] > N and not look(WHOLE[0]).detected


def test_long_copies_are_refused_and_a_stream_ends_where_one_becomes_too_long(copied):
    longest = copy_screen(copied, N).look(WHOLE[0]).about["longest"]
    for most, refused in ((longest, False), (longest - 1, True)):
        with client_of(screen := copy_screen(copied, N, most), run=copied) as client:
            choice = ask(client).json()["choices"][0]
            assert (choice["text"] == "", choice["finish_reason"] == "content_filter") == (refused, refused)
            assert choice["content_filter_results"]["copies"]["longest"] == longest
            seen = "".join(part["choices"][0]["text"] for part in events(ask(client, stream=True)))
            assert (seen == WHOLE[0]) != refused and screen.look(seen).about["longest"] <= most
            assert ("copies", "prompt", "passed") not in verdicts(client)  # a prompt may quote what it likes


def test_a_copy_check_that_cannot_be_is_refused(copied):
    for run, n, longest, says in ((copied, 65, None, "from 2 to 64 tokens"), (copied, 8, 7, "must be 8 or more"),
                                  (image_run(), 8, None, "leave out the check")):
        with pytest.raises(ServeError, match=says):
            copy_screen(run, n, longest)
