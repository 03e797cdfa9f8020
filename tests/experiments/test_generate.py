"""experiments.generate from the command line, in this process: what it prints, writes and refuses."""

import dataclasses
import io
import json
import sys

import matplotlib.image
import pytest
from boxed_flags import GENERATE, status_of
from tiny_workdir import image_workdir, text_workdir

import scaling
from scaling.experiment import Pairs
from scaling.families.transformer import Transformer
from scaling.figures.pixels import SCALE
from scaling.results.records import Records
from scaling.study.restored import RestoredRun

with GENERATE:
    from experiments import generate

PIXELS = 16  # of a side of an image of the workdir


@pytest.fixture(scope="module")
def text(corpus, tmp_path_factory):
    return text_workdir(tmp_path_factory.mktemp("text") / "runs", corpus, target=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return image_workdir(tmp_path_factory.mktemp("images") / "runs")


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs the command: (exit status, standard output, standard error)."""
    def call(workdir, *argv):
        return status_of(GENERATE, generate, [f"--workdir={workdir}", *argv], monkeypatch), *capsys.readouterr()
    return call


def test_an_empty_prompt_begins_a_document(command, text):
    run = scaling.restore(text)
    status, out, _ = command(text, "--prompt=", "--tokens=6", "--temperature=0")
    assert status == 0 and out == run.generate([""], tokens=6, temperature=0)[0] + "\n"


def test_a_text_is_its_prompt_and_what_the_restored_run_adds(command, text):
    status, out, err = command(text, "--prompt=def ", "--tokens=12", "--seed=1", "--top_p=0.95", "--top_k=50")
    [wanted] = scaling.restore(text).generate(["def "], tokens=12, temperature=0.8, top_p=0.95, top_k=50, seed=1)
    assert (status, out, err) == (0, f"def {wanted}\n", "")


def test_a_text_is_flushed_piece_by_piece(command, text, monkeypatch):
    printed = []
    monkeypatch.setattr("builtins.print", lambda *words, end="\n", flush=False, **_: printed.append((*words, end, flush)))
    command(text, "--prompt=a", "--tokens=6", "--temperature=0")
    pieces = list(scaling.restore(text).stream("a", tokens=6, temperature=0))
    assert printed == [("a" + pieces[0], "", True), *((piece, "", True) for piece in pieces[1:]), ("\n", True)]


def test_samples_follow_each_other_and_do_not_depend_on_how_many_there_are(command, text):
    ask = ["--prompt=if ", "--tokens=8", "--seed=4"]
    _, one, _ = command(text, *ask)
    _, two, _ = command(text, *ask, "--samples=2")
    _, three, _ = command(text, *ask, "--samples=3")
    texts = three.split("--- sample ")[1:]
    assert [part.partition("\n")[0] for part in texts] == ["1 of 3", "2 of 3", "3 of 3"]
    assert one == texts[0].partition("\n")[2]
    assert two.replace("of 2", "of 3") == "".join(f"--- sample {part}" for part in texts[:2])


def test_temperature_zero_does_not_look_at_the_seed(command, text):
    ask = ["--prompt=x", "--tokens=8", "--temperature=0"]
    assert command(text, *ask, "--seed=1") == command(text, *ask, "--seed=2")


def test_a_beam_of_one_is_the_text_of_temperature_zero_and_a_wider_one_that_of_the_restored_run(command, text):
    ask = ["--prompt=def ", "--tokens=8"]
    assert command(text, *ask, "--beam=1") == command(text, *ask, "--temperature=0")
    [wanted] = scaling.restore(text).beam_search(["def "], tokens=8, beam=3, length_penalty=1.0)
    assert command(text, *ask, "--beam=3", "--length_penalty=1") == (0, f"def {wanted}\n", "")


def test_json_has_the_texts_that_are_printed_without_it(command, text):
    ask = ["--run=N=6e3", "--prompt=if ", "--tokens=8", "--seed=4", "--samples=2", "--stop=e", "--stop=zz"]
    status, out, _ = command(text, *ask, "--json")
    found, run = json.loads(out), scaling.restore(text)
    assert status == 0 and out.count("\n") == 1 and found["run"] == run.fingerprint
    assert (found["prompt"], found["stop"], found["seed"]) == ("if ", ["e", "zz"], 4)
    assert found["texts"] == run.generate(["if "] * 2, tokens=8, temperature=0.8, seed=4, stop=(0, "e"))
    assert "".join(found["texts"]).count("e") == 0
    _, printed, _ = command(text, *ask)
    assert [part.partition("\n")[2] for part in printed.split("--- sample ")[1:]] == [f"if {t}\n" for t in found["texts"]]
    _, out, _ = command(text, "--prompt=if ", "--tokens=8", "--beam=1", "--json")
    assert json.loads(out)["texts"] == run.generate(["if "], tokens=8, temperature=0)


def test_lines_of_standard_input_are_prompts_and_a_wrong_one_ends_nothing(command, text, monkeypatch):
    asked = ["--interactive", "--tokens=6", "--temperature=0"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("def \n\ud800\n\nclass "))
    status, out, said = command(text, *asked)
    wanted = scaling.restore(text).generate(["def ", "", "class "], tokens=6, temperature=0)
    assert (status, out) == (0, "".join(f"{a}{b}\n" for a, b in zip(["def ", "", "class "], wanted, strict=True)))
    assert said.startswith("error: ") and said.count("\n") == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO("def \nclass \n"))
    lines = [json.loads(line) for line in command(text, *asked, "--json")[1].splitlines()]
    assert [(line["prompt"], *line["texts"]) for line in lines] == [("def ", wanted[0]), ("class ", wanted[2])]


def test_a_source_is_rewritten_and_not_shown(command, text, monkeypatch):
    """A run on pairs is stood in for by one on text: what counts is which words reach it and which are printed."""
    run = scaling.restore(text)
    on_pairs = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, data=Pairs()))
    monkeypatch.setattr(scaling, "restore", lambda *_: on_pairs)
    wanted = run.generate(["abc"], tokens=6, temperature=0)[0]
    assert command(text, "--source=abc", "--tokens=6", "--temperature=0") == (0, f"{wanted}\n", "")
    found = json.loads(command(text, "--source=abc", "--tokens=6", "--temperature=0", "--json")[1])
    assert (found["source"], found["texts"]) == ("abc", [wanted]) and "prompt" not in found
    assert "give it a --source" in command(text)[2] and "give one of them" in command(text, "--source=a", "--prompt=a")[2]


def test_any_run_can_be_named(command, text):
    for fingerprint in Records(text).fingerprints():
        status, out, _ = command(text, f"--run={fingerprint[:6]}", "--prompt=x", "--tokens=3")
        assert status == 0 and out.startswith("x")


def test_images_are_a_grid_in_the_workdir(command, images):
    run = scaling.restore(images)
    path = images / "generated" / f"{run.fingerprint}-seed2-10.png"
    assert command(images, "--samples=10", "--seed=2") == (0, f"{path}\n", "")
    grid = matplotlib.image.imread(path)[::SCALE, ::SCALE, 0]
    assert grid.shape == (2 * (PIXELS + 1) - 1, 8 * (PIXELS + 1) - 1)
    last = grid[PIXELS + 1:, PIXELS + 1:2 * PIXELS + 1]
    assert abs(last - run.sample(10, seed=2)[9, :, :, 0] / 15).max() < 1 / 255
    assert command(images, "--samples=10", "--seed=2") == (0, f"{path}\n", "")  # the same picture is there already


def test_a_label_has_pictures_of_its_own(command, images):
    run = scaling.restore(images)
    ask = ["--samples=3", "--label=7"]
    found = json.loads(command(images, *ask, "--json")[1])
    assert found["label"] == "7" and found["run"] == run.fingerprint
    assert command(images, *ask) == (0, f"{found['output']}\n", "")
    assert command(images, "--samples=3")[1].strip() not in ("", found["output"])
    grid = matplotlib.image.imread(found["output"])[::SCALE, ::SCALE, 0]
    wanted = run.sample(3, label="7")[2, :, :, 0] / 15
    assert abs(grid[:PIXELS, 2 * (PIXELS + 1):] - wanted).max() < 1 / 255
    status, _, said = command(images, "--caption=a")
    assert status == 1 and "draws images without a caption" in said and said.count("\n") == 1


def test_a_picture_is_never_replaced_by_another(command, images, tmp_path):
    path = tmp_path / "grid.png"
    assert command(images, "--samples=2", f"--output={path}") == (0, f"{path}\n", "")
    before = path.read_bytes()
    status, _, said = command(images, "--samples=3", f"--output={path}")
    assert status == 1 and "exists and holds something else" in said and path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("argv, status, says", [
    ([], 2, "give it a --prompt"),
    (["def"], 2, "unexpected argument 'def'"),
    (["--prompt=a", "--run=zz"], 1, "there are: "), (["--prompt=a", "--top_p=0"], 1, "top_p"),
    (["--prompt=a", "--temperature=-1"], 2, "temperature"), (["--prompt=a", "--samples=0"], 2, "samples"),
    (["--prompt=a", "--tokens=x"], 2, "tokens"), (["--prompt=a", "--beam=0"], 2, "beam"),
    (["--prompt=a", "--beam=2", "--samples=2"], 2, "leave out --samples"),
    (["--prompt=a", "--beam=2", "--temperature=1"], 2, "leave out --temperature"),
    (["--prompt=a", "--length_penalty=1"], 2, "add --beam"),
    (["--prompt=a", "--output=a.png"], 2, "--output is for images"),
    (["--prompt=a", "--label=a"], 2, "--label is for images"), (["--source=a"], 2, "--prompt in place of --source"),
    (["--interactive", "--prompt=a"], 2, "leave out --prompt"),
    (["--prompt=a", "--stop="], 1, "empty string"), (["--prompt=a", "--run=N=x"], 1, "have N=6030"),
    (["--prompt=a", "--output=a"], 2, "must end in .png"), (["--promt=a"], 2, "promt")])
def test_a_mistake_is_one_sentence(command, text, argv, status, says):
    done, out, said = command(text, *argv)
    assert done == status and out == "" and said.startswith("error: ") and said.count("\n") == 1 and says in said, said


def test_a_prompt_for_images_and_a_missing_workdir_are_one_sentence(command, images, tmp_path):
    assert command(images, "--prompt=a")[0] == 2 and command(images, "--stop=a")[0] == 2
    status, _, said = command(tmp_path / "nowhere", "--prompt=a")
    assert status == 1 and "not a directory" in said and said.count("\n") == 1
    (tmp_path / "file").touch()
    status, _, said = command(images, f"--output={tmp_path}/file/a.png")
    assert status == 1 and "cannot be written" in said and said.count("\n") == 1


def test_a_family_that_cannot_generate_is_refused_with_those_that_can(command, text, monkeypatch):
    monkeypatch.delattr(Transformer, "begin")
    status, _, said = command(text, "--prompt=a")
    able = "coded, diffusion, gan, hmm, multimodal, ngram, recurrent, seq2seq, textgan, vae"
    assert status == 1 and f"which cannot generate; families that can: {able}" in said


def test_a_reader_that_has_seen_enough_ends_it_quietly(command, text, monkeypatch):
    def stream(*_, **__):
        raise BrokenPipeError
        yield
    monkeypatch.setattr(RestoredRun, "stream", stream)
    monkeypatch.setattr(generate.os, "dup2", lambda *_: None)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    assert command(text, "--prompt=a") == (0, "", "")
