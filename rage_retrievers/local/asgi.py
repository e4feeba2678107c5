"""The embedded service as an ASGI application, and the server that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Callable, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from rage_retrievers.local.service import LocalService
from rage_retrievers.local.wire import LocalResponse, RefusedError

MAX_UPLOAD_BYTES = 64 * 1024 * 1024
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d+)?")


def asgi_app(
    service: LocalService,
    *,
    hosts: Callable[[str], bool] | None = None,
    routes: Sequence[BaseRoute] = (),
    loop_waits: bool = False,
) -> Starlette:
    """The service as an ASGI application; `hosts` tells which Host header names are answered, all when None.

    `routes` are answered beside the service's own, and before them. Answers are worked out in threads; with
    `loop_waits`, for a loop that serves nobody else, brief ones in the event loop itself, in a fifth less time.
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
        asked = (request.method, path, dict(request.headers), body)
        brief = service.handle_briefly(*asked) if loop_waits else None
        return _response(await run_in_threadpool(service.handle, *asked) if brief is None else brief)

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


class PromptServer(uvicorn.Server):
    """Ends when it is told to: uvicorn's own looks for that ten times a second, and then waits once more."""

    GRACE_SECONDS = 1.0

    def __init__(self, app: Starlette) -> None:
        # The parser that is there by chance (httptools) answers a method it does not know in a form of its own.
        super().__init__(uvicorn.Config(app, http="h11", log_config=None, access_log=False, lifespan="off", ws="none"))
        self._ticking: asyncio.Task[None] | None = None

    def end(self) -> None:
        """From any thread: stop answering; requests under way have a second to end."""
        self.should_exit = True
        if self._ticking is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
                self._ticking.get_loop().call_soon_threadsafe(self._ticking.cancel)

    async def main_loop(self) -> None:
        self._ticking = asyncio.create_task(super().main_loop())
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticking

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in [*self.servers, *(sockets or ())]:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        end = time.monotonic() + self.GRACE_SECONDS
        while self.server_state.connections and time.monotonic() < end:  # noqa: ASYNC110  # nobody is told of an end
            await asyncio.sleep(0.005)
