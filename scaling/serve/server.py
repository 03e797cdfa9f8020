"""A process that serves an app until it is told to stop: its socket, its signals, and its end."""

import signal
import socket
import ssl
from collections.abc import Callable

import uvicorn

from scaling.serve.errors import ServeError

CONNECTIONS = 1024  # at a time; more are answered with 503 at once


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address; port 0 takes a free one. Raises ServeError where that cannot be."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        raise ServeError(f"the server cannot listen at {host}:{port}: {error.strerror or error}; give another --host or "
                         "--port (0 takes a free one)") from None
    return found


def url_of(bound: socket.socket, encrypted: bool = False) -> str:
    """The address of a socket, for a browser."""
    host, port = bound.getsockname()[:2]
    return f"http{'s' if encrypted else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def check_certificate(certificate: str, key: str) -> None:
    """Raises ServeError for files that are no certificate in PEM with its key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:  # those of ssl too
        raise ServeError(f"--tls_cert={certificate} with --tls_key={key} is no certificate in PEM with its key "
                         f"({error.strerror or error}); write the paths of both") from None


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine reaches a socket."""
    host = bound.getsockname()[0]
    return host == "::1" or host.startswith("127.")


def serve(app, bound: socket.socket, ready: Callable[[], None], grace: float = 30.0,
          tls: tuple[str, str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT. `ready` is called when requests are answered. `tls` has the files of a certificate
    and of its key.

    A signal closes the socket, so that new requests are refused, and what runs or waits has `grace` seconds to end. A
    second SIGINT does not wait.
    """
    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            if self.started:
                ready()

    for each in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again at its end, when all is done already
        signal.signal(each, lambda number, frame: None)
    certificate, key = tls or (None, None)
    config = uvicorn.Config(app, ssl_certfile=certificate, ssl_keyfile=key, log_level="warning", access_log=False,
                            lifespan="on", limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=max(1, round(grace)),
                            server_header=False)
    server = Server(config)
    server.run(sockets=[bound])
    if not server.started:
        raise ServeError("the server did not start; the lines before this one say why")
