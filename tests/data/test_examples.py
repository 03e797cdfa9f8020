"""Pairs of texts and texts with labels: what they hold, that evaluation is apart from training, and that noise is named."""

import ast
import json

import numpy as np
import pytest

from scaling.data import TableSource, load_labelled, load_pairs, pycode
from scaling.data.examples import Example, hold_out_documents
from scaling.data.functions import first_sentence
from scaling.data.lohelp import Page
from scaling.data.postfix import draw_expressions
from scaling.fields import DataError


def texts(source, rows):
    """The rows of tokens as texts, without what ends them."""
    return [source.tokenizer.decode(row).rstrip("\0") for row in rows]


def value(tokens):
    """What a postfix form says, as an expression with all parentheses."""
    stack = []
    for token in tokens.split():
        if token in "+-*/":
            right, left = stack.pop(), stack.pop()
            token = f"({left}{token}{right})"
        stack.append(token)
    [whole] = stack
    return whole


@pytest.fixture(scope="module")
def postfix(tmp_path_factory):
    return load_pairs("postfix:4", unique_examples=512, batch=32, data_dir=tmp_path_factory.mktemp("data"), progress=False)


def test_a_postfix_form_says_what_its_expression_does():
    for example in draw_expressions(7, 1000, 1400):
        source, target = example.texts
        assert ast.dump(ast.parse(source)) == ast.dump(ast.parse(value(target)))


def test_an_expression_follows_from_its_number():
    assert draw_expressions(5, 900, 1100)[100:150] == draw_expressions(5, 1000, 1050)


def test_a_batch_of_pairs_has_its_ends_and_padding(postfix):
    batch = postfix.batch(0, 0)
    assert batch["source"].shape == (32, 64) and batch["target"].shape == (32, 65)
    assert (batch["target"][:, 0] == 0).all()
    for rows, start in ((batch["source"], 0), (batch["target"], 1)):
        lengths = (rows != 0).sum(1)
        inside = np.arange(rows.shape[1]) - start
        assert ((rows != 0) == ((inside >= 0) & (inside < lengths[:, None]))).all()
        assert (lengths < rows.shape[1]).all()


def test_bytes_count_the_text_of_a_target_and_its_end(postfix):
    found = postfix.evaluation("document", 64)
    written = texts(postfix, found["target"][:, 1:])
    assert found["bytes"].sum(1).tolist() == [len(text.encode()) + 1 for text in written]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
@pytest.mark.parametrize("target", ["Größe ändern …", "保存文档。", "العربية 🙂"])
def test_every_script_survives(tmp_path, tokenizer, target):
    rows = [{"source": f"save {i}", "target": f"{target} {i}"} for i in range(40)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = load_pairs(f"pairs:{tmp_path}/pairs.jsonl", tokenizer=tokenizer, data_dir=tmp_path / "data", progress=False)
    read = texts(source, source.batch(0, 0)["target"][:, 1:])
    assert set(read) <= {row["target"] for row in rows} and len(set(read)) == len(read)


def test_resident_and_streamed_batches_are_equal(postfix):
    arrays = postfix.arrays()
    for seed, step in ((0, 3), (2, 40)):
        for name, rows in postfix.slice(arrays, seed, step).items():
            np.testing.assert_array_equal(rows, postfix.batch(seed, step)[name])


def test_smaller_sets_are_nested_in_larger_ones(postfix, tmp_path):
    small = load_pairs("postfix:4", unique_examples=128, batch=32, data_dir=tmp_path, progress=False)
    for step in range(4):
        np.testing.assert_array_equal(small.batch(0, step)["source"], postfix.batch(0, step)["source"])
    assert small.fingerprint != postfix.fingerprint


@pytest.mark.parametrize("noises", ["tokens", "target"])
def test_noise_changes_about_its_share_of_targets_and_no_source(noises, postfix, tmp_path):
    noisy = load_pairs("postfix:4", unique_examples=512, batch=32, noise=0.25, noises=noises, data_dir=tmp_path,
                       progress=False)
    clean, dirty = (source.arrays() for source in (postfix, noisy))
    np.testing.assert_array_equal(clean["source"], dirty["source"])
    inside = clean["target"] != 0
    changed = (clean["target"] != dirty["target"]) & inside if noises == "tokens" else \
        (clean["target"] != dirty["target"]).any(1)
    share = changed.sum() / (inside.sum() if noises == "tokens" else len(changed))
    assert 0.2 < share < 0.3
    assert noisy.fingerprint != postfix.fingerprint
    np.testing.assert_array_equal(noisy.evaluation("document", 64)["target"], postfix.evaluation("document", 64)["target"])


def documents(count, each=6):
    return [Example(f"page {page}", (f"text {page}.{i}", f"Text {page}.{i}")) for page in range(count) for i in range(each)]


def test_documents_are_held_out_whole():
    found = hold_out_documents("planted", documents(60))
    pages = [{example.document for example in part} for part in (found.train, found.held_out)]
    assert not pages[0] & pages[1] and pages[0] | pages[1] == {f"page {page}" for page in range(60)}
    assert 0.1 < len(found.held_out) / 360 <= 0.2  # a fifth of few documents


def test_duplicates_go_and_evaluation_has_no_source_of_training():
    doubled = [Example(f"copy of {e.document}", e.texts) for e in documents(60)]
    other = [Example("other", (e.texts[0], "something else")) for e in documents(60)[::2]]
    found = hold_out_documents("planted", documents(60) + doubled + other)
    everything = [example.texts for example in found.train + found.held_out]
    assert len(everything) == len(set(everything))
    sources = [{example.texts[0] for example in part} for part in (found.train, found.held_out)]
    assert not sources[0] & sources[1]
    assert found.left_out["duplicate"] == 360


def test_one_document_cannot_be_divided():
    with pytest.raises(DataError, match="two or more"):
        hold_out_documents("planted", documents(1))


PAGE = """<div><h1 id="hd_1" dir="auto">Find <span class="menuitem">Bar</span></h1><p class="none">no id</p>
<p id="par_2">Press <span><span hidden="true" class="MAC"><span class="keycode">Command</span></span>
<span hidden="true"><span class="keycode">Ctrl</span></span></span> + F &amp; <br>type.</p>
<p id="par_3"><img src="x"></p></div>"""


def test_paragraphs_of_a_page_have_their_text_without_that_of_macos():
    assert Page(PAGE).paragraphs == {"hd_1": "Find Bar", "par_2": "Press Ctrl + F & type."}


@pytest.fixture
def help_pages(tmp_path):
    """A folder like that of Debian's packages: the same pages in three languages."""
    for language, word in (("en-US", "Page"), ("de", "Seite"), ("zh-CN", "页面")):
        for page in range(30):
            file = tmp_path / "help" / language / "text" / f"{page}.html"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f'<p id="a">{word} {page}</p><p id="b">{page}</p><p id="{language}">only here</p>')
    return tmp_path


@pytest.mark.parametrize(("name", "wanted"), [("en-de", ("Page", "Seite", ("en", "de"))),
                                              ("zh-cn-en-us", ("页面", "Page", ("zh", "en")))])
def test_paragraphs_of_two_languages_are_pairs(help_pages, name, wanted):
    source = load_pairs(f"lohelp/{name}:{help_pages}/help", data_dir=help_pages / "data", batch=4, progress=False)
    batch = source.batch(0, 0)
    for first, second in zip(texts(source, batch["source"]), texts(source, batch["target"][:, 1:]), strict=True):
        number = first.split()[1]
        assert (first, second) == (f"{wanted[0]} {number}", f"\0{wanted[1]} {number}".strip("\0"))
    assert source.languages == wanted[2]
    assert source.contents["documents"] == 30  # the numbers alone are equal in both, and ids of one language have no other


@pytest.mark.parametrize("name", ["en-fr", "en-en", "de"])
def test_languages_that_are_not_there_are_refused_in_one_sentence(help_pages, name):
    with pytest.raises(DataError, match="en-US.*zh-CN") as caught:
        load_pairs(f"lohelp/{name}:{help_pages}/help", data_dir=help_pages / "data", progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("docstring", "sentence"), [
    ("Return the sum of both.\n\nMore.", "Return the sum of both."), ("Return\n  the sum. Then rest.", "Return the sum."),
    ("no capital here.", ""), ("Two words.", ""), ("Without an end", "")])
def test_the_first_sentence_of_a_docstring(docstring, sentence):
    assert first_sentence(docstring) == sentence


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    """Pairs and labelled texts of some 350 files of the standard library: all 1,700 take half a minute to parse. Debian's
    Python has 560."""
    directory, files = tmp_path_factory.mktemp("functions"), pycode.stdlib()
    some = files[::max(1, len(files) // 350)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pycode.CONFIGS, "stdlib", lambda: some)
        return (load_pairs("docstrings", source_length=1024, length=128, data_dir=directory, progress=False),
                load_labelled("packages", length=256, classes=4, data_dir=directory, progress=False))


def test_functions_are_code_without_their_docstring_and_name(functions):
    source = functions[0]
    batch = source.evaluation("document", 64)
    for code, said in zip(texts(source, batch["source"]), texts(source, batch["target"][:, 1:]), strict=True):
        [function] = ast.parse(code).body
        assert function.name == "f" and not ast.get_docstring(function) and not function.decorator_list
        assert said.strip("\0").endswith(".")


def test_packages_are_the_common_ones_and_files_are_held_out(functions):
    source = functions[1]
    counts = np.bincount(source.arrays()["label"], minlength=4)
    assert len(source.labels) == 4 and (np.diff(counts) <= 0).all()
    assert source.common == pytest.approx(counts[0] / counts.sum())
    evaluated = source.evaluation("document", 0)
    assert len(np.unique(evaluated["document"])) > 5 and set(evaluated["label"]) <= set(range(4))


def test_labels_of_files_are_numbered_by_how_common_they_are(tmp_path):
    rows = [{"text": f"text number {i}", "label": "rare" if i % 10 == 0 else "common"} for i in range(200)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    load = {"name": f"labelled:{tmp_path}/rows.jsonl", "data_dir": tmp_path / "data", "progress": False}
    source = load_labelled(classes=2, length=32, **load)
    assert source.labels == ("common", "rare")
    batch = source.batch(0, 0)
    for text, label in zip(texts(source, batch["text"]), batch["label"], strict=True):
        assert label == (int(text.split()[-1]) % 10 == 0)
    with pytest.raises(DataError, match="classes=1"):
        load_labelled(classes=1, length=32, **load)


def test_noise_replaces_a_share_of_the_labels_of_dirty_training_examples_and_no_evaluated_one(tmp_path):
    rows = [{"text": f"text number {i}", "label": f"class {i % 8}"} for i in range(2000)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    load = {"name": f"labelled:{tmp_path}/rows.jsonl", "classes": 8, "length": 32, "data_dir": tmp_path / "data",
            "progress": False}
    clean, noisy, half = (load_labelled(**load, **noise) for noise in ({}, {"noise": 0.4}, {"noise": 0.4, "dirty": 0.5}))
    assert len({source.fingerprint for source in (clean, noisy, half)}) == 3
    for source, share in ((noisy, 0.4), (half, 0.2)):
        moved = source.arrays()["label"] != clean.arrays()["label"]
        assert moved.mean() == pytest.approx(share * 7 / 8, abs=0.04)
        np.testing.assert_array_equal(source.arrays()["text"], clean.arrays()["text"])
        np.testing.assert_array_equal(source.evaluation("document", 0)["label"], clean.evaluation("document", 0)["label"])


def test_a_long_text_is_cut_and_ends(tmp_path):
    rows = [{"text": "x" * 100 + str(i), "label": str(i % 2)} for i in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = load_labelled(f"labelled:{tmp_path}/rows.jsonl", length=8, classes=2, data_dir=tmp_path / "data",
                           fields="text, label", progress=False)
    assert (source.batch(0, 0)["text"] == [*b"xxxxxxx", 0]).all()


def test_ones_own_arrays_are_a_source():
    rows = {"source": np.arange(40, dtype=np.uint8).reshape(10, 4), "target": np.zeros((10, 3), np.uint8)}
    source = TableSource("mine", "1", rows, {"held_out": rows}, batch=5, unique_examples=10)
    seen = np.concatenate([source.batch(3, step)["source"] for step in (0, 1)])
    assert seen.dtype == np.int32 and sorted(seen[:, 0]) == sorted(rows["source"][:, 0])
    for wrong in ({"unique_examples": 11}, {"train": {**rows, "target": rows["target"][:4]}}, {"train": {}}):
        with pytest.raises(DataError):
            TableSource(**{"name": "mine", "identity": "1", "train": rows, "splits": {}, "batch": 5, **wrong})


@pytest.mark.parametrize(("load", "name"), [
    (load_pairs, "postfx"), (load_pairs, "postfix:many"), (load_pairs, "docstrings/nowhere"), (load_labelled, "package"),
    (load_labelled, "packages/nowhere")])
def test_a_wrong_name_is_one_sentence(load, name, tmp_path):
    with pytest.raises(DataError) as caught:
        load(name, data_dir=tmp_path, progress=False)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
