"""The fast engine (extra `fast`): reqwest, a Rust HTTP client, through pyreqwest.

Its timeout is a deadline over connecting, headers and body; decompression is done here, within the bound. The library
does not hear of a cancellation: the call ends at once, and its request lives on in the background until its deadline,
on a connection of its own that no other call is given.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import timedelta
from typing import Generic, TypeVar

from pyreqwest.client import Client, ClientBuilder, SyncClient, SyncClientBuilder
from pyreqwest.exceptions import BuilderError, NetworkError, PyreqwestError, RequestTimeoutError
from pyreqwest.http import HeaderMap
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import RequestBuilder, SyncRequestBuilder
from pyreqwest.response import BaseResponse

from .._flow import WireRequest, WireResponse
from ..errors import ConfigurationError, InvalidResponseError, RageError
from ._answer import (
    MAX_HEADER_BYTES,
    Body,
    answer,
    bare,
    check_length,
    connection_failed,
    deadline_passed,
    head_too_large,
    host_of,
)
from ._proxy import proxy_for

KEEPALIVE = timedelta(seconds=30)
PING = timedelta(seconds=5)
"""How often a connection that all calls share is asked whether it still lives, and how long it has to say so."""

B = TypeVar("B", ClientBuilder, SyncClientBuilder)
R = TypeVar("R", RequestBuilder, SyncRequestBuilder)
C = TypeVar("C", Client, SyncClient)


def _configured(builder: B, proxy: str | None) -> B:
    # The library would send plain http through a proxy too, token and all.
    builder = builder.no_proxy() if proxy is None else builder.proxy(ProxyBuilder.https(proxy))
    return (
        builder.follow_redirects(False)
        .gzip(False)
        .deflate(False)
        .brotli(False)
        .zstd(False)
        .referer(False)
        .pool_idle_timeout(KEEPALIVE)
        .http2(True)
        .http2_adaptive_window(True)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        .http1_lower_case_headers()
    )


class _OneAProcess(Generic[C]):
    """The process's client of one kind, and one for each proxy.

    A forked child makes its own: the parent's threads do not live there.
    """

    def __init__(self, builder: type[ClientBuilder] | type[SyncClientBuilder]) -> None:
        self._builder = builder
        self.forget()

    def get(self, origin: str) -> C:
        """The client that reaches an origin, made on first use."""
        proxy = proxy_for(origin)
        client = self._clients.get(proxy)
        if client is None:
            with self._lock:
                if proxy not in self._clients:
                    self._clients[proxy] = _configured(self._builder(), proxy).build()  # type: ignore[assignment,type-var]
                client = self._clients[proxy]
        return client

    def forget(self) -> None:
        """Leave the clients to the process they came from."""
        self._lock = threading.Lock()
        self._clients: dict[str | None, C] = {}


_blocking: _OneAProcess[SyncClient] = _OneAProcess(SyncClientBuilder)
_asyncio: _OneAProcess[Client] = _OneAProcess(ClientBuilder)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_blocking.forget)
    os.register_at_fork(after_in_child=_asyncio.forget)


class _Kept:
    """Which requests may meet a kept connection that the server has closed meanwhile, by origin.

    The library does not tell whether a request used a kept connection. As many requests at once may have as were
    answered before and are over; no others are ever sent a second time.
    """

    _MOST = 64

    def __init__(self) -> None:
        self._idle: dict[str, deque[float]] = {}

    def begin(self, origin: str) -> bool:
        """A request begins; whether a kept connection was there for it."""
        idle = self._idle.get(origin)
        try:
            return idle is not None and time.monotonic() - idle.pop() < KEEPALIVE.total_seconds()
        except IndexError:
            return False

    def end(self, origin: str) -> None:
        """An answer came, so its connection is kept."""
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle.setdefault(origin, deque(maxlen=self._MOST))
        idle.append(time.monotonic())

    def forget(self) -> None:
        """No connection is kept any more."""
        self._idle.clear()


kept = _Kept()


class PyreqwestEngine:
    """Blocking requests over the process's connections."""

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        deadline = time.monotonic() + timeout
        while True:
            progress = _Progress(kept.begin(host_of(request.url)))
            try:
                return self._once(request, deadline - time.monotonic(), max_bytes, progress)
            except _FAILURES as error:
                if _met_a_dead_connection(error, request, progress):
                    continue
                failure = _failure(error, request, timeout)
            raise failure

    @staticmethod
    def _once(request: WireRequest, timeout: float, max_bytes: int, progress: _Progress) -> WireResponse:
        client: SyncClient = _blocking.get(host_of(request.url))
        with _written(client.request(request.method, request.url), request, timeout).build_streamed() as response:
            headers = progress.begun(response)
            check_length(headers, max_bytes)
            reader = response.body_reader
            body = Body(max_bytes)
            while (chunk := reader.read_chunk()) is not None:
                body.add(bytes(chunk))
        kept.end(host_of(request.url))
        return answer(response.status, headers, body.whole(), max_bytes)

    def close(self) -> None:
        """Nothing: idle connections close by themselves after half a minute."""


class AsyncPyreqwestEngine:
    """Async requests over the process's connections, which belong to no event loop."""

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        deadline = time.monotonic() + timeout
        while True:
            progress = _Progress(kept.begin(host_of(request.url)))
            try:
                return await self._once(request, deadline - time.monotonic(), max_bytes, progress)
            except _FAILURES as error:
                if _met_a_dead_connection(error, request, progress):
                    continue
                failure = _failure(error, request, timeout)
            raise failure

    @staticmethod
    async def _once(request: WireRequest, timeout: float, max_bytes: int, progress: _Progress) -> WireResponse:
        client: Client = _asyncio.get(host_of(request.url))
        builder = _written(client.request(request.method, request.url), request, timeout)
        async with builder.build_streamed() as response:
            headers = progress.begun(response)
            check_length(headers, max_bytes)
            reader = response.body_reader
            body = Body(max_bytes)
            while (chunk := await reader.read_chunk()) is not None:
                body.add(bytes(chunk))
        kept.end(host_of(request.url))
        return answer(response.status, headers, body.whole(), max_bytes)

    async def aclose(self) -> None:
        """Nothing: idle connections close by themselves after half a minute."""


class _Progress:
    """How far a request came: whether it began on a kept connection, and whether anything of an answer came back."""

    __slots__ = ("answered", "kept")

    def __init__(self, on_kept: bool) -> None:
        self.kept = on_kept
        self.answered = False

    def begun(self, response: BaseResponse) -> dict[str, str]:
        """The headers have come."""
        self.answered = True
        return _headers(response)


_FAILURES = (PyreqwestError, OSError, ValueError, RuntimeError, RageError)


def _met_a_dead_connection(error: Exception, request: WireRequest, progress: _Progress) -> bool:
    return isinstance(error, NetworkError) and not progress.answered and request.repeatable and progress.kept


def _written(builder: R, request: WireRequest, timeout: float) -> R:
    headers = [*request.headers, ("accept-encoding", "gzip")]
    return builder.headers(headers).body_bytes(request.body).timeout(timedelta(seconds=timeout))


def _headers(response: BaseResponse) -> dict[str, str]:
    try:
        headers = {name.lower(): value for name, value in response.headers.items()}
    except ValueError:  # a value that is not ASCII; this library shows no bytes, so it is left out
        headers = _readable(response.headers)
    if sum(map(len, headers.values())) + sum(map(len, headers)) > MAX_HEADER_BYTES:
        raise head_too_large()
    coding = headers.get("transfer-encoding", "chunked").strip().lower()
    if coding != "chunked":
        raise InvalidResponseError(f"The answer has the transfer coding {coding[:20]!r}, which was not asked for.")
    return headers


def _readable(headers: HeaderMap) -> dict[str, str]:
    found = {}
    for name in headers:
        with suppress(ValueError):
            found[name.lower()] = headers[name]
    return found


def _failure(error: Exception, request: WireRequest, timeout: float) -> RageError:
    """What the library's error means to the caller. No cause is kept: its details may quote the request."""
    if isinstance(error, RageError):
        bare(error)  # the frames it passed through hold what was read so far
        return error
    if isinstance(error, RequestTimeoutError | TimeoutError):
        return deadline_passed(request, timeout)
    if isinstance(error, BuilderError):
        return ConfigurationError(f"The request to {host_of(request.url)} cannot be written: {type(error).__name__}.")
    if isinstance(error, RuntimeError) and "fork" in str(error):
        return ConfigurationError(
            'engine="pyreqwest" cannot be used in a process that was forked after its first request; start processes '
            'with the method "spawn", or use engine="httpx".'
        )
    return connection_failed(request, _innermost(error), None)


def _innermost(error: Exception) -> str:
    """The last of the library's causes, such as "Connection refused (os error 111)"; they quote no header."""
    details = getattr(error, "details", None)
    causes = details.get("causes") if isinstance(details, dict) else None
    return str(causes[-1]["message"]) if causes else f"it was cut short or is not valid HTTP ({type(error).__name__})"
