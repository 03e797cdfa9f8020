"""The route of completions: from a request to its answer, whole or as a stream of server-sent events."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from scaling.serve.completions import Completion, LogProbs, answer, count_usage, make_choice, read_completion
from scaling.serve.doors import error_body, error_response
from scaling.serve.engine import CANCELLED, ERROR, TIMEOUT, Engine, Job, Piece
from scaling.serve.monitoring import Meters
from scaling.serve.screens import PROMPT, TEXT, Screens

FILTERED = "content_filter"  # why a text ends that the filter took away
FAILURES = {TIMEOUT: (504, "the request took too long"), ERROR: (500, "the engine failed"),
            CANCELLED: (503, "the server is shutting down")}


class Writer:
    """Answers requests with what an engine writes."""

    def __init__(self, engine: Engine, model: str, meters: Meters, screens: Screens):
        self.engine, self.model, self.meters, self.screens = engine, model, meters, screens

    async def answer(self, request: Request, body: Mapping[str, Any]) -> Response:
        """The response to the JSON object of a request. Raises ServeError, QueueFull and Closed."""
        asked = read_completion(body, self.engine.tokenizer)
        self.engine.check(asked.prompts, asked.options, asked.copies)
        for text in asked.texts:
            if (reason := (await self.screens.ask(PROMPT, text)).refused) is not None:
                return error_response(400, f"the prompt is refused: {reason}", "prompt", FILTERED)
        began, loop, pieces = time.monotonic(), asyncio.get_running_loop(), asyncio.Queue()

        def listen(piece):  # in the engine's thread
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        job = self.engine.submit(asked.prompts, asked.options, listen, copies=asked.copies)
        self.meters.tokens.labels("prompt").inc(sum(map(len, asked.prompts)))
        written = self._pieces(asked, pieces, began)
        if asked.stream:
            return EventStream(self._events(asked, written), job)
        try:
            return await self._whole(request, asked, written)
        finally:
            job.cancel()

    async def _pieces(self, asked: Completion, pieces: asyncio.Queue, began: float) -> AsyncGenerator[Piece]:
        """The pieces of all texts until their ends."""
        left, first, count = len(asked.prompts) * asked.copies, True, {}
        try:
            while left:
                piece = await pieces.get()
                if first and piece.tokens:
                    first = False
                    self.meters.first.observe(time.monotonic() - began)
                count[piece.index] = piece.tokens
                if piece.finish:
                    left -= 1
                    self.meters.finished.labels(piece.finish).inc()
                yield piece
        finally:
            self.meters.tokens.labels("completion").inc(sum(count.values()))

    async def _whole(self, request: Request, asked: Completion, written: AsyncGenerator[Piece]) -> Response:
        """One JSON object. A client that goes away takes its texts with it."""
        chances = {}

        async def collect():
            texts, last = {}, {}
            async with contextlib.aclosing(written):
                async for piece in written:
                    texts[piece.index] = texts.get(piece.index, "") + piece.text
                    self._learn(asked, chances, piece)
                    last[piece.index] = piece
                    if piece.finish in FAILURES:
                        break
            return texts, last

        collecting, leaving = asyncio.create_task(collect()), asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait((collecting, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not collecting.done():
                raise ClientDisconnect
            texts, last = collecting.result()
        finally:
            for task in (collecting, leaving):
                task.cancel()
            await asyncio.gather(collecting, leaving, return_exceptions=True)
        for piece in last.values():
            if piece.finish in FAILURES:
                status, says = FAILURES[piece.finish]
                return error_response(status, says, code=piece.finish)
        choices = []
        for index, text in sorted(texts.items()):
            seen = await self.screens.ask(TEXT, text)
            refused = seen.refused is not None
            finish = FILTERED if refused else last[index].finish
            echo = self._echo(asked, index)
            logprobs = chances[index].take(len(echo) + len(text)) if index in chances and not refused else None
            choices.append(make_choice(index, echo + ("" if refused else text), finish, logprobs, seen.results))
        usage = count_usage(asked, {index: piece.tokens for index, piece in last.items()})
        return JSONResponse(answer(asked, self.model, choices, usage))

    async def _events(self, asked: Completion, written: AsyncGenerator[Piece]) -> AsyncIterator[str]:
        """Server-sent events, one for each piece."""
        texts, tokens, shut, chances = {}, {}, set(), {}
        async with contextlib.aclosing(written):
            async for piece in written:
                if piece.finish in FAILURES:
                    status, says = FAILURES[piece.finish]
                    yield _event({"error": error_body(status, says, code=piece.finish)})
                    return
                if piece.index in shut:
                    continue
                fresh = piece.index not in texts
                texts[piece.index] = texts.get(piece.index, "") + piece.text
                tokens[piece.index], text, finish = piece.tokens, piece.text, piece.finish
                self._learn(asked, chances, piece)
                seen = None
                if piece.text or finish:
                    seen = await self.screens.ask(TEXT, texts[piece.index], final=finish is not None)
                    if seen.refused is not None:
                        text, finish = "", FILTERED
                        shut.add(piece.index)
                echo = self._echo(asked, piece.index)
                text = (echo if fresh else "") + text
                if text or finish:
                    shown = piece.index in chances and piece.index not in shut
                    logprobs = chances[piece.index].take(len(echo) + len(texts[piece.index])) if shown else None
                    results = seen.results if seen and finish else None
                    yield _event(answer(asked, self.model, [make_choice(piece.index, text, finish, logprobs, results)]))
                if len(shut) == len(asked.prompts) * asked.copies:
                    break
        if asked.usage:
            yield _event(answer(asked, self.model, [], count_usage(asked, tokens)))
        yield "data: [DONE]\n\n"

    def _learn(self, asked: Completion, chances: dict[int, LogProbs], piece: Piece) -> None:
        if piece.before or piece.chance is not None:
            found = chances.setdefault(piece.index, LogProbs(self.engine.tokenizer, asked.options.logprobs or 0))
            if piece.before:
                found.add_prompt(piece.before, self._echo(asked, piece.index))
            if piece.chance is not None:
                found.add(piece.chance)

    def _echo(self, asked: Completion, index: int) -> str:
        return asked.texts[index // asked.copies] if asked.options.echo else ""


class EventStream(StreamingResponse):
    """Server-sent events of a job, which ends when nobody reads them any more, even before the first."""

    def __init__(self, events: AsyncIterator[str], job: Job):
        super().__init__(events, media_type="text/event-stream",
                         headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.job = job

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.job.cancel()


def _event(value: dict) -> str:
    return f"data: {json.dumps(value)}\n\n"


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
