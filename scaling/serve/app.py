"""The routes of the server: the API that clients of OpenAI's know, a page to try it on, health, and figures for Prometheus.

    app = make_app(scaling.restore("runs/quickstart"), content_filter=lambda text: "it shouts" if text.isupper() else None)
    uvicorn.run(app)
"""

import contextlib
import importlib.resources
import logging
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from scaling import families
from scaling.results import tuned
from scaling.serve import monitoring
from scaling.serve.doors import BODY, Doors, error_response, read_body
from scaling.serve.engine import Closed, Engine, QueueFull, ServeLimits
from scaling.serve.errors import ServeError
from scaling.serve.images import Painter
from scaling.serve.screens import PROMPT, Filter, Screen, Screens, function_screen
from scaling.serve.writing import FILTERED, Writer
from scaling.study.restore import titled
from scaling.study.restored import RestoredRun


def make_app(run: RestoredRun, limits: ServeLimits | None = None, *, key: str | None = None,
             content_filter: Filter | None = None, name: str | None = None,
             canary: monitoring.Canary | None = None, screens: Sequence[Screen] = ()) -> Starlette:
    """The server of a finished run, for any ASGI server.

    key: what clients must send as `Authorization: Bearer KEY`; None lets everybody in.
    content_filter: sees every prompt and every text, and says why it must not be read, or None. A stream is seen before
        each of its pieces, from its beginning.
    name: another name of the model beside its fingerprint, such as "best".
    canary: whose drift /metrics shows; see `scaling.serve.monitoring.find_canary`.
    screens: more looks of that kind, such as those of `scaling.serve.screens`; answers say what they saw.

    Raises ServeError for a run whose tokens stand for no text, and RestoreError for one that generates nothing.
    """
    screens = [*([function_screen(content_filter)] if content_filter else []), *screens]
    return Service(run, limits or ServeLimits(), key, screens, name, canary).app


class Service:
    """What the routes share; see `make_app`."""

    def __init__(self, run: RestoredRun, limits: ServeLimits, key, screens: Sequence[Screen], name, canary):
        self.run, self.canary = run, canary
        self.names = {run.fingerprint, name} - {None}
        self.meters, self.engine, self.painter = monitoring.Meters(), None, None
        self.screens = Screens(screens, lambda *what: self.meters.screened.labels(*what).inc())
        if run.generates == "text":
            if run.experiment.data.numbers is not None:
                raise ServeError(f"{titled(run)} writes tokens that stand for no text, since its data are "
                                 f"{run.experiment.data.name}; serve a run on text or images")
            self.engine = Engine(run.family, run.params, run.tokenizer, limits)
            self.writer = Writer(self.engine, run.fingerprint, self.meters, self.screens)
        else:
            self.painter = Painter(run, limits.queue, self.screens)
        self._watch()
        routes = [Route("/", self.page), Route("/health", self.health), Route("/metrics", self.metrics),
                  Route("/v1/models", self.models), Route("/v1/models/{model}", self.model),
                  Route("/v1/completions", self.complete, methods=["POST"]),
                  Route("/v1/images/generations", self.draw, methods=["POST"])]
        known = [route.path for route in routes]
        self.app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=HANDLERS,
                             middleware=[Middleware(Doors, meters=self.meters, key=key, known=known)])
        self.app.state.service = self

    def _watch(self):
        served = self.engine or self.painter
        watch = self.meters.watch
        watch("scaling_queue_depth", "Texts, or requests for images, that wait.", lambda: served.waiting)
        watch("scaling_slots_in_use", "Texts, or requests for images, that are being worked on.", lambda: served.running)
        watch("scaling_slots", "The most that can be worked on at a time.",
              lambda: self.engine.limits.slots if self.engine else 1)
        if self.canary is not None:
            watch("scaling_canary_loss_nats", "Loss of a fixed held-out example, per token or dimension.",
                  lambda: self.canary.now)
            watch("scaling_canary_drift_nats", "The same minus its value at the start: 0 while the model is itself.",
                  lambda: self.canary.drift)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app):
        if self.engine:
            self.engine.start()
        else:
            self.painter.warm()
        if self.canary:
            self.canary.begin()
        yield
        if self.canary:
            self.canary.close()
        if self.engine:
            self.engine.close(finish=False)  # the server waited for what was running, as long as it was told to

    # ---- routes

    async def page(self, request):
        return HTMLResponse(importlib.resources.files("scaling.serve").joinpath("page.html").read_text("utf-8"))

    async def health(self, request):
        failed = self.engine and self.engine.error
        about = {"status": "failed" if failed else "ok", "model": self.run.fingerprint}
        return JSONResponse(about | ({"error": str(failed)} if failed else {}), 503 if failed else 200)

    async def metrics(self, request):
        return Response(self.meters.page(), media_type=monitoring.CONTENT_TYPE)

    async def models(self, request):
        return JSONResponse({"object": "list", "data": [self._about()]})

    async def model(self, request):
        self._check_model(request.path_params["model"])
        return JSONResponse(self._about())

    async def complete(self, request):
        body = await self._body(request)
        if self.engine is None:
            says = f"{titled(self.run)} draws images: POST to /v1/images/generations"
            return error_response(404, says, code="wrong_route")
        return await self.writer.answer(request, body)

    async def draw(self, request):
        body = await self._body(request)
        if self.painter is None:
            return error_response(404, f"{titled(self.run)} writes text: POST to /v1/completions", code="wrong_route")
        picture = self.painter.read(body)
        if picture.text and (reason := (await self.screens.ask(PROMPT, picture.text)).refused) is not None:
            return error_response(400, f"the prompt is refused: {reason}", "prompt", FILTERED)
        return JSONResponse(await self.painter.draw(picture))

    async def _body(self, request: Request) -> dict:
        body = await read_body(request, BODY)
        if (model := body.get("model")) is not None:
            self._check_model(model)
        return body

    def _check_model(self, model):
        if model not in self.names:
            raise NoModel(404, f"there is no model {model!r:.80}; there is {self.run.fingerprint}")

    def _about(self) -> dict:
        data = self.run.experiment.data
        about = {"id": self.run.fingerprint, "object": "model", "created": 0, "owned_by": "scaling",
                 "family": families.name(self.run.family), "parameters": self.run.record[tuned.PARAMS],
                 "data": data.name, "generates": self.run.generates}
        if self.engine:
            return about | {"prompt_tokens": self.engine.limits.prompt_tokens, "new_tokens": self.engine.limits.new_tokens}
        return about | {"reads": sorted(self.painter.reads & {"label", "caption"})}


# ---- errors


class NoModel(HTTPException):
    """A request for a model that is not served here."""


async def _refused(request, error: ServeError):
    return error_response(400, str(error), error.param)


async def _full(request, error: QueueFull):
    return error_response(429, str(error), code="queue_full", headers={"Retry-After": str(error.seconds)})


async def _closed(request, error: Closed):
    return error_response(503, str(error), code="closed")


async def _no_model(request, error: NoModel):
    return error_response(404, error.detail, "model", "model_not_found")


async def _http(request, error: HTTPException):
    missing = error.status_code in (404, 405)
    says = f"{request.method} {request.url.path} is not served here; {SERVED}" if missing else error.detail
    return error_response(error.status_code, says, headers=error.headers)


async def _gone(request, error):
    return Response(status_code=499)  # nobody reads it


async def _failed(request, error):
    logging.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(500, "the server failed at this request; its log says why")


SERVED = "POST /v1/completions, POST /v1/images/generations and GET /v1/models are"
HANDLERS = {ServeError: _refused, QueueFull: _full, Closed: _closed, NoModel: _no_model, HTTPException: _http,
            ClientDisconnect: _gone, Exception: _failed}
