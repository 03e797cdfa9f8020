"""What looks at prompts, texts and images before anybody reads them: filters that were learnt from labels, and a check for
copies of the training text.

A screen either refuses what it detects or only marks it. What it says stands in the answer under "content_filter_results",
in the shape that Azure OpenAI uses: {name: {"filtered": whether it was taken away, "detected": bool, ...}}.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scaling.evaluate.text_judge import training_windows
from scaling.evaluate.texts import GramIndex
from scaling.serve.errors import ServeError
from scaling.study.classifying import ClassifierRun
from scaling.study.restored import RestoredRun

PROMPT, TEXT, IMAGE = "prompt", "text", "image"  # what is looked at
Filter = Callable[[str], str | None]  # a text -> why nobody should read it, or None


class Seen(NamedTuple):
    """What a screen says: whether it detects something, why in a few words, and what an answer says beside."""

    detected: bool
    why: str = ""
    about: dict[str, Any] = {}  # JSON


@dataclasses.dataclass(frozen=True)
class Screen:
    """One look at what comes and goes. `look` gets a prompt, a text or an image, uint8 [H, W, C], whatever `of` names."""

    name: str
    look: Callable[[Any], Seen]
    of: tuple[str, ...] = (PROMPT, TEXT)
    refuses: bool = True  # or it only marks what it detects


class Screened(NamedTuple):
    """What all screens say: why nobody may read it, or None, and {name of a screen: what it says} for the answer."""

    refused: str | None
    results: dict[str, dict[str, Any]]


class Screens:
    """The screens of a server. `count` is called with (screen, kind, "passed", "marked" or "refused") for each verdict."""

    def __init__(self, screens: Sequence[Screen] = (), count: Callable[[str, str, str], Any] = lambda *_: None):
        self.screens, self._count = tuple(screens), count
        names = [screen.name for screen in screens]
        if len(set(names)) < len(names):
            raise ServeError(f"screens must have names of their own, and these are called {', '.join(names)}")

    def look(self, kind: str, what: Any, final: bool = True) -> Screened:
        """What the screens say of a prompt, a text or an image. Only `final` looks are counted, and those that refuse."""
        refused, results = None, {}
        for screen in self.screens:
            if kind not in screen.of:
                continue
            seen = screen.look(what)
            filtered = seen.detected and screen.refuses
            results[screen.name] = {"filtered": filtered, "detected": seen.detected, **seen.about}
            if filtered and refused is None:
                refused = seen.why
        if final or refused is not None:
            for name, said in results.items():
                self._count(name, kind, "refused" if said["filtered"] else "marked" if said["detected"] else "passed")
        return Screened(refused, results)

    async def ask(self, kind: str, what: Any, final: bool = True) -> Screened:
        """`look` in a thread of its own, so that others are served meanwhile."""
        if not any(kind in screen.of for screen in self.screens):
            return Screened(None, {})
        return await asyncio.to_thread(self.look, kind, what, final)


def function_screen(content_filter: Filter) -> Screen:
    """The screen of a function that says of a text why nobody should read it, or None."""
    def look(text: str) -> Seen:
        why = content_filter(text)
        return Seen(why is not None, why or "")

    return Screen("filter", look)


def label_screen(told: ClassifierRun, labels: Sequence[str | int], threshold: float = 0.5, *, of: RestoredRun,
                 refuses: bool = True) -> Screen:
    """The screen of a run that tells labels: it detects what has one of `labels` with a probability from `threshold` on.

    A run on texts looks at prompts, and at texts where `of`, the run that is served, writes any; a run on images looks at
    the images that it draws. Raises RestoreError for labels that the run does not know or images that it cannot read, and
    ServeError for a run that could look at nothing.
    """
    if not 0 < threshold <= 1:
        raise ServeError(f"the threshold of a filter is a probability above 0 and at most 1, not {threshold}")
    if told.reads == "image" and of.generates == "text":
        raise ServeError(f"{told.run} tells labels of images, and {of} writes text: name a filter of the family masked")
    numbers = told.numbers(labels)
    if not 0 < len(set(numbers)) < told.classes:
        raise ServeError(f"a filter detects some of the {told.classes} labels of {told.run}, not {len(set(numbers))} of "
                         "them: name those that nobody should see")

    def score_of(what) -> float:
        if told.reads == "image":
            return float(told.score_images(what[None], numbers, of.family.levels)[0])
        return float(told.score_texts([what], numbers)[0]) if what else 0.0

    def look(what) -> Seen:
        score = score_of(what)
        return Seen(score >= threshold, f"it looks like {' or '.join(map(str, labels))}", {"score": round(score, 4)})

    size = getattr(of.family, "image_size", 0), getattr(of.family, "channels", 0)
    score_of("a text" if told.reads == "text" else np.zeros((size[0], *size), np.uint8))  # compiles; refuses other sizes
    return Screen("labels", look, (IMAGE,) if told.reads == "image" else (PROMPT, TEXT), refuses)


def copy_screen(run: RestoredRun, n: int, longest: int | None = None) -> Screen:
    """The screen that looks for copies of training text in what a run writes, by n-grams of tokens (Lee et al. 2022,
    arXiv:2107.06499, section 4.1, count those of 50 tokens).

    It says the share of a text's n-grams that the training text has, or None for fewer than n tokens, and the tokens of the
    longest stretch whose n-grams it all has. It refuses stretches of more than `longest` tokens, and without it only
    counts: while a text is written a stretch can only grow, so a stream ends where one becomes too long. Searched are
    windows of the run's data (`scaling.evaluate.text_judge.training_windows`); an n-gram across the edge of two windows
    counts as new. Raises ServeError for a run that does not continue text, or windows of fewer than n tokens.
    """
    if run.generates != "text" or "text" not in run.family.reads:
        raise ServeError(f"copies are looked for in texts that a run continues, and {run} writes none: leave out the check")
    most = run.source.length
    if not 1 < n <= most:
        raise ServeError(f"the n-grams of a copy check have from 2 to {most} tokens, the windows of the data, not {n}")
    if longest is not None and longest < n:
        raise ServeError(f"n-grams of {n} tokens see no copy of fewer: the limit must be {n} or more, not {longest}")
    index = GramIndex(training_windows(run.source), n)

    def look(text: str) -> Seen:
        known, total, stretch = index.overlap(run.tokenizer.encode(text))
        about = {"n": n, "share": round(known / total, 4) if total else None, "longest": stretch}
        detected = longest is not None and stretch > longest
        return Seen(detected, f"it copies {stretch} tokens of training text in a row", about)

    return Screen("copies", look, (TEXT,))
