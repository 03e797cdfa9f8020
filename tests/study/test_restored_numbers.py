"""A restored run by its size, its kept steps, its losses and logits, the strings that end a text, and asked conditions."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_workdir import image_experiment, text_workdir

import scaling
from scaling import experiment
from scaling.families.ngram import NGram
from scaling.families.seq2seq import Seq2Seq
from scaling.results.records import Records
from scaling.store import checkpoint
from scaling.study import kept, prompts, restore
from scaling.study.restored import RestoredRun, RestoreError
from scaling.sweeps.runner import Runner, TrainingOptions


@pytest.fixture(scope="module")
def text(corpus, tmp_path_factory):
    return text_workdir(tmp_path_factory.mktemp("text") / "runs", corpus, target=False)


@pytest.fixture(scope="module")
def writer(text):
    return scaling.restore(text, "best")


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    """A VAE that has learned nothing: what is asked of it here does not depend on that."""
    whole = image_experiment()
    params = jax.jit(whole.family.init)(jax.random.key(0))
    return RestoredRun({"fingerprint": "vae", "params_non_embedding": 1e4}, whole, params,
                       Runner(tmp_path_factory.mktemp("images"), TrainingOptions()))


# ----- which run


def test_a_size_names_the_best_run_of_the_nearest_size(text, writer, tmp_path):
    copy, size = shutil.copytree(text, tmp_path / "copy"), writer.record["params_non_embedding"]
    for name, n, loss in (("1arge", 4 * size, 0.5), ("2arge", int(4.02 * size), 0.4), ("3arge", 4 * size, None)):
        values = {"params_non_embedding": n, "bits_per_byte": loss, "diverged": loss is None}
        Records(copy).write(writer.record | {"fingerprint": name} | values)
    (copy / "study.json").unlink()
    for asked, found in (("N=10", writer.fingerprint), (f"N={1.9 * size}", writer.fingerprint),
                         (f"N={2.1 * size}", "2arge"), ("N=1e9", "2arge")):
        assert restore.choose_run(Records(copy), asked) == found


@pytest.mark.parametrize("size", ["many", "-3", "0", "nan", ""])
def test_what_is_no_size_is_answered_with_those_that_there_are(text, size):
    with pytest.raises(RestoreError, match="above 0; runs in .* have N=6030"):
        scaling.restore(text, f"N={size}")


def test_a_wrong_name_says_what_else_can_be_written(text):
    with pytest.raises(RestoreError, match="'bets'.*or write best, or N="):
        scaling.restore(text, "bets")


# ----- which step


def test_a_kept_step_of_a_pack_and_of_a_trunk_is_that_of_the_run_alone(text, writer, tmp_path):
    copy = shutil.copytree(text, tmp_path / "copy")
    run = scaling.restore(copy, writer.fingerprint)
    doubled = jax.tree.map(lambda x: jnp.stack([0 * x, 2 * x]), run.params)
    other = run.experiment.replace({"seed": 99})
    longer = run.experiment.replace({"data.tokens": 2 * run.experiment.data.tokens})
    saved = checkpoint.Checkpoints(copy / "checkpoints" / "pack" / "trunk")
    saved.save(2, {"params": doubled}, {"experiments": [experiment.to_dict(other), experiment.to_dict(longer)]})
    saved.close()
    saved = checkpoint.Checkpoints(copy / "trunks" / "name")
    saved.save(3, {"params": run.params}, {"experiment": experiment.to_dict(longer)})
    saved.close()
    assert {(each.step, each.row) for each in kept.kept_of(run)} == {(2, 1), (3, None)}
    earlier, shared = (scaling.restore(copy, writer.fingerprint, step) for step in (2, 3))
    for found, factor in ((earlier, 2), (shared, 1)):
        jax.tree.map(lambda x, y, factor=factor: np.testing.assert_array_equal(x, factor * y), found.params, run.params)
    assert (earlier.step, run.step) == (2, None)
    assert scaling.restore(copy, writer.fingerprint, run.experiment.steps).step is None
    with pytest.raises(RestoreError, match=f"step 7: kept are the steps 2, 3 and {run.experiment.steps}, its last"):
        scaling.restore(copy, writer.fingerprint, 7)
    past = dataclasses.replace(run, experiment=run.experiment.replace({"data.tokens": 2 * 8 * 32, "optim.warmup": 0}))
    assert {each.step for each in kept.kept_of(past)} <= {0, 1}  # a trunk is not of runs that left it before
    shutil.rmtree(copy / "trunks")
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(RestoreError, match=f"only its last step, {run.experiment.steps}, is kept"):
        scaling.restore(copy, writer.fingerprint, 2)


@pytest.mark.slow
def test_steps_that_training_kept_are_of_the_run_on_its_way(corpus, tmp_path):
    options = TrainingOptions(checkpoint_seconds=0, keep_best=3, keep_trunks="all", steps_per_call=1)
    workdir = text_workdir(tmp_path / "runs", corpus, target=False, options=options)
    run = scaling.restore(workdir)
    places = {each.folder.parent.name if each.row is None else each.folder.name for each in kept.kept_of(run)}
    steps = sorted({each.step for each in kept.kept_of(run)})
    assert places == {"trunks", "trunk", f"branch-{run.experiment.steps}"} and steps[-1] < run.experiment.steps
    losses = [float(scaling.restore(workdir, run.fingerprint, step).loss().mean()) for step in (*steps, None)]
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1] + 0.01


# ----- losses and logits


def test_losses_are_those_of_the_evaluation_set_in_its_order(writer, painter):
    assert writer.loss().mean() == pytest.approx(writer.record["loss"], rel=1e-3)
    for run in (writer, painter):
        examples = run.source.evaluation(run.source.splits[0], run.experiment.data.evaluated)
        losses = run.loss()
        assert losses.shape == (len(next(iter(examples.values()))),) and losses.dtype == np.float32
        few = run.loss({name: values[:3] for name, values in examples.items()})
        np.testing.assert_allclose(few, losses[:3], rtol=1e-5)  # batches of other sizes are summed in another order


def test_the_loss_of_a_text_follows_from_its_logits(writer):
    texts = ["the cat", "sat"]
    logits = [writer.logits([0, *text.encode()])[:-1] for text in texts]
    wanted = [-np.mean([jax.nn.log_softmax(row)[token] for row, token in zip(each, text.encode())])
              for each, text in zip(logits, texts)]
    np.testing.assert_allclose(writer.loss(texts), wanted, rtol=1e-4)
    assert writer.loss("sat") == pytest.approx(writer.loss(texts)[1:])


def test_logits_of_a_row_do_not_depend_on_the_others(writer):
    together = writer.logits([[1, 2, 3], [4, 5, 6]])
    assert together.shape == (2, 3, writer.family.vocab)
    np.testing.assert_allclose(together[1], writer.logits([4, 5, 6]), rtol=1e-5, atol=1e-5)


def test_a_text_that_is_rewritten_has_logits_given_its_source():
    family = Seq2Seq(source_length=8, length=8, width=8, layers=1)
    data = experiment.Pairs(source_length=8, length=8)
    whole = experiment.Experiment(family, data)
    run = RestoredRun({"fingerprint": "f"}, whole, jax.jit(family.init)(jax.random.key(0)), None)
    assert run.logits([0, 5], source=[7, 8, 0]).shape == (2, 256)
    assert (run.logits([0, 5], source=[7, 8, 0]) != run.logits([0, 5], source=[9, 8, 0])).any()
    for ask, says in [(lambda: run.logits([0, 5]), "give it as source="), (lambda: run.loss("abc"), "examples of Pairs"),
                      (lambda: run.logits([300], source=[1]), "from 0 to 255")]:
        with pytest.raises(RestoreError, match=says):
            ask()


def test_what_a_family_cannot_give_names_those_that_can(writer, painter):
    counted = dataclasses.replace(writer, experiment=dataclasses.replace(writer.experiment, family=NGram(length=32)))
    for run in (painter, counted):
        with pytest.raises(RestoreError, match="cannot give logits; families that can: classifier, hmm, recurrent"):
            run.logits([1])
    with pytest.raises(RestoreError, match="leave the source out"):
        writer.logits([1], source=[2])
    with pytest.raises(RestoreError, match="examples of Images"):
        painter.loss("text")


# ----- where a text ends


@pytest.mark.parametrize("pieces, stops, wanted", [
    (["ab", "cd"], [], "abcd"), (["ab", "cd"], ["bc"], "a"), (["a", "b", "c"], ["abd", "c"], "ab"),
    (["aab"], ["ab"], "a"), (["a", "a", "b"], ["ab"], "a"), (["x"], ["xy"], "x"),
    (["one", "\n", "\n", "two"], ["\n\n"], "one"), (["ab"], ["b", "ab"], ""), ([], ["a"], "")])
def test_a_string_ends_a_text_wherever_pieces_are_cut(pieces, stops, wanted):
    assert "".join(prompts.before_stops(pieces, stops)) == wanted
    assert "".join(prompts.before_stops(["".join(pieces)], stops)) == wanted


def test_pieces_that_begin_no_stop_are_not_held_back():
    given = iter(["a", "b", "<", "e", "<", "/"])
    found = prompts.before_stops(given, ["</"])
    assert [next(found), next(found), next(found)] == ["a", "b", "<e"] and list(given) == ["<", "/"]


def test_strings_end_generated_streamed_and_searched_texts_alike(writer):
    options = dict(tokens=24, temperature=0)
    whole = writer.generate(["the"], stop=(), **options)[0]
    stop = whole[5:7]
    cut = whole[:whole.index(stop)]
    assert writer.generate(["the"], stop=[stop], **options) == [cut]
    assert "".join(writer.stream("the", stop=[stop], **options)) == cut
    assert writer.beam_search(["the"], tokens=24, beam=1, stop=[stop]) == [cut]
    with pytest.raises(ValueError, match="empty string"):
        writer.generate(["the"], stop=[""])


# ----- conditions of images


def test_a_label_is_a_number_or_a_name_and_holds_for_all_images(painter):
    names = painter.source.classes("character")
    by_name, by_number = painter.sample(3, label=names[7]), painter.sample(3, label=7)
    np.testing.assert_array_equal(by_name, by_number)
    assert painter.conditions(label=7)["label"].tolist() == [7]
    first = painter.conditions()["label"][:3]
    for row, label in enumerate(first):
        np.testing.assert_array_equal(painter.sample(3, label=int(label))[row], painter.sample(3)[row])


def test_a_caption_is_cut_or_filled_to_the_bytes_that_the_family_reads(painter):
    family = dataclasses.replace(painter.family, classes=0, caption=4)
    run = dataclasses.replace(painter, experiment=dataclasses.replace(painter.experiment, family=family))
    assert bytes(run.conditions(caption="ab")["caption"][0]) == b"ab\0\0"
    assert bytes(run.conditions(caption="abcdef")["caption"][0]) == b"abcd"
    with pytest.raises(RestoreError, match="draws images without a label"):
        run.conditions(label=1)
    with pytest.raises(RestoreError, match="draws images without a caption"):
        painter.sample(1, caption="a")
    with pytest.raises(RestoreError, match="no label of glyphs/letters is called 'zz'"):
        painter.sample(1, label="zz")
    with pytest.raises(RestoreError, match="from 0 to 61, not 62"):
        painter.sample(1, label=62)
