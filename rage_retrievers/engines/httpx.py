"""The default engine: httpx's transports, one connection each, with a deadline that holds while bytes drip in.

httpx's own timeouts are per read, and its pools grow slow with their size and break when requests are cancelled. So
each lane is a transport with a single connection, and blocking reads go through a stream that knows the instant by
which the whole call must end.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
import weakref
from collections.abc import Iterable
from functools import cache
from typing import Any

import httpcore
import httpx

from .._flow import WireRequest, WireResponse
from ..errors import ConfigurationError, RageError
from ._answer import (
    answer,
    bare,
    check_length,
    collect,
    connection_failed,
    deadline_passed,
    head_too_large,
    host_of,
    too_large,
)
from ._lanes import Lanes

KEEPALIVE_SECONDS = 30.0


@cache
def tls_context() -> ssl.SSLContext:
    """One context for every connection, so that TLS sessions are reused and certificates are loaded once."""
    return httpx.create_ssl_context()


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose every read and write ends by the lane's deadline."""

    def __init__(self, stream: httpcore.NetworkStream, lane: _Lane) -> None:
        self._stream = stream
        self._lane = lane

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._lane.remaining(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), 65_536):
            self._stream.write(buffer[start : start + 65_536], self._lane.remaining(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        remaining = self._lane.remaining(httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, remaining), self._lane)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend, lane: _Lane) -> None:
        self._backend = backend
        self._lane = lane

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        remaining = self._lane.remaining(httpcore.ConnectTimeout)
        stream = self._backend.connect_tcp(host, port, remaining, local_address, socket_options)
        return _DeadlineStream(stream, self._lane)


# How a kept connection that the server has closed meanwhile fails when it is used again.
_ENDED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_SECONDS)


class _Lane:
    """One transport with one connection, used by one call at a time."""

    def __init__(self) -> None:
        self.deadline = 0.0
        self.transport = httpx.HTTPTransport(verify=tls_context(), limits=_ONE)
        # httpx offers no way to hand its transport a network backend, which httpcore takes as a documented argument.
        pool: Any = self.transport._pool
        pool._network_backend = _DeadlineBackend(pool._network_backend, self)

    def remaining(self, late: type[Exception]) -> float:
        """Seconds until the deadline; raises `late` when it has passed."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise late("the deadline has passed")
        return left


_BLOCKING_LANES: Lanes[_Lane] = Lanes(_Lane)


class HttpxEngine:
    """Blocking requests over the process's lanes."""

    name = "httpx"

    def __init__(self) -> None:
        self._lanes = _BLOCKING_LANES

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        deadline = time.monotonic() + timeout
        lane, kept = self._lanes.take(host_of(request.url))
        kept = kept and request.repeatable and _is_connected(lane.transport)
        response = self._through(lane, request, deadline, max_bytes, kept=kept)
        if response is None:
            response = self._through(self._lanes.open(), request, deadline, max_bytes, kept=False)
            assert response is not None  # only a kept connection may turn out to have ended
        return response

    def _through(
        self, lane: _Lane, request: WireRequest, deadline: float, max_bytes: int, *, kept: bool
    ) -> WireResponse | None:
        """The answer over this lane; None when its kept connection had ended before anything came back."""
        lane.deadline = deadline
        timeout = deadline - time.monotonic()
        response = None
        try:
            response = lane.transport.handle_request(_written(request, timeout))
            headers = _headers(response)
            check_length(headers, max_bytes)
            assert isinstance(response.stream, httpx.SyncByteStream)
            body = collect(response.stream, max_bytes)
            response.stream.close()
        except BaseException as error:
            lane.transport.close()
            if kept and response is None and isinstance(error, _ENDED):
                return None
            failure = _failure(error, request, timeout)
            if failure is None:
                raise
        else:
            if _has_leftovers(lane.transport):
                lane.transport.close()
            else:
                self._lanes.give_back(host_of(request.url), lane)
            return answer(response.status_code, headers, body, max_bytes)
        raise failure

    def close(self) -> None:
        """Close the idle connections."""
        for lane in self._lanes.drain():
            lane.transport.close()


class _LoopLanes:
    """The lanes of each running event loop: a connection belongs to the loop that opened it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Lanes[httpx.AsyncHTTPTransport]] = (
            weakref.WeakKeyDictionary()
        )

    def here(self) -> Lanes[httpx.AsyncHTTPTransport]:
        """The lanes of the running loop."""
        loop = asyncio.get_running_loop()
        lanes = self._by_loop.get(loop)
        if lanes is None:
            with self._lock:
                self._sweep()
                lanes = self._by_loop.setdefault(loop, Lanes(_async_transport))
        return lanes

    def _sweep(self) -> None:
        """Close what loops that have ended left open; their own closing can no longer run."""
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            for transport in self._by_loop.pop(loop).drain():
                _close_socket(transport)


def _async_transport() -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(verify=tls_context(), limits=_ONE)


def _close_socket(transport: httpx.AsyncHTTPTransport) -> None:
    for connection in transport._pool.connections:
        inner: Any = getattr(connection, "_connection", None)
        stream = getattr(inner, "_network_stream", None)
        raw = stream.get_extra_info("socket") if stream is not None else None
        if raw is not None:
            # asyncio hands out a guarded view of the socket; closing the descriptor is what is left to do.
            getattr(raw, "_sock", raw).close()


_ASYNC_LANES = _LoopLanes()


class AsyncHttpxEngine:
    """Async requests over the running loop's lanes."""

    name = "httpx"

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        deadline = time.monotonic() + timeout
        lanes = _ASYNC_LANES.here()
        transport, kept = lanes.take(host_of(request.url))
        kept = kept and request.repeatable and _is_connected(transport)
        response = await self._through(lanes, transport, request, deadline, max_bytes, kept=kept)
        if response is None:
            response = await self._through(lanes, lanes.open(), request, deadline, max_bytes, kept=False)
            assert response is not None  # only a kept connection may turn out to have ended
        return response

    async def _through(
        self,
        lanes: Lanes[httpx.AsyncHTTPTransport],
        transport: httpx.AsyncHTTPTransport,
        request: WireRequest,
        deadline: float,
        max_bytes: int,
        *,
        kept: bool,
    ) -> WireResponse | None:
        """The answer over this lane; None when its kept connection had ended before anything came back."""
        timeout = deadline - time.monotonic()
        response = None
        try:
            async with asyncio.timeout(timeout):
                response = await transport.handle_async_request(_written(request, timeout))
                headers = _headers(response)
                check_length(headers, max_bytes)
                assert isinstance(response.stream, httpx.AsyncByteStream)
                body = await _acollect(response.stream, max_bytes)
                await response.stream.aclose()
        except BaseException as error:
            await _discard(transport)
            if kept and response is None and isinstance(error, _ENDED):
                return None
            failure = _failure(error, request, timeout)
            if failure is None:
                raise
        else:
            if _has_leftovers(transport):
                await _discard(transport)
            else:
                lanes.give_back(host_of(request.url), transport)
            return answer(response.status_code, headers, body, max_bytes)
        raise failure

    async def aclose(self) -> None:
        """Close the idle connections of the running loop."""
        for transport in _ASYNC_LANES.here().drain():
            await transport.aclose()


async def _discard(transport: httpx.AsyncHTTPTransport) -> None:
    """Close a lane that a failure or a cancellation left in an unknown state."""
    try:
        await asyncio.shield(transport.aclose())
    except Exception:
        _close_socket(transport)


async def _acollect(stream: httpx.AsyncByteStream, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        parts.append(chunk)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_connected(transport: httpx.HTTPTransport | httpx.AsyncHTTPTransport) -> bool:
    """Whether the lane's connection will be used; one that is known to have ended is replaced by httpcore itself."""
    return any(not connection.has_expired() for connection in transport._pool.connections)


def _has_leftovers(transport: httpx.HTTPTransport | httpx.AsyncHTTPTransport) -> bool:
    """Whether the server sent more than its answer: httpcore would take those bytes for the next call's answer."""
    for connection in transport._pool.connections:
        state: Any = getattr(getattr(connection, "_connection", None), "_h11_state", None)
        if state is not None and state.trailing_data[0]:
            return True
    return False


def _written(request: WireRequest, timeout: float) -> httpx.Request:
    limits = {"connect": timeout, "read": timeout, "write": timeout, "pool": timeout}
    headers = [*request.headers, ("accept-encoding", "gzip")]
    return httpx.Request(
        request.method, request.url, headers=headers, content=request.body, extensions={"timeout": limits}
    )


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}


def _failure(error: BaseException, request: WireRequest, timeout: float) -> RageError | None:
    """What the library's error means to the caller; None for cancellation and for what is no failure of the wire."""
    if isinstance(error, RageError):
        bare(error)  # the frames it passed through hold what was read so far
        return error
    if isinstance(error, httpx.TimeoutException | httpcore.TimeoutException | TimeoutError):
        failure: RageError = deadline_passed(request, timeout)
        failure.__cause__ = bare(error)
        return failure
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.LocalProtocolError):
        # No cause is kept: the library's words quote the header that it refuses.
        return ConfigurationError(f"The request to {host_of(request.url)} cannot be written: {type(error).__name__}.")
    if isinstance(error, httpx.RemoteProtocolError):
        if "too long" in str(error):  # h11's word for a head beyond its bound of 100 KB
            return head_too_large()
        return connection_failed(request, "the answer was cut short or is not valid HTTP", None)
    if isinstance(error, httpx.TransportError | OSError):
        return connection_failed(request, str(error) or type(error).__name__, error)
    return None
