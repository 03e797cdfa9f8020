"""The judge of text: metrics of windows that a model wrote, against held-out windows and training windows of the data."""

import functools
import importlib.metadata
import sys

import numpy as np

from scaling.data import notation
from scaling.evaluate import music, texts
from scaling.evaluate.texts import GramIndex
from scaling.fields import DataError, EvaluateError

ORDERS = (1, 2, 3, 4)  # of distinct-n
NOVEL = 4  # words of the n-grams that are new or known
REPEATED = 50  # tokens of a stretch that counts as a copy (Lee et al. 2022, arXiv:2107.06499, section 4.1)
SCORED = 128  # samples that BLEU is taken of, and references that it is taken against
TRAINING = 2**24  # training tokens that are searched: the first ones of the fixed shuffle
FEWEST = 16  # samples that can be judged
# The metrics of a judge, and those of code; the docstring of `TextJudge.__call__` says what they are.
MEASURED_TEXT = (*(f"distinct_{n}" for n in ORDERS), "bleu", "bleu_se", "self_bleu", "self_bleu_se", "novelty",
                 "novelty_se", "novelty_real", "repeated", "repeated_se", "repeated_real")
MEASURED_CODE = ("parses", "parses_se", "compiles", "compiles_se", "blocks", "blocks_se")
MEASURED_TUNES = tuple(f"{name}{end}" for name in ("tunes_parse", "in_metre", "in_key") for end in ("", "_se", "_real")) + (
    "tunes", "tunes_se")


def check_text_judge(source, samples, length=0, code=False, abc=False) -> None:
    """Raises what `TextJudge` would for these arguments, without reading the training text."""
    del code
    if abc:
        notation.abc_parser()
    _held_out(source, samples, length)


class TextJudge:
    """Scores windows of text that a model wrote, with held-out and training windows of `source` as references.

    samples: the number of windows to judge, and of held-out windows that they are compared with: the first ones of the
    source's i.i.d. evaluation split. `floor` judges the next ones.
    length: the tokens of a window after its first one; 0 for as many as the source's windows have.
    code, abc: whether the text is Python, or tunes in ABC notation, so that it is also parsed.

    Held-out windows begin anywhere in a text, so the samples should as well: `scaling.families._generate.sample_windows`
    continues the first token of each. What is new or copied is searched in the first `TRAINING` tokens that the source
    trains on, whether a run has seen all of them or not, and within its windows.
    """

    def __init__(self, source, samples=512, length=0, code=False, abc=False):
        self.source, self.samples, self.code, self.abc = source, samples, code, abc
        windows = _held_out(source, samples, length)
        self.length = windows.shape[1] - 1
        self._reference, self._unseen = windows[:samples], windows[samples:]
        self._references = [texts.split_words(source.decode(row)) for row in self._reference[:SCORED]]
        training = training_windows(source)
        self._tokens = GramIndex(training, min(REPEATED, self.length))
        self._words = GramIndex((texts.word_numbers(texts.split_words(source.decode(row))) for row in training), NOVEL)

    def __call__(self, windows) -> dict[str, float]:
        """Metrics of tokens, integer [n, 1 + length]. A metric with a standard error over samples has it beside it (`_se`).

        - distinct_1 to distinct_4: different n-grams of words over all of them; higher is more varied.
        - bleu: the mean BLEU, 0 to 100, of the first 128 samples against the first 128 held-out windows, a measure of
          quality. self_bleu: that of each of these samples against the others; lower is more varied. The references
          are fixed in the standard errors of both.
        - novelty: the share of 4-grams of words that do not occur in a training window, without the first and the last
          word of a sample, which may be cut. novelty_real is that of held-out text.
        - repeated: the share of stretches of 50 tokens (of all tokens of shorter samples but the first) that occur in a
          training window. repeated_real is that of held-out text.
        - of code, parses and compiles: the shares of whole top-level blocks that Python parses and compiles, 0 where no
          sample has one; blocks: whole blocks of a sample. See `scaling.evaluate.texts.whole_blocks`.
        - of tunes, those of `scaling.evaluate.music.tune_scores`, and those of held-out text (`_real`).
        """
        return self.score(windows)[0]

    def score(self, windows) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """The metrics, and {metric: float64 [n]} of those with a standard error over all samples.

        The mean of an array is the metric. Sample i of every model begins with the same token and is drawn with the same
        noise, so the difference between two models has the standard error of the difference of arrays.
        """
        found, each = {}, {}
        known = self._real
        for name, score in self._scores(self._checked(windows)).items():
            if isinstance(score, float):
                found[name] = score
                continue
            found |= {name: score.value, f"{name}_se": score.error}
            if name in known:
                found[f"{name}_real"] = known[name]
            if len(score.each) == len(windows):
                each[name] = score.each
        return found, each

    def _scores(self, windows) -> dict:
        """{metric: its value, or its `Score`} of windows."""
        whole = [self.source.decode(row) for row in windows]
        words = [texts.split_words(text) for text in whole]
        found: dict = {f"distinct_{n}": texts.distinct(words, n) for n in ORDERS}
        found["bleu"] = texts.ratio(texts.bleu(words[:SCORED], self._references))
        found["self_bleu"] = texts.ratio(texts.self_bleu(words[:SCORED]))
        found |= self._novelty(windows, words)
        if self.code:
            blocks = [texts.whole_blocks(text) for text in whole]
            counts = [len(own) for own in blocks]
            for name, passes in (("parses", texts.parses), ("compiles", texts.compiles)):
                found[name] = texts.ratio([sum(map(passes, own)) for own in blocks], counts)
            found["blocks"] = texts.ratio(counts)
        return found | (music.tune_scores(whole) if self.abc else {})

    def _novelty(self, windows, words) -> dict:
        known, total = self._words.count([texts.word_numbers(own[1:-1]) for own in words])
        copied, stretches = self._tokens.count(windows)
        return {"novelty": texts.ratio(total - known, total), "repeated": texts.ratio(copied, stretches)}

    @functools.cached_property
    def _real(self) -> dict[str, float]:
        """Novelty and repeats of held-out text that is not in the reference, and of tunes whether they are sound."""
        words = [texts.split_words(self.source.decode(row)) for row in self._unseen]
        scores = self._novelty(self._unseen, words)
        if self.abc:
            found = music.tune_scores([self.source.decode(row) for row in self._unseen])
            scores |= {name: score for name, score in found.items() if f"{name}_real" in MEASURED_TUNES}
        return {name: score.value for name, score in scores.items()}

    def memoriser(self, d: int) -> dict[str, float]:
        """Metrics of `samples` windows drawn, with replacement, from those of the first d training tokens, `TRAINING`
        at most: a model that only copies."""
        count = min(d, self.source.unique_tokens, TRAINING) // self.source.length
        if count < 1:
            raise EvaluateError(f"a memoriser of {d} tokens is less than one window of {self.source.length}; write at "
                                "least that")
        drawn = np.random.default_rng(0).integers(count, size=self.samples)
        return self(training_windows(self.source, drawn)[:, :self.length + 1])

    @functools.cached_property
    def _floor(self):
        return self(self._unseen)

    def floor(self) -> dict[str, float]:
        """Metrics of held-out text: a perfect model would get these at this number of samples."""
        return dict(self._floor)

    def describe(self) -> dict:
        """Everything that metrics depend on but the amount of training text, as for `Judge`. Two results are comparable
        only if these are equal."""
        count = min(SCORED, self.samples)
        return {"real": self.source.fingerprint, "split": self.source.splits[0], "samples": self.samples,
                "length": self.length, "words": texts.WORD.pattern, "novel_words": NOVEL, "repeated_tokens": self._tokens.n,
                "bleu": texts.bleu_signature(count), "self_bleu": texts.bleu_signature(count - 1),
                **({"python": ".".join(map(str, sys.version_info[:2]))} if self.code else {}),
                **({"music21": importlib.metadata.version("music21")} if self.abc else {})}

    def _checked(self, windows):
        windows = np.asarray(windows)
        if windows.ndim != 2 or windows.shape[1] != self.length + 1 or windows.dtype.kind not in "iu" or (
                len(windows) < FEWEST):
            raise EvaluateError(f"windows to judge must be integers [n >= {FEWEST}, {self.length + 1}], not "
                                f"{windows.dtype} {list(windows.shape)}")
        if windows.min() < 0 or windows.max() >= self.source.vocab:
            raise EvaluateError(f"windows to judge hold the tokens {windows.min()} to {windows.max()}, but the data have "
                                f"0 to {self.source.vocab - 1}: write tokens of the tokenizer {self.source.tokenizer.name}")
        return windows


def training_windows(source, numbers=None) -> np.ndarray:
    """Training windows by their place in the fixed order, int32 [n, 1 + the source's length]; by default those of the first
    `TRAINING` tokens."""
    numbers = np.arange(min(source.unique_tokens, TRAINING) // source.length) if numbers is None else np.asarray(numbers)
    steps = source.batches(0, 0, -(-(int(numbers.max()) + 1) // source.batch_size))["tokens"]
    return steps.reshape(-1, steps.shape[-1])[numbers]


def _held_out(source, samples, length) -> np.ndarray:
    """The first 2 `samples` held-out windows, int32 [2 samples, 1 + length]."""
    length = length or source.length
    if samples < FEWEST or not 1 <= length <= source.length:
        raise EvaluateError(f"data.samples={samples} of {length} tokens cannot be judged; write at least {FEWEST} samples "
                            f"of 1 to {source.length} tokens, the windows of the data")
    try:
        windows = source.evaluation(source.splits[0], 2 * samples * source.length)["tokens"]
    except DataError as error:
        raise EvaluateError(f"data.samples={samples} needs twice as many held-out windows of {source.length} tokens, and "
                            f"there are fewer; write a smaller number. {error}") from None
    return windows[:, :length + 1]
