"""The embedded service over HTTP: an ASGI application, and a server in a thread of this process."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local.service import LocalService
from rage_retrievers.local.wire import LocalResponse, RefusedError

MAX_UPLOAD_BYTES = 64 * 1024 * 1024
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d+)?")


def asgi_app(
    service: LocalService, *, hosts: Callable[[str], bool] | None = None, routes: Sequence[BaseRoute] = ()
) -> Starlette:
    """The service as an ASGI application; `hosts` tells which Host header names are answered, all when None.

    `routes` are answered beside the service's own, and before them.
    """

    async def answer(request: Request) -> Response:
        try:
            body = await _body(request)
        except RefusedError as refused:
            return _response(refused.response())
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody is there to read
        path = request.scope["raw_path"].decode("latin-1") if "raw_path" in request.scope else request.url.path
        if request.scope["query_string"]:
            path += "?" + request.scope["query_string"].decode("latin-1")
        return _response(await run_in_threadpool(service.handle, request.method, path, dict(request.headers), body))

    guard = [] if hosts is None else [Middleware(_OnlyFor, hosts=hosts)]
    app = Starlette(routes=routes, middleware=guard)
    # Not a route: those match neither a path with a newline in it nor every method.
    app.router.default = request_response(answer)
    app.router.redirect_slashes = False
    return app


class _OnlyFor:
    """Answers requests for these host names alone: a web page that renames itself to this machine stays outside."""

    def __init__(self, app: ASGIApp, hosts: Callable[[str], bool]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not Request.url: it puts this server's own address in the place of a header it cannot read.
        if scope["type"] == "http" and not self._hosts(_named(Request(scope).headers.get("host", ""))):
            refused = RefusedError(403, "Forbidden", "this service answers only to the name of the loopback address")
            await _response(refused.response())(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _named(host: str) -> str:
    """The name in a Host header; empty for a header that holds no name."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found[1]


def _response(answer: LocalResponse) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers))


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_UPLOAD_BYTES:
            raise RefusedError(413, "Payload too large", f"a body may have at most {MAX_UPLOAD_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


class LocalServer:
    """Serves from a daemon thread from `with` (or `start`) until its end (or `stop`); port 0 takes any free port.

    Listens on a loopback address; any other `host` needs a service with an `api_key`, else `ConfigurationError`.
    """

    def __init__(
        self, service: LocalService, *, host: str = "127.0.0.1", port: int = 0, routes: Sequence[BaseRoute] = ()
    ) -> None:
        if not is_loopback(host) and not service.has_api_key:
            raise ConfigurationError(
                f"host {host!r} can be reached from other machines: give an api_key, or use 127.0.0.1"
            )
        self._socket = _listen(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        app = asgi_app(service, hosts=is_loopback if is_loopback(host) else None, routes=routes)
        # The parser that is there by chance (httptools) answers a method it does not know in a form of its own.
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
                ws="none",
            )
        )
        self._started = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    def start(self) -> LocalServer:
        """Return once connections are answered."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="rage-local-server", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering; requests under way have a second to end."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def is_loopback(host: str) -> bool:
    """Whether a name or address can only mean this machine."""
    if host.lower() in ("localhost", "testserver"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With protocol 0 asyncio does not set TCP_NODELAY, and every kept-alive request waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        # Listening from here on: a client that connects before the thread runs waits instead of being refused.
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"cannot listen on {host} port {port} ({error.strerror}): choose another") from error
    return listening
