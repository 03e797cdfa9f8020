"""scaling.restore: a run that comes back does what its record says, and what cannot come back is said in a sentence."""

import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest
from old_workdirs import unpack_old
from tiny_workdir import image_workdir, text_workdir

import scaling
from scaling.families import _generate
from scaling.families.transformer import Transformer
from scaling.results.records import Records
from scaling.store import files
from scaling.study import restore
from scaling.study.restored import RestoreError


@pytest.fixture(scope="module")
def text(corpus, tmp_path_factory):
    return text_workdir(tmp_path_factory.mktemp("text") / "runs", corpus)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return image_workdir(tmp_path_factory.mktemp("images") / "runs")


@pytest.fixture(scope="module")
def writer(text):
    return scaling.restore(text)


@pytest.fixture(scope="module")
def painter(images):
    return scaling.restore(images)


@pytest.fixture
def copy(text, tmp_path):
    return shutil.copytree(text, tmp_path / "copy")


# ----- the four names of the package


def test_tables_and_laws_need_no_jax(text):
    code = """
import sys
import scaling
assert {"load", "restore", "laws", "experiment"} <= set(dir(scaling))
assert len(scaling.load(sys.argv[1])) == 3 and scaling.laws.FORMS and "jax" not in sys.modules
assert scaling.experiment.Experiment and callable(scaling.restore)
try:
    scaling.lod
except AttributeError as error:
    assert "load" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code, text], check=True)


# ----- which run


def test_the_best_run_is_the_one_of_the_lowest_metric_the_target_included(text, writer):
    table = scaling.load(text).set_index("fingerprint")
    assert writer.fingerprint == table["bits_per_byte"].idxmin() and table["role"][writer.fingerprint] == "target"
    assert repr(writer) == f"RestoredRun({writer.fingerprint}, transformer N=6.03k)"


def test_without_a_study_file_the_metric_is_the_first_known_one(copy, writer):
    (copy / "study.json").unlink()
    assert restore.best(str(copy)) == writer.fingerprint


def test_a_metric_that_rises_is_best_where_it_is_highest(copy):
    files.write_json(copy / "study.json", {"metric": "precision"})
    table = scaling.load(copy)
    for number, fingerprint in enumerate(table["fingerprint"]):
        record = Records(copy).read(fingerprint)
        Records(copy).path(fingerprint).unlink()
        Records(copy).write(record | {"precision": number / 10})
    assert restore.best(str(copy)) == table["fingerprint"].iloc[-1]


def test_a_run_is_found_by_its_fingerprint_and_by_the_start_of_it(text, writer):
    for start in (writer.fingerprint, writer.fingerprint[:-3]):
        assert scaling.restore(str(text), start).record == writer.record


def test_a_run_that_cannot_be_told_is_named_with_the_nearest(copy, tmp_path):
    known = Records(copy).fingerprints()
    for name in ("abc1", "abc2"):
        Records(copy).write({"fingerprint": name})
    (copy / "params" / "fff0").mkdir()
    wrong = known[0][:-4] + "zzzz"
    for start, says in [("abc", "2 runs in .* begin with 'abc': abc1, abc2"), (wrong, f"nearest: .*{known[0]}"),
                        ("fff", "'fff' .* has not finished"), ("", "no finished run")]:
        with pytest.raises(RestoreError, match=says):
            scaling.restore(copy, start)
    with pytest.raises(files.WorkdirError, match="not a directory"):
        scaling.restore(tmp_path / "nowhere", "abc")
    with pytest.raises(files.WorkdirError, match="not a directory"):
        scaling.restore(tmp_path / "nowhere")


def test_what_is_missing_or_damaged_is_named(copy, writer, tmp_path):
    here = copy / "params" / writer.fingerprint
    for step in here.glob("*/state"):
        shutil.rmtree(step)
    with pytest.warns(UserWarning, match="torn"), pytest.raises(RestoreError, match="parameters of .* cannot be read"):
        scaling.restore(copy)
    shutil.rmtree(here)
    with pytest.raises(RestoreError, match=f"parameters of {writer.fingerprint} are missing: .*params"):
        scaling.restore(copy)
    path = Records(copy).path(writer.fingerprint)
    path.write_text(path.read_text()[:-20])
    with pytest.warns(UserWarning, match="torn"), pytest.raises(RestoreError, match="record of .* is damaged"):
        scaling.restore(copy, writer.fingerprint)
    Records(copy).write({"fingerprint": "0ld", "experiment": {"family": {"name": "retired"}}})
    with pytest.raises(RestoreError, match="experiment of 0ld .*'retired'"):
        scaling.restore(copy, "0ld")
    files.write_json(copy / "study.json", {"metric": "bits_per_bite"})
    with pytest.warns(UserWarning, match="torn"), pytest.raises(RestoreError, match="bits_per_bite.*bits_per_byte"):
        scaling.restore(copy)
    with pytest.raises(RestoreError, match="no finished run yet"):
        scaling.restore(files.open_workdir(tmp_path / "new"))


# ----- what it does


@pytest.mark.parametrize("kind", ["text", pytest.param("images", marks=pytest.mark.slow)])
def test_an_evaluation_equals_the_record(request, kind):
    run = request.getfixturevalue({"text": "writer", "images": "painter"}[kind])
    found = run.evaluate()
    assert found.keys() >= {"text": {"bits_per_byte"}, "images": {"fd_infinity", "bits_per_dim"}}[kind]
    for name, value in found.items():
        assert value == pytest.approx(run.record[name], rel=1e-3, abs=1e-6), name


def test_data_are_loaded_only_when_something_needs_them(text):
    """A model of bytes continues text where its corpus is not."""
    run = scaling.restore(text)
    assert len(run.generate(["a"], tokens=12, seed=1)[0]) <= 12 and not run.runner.sources
    assert run.source is run.source and len(run.runner.sources) == 1


def test_other_tokenizers_than_bytes_come_with_the_data(writer):
    pairs = dataclasses.replace(writer, experiment=writer.experiment.replace({"data.tokenizer": "bpe:258"}))
    assert writer.tokenizer.vocab == 256 and pairs.tokenizer.vocab == 258


def test_pieces_of_a_stream_are_the_texts_that_are_generated_together(writer):
    options = dict(tokens=24, temperature=0.9, top_p=0.95, seed=5)
    together = writer.generate(["def "] * 3, **options)
    assert len(set(together)) == 3
    for sample, text in enumerate(together):
        assert "".join(writer.stream("def ", sample=sample, **options)) == text


def test_an_empty_prompt_begins_a_document(writer):
    """Token 0 ends the document before, in every tokenizer."""
    options = dict(tokens=12, temperature=0.9, seed=2)
    separated = writer.generate(["\0"], **options)
    assert writer.generate([""], **options) == separated and "".join(writer.stream("", **options)) == separated[0]


def test_a_text_does_not_depend_on_how_many_others_there_are_and_seeds_matter(writer):
    many = writer.generate(["a", "return ", "if "], tokens=12, seed=1)
    assert writer.generate(["a"], tokens=12, seed=1) == many[:1]
    assert writer.generate("a", tokens=12, seed=1) == many[:1]
    assert writer.generate(["a"], tokens=12, seed=2) != many[:1]


def test_temperature_zero_is_the_same_text_for_every_seed(writer):
    one, other = (writer.generate(["self"], tokens=12, temperature=0, seed=seed) for seed in (0, 1))
    assert one == other


def test_characters_of_several_bytes_come_whole_and_torn_ones_last(writer, monkeypatch):
    said = "é—x".encode() + "€".encode()[:2]
    monkeypatch.setattr(_generate, "stream", lambda *_, **__: iter(said))
    assert list(writer.stream("a")) == ["é", "—", "x", "\N{REPLACEMENT CHARACTER}"]


def test_a_stop_ends_a_text_before_it(writer):
    options = dict(tokens=12, seed=1)
    assert "".join(writer.stream("a", stop=range(256), **options)) == ""
    whole = "".join(writer.stream("a", stop=(), **options))
    cut = whole[:whole.index(whole[3])]
    assert "".join(writer.stream("a", stop=[ord(whole[3])], **options)) == cut
    assert writer.generate(["a"], stop=[ord(whole[3])], **options) == [cut]


def test_an_image_does_not_depend_on_how_many_others_there_are_and_seeds_matter(painter):
    few, many = painter.sample(3), painter.sample(40)
    assert few.shape == (3, 16, 16, 1) and many.max() < painter.family.levels and many.dtype == np.uint8
    np.testing.assert_array_equal(few, many[:3])
    assert (painter.sample(3, seed=1) != few).any()


def test_temperature_scales_the_latents(painter):
    np.testing.assert_array_equal(painter.sample(3, temperature=1.0), painter.sample(3))
    assert (painter.sample(3, temperature=0.3) != painter.sample(3)).any()
    with pytest.raises(RestoreError, match="temperature must be a number from 0 on, not -1"):
        painter.sample(3, temperature=-1)


def test_seed_0_draws_the_images_that_were_judged(painter, monkeypatch):
    """Another program draws them, so a value between two levels may go the other way."""
    judged = []

    class Judge:
        def score(self, images):
            judged.append(images)
            return {"fd": 0.0}, {}
    monkeypatch.setattr(painter.runner, "judge", lambda experiment: Judge())
    painter.evaluate()
    [images] = judged
    assert np.mean(images[:70] != painter.sample(70)) < 0.01


def test_requests_that_cannot_be_met_are_one_sentence(writer, painter):
    learned = dataclasses.replace(writer, experiment=writer.experiment.replace({
        "family": dataclasses.replace(writer.family, positions="learned")}))
    for ask, says in [
        (lambda: writer.generate(["\udcff"]), "not valid Unicode"),
        (lambda: writer.generate(["a"], temperature=-1), "temperature"),
        (lambda: list(writer.stream("a", top_p=2.0)), "top_p"),
        (lambda: learned.generate(["a"], tokens=40), "learned positions end at 32"),
        (lambda: writer.sample(2),
         "family transformer, which cannot draw images; families that can: coded, diffusion, gan, multimodal, vae"),
        (lambda: painter.generate(["a"]),
         "family vae, which cannot continue text; families that can: hmm, ngram, recurrent, seq2seq, textgan, transformer"),
        (lambda: painter.sample(0), "at least 1"),
    ]:
        with pytest.raises(RestoreError, match=says) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_a_family_that_generates_nothing_is_refused_with_those_that_do(writer, monkeypatch):
    monkeypatch.delattr(Transformer, "begin")
    says = ("family transformer, which cannot generate; families that can: coded, diffusion, gan, hmm, multimodal, "
            "ngram, recurrent, seq2seq, textgan, vae")
    with pytest.raises(RestoreError, match=says):
        _ = writer.generates


def test_a_run_of_an_old_workdir_evaluates_as_it_did(corpus, tmp_path, monkeypatch):
    """The parameters of results version 2; its corpus was named relative to the current directory."""
    unpack_old("finished", tmp_path)
    shutil.copytree(corpus, tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    run = scaling.restore("finished", "20bf3a255ad48f47")
    assert run.evaluate()["bits_per_byte"] == pytest.approx(run.record["bits_per_byte"], rel=1e-3)
