"""Prompts: texts as the tokens that a model continues, and which of them a model can continue."""

from collections.abc import Iterable

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
