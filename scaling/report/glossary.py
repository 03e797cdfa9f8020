"""The words of reports: one definition each, for the glossary at the end of a page and for docs/words.md.

A page links each word where it first appears, and explains only the words that it uses.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import NamedTuple


class Word(NamedTuple):
    """A word, what it means, and the pattern of its appearances.

    In `meaning`, {unit} stands for the unit of data, {noun} for the noun of the metric, and `...` is code. `symbol` is
    matched as it is written; other patterns also match with a capital first letter.
    """
    name: str
    meaning: str
    pattern: str = ""
    symbol: bool = False

    @property
    def id(self) -> str:
        return "word-" + re.sub(r"\W+", "-", self.name).strip("-").lower()

    def regex(self) -> re.Pattern:
        found = self.pattern or re.escape(self.name)
        return re.compile(rf"{'' if self.symbol else '(?i)'}(?<!\w)(?:{found})(?!\w)")


WORDS = (
    Word("run", "One training from one experiment. Its name, the *fingerprint*, is a hash of the experiment and of the "
         "data's content.", "runs?"),
    Word("fingerprint", "The name of a run: a hash of its experiment and of the content of its data. Data have one of "
         "their own.", "fingerprints?"),
    Word("sweep", "All runs that differ in what the study varies: model size, amount of data, learning rate, seed. A sweep "
         "of the learning rate is one cell at several rates.", "sweeps?"),
    Word("pycode", "Python source code that lies on the machine: `pycode/stdlib` is the standard library of the Python "
         "that ran the study, `pycode/environment` adds installed packages. Duplicates, generated files, tables of numbers "
         "and files with very long lines are left out.", r"pycode/\w+"),
    Word("knob", "A field that changes numbers but no shapes: learning rate, seed, length. Runs that differ only in "
         "knobs share a compiled program.", "knobs?"),
    Word("program", "One compiled train step. It trains several runs side by side if they differ only in numbers such as"
         " the learning rate.", "programs?"),
    Word("pack", "Runs that are trained side by side by one compiled program.", "packs?"),
    Word("trunk, branch, cooldown", "The learning rate is constant until a run cools down. Runs that differ only in "
         "length are equal until then. The common part, the *trunk*, is trained once; each run leaves it as a *branch* "
         "and lowers its learning rate (Hägele et al. 2405.18392). Runs of one trunk are not independent.",
         "trunks?|cooldowns?"),
    Word("cell", "One model size on one amount of data.", "cells?"),
    Word("tuned", "The best learning rate of a cell, judged by the mean over its seeds. Laws are fitted to tuned runs, "
         "because a trend of untuned runs also shows how badly each size was tuned.", "tuned(?: runs?)?"),
    Word("learning rate", "The step size of training. Too low a rate learns slowly, and too high a rate diverges, so "
         "that each size is trained with several.", "learning rates?"),
    Word("at the edge", "The best learning rate of a cell is the lowest or the highest that was tried. A better one may "
         "lie beyond it, and the cell is then not fully tuned. It asks for the next rate, as far as the budget of the "
         "study allows (`tune`). If it stays at the edge, the fit leaves it out (`fit_edges`).", "at (?:the|an) edge"),
    Word("target", "The larger run that is forecast, and trained only after the forecast is written. Where two recipes are "
         "compared, it is the compute to which their trend is extrapolated.",
         "target(?: runs?|'s)?"),
    Word("N", "The number of parameters. Records hold `params_non_embedding`, `params_active` (those that are used at "
         "once: fewer in mixtures of experts) and `params_total`; each fit says which it uses.", symbol=True),
    Word("non-embedding parameters", "All parameters except the tables that turn data into vectors and back; those grow "
         "with the vocabulary and not with the depth of the model.", "non-embedding parameters?"),
    Word("token", "The unit of text that a model reads and predicts: a byte, or a piece of a word.", "tokens?"),
    Word("D, unique data", "The number of {unit} seen in training. *Unique* ones are counted once, however often they "
         "repeat.", "D|unique training tokens|unique training examples", symbol=True),
    Word("repeat", "Training goes through the same data again. A run that sees its unique data twice has made two "
         "*epochs*; repeated data teach less than new data.", "repeats?|repeated|epochs?"),
    Word("C, FLOPs", "C is the number of floating-point operations (FLOPs) of the model's forward and backward pass, "
         "with causal attention at half of its square (`flops` in records). It does not depend on the platform, the "
         "attention kernel, rematerialisation or the optimiser. `flops_executed` includes recomputation and the "
         "optimiser's matrix products.", "C|FLOPs", symbol=True),
    Word("6ND", "Six times N times D, the usual estimate of C; it is shown beside it.", symbol=True),
    Word("MFU", "Model FLOPs utilisation: C per second over the peak rate of the devices, which `scaling` measures with "
         "matrix products. The utilisation by executed FLOPs is shown beside it.", symbol=True),
    Word("law", "A formula for the {noun} as a function of N and D, whose parameters are fitted to tuned runs.", "laws?"),
    Word("E, A, B, α, β", "Parameters of L(N, D) = E + A N^-α + B D^-β. E is the {noun} that the law predicts for "
         "infinite N and D. The exponents α and β say how fast the part above E falls with N and with D.",
         "E|α|β", symbol=True),
    Word("residual", "What a tuned run measured minus what the law says there.", "residuals?"),
    Word("objective", "What a fit makes as small as possible: a sum over runs of a penalty of the residual. *Huber's* "
         "penalty is the square of residuals up to *delta*, and grows only in proportion beyond, so that outliers count "
         "less.", "objective|Huber(?:'s)?(?: penalty)?|delta"),
    Word("interval", "A range that holds the true value in 90% of studies like this one, unless the page names another "
         "level. It is made by refitting the law to resampled runs or noise (bootstrap).", "intervals?"),
    Word("bootstrap", "Many refits of the law, each to data that were drawn again from the runs or from the noise. The "
         "spread of the refits is the uncertainty of the fit.", "bootstrap|refits?"),
    Word("not shown", "The trend is seen in these runs, but its interval holds both signs, or no interval is known. The "
         "study does not show it.", "not shown"),
    Word("standard error", "The standard deviation that a value would have if it was measured again: with other seeds, "
         "on another evaluation set.", "standard errors?"),
    Word("evaluation", "Every run is scored on data that it was not trained on.", "evaluated|evaluation"),
    Word("seed", "The number that the initial parameters and the order of the data follow from.", "seeds?"),
    Word("back-test", "The law is fitted to the smaller runs only and scored on the larger ones. *Coverage* is the share"
         " of held-out runs inside their intervals.", "back-tests?"),
    Word("collapse", "The training curves of well-tuned models of all sizes are one curve once compute is divided by that "
         "of the whole run, and the {noun} above E by that at the end.", "collapse"),
    Word("frontier", "The least {noun} for each budget C, and the N and D that reach it.", "frontier"),
    Word("forecast", "A prediction with an interval, written and hashed before the target is trained.", "forecasts?"),
    Word("held", "The observed {noun} of the target lies inside the interval of the forecast. It says little where the "
         "interval is wide.", "held(?!-out)|inside its"),
    Word("sharpness", "How much a forecast rules out: the width of its interval relative to the prediction, and whether "
         "naive forecasts lie inside it. The error of a forecast is given in percent of the {noun}, in percent of the "
         "fall from the best fitted run to the observed {noun}, and in compute: the multiple of the target's compute at "
         "which the law has the observed {noun}, with N and D growing by equal factors.", "sharpness|as wide as"),
    Word("naive forecaster", "What could be said of the target without the law, from the same runs and before it was "
         "trained: the best fitted run; the line, in logarithms of {noun} and compute, through the last two runs that no"
         " cheaper run beats; the law with E held at 0.", "naive forecast(?:er)?s?"),
    Word("registration log", "`forecasts.jsonl` beside a forecast: a line for each forecast that was written and each "
         "that was scored. Each line holds the hash of the line before, so a change of the log is noticed, and a "
         "forecast that was deleted and written again is shown with the first.", r"registration log|forecasts\.jsonl"),
    Word("registered late", "A forecast that was written when its target had already begun or finished, or had been "
         "scored. It is no forecast and gets no verdict."),
    Word("effective speed-up", "The compute that one recipe, the base, needs for the {noun} of another, over the compute "
         "of the other. It is 1 where they are equally good.", "(?:effective )?speed-ups?"),
    Word("rung", "One amount of compute at which two recipes are compared. All rungs are the *ladder*.", "rungs?|ladders?"),
    Word("diverged", "A run whose training loss became infinite or not a number, or whose training broke down. It is "
         "listed, but it never wins a cell.", "diverged?"),
    Word("not measured", "The run finished without this metric.", "not measured"),
    Word("bits per byte", "The loss of text per byte of the original text, whatever the tokenizer. Guessing among 256 "
         "bytes at random is 8 bits per byte.", "bits per byte"),
    Word("pseudo-likelihood", "What a model of masked tokens gives each token when the others are seen. It is no "
         "likelihood, and its bits per byte are compared with those of no other kind of model.", "pseudo-likelihood"),
    Word("macro-F1", "The mean over classes of F1, 2 TP / (2 TP + FP + FN), in which rare classes weigh as much as common "
         "ones.", "macro-F1"),
    Word("calibration error", "How far the share of right answers is from the confidence of the model, on average over "
         "15 bins of confidence (the expected calibration error).", "(?:expected )?calibration error"),
    Word("robust error", "The share of images that get a wrong class somewhere within a radius of them, as far as several "
         "attacks by gradients find it. The robust loss is the largest that they find.", "robust (?:error|loss)"),
    Word("bits per dimension", "The negative log-likelihood bound of an image, per pixel and channel.",
         "bits per dimension"),
    Word("bits per sample", "The loss of sound per sample, of which there are 8,000 a second. Guessing among 256 levels at "
         "random is 8 bits per sample.", "bits per sample"),
    Word("spectrogram", "A picture of sound: time runs to the right and frequency upwards, and dark is loud.",
         "spectrograms?"),
    Word("excess loss", "The loss beyond that of the true distribution on the same examples, where the data come from a "
         "source whose entropy is known.", "excess loss(?:es)?"),
    Word("rate and distortion", "The two parts of the bound of a VAE or a diffusion model: the bits that its latents "
         "carry, and the bits that are then still needed for the pixels.", "distortion"),
    Word("codes", "The whole numbers that a tokenizer makes of an image. Their perplexity is the number of equally "
         "frequent codes that would have the same entropy.", "perplexity of the codes|codes used"),
    Word("information", "The bits that an image costs a model less, given its caption, than by itself, and the other way "
         "round.", "what an? (?:caption|image) tells about its (?:image|caption)"),
    Word("agreement", "The share of samples that a classifier, trained on real images, labels as the real image whose "
         "caption they were drawn from.", "agreement|agree with their captions"),
    Word("latents", "The random numbers that a model turns into an image.", "latents?"),
    Word("Fréchet distance", "The distance between real and generated images as Gaussians in a feature space, "
         "extrapolated to infinitely many samples.", r"Fréchet distance(?: \(FD∞?\))?"),
    Word("kernel distance", "The distance between real and generated images that a kernel in a feature space sees (KID, "
         "CMMD). It is near 0, or below, for equal distributions.", r"kernel distance(?: \((?:KID|CMMD)\))?"),
    Word("coverage, missed share", "The share of real images that have a generated one near them, and 1 minus that "
         "share.", "missed share|coverage"),
    Word("critic's advantage", "How much better than chance a freshly trained network tells generated from real images: "
         "0 for samples like real ones, 0.5 for samples that are always found out.", "(?:fresh )?critic's advantage"),
    Word("noise", "Samples that are no images of the data at all: hardly any real image has one of them near it.",
         "samples are noise"),
    Word("floor", "The value for real images, or for held-out text, in place of samples. No model can be expected to be "
         "better.", "floor"),
    Word("memoriser", "The value for training images or text in place of samples: a model that only copies.", "memoriser"),
    Word("n-gram", "A run of n tokens. An n-gram model counts how often each token followed the n - 1 before it, and "
         "falls back on shorter runs where it has seen too few.", "n-gram"),
    Word("judge", "What scores the samples of a study: how many of them, in which feature space, and against which data.",
         "judge|samples judged by|were judged by"),
)
SKIPPED = {"a", "svg", "pre", "code", "style", "script", "h1", "h2", "h3", "button", "math", "summary"}
VOID = {"meta", "link", "br", "hr", "img", "input"}


class _Linker(HTMLParser):
    """Copies HTML, with a link around the first appearance of every word outside of `SKIPPED` elements."""

    def __init__(self, words: Sequence[Word]):
        super().__init__(convert_charrefs=False)
        self.out: list[str] = []
        self.left = {word: word.regex() for word in words}
        self.used: list[Word] = []
        self.within: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.out.append(self.get_starttag_text() or "")
        if tag not in VOID:
            self.within.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.out.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag):
        self.out.append(f"</{tag}>")
        if tag in self.within:
            del self.within[len(self.within) - 1 - self.within[::-1].index(tag):]

    def handle_entityref(self, name):
        self.out.append(f"&{name};")

    def handle_charref(self, name):
        self.out.append(f"&#{name};")

    def handle_data(self, data):
        self.out.append(data if SKIPPED & set(self.within) else self.linked(data))

    def linked(self, text: str) -> str:
        """`text` with its first words linked, from the left; of two words at one place the longer one."""
        out = []
        while True:
            found = [(match, word) for word, regex in self.left.items() if (match := regex.search(text))]
            if not found:
                return "".join([*out, text])
            match, word = min(found, key=lambda each: (each[0].start(), -len(each[0].group())))
            out += [text[:match.start()], f'<a class="word" href="#{word.id}">{match.group()}</a>']
            text = text[match.end():]
            del self.left[word]
            self.used.append(word)


def link_words(text: str, unit: str, noun: str) -> tuple[str, list[tuple[str, str, str]]]:
    """(the HTML with its words linked, the glossary: (id, word, meaning as HTML) of every word that was linked).

    Words that appear only in the meanings of others are explained too.
    """
    linker = _Linker(WORDS)
    linker.feed(text)
    linker.close()
    linked, meanings, at = "".join(linker.out), {}, 0
    while at < len(linker.used):  # a meaning may use words that are not yet explained
        word, at = linker.used[at], at + 1
        meanings[word] = linker.linked(_html(word.meaning, unit, noun))
    return linked, [(word.id, word.name, meanings[word]) for word in WORDS if word in meanings]


def _html(meaning: str, unit: str, noun: str) -> str:
    text = html.escape(meaning.format(unit=unit, noun=noun), quote=False)
    return re.sub(r"\*([^*]+)\*", r"<i>\1</i>", re.sub(r"`([^`]+)`", r"<code>\1</code>", text))


def markdown() -> str:
    """The glossary as the table of docs/words.md."""
    rows = [f"| {word.name} | {word.meaning.format(unit='tokens or examples', noun='loss')} |" for word in WORDS]
    return "\n".join(["| word | meaning |", "| --- | --- |", *rows]) + "\n"
