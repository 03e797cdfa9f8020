"""Prompts: texts as the tokens that a model continues, which of them a model can continue, and where that ends."""

import codecs
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from scaling.data.tokenizers import Tokenizer
from scaling.families import _generate

END = 0  # the token that ends a document, in every tokenizer


class PromptError(ValueError):
    """A prompt that a model cannot continue; the message says why."""


def what_generates(family) -> str | None:
    """"text" or "images": what a family can generate, or None."""
    if hasattr(family, "sample") and "images" in family.reads:
        return "images"
    return "text" if hasattr(family, "begin") else None


def encode_prompt(prompt: str, tokenizer: Tokenizer) -> np.ndarray:
    """The tokens of a prompt, int32 [n], n at least 1. Raises PromptError.

    The tokens of an empty prompt are the end of the document before, so that a model begins a document of its own.
    """
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"the prompt {prompt!r} is not valid Unicode: {error.reason}") from None
    found = tokenizer.encode(prompt)
    return found if len(found) else np.array([END], np.int32)


def room_after(encoded: np.ndarray, family) -> int | None:
    """The most tokens that a model can add to a prompt; None for any number. Learned positions end at a length."""
    longest = _generate.find_longest(family)
    return None if longest is None else longest - len(encoded)


def check_prompts(prompts: Iterable[str], family, tokenizer: Tokenizer) -> None:
    """Raises PromptError for the first prompt that a model of this family cannot continue by a token."""
    for prompt in prompts:
        encoded = encode_prompt(prompt, tokenizer)
        left = room_after(encoded, family)
        if left is not None and left < 1:
            raise PromptError(f"the prompt {prompt[:40]!r} has {len(encoded)} tokens, and learned positions end at "
                              f"{left + len(encoded)}: shorten it to {left + len(encoded) - 1}, or write "
                              "family.positions=rotary")


def split_stops(stop: Sequence[int | str]) -> tuple[list[int], list[str]]:
    """(the tokens, the strings) before which a text ends. Raises PromptError for an empty string."""
    strings = [each for each in stop if isinstance(each, str)]
    if "" in strings:
        raise PromptError("a text cannot end before the empty string '': leave it out")
    return [each for each in stop if not isinstance(each, str)], strings


class BeforeStops:
    """A text that comes piece by piece, up to the first of `stops`, which may begin in one piece and end in another.

    What may be the beginning of a stop is held back until the next piece says whether it is. `ended` is true from the
    first stop on.
    """

    def __init__(self, stops: Sequence[str]):
        self.stops, self.held, self.ended = stops, "", False

    def add(self, piece: str) -> str:
        """What is certain of the text after one more piece, beyond what was returned before."""
        if self.ended:
            return ""
        held = self.held + piece
        ends = [place for stop in self.stops if (place := held.find(stop)) >= 0]
        if ends:
            self.held, self.ended = "", True
            return held[:min(ends)]
        kept = max((size for stop in self.stops for size in range(1, len(stop)) if held.endswith(stop[:size])), default=0)
        self.held = held[len(held) - kept:]
        return held[:len(held) - kept]

    def rest(self) -> str:
        """What was held back, at the end of the last piece."""
        rest, self.held = self.held, ""
        return rest


def before_stops(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a text up to the first of `stops`; see `BeforeStops`. None is empty."""
    text = BeforeStops(stops)
    for piece in pieces:
        if found := text.add(piece):
            yield found
        if text.ended:
            return
    if rest := text.rest():
        yield rest


class TextOfTokens:
    """The text of tokens that come one by one, in pieces of whole characters, up to the first of the strings `stops`."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()):
        self.tokenizer, self.text = tokenizer, BeforeStops(stops)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def ended(self) -> bool:
        """Whether a stop has come."""
        return self.text.ended

    def add(self, token: int) -> str:
        """What is certain of the text after one more token, beyond what was returned before."""
        return self.text.add(self.decoder.decode(self.tokenizer.to_bytes([token])))

    def rest(self) -> str:
        """What was held back, after the last token."""
        return self.text.add(self.decoder.decode(b"", final=True)) + self.text.rest()
