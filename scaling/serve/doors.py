"""What every request passes: the key, the size and kind of its body, errors as OpenAI's clients read them, and a count."""

import hmac
import json
import time

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from scaling.serve.errors import ServeError
from scaling.serve.monitoring import Meters

BODY = 1 << 20  # bytes of a request
OPEN = ("/", "/health")  # what needs no key
TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}  # others by their hundreds


def error_response(status: int, message: str, param: str | None = None, code: str | None = None, headers=None) -> Response:
    """An error in the shape of OpenAI's API."""
    return JSONResponse({"error": error_body(status, message, param, code)}, status, headers)


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict:
    """What is under "error"."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"message": message, "type": kind, "param": param, "code": code}


async def read_body(request: Request, most: int) -> dict:
    """The JSON object in a request of at most so many bytes.

    Another content type is refused, so that pages of other sites cannot send requests through a browser without asking.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"the content type must be application/json, not {kind or 'missing'!r}")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise HTTPException(413, f"a request has at most {most} bytes")
    try:
        body = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ServeError(f"the request is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ServeError("the request must be a JSON object, such as {\"prompt\": \"def \"}")
    return body


def _no_constant(name):
    raise ValueError(f"{name} is no number")


class Doors:
    """ASGI middleware: refuses requests without the key, and counts and times all of them by route and status."""

    def __init__(self, app: ASGIApp, meters: Meters, key: str | None, known: list[str]):
        self.app, self.meters, self.key, self.known = app, meters, key, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status = time.monotonic(), 499  # what it stays if the client leaves first

        async def watched(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._may_enter(scope):
                await self.app(scope, receive, watched)
            else:
                refusal = error_response(401, "the key is missing or wrong: send it as Authorization: Bearer KEY",
                                         code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
                await refusal(scope, receive, watched)
        finally:
            path = scope["path"]
            route = "/v1/models" if path.startswith("/v1/models") else path if path in self.known else "other"
            self.meters.requests.labels(route, status).inc()
            self.meters.seconds.labels(route).observe(time.monotonic() - began)

    def _may_enter(self, scope) -> bool:
        if self.key is None or scope["path"] in OPEN:
            return True
        sent = Request(scope).headers.get("authorization", "")
        kind, _, key = sent.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self.key.encode())
