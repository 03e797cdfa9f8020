"""Requests for completions as clients of OpenAI's API write them, and the answers as they read them.

The fields are those of https://platform.openai.com/docs/api-reference/completions/create, and `top_k`. Those that a model
here cannot honour are refused rather than ignored.
"""

import codecs
import dataclasses
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scaling.data.tokenizers import Tokenizer
from scaling.fields import nearest
from scaling.serve.engine import Options
from scaling.serve.errors import ServeError
from scaling.serve.slots import LIKELIEST, Chance
from scaling.study.prompts import PromptError, encode_prompt

LARGEST_SEED = 2**31 - 1
MOST_STOPS = 16
IGNORED = ("user",)  # it is about the caller, not about the text
REFUSED = {  # {field: what it may be all the same}
    "suffix": (None, ""), "logit_bias": (None, {}), "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0), "best_of": (None, 1)}


@dataclasses.dataclass(frozen=True)
class Completion:
    """A request that was read: what to write after which prompts, and how to answer."""

    prompts: list[np.ndarray]  # int32 [n] each
    texts: list[str]  # the prompts as texts
    options: Options
    copies: int = 1
    stream: bool = False
    usage: bool = False  # whether a stream ends with counts
    id: str = dataclasses.field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = dataclasses.field(default_factory=lambda: int(time.time()))


def take_field(body: Mapping[str, Any], name: str, default: Any, good: Callable[[Any], bool], what: str) -> Any:
    """The field `name` of a request, or its default where it is absent or null. ServeError where it is not `good`."""
    value = body.get(name)
    if value is None:
        return default
    if not good(value):
        raise ServeError(f"{name} must be {what}, not {value!r:.80}", name)
    return value


def is_whole(low: int, high: float = math.inf) -> Callable[[Any], bool]:
    """Whether a value is a whole number from `low` to `high`."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(low: float, high: float) -> Callable[[Any], bool]:
    """Whether a value is a number from `low` to `high`."""
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def refuse_unknown(body: Mapping[str, Any], known) -> None:
    """ServeError for a field that the request should not have."""
    for name in body:
        if name not in known:
            raise ServeError(f"there is no field {name!r}; {nearest(name, known)}", name)


def take_seed(body: Mapping[str, Any]) -> int:
    """The seed of a request, or a new one."""
    return take_field(body, "seed", secrets.randbelow(LARGEST_SEED + 1), is_whole(0, LARGEST_SEED),
                f"a whole number from 0 to {LARGEST_SEED}")


def read_completion(body: Mapping[str, Any], tokenizer: Tokenizer) -> Completion:
    """The request in a JSON object. Raises ServeError."""
    refuse_unknown(body, (*FIELDS, *IGNORED, *REFUSED))
    for name, harmless in REFUSED.items():
        if body.get(name) not in harmless and not (name == "best_of" and body[name] == body.get("n", 1)):
            raise ServeError(f"{name} is not supported here: leave it out", name)
    stop = body.get("stop")
    stop = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stop, list) or len(stop) > MOST_STOPS or not all(isinstance(each, str) for each in stop):
        raise ServeError(f"stop must be a string or a list of at most {MOST_STOPS} strings", "stop")
    top_p = take_field(body, "top_p", 1, is_number(0, 1), "a number above 0 and at most 1")
    options = Options(
        max_tokens=take_field(body, "max_tokens", 16, is_whole(1), "a whole number from 1 on"),
        temperature=take_field(body, "temperature", 1.0, is_number(0, 100), "a number from 0 to 100"),
        top_k=take_field(body, "top_k", 0, is_whole(0, LARGEST_SEED), "a whole number; 0 takes all tokens") or None,
        top_p=None if top_p == 1 else top_p, seed=take_seed(body), stop=tuple(stop),
        logprobs=take_field(body, "logprobs", None, is_whole(0, LIKELIEST), f"a whole number from 0 to {LIKELIEST}"),
        echo=take_field(body, "echo", False, _is_bool, "true or false"))
    prompts, texts = _read_prompts(body.get("prompt"), tokenizer)
    asked = take_field(body, "stream_options", {}, lambda value: isinstance(value, dict), "an object")
    return Completion(prompts, texts, options, take_field(body, "n", 1, is_whole(1), "a whole number from 1 on"),
                      stream=take_field(body, "stream", False, _is_bool, "true or false"),
                      usage=bool(asked.get("include_usage")))


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


FIELDS = ("model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "n", "stop", "seed", "stream",
          "stream_options", "echo", "logprobs")


def _read_prompts(prompt: Any, tokenizer: Tokenizer) -> tuple[list[np.ndarray], list[str]]:
    """(tokens, texts) of a text, a list of texts, a list of tokens, or a list of those."""
    if isinstance(prompt, str) or (isinstance(prompt, list) and prompt and all(map(is_whole(0), prompt))):
        prompt = [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise ServeError("prompt must be a string, a list of strings, a list of tokens, or a list of such lists", "prompt")
    tokens, texts = [], []
    for each in prompt:
        if isinstance(each, str):
            try:
                tokens.append(encode_prompt(each, tokenizer))
            except PromptError as error:
                raise ServeError(str(error), "prompt") from None
            texts.append(each)
        elif isinstance(each, list) and each and all(map(is_whole(0, tokenizer.vocab - 1), each)):
            tokens.append(np.array(each, np.int32))
            texts.append(tokenizer.decode(each))
        else:
            raise ServeError(f"a prompt must be a string or a list of tokens from 0 to {tokenizer.vocab - 1}, not "
                             f"{each!r:.80}", "prompt")
    return tokens, texts


def count_usage(request: Completion, tokens: Mapping[int, int]) -> dict[str, int]:
    """The tokens of prompts and, given those of each text, of texts."""
    read, written = sum(map(len, request.prompts)), sum(tokens.values())
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def answer(request: Completion, model: str, choices: list[dict], usage: dict | None = None) -> dict:
    """The object that a client gets, whole or in parts. `seed` is the one to write to get the same texts again."""
    whole = {"id": request.id, "object": "text_completion", "created": request.created, "model": model,
             "system_fingerprint": model, "seed": request.options.seed, "choices": choices}
    return whole | ({} if usage is None else {"usage": usage})


def make_choice(index: int, text: str, finish: str | None, logprobs: dict | None = None, seen: dict | None = None) -> dict:
    """One text of an answer, or a part of it. `seen` is what screens say of the text, where there are any."""
    choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
    return choice | ({"content_filter_results": seen} if seen else {})


class LogProbs:
    """How probable the tokens of one text were, in the lists that clients read."""

    def __init__(self, tokenizer: Tokenizer, most: int):
        self._tokenizer, self._most, self._length, self._waiting = tokenizer, most, 0, []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add_prompt(self, chances: Sequence[Chance], text: str) -> None:
        """The tokens of the prompt, before any other; `text` is what an answer shows of them, which may be nothing."""
        for chance in chances if text else ():
            self.add(chance)
        self._length = len(text)
        self._decoder.reset()  # the text begins with a character of its own

    def add(self, chance: Chance) -> None:
        """One more token of the text."""
        self._waiting.append((self._length, chance))
        self._length += len(self._decoder.decode(self._tokenizer.to_bytes([chance.token])))

    def take(self, length: int) -> dict[str, list]:
        """Of the tokens that begin within the first `length` characters and were not taken before."""
        found = [(offset, chance) for offset, chance in self._waiting if offset < length]
        self._waiting = self._waiting[len(found):]
        tops = [None if chance.nats is None else dict([*chance.likeliest[:self._most], (chance.token, chance.nats)])
                for _, chance in found]
        return {"tokens": [self._word(chance.token) for _, chance in found],
                "token_logprobs": [chance.nats for _, chance in found],
                "top_logprobs": [top and {self._word(token): nats for token, nats in top.items()} for top in tops],
                "text_offset": [offset for offset, _ in found]}

    def _word(self, token: int) -> str:
        """The text of a token, or its bytes where they are no whole characters."""
        own = self._tokenizer.to_bytes([token])
        try:
            return own.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in own)
