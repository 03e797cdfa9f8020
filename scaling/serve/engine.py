"""The engine: a queue of texts to write, the slots that they are written in, and the thread that does it.

Texts take free slots in the order in which they came, as soon as there are any, and leave them at their ends, when nobody
wants them any more, or when their time is over. What a text becomes depends on its prompt, its options and its number
alone: text number i of a request is text i of `RestoredRun.generate` for the same prompt, options and seed. There is no
HTTP here.
"""

import collections
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scaling.data.tokenizers import Tokenizer
from scaling.families import _generate
from scaling.serve.errors import ServeError
from scaling.serve.slots import Chance, Drawing, Slots
from scaling.study.prompts import END, TextOfTokens

STOP, LENGTH, TIMEOUT, ERROR, CANCELLED = "stop", "length", "timeout", "error", "cancelled"  # why a text ends
REMEMBERED = 64  # texts whose durations say how long a full queue takes


class QueueFull(Exception):
    """There is no room for more texts now; `seconds` says after what time there probably is."""

    def __init__(self, seconds: int):
        super().__init__(f"the queue is full; try again in {seconds} s")
        self.seconds = seconds


class Closed(Exception):
    """The engine takes no more texts: it is shutting down, or it failed."""


@dataclasses.dataclass(frozen=True)
class ServeLimits:
    """What one request, and all of them together, may ask for. The time of a step grows with `slots` and, for models that
    attend, with the sum of `prompt_tokens` and `new_tokens`, whatever texts use of it."""

    slots: int = 8  # texts that are written side by side
    queue: int = 256  # texts that wait for a slot
    prompt_tokens: int | None = None  # None: as many as the model was trained to see
    new_tokens: int | None = None  # likewise
    texts: int = 32  # of one request
    seconds: float = 120.0  # of one request, waiting included


@dataclasses.dataclass(frozen=True)
class Options:
    """What a request asks of each of its texts: see `RestoredRun.generate`. `seed` determines what is drawn."""

    max_tokens: int = 16
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None  # of how many tokens at each place a client hears how probable they were; None: of none
    echo: bool = False  # with logprobs: whether it hears so of the tokens of the prompt too


@dataclasses.dataclass(frozen=True)
class Piece:
    """More of text number `index`: `text`, which may be empty, after `tokens` tokens of it. `finish` says why it ends here,
    and is None before its end. `chance` is that of its last token, where the request asks for it, and `before` has those of
    its prompt's tokens, where the request asks for these and the piece is the first."""

    index: int
    text: str
    tokens: int
    finish: str | None = None
    chance: Chance | None = None
    before: tuple[Chance, ...] = ()


class _Text:
    """A text that is being written."""

    def __init__(self, job: "Job", index: int, prompt: np.ndarray, tokenizer: Tokenizer):
        self.job, self.index, self.prompt, self.tokens = job, index, prompt, 0
        self.began = 0.0  # seconds of the monotonic clock, when it got its slot
        self.written = TextOfTokens(tokenizer, job.options.stop)

    def tell_prompt(self, chances: Sequence[Chance]) -> None:
        """Tells the listener how probable the tokens of the prompt were."""
        self.job.tell(Piece(self.index, "", 0, before=tuple(chances)))

    def add(self, token: int, chance: Chance | None = None) -> bool:
        """Tells the listener of one more token, and of its chance. Whether the text ends with it."""
        if token == END:
            self.end(STOP)
            return True
        self.tokens += 1
        piece = self.written.add(token)
        finish = STOP if self.written.ended else LENGTH if self.tokens == self.job.options.max_tokens else None
        if finish == LENGTH:
            piece += self.written.rest()
            finish = STOP if self.written.ended else LENGTH
        self.job.tell(Piece(self.index, piece, self.tokens, finish, chance))
        return finish is not None

    def end(self, why: str) -> None:
        rest = "" if self.written.ended else self.written.rest()
        self.job.tell(Piece(self.index, rest, self.tokens, why))


class Job:
    """A request: some texts with the same options. `cancel` frees its slots; the listener hears of its pieces."""

    def __init__(self, options: Options, listener: Callable[[Piece], Any], deadline: float):
        self.options, self.listener, self.deadline, self.cancelled = options, listener, deadline, False
        self.scored: dict[bytes, list[Chance]] = {}  # those of prompts, by their tokens, since copies share them

    def cancel(self) -> None:
        """Nobody wants the rest: at the next step the texts leave their slots, or the queue."""
        self.cancelled = True

    def over(self) -> str | None:
        """Why the texts of the job must end now, if they must."""
        return CANCELLED if self.cancelled else TIMEOUT if time.monotonic() >= self.deadline else None

    def tell(self, piece: Piece) -> None:
        if self.cancelled and piece.finish is None:
            return
        try:
            self.listener(piece)
        except RuntimeError:  # the loop of the listener has closed
            self.cancelled = True


def _fitted(limits: ServeLimits, family) -> ServeLimits:
    """Limits that a family can keep, all of them numbers: learned positions end at a length."""
    longest = _generate.find_longest(family)
    most = math.inf if longest is None else longest - 1
    found = {name: int(min(getattr(limits, name) or family.length, most)) for name in ("prompt_tokens", "new_tokens")}
    return dataclasses.replace(limits, **found)


class Engine:
    """Writes texts with one model; see the module. `start` begins, `close` ends, and any thread may call `submit`."""

    def __init__(self, family, params, tokenizer: Tokenizer, limits: ServeLimits | None = None):
        self.family, self.tokenizer = family, tokenizer
        self.limits = _fitted(limits or ServeLimits(), family)
        self.slots = Slots(family, params, self.limits.slots, self.limits.prompt_tokens, self.limits.new_tokens)
        self.error: BaseException | None = None
        self._running: dict[int, _Text] = {}
        self._waiting: collections.deque[_Text] = collections.deque()
        self._changed, self._closing = threading.Condition(), False
        self._durations: collections.deque[float] = collections.deque(maxlen=REMEMBERED)
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> "Engine":
        """Compiles everything, and begins to take texts."""
        self.slots.warm()
        self._thread.start()
        return self

    def close(self, finish: bool = True) -> None:
        """Takes no more texts, and returns when those that it has are written or, without `finish`, cancelled."""
        with self._changed:
            self._closing = True
            if not finish:
                for text in (*self._running.values(), *self._waiting):
                    text.job.cancel()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Slots in use."""
        return len(self._running)

    def submit(self, prompts: Sequence[np.ndarray], options: Options, listener: Callable[[Piece], Any], *,
               copies: int = 1) -> Job:
        """Queues `copies` texts after each prompt, int32 [n]. `listener` gets their pieces, in the engine's thread.

        Copy j after prompt i has number i * copies + j. Raises ServeError for what the model or the limits do not allow,
        QueueFull, and Closed.
        """
        self.check(prompts, options, copies)
        job = Job(options, listener, time.monotonic() + self.limits.seconds)
        texts = [_Text(job, i * copies + j, prompt, self.tokenizer)
                 for i, prompt in enumerate(prompts) for j in range(copies)]
        with self._changed:
            if self._closing or self.error:
                raise Closed("the server is shutting down" if self._closing else f"the engine failed: {self.error}")
            free = self.limits.slots - len(self._running)
            if len(self._waiting) + len(texts) > self.limits.queue + free:
                raise QueueFull(self._patience())
            self._waiting.extend(texts)
            self._changed.notify()
        return job

    def check(self, prompts: Sequence[np.ndarray], options: Options, copies: int = 1) -> None:
        """Raises ServeError for a request that can never be served."""
        limits, most = self.limits, min(self.limits.texts, self.limits.queue + self.limits.slots)
        if not 1 <= len(prompts) * copies <= most:
            raise ServeError(f"a request is for 1 to {most} texts, and {len(prompts)} prompts with {copies} each make "
                             f"{len(prompts) * copies}", "n")
        for i, prompt in enumerate(prompts):
            if len(prompt) > limits.prompt_tokens:
                raise ServeError(f"prompt {i} has {len(prompt)} tokens; the most here are {limits.prompt_tokens}", "prompt")
        if options.max_tokens > limits.new_tokens:
            raise ServeError(f"max_tokens is {options.max_tokens}; the most here are {limits.new_tokens}", "max_tokens")
        if options.echo and options.logprobs is not None and "text" not in self.family.reads:
            raise ServeError("a family that writes a text given another one says nothing of how probable that one was: "
                             "leave out echo or logprobs", "echo")
        if "" in options.stop:
            raise ServeError("a text cannot end before the empty string '': leave it out", "stop")
        try:
            _generate.check_request(self.family, prompts, options.max_tokens, options.temperature, options.top_k,
                                    options.top_p)
        except ValueError as error:
            word = str(error).partition(" ")[0]
            raise ServeError(str(error), word if word in vars(options) else "prompt") from None

    def _patience(self) -> int:
        """Seconds after which the texts of a full queue have probably moved on by a slot's worth of them."""
        usual = sum(self._durations) / len(self._durations) if self._durations else 1.0
        return max(1, math.ceil(usual * len(self._waiting) / self.limits.slots))

    def _work(self) -> None:
        try:
            while self._admit():
                tokens = self.slots.step() if self._running else None
                for slot, text in list(self._running.items()):
                    self._after_token(slot, text, int(tokens[slot]))
        except BaseException as error:  # whatever it was, nobody may wait for ever
            logging.exception("the engine failed")
            with self._changed:
                self.error = error
                left = [*self._running.values(), *self._waiting]
                self._running.clear()
                self._waiting.clear()
            for text in left:
                text.end(ERROR)

    def _admit(self) -> bool:
        """Ends what must end, and begins as many texts as there are free slots. False when nothing will ever come."""
        with self._changed:
            while not (self._waiting or self._running or self._closing):
                self._changed.wait()
            over = {text: why for text in (*self._waiting, *self._running.values()) if (why := text.job.over())}
            if over:
                self._waiting = collections.deque(text for text in self._waiting if text not in over)
                self._running = {slot: text for slot, text in self._running.items() if text not in over}
            free = [slot for slot in range(self.limits.slots) if slot not in self._running]
            begun = [(slot, self._waiting.popleft()) for slot in free[:len(self._waiting)]]
            self._running.update(begun)
            left = bool(self._running or self._waiting) or not self._closing
        for text, why in over.items():
            text.end(why)
        for slot, text in begun:
            options = text.job.options
            drawing = Drawing(options.temperature, options.top_k, options.top_p, options.seed, text.index)
            text.began = time.monotonic()
            if options.echo and options.logprobs is not None:
                text.tell_prompt(self._chances_of(text))
            self._after_token(slot, text, self.slots.begin(slot, text.prompt, drawing))
        return left

    def _chances_of(self, text: _Text) -> list[Chance]:
        scored, key = text.job.scored, text.prompt.tobytes()
        if key not in scored:
            scored[key] = self.slots.chances_of(text.prompt)
        return scored[key]

    def _after_token(self, slot: int, text: _Text, token: int) -> None:
        if text.add(token, None if text.job.options.logprobs is None else self.slots.chance(slot)):
            with self._changed:
                del self._running[slot]
            self._durations.append(time.monotonic() - text.began)
