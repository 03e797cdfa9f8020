"""Prompts: texts as the tokens that a model continues, which of them a model can continue, and where that ends."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from scaling.data.tokenizers import Tokenizer
from scaling.families import _generate

END = 0  # the token that ends a document, in every tokenizer


class PromptError(ValueError):
    """A prompt that a model cannot continue; the message says why."""


def what_generates(family) -> str | None:
    """"text" or "images": what a family can generate, or None."""
    if hasattr(family, "begin"):
        return "text"
    return "images" if hasattr(family, "sample") and "images" in family.reads else None


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


def before_stops(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a text up to the first of `stops`, which may begin in one piece and end in another.

    What may be the beginning of a stop is held back until the next piece says whether it is.
    """
    held = ""
    for piece in pieces:
        held += piece
        ends = [place for stop in stops if (place := held.find(stop)) >= 0]
        if ends:
            if held[:min(ends)]:
                yield held[:min(ends)]
            return
        kept = max((size for stop in stops for size in range(1, len(stop)) if held.endswith(stop[:size])), default=0)
        if held[:len(held) - kept]:
            yield held[:len(held) - kept]
        held = held[len(held) - kept:]
    if held:
        yield held
