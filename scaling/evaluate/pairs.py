"""The judge of pairs of texts: BLEU, chrF and the share of exact matches of written targets."""

import numpy as np

from scaling.fields import EvaluateError

TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}  # of BLEU, where words are not between spaces; else 13a
SCORES = ("bleu", "chrf", "exact")
MEASURED_IN_PAIRS = (*SCORES, *(f"{name}_se" for name in SCORES))


class PairsJudge:
    """Compares targets that a model wrote with those of the first `samples` pairs of the source's i.i.d. evaluation split.

    Texts are those of `source.tokenizer`, up to the first token 0. BLEU (Papineni et al. 2002) and chrF (Popović 2015) are
    sacrebleu's, of the whole set at once, from 0 to 100 (Post 2018, arXiv:1804.08771). Where `source.languages`, such as
    ("en", "zh"), says that the target has no spaces between words, BLEU counts characters: only those of Chinese there, and
    all of them in other languages, since sacrebleu's own way needs more packages.
    """

    def __init__(self, source, samples):
        from sacrebleu.metrics import BLEU, CHRF
        self.source, self.split = source, source.splits[0]
        examples = source.evaluation(self.split, samples)
        targets = examples["target"]
        if not 2 <= samples <= len(targets):
            raise EvaluateError(f"data.samples={samples} are compared with as many pairs of the evaluation set, which has "
                                f"{len(targets)}; write a number from 2 to that, or 0 for none")
        self._references = [self._text(row[1:]) for row in np.asarray(targets[:samples])]
        self._documents = np.asarray(examples.get("document", np.arange(samples)))[:samples]
        language = "".join(getattr(source, "languages", ())[1:2]).replace("_", "-").partition("-")[0]
        references = [self._references]  # one for each target
        self._metrics = {"bleu": BLEU(tokenize=TOKENIZERS.get(language, "13a"), references=references),
                         "chrf": CHRF(references=references)}

    def __call__(self, samples) -> dict[str, float]:
        """Metrics of written targets, integer [n, T], n as many as `samples`; number i is that of pair i of the split.

        - bleu and chrf, from 0 to 100, with standard errors by the jackknife over pairs;
        - exact: the share of targets whose text is the reference, with its standard error.

        Pairs of one document, where the split numbers these, depend on each other: errors count them as one.
        """
        return self.score(samples)[0]

    def score(self, samples) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """The metrics, and {metric: float64 [n]}: the mean of an array is the metric, and its standard error, over pairs or
        over documents, that of the metric. So the difference between two models has that of the difference of arrays."""
        written = [self._text(row) for row in self._checked(samples)]
        each = {name: _influence(metric, written) for name, metric in self._metrics.items()}
        each["exact"] = np.array([ours == theirs for ours, theirs in zip(written, self._references)], np.float64)
        errors = {f"{name}_se": _error_of_mean(x, self._documents) for name, x in each.items()}
        return {name: float(x.mean()) for name, x in each.items()} | errors, each

    def describe(self) -> dict:
        """Everything that metrics depend on. Two results are comparable only if these are equal."""
        signatures = {name: str(metric.get_signature()) for name, metric in self._metrics.items()}
        return {"real": self.source.fingerprint, "split": self.split, "samples": len(self._references), **signatures}

    def _checked(self, samples):
        samples, wanted = np.asarray(samples), len(self._references)
        if samples.ndim != 2 or samples.dtype.kind not in "iu" or len(samples) != wanted:
            raise EvaluateError(f"targets to judge must be integers [{wanted}, tokens], not {samples.dtype} "
                                f"{list(samples.shape)}")
        return samples

    def _text(self, tokens) -> str:
        ends = np.flatnonzero(tokens == 0)
        return self.source.tokenizer.decode(tokens[:ends[0]] if len(ends) else tokens)


def _influence(metric, written) -> np.ndarray:
    """What each text adds to a metric of sacrebleu, float64 [n], whose mean is the metric.

    It is the jackknife's pseudo-value, shifted as a whole: n - 1 times what leaving a text out takes away (Efron 1982). The
    metric is a function of sums over texts, which sacrebleu resamples in the same way for its own bootstrap.
    """
    stats = np.array(metric._extract_corpus_statistics(written, None))
    total = stats.sum(0)
    value = metric._compute_score_from_stats(total.tolist()).score
    without = np.array([metric._compute_score_from_stats((total - own).tolist()).score for own in stats])
    return value + (len(stats) - 1) * (without.mean() - without)


def _error_of_mean(x, documents) -> float:
    """The standard error of the mean of x [n], whose examples depend on each other within `documents`, integer [n]."""
    _, which = np.unique(documents, return_inverse=True)
    sums = np.bincount(which, x - x.mean())
    return float(np.sqrt(np.square(sums).sum() * len(sums) / (len(sums) - 1)) / len(x)) if len(sums) > 1 else float("nan")
