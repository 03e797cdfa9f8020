"""The judge of text: planted texts have the scores that they must have, and nothing is executed."""

import numpy as np
import pytest

from scaling import evaluate
from scaling.data.tokenizers import Bytes
from scaling.evaluate import texts
from scaling.evaluate.text_judge import MEASURED_CODE, MEASURED_TEXT, SCORED
from scaling.fields import DataError, EvaluateError

LENGTH, SAMPLES, WORDS = 120, 64, 400


class Prose:
    """A source of lines `<word> = <word> + <word>` of `WORDS` words. A window is a function of its number."""

    name, splits, batch_size, length, vocab, fingerprint, tokenizer = "prose", ("iid",), 32, LENGTH, 256, "prose", Bytes()
    unique_tokens = 1024 * LENGTH

    def _window(self, number, words=WORDS):
        rng = np.random.default_rng(number)
        text = "".join("w{} = w{} + w{}\n".format(*rng.integers(words, size=3)) for _ in range(20))
        return np.frombuffer(text.encode()[5:LENGTH + 6], np.uint8).astype(np.int32)

    def windows(self, start, count, words=WORDS):
        return np.stack([self._window(start + i, words) for i in range(count)])

    def batches(self, seed, start, stop):
        count = (stop - start) * self.batch_size
        return {"tokens": self.windows(start * self.batch_size, count).reshape(stop - start, self.batch_size, -1)}

    def evaluation(self, split, tokens):
        if tokens > 2 * 512 * LENGTH:
            raise DataError("there are fewer")
        return {"tokens": self.windows(10**6, tokens // LENGTH)}

    def decode(self, row):
        return self.tokenizer.decode(row)


SOURCE = Prose()


@pytest.fixture(scope="module")
def judge():
    return evaluate.TextJudge(SOURCE, samples=SAMPLES, code=True)


def test_held_out_text_has_the_scores_of_a_perfect_model(judge):
    floor, drawn = judge.floor(), judge(SOURCE.windows(2 * 10**6, SAMPLES))
    assert set(floor) == {*MEASURED_TEXT, *MEASURED_CODE}
    assert floor["novelty"] == floor["novelty_real"] and floor["repeated"] == floor["repeated_real"]
    for name in ("bleu", "self_bleu", "novelty", "blocks"):
        assert abs(drawn[name] - floor[name]) < 4 * (drawn[f"{name}_se"] + floor[f"{name}_se"]), name
    assert floor["parses"] == floor["compiles"] == 1 and 3 < floor["blocks"] < 9
    assert floor["repeated"] == 0 and floor["novelty"] > 0.9
    assert abs(floor["bleu"] - floor["self_bleu"]) < 4 * (floor["bleu_se"] + floor["self_bleu_se"])


def test_copies_of_training_text_are_all_repeats_and_nothing_in_them_is_new(judge):
    copies = judge.memoriser(100 * LENGTH)
    assert copies["repeated"] == 1 and copies["novelty"] == 0 and copies["repeated_se"] == copies["novelty_se"] == 0
    half = np.where(np.arange(SAMPLES)[:, None] % 2, SOURCE.windows(0, SAMPLES), SOURCE.windows(3 * 10**6, SAMPLES))
    mixed = judge(half)
    assert mixed["repeated"] == 0.5 and 0.4 < mixed["novelty"] < 0.6 and 0 < mixed["repeated_se"] < 0.1


def test_one_sentence_repeated_has_a_self_bleu_of_100_and_is_least_distinct(judge):
    alike = judge(np.repeat(SOURCE.windows(5 * 10**6, 1), SAMPLES, 0))
    floor = judge.floor()
    assert alike["self_bleu"] == pytest.approx(100) and alike["self_bleu_se"] == pytest.approx(0, abs=1e-9)
    assert all(alike[f"distinct_{n}"] < floor[f"distinct_{n}"] for n in (2, 3, 4))
    words = texts.split_words(SOURCE.decode(SOURCE.windows(5 * 10**6, 1)[0]))
    assert alike["distinct_4"] == pytest.approx(len({*zip(*(words[i:] for i in range(4)))}) / (SAMPLES * (len(words) - 3)))


def test_fewer_words_are_less_varied_and_noise_has_no_quality(judge):
    floor = judge.floor()
    poor = judge(SOURCE.windows(4 * 10**6, SAMPLES, words=5))
    assert poor["self_bleu"] > floor["self_bleu"] + 10 and poor["distinct_2"] < floor["distinct_2"] / 2
    noise = judge(np.random.default_rng(0).integers(33, 127, (SAMPLES, LENGTH + 1)))
    assert noise["bleu"] < floor["bleu"] / 2 and noise["novelty"] > 0.95 and noise["parses"] < 0.5


def test_metrics_are_the_means_of_what_samples_add(judge):
    found, each = judge.score(SOURCE.windows(2 * 10**6, SAMPLES))
    assert {"bleu", "self_bleu", "novelty", "repeated", "parses", "compiles", "blocks"} <= set(each)
    for name, values in each.items():
        assert values.mean() == pytest.approx(found[name]) and len(values) == SAMPLES
        assert values.std(ddof=1) / SAMPLES**0.5 == pytest.approx(found[f"{name}_se"])


def test_standard_errors_are_those_of_repeated_draws(judge):
    draws = [judge(SOURCE.windows(10**7 + i * SAMPLES, SAMPLES)) for i in range(8)]
    for name in ("novelty", "blocks", "bleu"):
        spread = np.std([each[name] for each in draws], ddof=1)
        assert 0.5 < spread / np.mean([each[f"{name}_se"] for each in draws]) < 2, name


def test_short_windows_and_what_is_recorded(judge):
    short = evaluate.TextJudge(SOURCE, samples=SAMPLES, length=40)
    copies = short.memoriser(100 * LENGTH)
    assert copies["repeated"] == 1 and set(copies) == set(MEASURED_TEXT)
    assert short.describe()["length"] == 40 and short.describe()["repeated_tokens"] == 40
    about = judge.describe()
    assert "tok:none" in about["bleu"] and f"nrefs:{min(SCORED, SAMPLES)}" in about["bleu"] and "python" in about
    assert about == evaluate.TextJudge(SOURCE, samples=SAMPLES, code=True).describe()


@pytest.mark.parametrize("windows, says", [
    (np.zeros((SAMPLES, 5), int), r"integers \[n >= 16, 121\]"), (np.zeros((3, LENGTH + 1), int), "16"),
    (np.full((SAMPLES, LENGTH + 1), 256), "256"), (np.zeros((SAMPLES, LENGTH + 1)), "integers")])
def test_windows_that_cannot_be_judged_are_refused(judge, windows, says):
    with pytest.raises(EvaluateError, match=says):
        judge(windows)


def test_too_many_or_too_few_samples_are_refused_before_training():
    for samples, length, says in ((513, 0, "data.samples=513"), (3, 0, "at least 16"), (16, 121, "1 to 120 tokens")):
        with pytest.raises(EvaluateError, match=says):
            evaluate.check_text_judge(SOURCE, samples, length)
    evaluate.check_text_judge(SOURCE, 512)


BLOCKS = [
    ("x = 1\ny = 2\nz = 3\n", ["y = 2"]),  # the first line is cut, and the last block may go on
    ("rest\ndef f():\n    return 1\nx = 2\n", ["def f():\n    return 1"]),
    ("\n@a\n@b(\n    1,\n)\ndef f(\n    x,\n):\n    pass\n\ny = 1\n",
     ["@a\n@b(\n    1,\n)\ndef f(\n    x,\n):\n    pass\n"]),
    ("\nif x:\n    a\nelif y:\n    b\nelse:\n    c\nz\n", ["if x:\n    a\nelif y:\n    b\nelse:\n    c"]),
    ("a\nb = 1\n\0import os\n", ["b = 1\n"]),  # a document that ends, and one that begins and goes on
    ("\0import os\nx = 1\n\0", ["import os", "x = 1\n"]), ("    a = 1\n    b = 2\n", []), ("", []),
]


@pytest.mark.parametrize("window, blocks", BLOCKS)
def test_whole_blocks_are_those_between_two_unindented_lines(window, blocks):
    assert texts.whole_blocks(window) == blocks and all(map(texts.parses, blocks))


def test_code_is_parsed_and_compiled_and_never_executed(tmp_path):
    harm = tmp_path / "harm"
    assert texts.compiles(f"open({str(harm)!r}, 'w')") and not harm.exists()
    assert texts.parses("return 1") and not texts.compiles("return 1")
    for wrong in ("x = (", "def f():", "\0", "(" * 10_000, "0777", "'\\N{no such name}'"):
        assert not texts.parses(wrong) and not texts.compiles(wrong)


def test_the_index_finds_n_grams_within_rows_only():
    index = texts.GramIndex(iter([np.array([1, 2, 3, 4]), np.array([5, 6]), np.array([7, 8, 9])]), 3)
    found, total = index.count([np.array([2, 3, 4]), np.array([4, 5, 6]), np.array([1, 2]), np.array([0, 7, 8, 9, 0])])
    assert found.tolist() == [1, 0, 0, 1] and total.tolist() == [1, 1, 0, 3]
    rows = np.random.default_rng(0).integers(0, 4, (5000, 12))
    few, known = rows[:4500], {tuple(row[i:i + 6]) for row in rows[:4500] for i in range(7)}
    found, total = texts.GramIndex(few, 6).count(rows)
    assert found.tolist() == [sum(tuple(row[i:i + 6]) in known for i in range(7)) for row in rows] and (total == 7).all()
