"""The judge of pairs: its numbers are sacrebleu's, and its standard errors are those of drawing pairs."""

import types

import numpy as np
import pytest
import sacrebleu

from scaling import evaluate
from scaling.data.tokenizers import Bytes
from scaling.evaluate.pairs import MEASURED_IN_PAIRS
from scaling.experiment import Pairs, find_kind
from scaling.fields import ConfigError, EvaluateError
from scaling.results import metrics

WORDS = "the a small large red cat dog house sees runs to over and , . sleeps".split()


def sentences(n, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(4, 14))) for _ in range(n)]


def changed(texts, share, seed=1):
    """The texts with a share of their words replaced, in which some texts stay as they are."""
    rng = np.random.default_rng(seed)
    return [text if rng.random() < 0.2 else " ".join(rng.choice(WORDS) if rng.random() < share else word
                                                     for word in text.split()) for text in texts]


def tokens(texts, end=True, length=120):
    """int32 [n, length]: the bytes of each text, its end and padding."""
    rows = np.zeros((len(texts), length), np.int32)
    for row, text in zip(rows, texts):
        row[:len(text.encode())] = Bytes().encode(text)
        if not end:
            row[row == 0] = ord("!")
    return rows


def source_of(texts, languages=None):
    target = np.pad(tokens(texts), ((0, 0), (1, 0)))
    made = types.SimpleNamespace(splits=("iid", "other"), tokenizer=Bytes(), fingerprint="texts",
                                 evaluation=lambda split, count=0: {"target": target[:count or None]})
    if languages:
        made.languages = languages
    return made


def test_scores_are_those_of_sacrebleu_on_the_same_texts():
    references = sentences(80)
    written = changed(references, 0.3)
    found = evaluate.PairsJudge(source_of(references), 80)(tokens(written))
    assert tuple(sorted(found)) == tuple(sorted(MEASURED_IN_PAIRS))
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(written, [references]).score, rel=1e-9)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(written, [references]).score, rel=1e-9)
    assert found["exact"] == pytest.approx(np.mean([a == b for a, b in zip(written, references)])) and found["exact"] < 1
    assert all(metrics.find_metric(name).rises for name in ("bleu", "chrf", "exact"))


def test_errors_are_those_of_drawing_pairs_again_and_differences_have_their_own():
    """The bootstrap of sacrebleu says how wide 95% of its scores lie; other sets of pairs scatter as the error says."""
    references = sentences(150)
    judge, written = evaluate.PairsJudge(source_of(references), 150), changed(references, 0.3)
    found, each = judge.score(tokens(written))
    for name, metric in {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF()}.items():
        interval = metric.corpus_score(written, [references], n_bootstrap=1000)._ci
        assert found[f"{name}_se"] == pytest.approx(interval / 1.96, rel=0.15)
        assert each[name].mean() == pytest.approx(found[name]) and each[name].shape == (150,)
        assert each[name].std(ddof=1) / 150**0.5 == pytest.approx(found[f"{name}_se"])
    other = judge.score(tokens(changed(written, 0.02, seed=2)))[1]
    assert (each["bleu"] - other["bleu"]).std() < 0.8 * each["bleu"].std()
    scores = [evaluate.PairsJudge(source_of(texts), 150)(tokens(changed(texts, 0.3, seed)))["bleu"]
              for seed, texts in ((seed, sentences(150, seed)) for seed in range(10, 40))]
    assert found["bleu_se"] == pytest.approx(np.std(scores, ddof=1), rel=0.4)


def test_pairs_of_one_document_count_as_one():
    references = sentences(30)
    once, twice = source_of(references), source_of([text for text in references for _ in range(2)])
    all_of_twice = twice.evaluation
    twice.evaluation = lambda split, count=0: all_of_twice(split, count) | {"document": np.repeat(np.arange(30), 2)}
    written = changed(references, 0.3)
    found = evaluate.PairsJudge(once, 30)(tokens(written))
    repeated = evaluate.PairsJudge(twice, 60)(tokens([text for text in written for _ in range(2)]))
    assert repeated == pytest.approx(found, rel=0.05)  # but for the corpus, of which one text is a smaller part


def test_perfect_targets_have_full_marks_and_an_end_cuts_what_follows():
    references = sentences(20)
    judge = evaluate.PairsJudge(source_of(references), 20)
    whole = tokens(references)
    after = whole.copy()
    after[:, -3:] = ord("x")  # after the end
    for rows in (whole, after):
        found = judge(rows)
        assert (found["exact"], found["bleu"], found["bleu_se"]) == pytest.approx((1, 100, 0), abs=1e-9)
    assert judge(tokens(references, end=False))["exact"] == 0
    assert judge(np.zeros_like(whole))["bleu"] == 0 and judge(np.full_like(whole, 255))["chrf"] >= 0


@pytest.mark.parametrize("languages, tokenizer", [(None, "13a"), (("en", "de"), "13a"), (("en", "zh"), "zh"),
                                                  (("en", "zh_CN"), "zh"), (("en", "ja"), "char"), (("zh", "en"), "13a")])
def test_bleu_divides_texts_as_the_language_of_the_target_asks(languages, tokenizer):
    texts = ["我喜欢猫和狗。", "他在家里睡觉。"]
    judge = evaluate.PairsJudge(source_of(texts, languages), 2)
    described = judge.describe()
    assert f"|tok:{tokenizer}|" in described["bleu"] and described["bleu"].startswith("nrefs:1|")
    assert (described["samples"], described["split"], described["real"]) == (2, "iid", "texts")
    wanted = sacrebleu.corpus_bleu(["我喜欢狗和猫。", "他睡觉。"], [texts], tokenize=tokenizer).score
    assert judge(tokens(["我喜欢狗和猫。", "他睡觉。"]))["bleu"] == pytest.approx(wanted)


def test_wrong_numbers_of_samples_are_refused():
    source = source_of(sentences(10))
    for samples in (1, 11):
        with pytest.raises(EvaluateError, match=f"data.samples={samples} .* which has"):
            evaluate.PairsJudge(source, samples)
    judge = evaluate.PairsJudge(source, 10)
    for wrong in (np.zeros((9, 5), np.int32), np.zeros((10, 5)), np.zeros(10, np.int32)):
        with pytest.raises(EvaluateError, match=r"must be integers \[10, tokens\]"):
            judge(wrong)


def test_the_kind_asks_for_its_judge_only_with_samples():
    assert find_kind("pairs") is Pairs and Pairs().judge(None) is None and Pairs().judged() == ()
    data = Pairs(samples=10)
    assert data.judged() == MEASURED_IN_PAIRS and isinstance(data.judge(source_of(sentences(10))), evaluate.PairsJudge)
    with pytest.raises(EvaluateError, match="data.samples=10"):
        data.check_judge(source_of(sentences(9)))
    for wrong in ({"samples": 1}, {"samples": 1025}):
        with pytest.raises(ConfigError, match="data.samples=.*write a number from 2 to 1024, or 0"):
            Pairs(**wrong).check()
    Pairs(samples=1024).check()
