"""The routes of a page that watches a workdir: the page, its state as JSON, and health.

    app = make_live_app(Watcher("runs/quickstart"), seconds=5.0)
    uvicorn.run(app)
"""

import hashlib
import threading
import time

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from scaling.report import live_page
from scaling.store import files
from scaling.study import watching


def make_live_app(watcher: watching.Watcher, seconds: float = 5.0) -> Starlette:
    """The application of `watcher`. It looks when it is asked, and at most every so many `seconds`, whoever asks."""
    return _Live(watcher, seconds).app


class _Live:
    """What the routes share."""

    def __init__(self, watcher, seconds):
        self.watcher, self.seconds = watcher, seconds
        self._looking = threading.Lock()
        self._seen: tuple[float, watching.Sight] | None = None
        self._page: tuple[watching.Sight, str] | None = None
        self._results: tuple[object, dict] = (None, {})  # figures, and what they are of
        routes = [Route("/", self.page), Route("/state", self.state), Route("/health", self.health)]
        self.app = Starlette(routes=routes, exception_handlers={
            files.WorkdirError: self._lost, HTTPException: self._wrong, Exception: self._failed})

    async def page(self, request):
        text = await run_in_threadpool(self._render)
        tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-store"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(text, media_type="text/html", headers=headers)

    async def state(self, request):
        sight = await run_in_threadpool(self._look)
        return Response(files.dumps(watching.as_json(sight)), media_type="application/json")

    async def health(self, request):
        return JSONResponse({"status": "ok"})

    def _look(self) -> watching.Sight:
        with self._looking:
            if self._seen is None or time.monotonic() - self._seen[0] >= self.seconds:
                sight = self.watcher.look()
                self._seen = time.monotonic(), sight
            return self._seen[1]

    def _render(self) -> str:
        sight = self._look()
        with self._looking:
            if self._page is None or self._page[0] is not sight:
                self._page = sight, self._html(sight)
            return self._page[1]

    def _html(self, sight) -> str:
        study, now = sight.study, sight.now
        palette = live_page.live_palette(study, now)
        key = (tuple(study.runs["fingerprint"]), tuple(palette.light), files.dumps((study.fit or {}).get("params") or {}))
        if key != self._results[0]:
            self._results = key, live_page.draw_results(study, palette)
        drawn = self._results[1] | live_page.draw_live_curves(study, now, palette)
        return live_page.live_html(
            study, now, palette, drawn, title=sight.title, workdir=sight.workdir, headline=watching.headline(now),
            left=watching.time_left(now), note=sight.note, problems=sight.problems,
            remarks={run.fingerprint: watching.remark(run) for run in now.runs}, seconds=self.seconds)

    # ---- errors

    async def _lost(self, request, error):
        return PlainTextResponse(str(error), 503)

    async def _wrong(self, request, error):
        return PlainTextResponse(f"{request.method} {request.url.path} is not served here; GET /, /state and /health are",
                                 error.status_code)

    async def _failed(self, request, error):
        return PlainTextResponse(f"the workdir cannot be shown at this moment ({type(error).__name__}: {error})", 500)
