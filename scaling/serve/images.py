"""Requests for images as clients of OpenAI's API write them, one after the other.

The fields are those of https://platform.openai.com/docs/api-reference/images/create that mean something here, `seed`, and
`label` and `caption`, which `RestoredRun.sample` explains. A `prompt` that is not empty is the caption of a run that reads
captions, and the label of a run that reads labels.
"""

import asyncio
import base64
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax

from scaling.figures.pixels import image_grid
from scaling.serve.completions import is_whole, refuse_unknown, take_field, take_seed
from scaling.serve.engine import QueueFull
from scaling.serve.errors import ServeError
from scaling.serve.screens import IMAGE, Screens
from scaling.study.restored import RestoredRun, RestoreError

FIELDS = ("model", "prompt", "n", "response_format", "size", "seed", "label", "caption")
IGNORED = ("user", "quality", "style")
MOST = 64  # images of one request


@dataclasses.dataclass(frozen=True)
class Picture:
    """A request that was read: how many images of what. `text` is all that a filter should see of it."""

    count: int
    seed: int
    label: int | str | None = None
    caption: str | None = None

    @property
    def text(self) -> str:
        return " ".join(str(part) for part in (self.label, self.caption) if part is not None)


class Painter:
    """Draws images with one run; one request at a time, while up to `queue` others wait."""

    def __init__(self, run: RestoredRun, queue: int = 64, screens: Screens | None = None):
        self.run, self.queue, self.waiting, self.running = run, queue, 0, 0
        self.screens = screens or Screens()
        self.reads = jax.eval_shape(lambda: run.family.example_batch(1, jax.random.key(0))).keys()
        self._turn, self._seconds = asyncio.Lock(), 1.0

    def read(self, body: Mapping[str, Any]) -> Picture:
        """The request in a JSON object. Raises ServeError."""
        refuse_unknown(body, (*FIELDS, *IGNORED))
        take_field(body, "response_format", "b64_json", lambda value: value == "b64_json", '"b64_json"')
        take_field(body, "size", "auto", lambda value: value == "auto", '"auto": the data decide it')
        label = take_field(body, "label", None, lambda value: _is_text(value) or is_whole(0)(value), "a number or a name")
        caption = take_field(body, "caption", None, _is_text, "a string")
        prompt = take_field(body, "prompt", "", _is_text, "a string")
        if prompt and "caption" in self.reads:
            caption = prompt if caption is None else caption
        elif prompt and "label" in self.reads:
            label = prompt if label is None else label
        elif prompt:
            raise ServeError("this model draws without a label or a caption: leave the prompt empty", "prompt")
        count = take_field(body, "n", 1, is_whole(1, MOST), f"a whole number from 1 to {MOST}")
        return Picture(count, take_seed(body), label, caption)

    def warm(self) -> None:
        """Compiles what will run, so that no request waits for it."""
        plain = {"label": 0, "caption": ""}
        self.run.sample(1, **{name: value for name, value in plain.items() if name in self.reads})

    async def draw(self, picture: Picture) -> dict:
        """The answer: PNGs in base64, or null for those that a screen refuses. Raises ServeError for a label or a caption
        that the run does not have, QueueFull."""
        if self.waiting >= self.queue:
            raise QueueFull(max(1, round(self._seconds * self.waiting)))
        self.waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self.waiting -= 1
        self.running, began = 1, time.monotonic()
        try:
            made = await asyncio.to_thread(self._draw, picture)
        finally:
            self.running, self._seconds = 0, time.monotonic() - began
            self._turn.release()
        return {"created": int(time.time()), "seed": picture.seed, "data": made}

    def _draw(self, picture: Picture) -> list[dict[str, Any]]:
        try:
            images = self.run.sample(picture.count, picture.seed, label=picture.label, caption=picture.caption)
        except RestoreError as error:
            raise ServeError(str(error), "caption" if "caption" in str(error) else "label") from None
        return [self._shown(image) for image in images]

    def _shown(self, image) -> dict[str, Any]:
        """What an answer says of an image, uint8 [H, W, C]."""
        seen = self.screens.look(IMAGE, image)
        png = None
        if seen.refused is None:
            png = base64.b64encode(image_grid(image[None, None], self.run.family.levels)).decode()
        return {"b64_json": png} | ({"content_filter_results": seen.results} if seen.results else {})


def _is_text(value) -> bool:
    return isinstance(value, str)
