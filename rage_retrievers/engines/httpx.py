"""The default engine: httpx's transports, one connection each, with a deadline that holds while bytes drip in.

httpx's own timeouts are per read, and its pools grow slow with their size and break when requests are cancelled. So
each lane is a transport over a single connection of httpcore, without a pool, that belongs to one call at a time. The
requests pass through `httpx.HTTPTransport` all the same, where tools that record or fake httpx expect them.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from functools import lru_cache
from typing import Any

import httpcore
import httpx

from .._flow import WireRequest, WireResponse
from .._world import race_decided
from ..errors import ConfigurationError, RageError
from ._answer import (
    Body,
    answer,
    bare,
    check_length,
    collect,
    connection_failed,
    deadline_passed,
    head_too_large,
    host_of,
)
from ._asyncio_network import AsyncBackend
from ._lanes import Lanes
from ._network import DeadlineBackend, sessions, tls_context
from ._proxy import proxy_for

KEEPALIVE_SECONDS = 30.0
# How a kept connection that the server has closed meanwhile fails when it is used again.
_ENDED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_SECONDS)


class _State:
    """What both worlds ask of a lane's connection: httpcore's own, or the only one of the pool that a proxy needs."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._fresh = True

    def _connections(self) -> list[Any]:
        pool = isinstance(self._owner, httpcore.ConnectionPool | httpcore.AsyncConnectionPool)
        return self._owner.connections if pool else [self._owner]

    def ended(self) -> bool:
        """Whether the server has closed the connection, or it was idle for too long."""
        return all(connection.has_expired() for connection in self._connections())

    def reusable(self) -> bool:
        """Whether the next call may use it: open, and with no byte of the server's left over, which httpcore would
        take for the next answer."""
        return all(connection.is_idle() and not _has_leftovers(connection) for connection in self._connections())

    def answered(self, response: httpx.Response) -> None:
        """A whole answer came: the TLS session serves the next connection too."""
        if self._fresh:
            self._fresh = False
            stream = response.extensions.get("network_stream")
            secure = stream.get_extra_info("ssl_object") if stream is not None else None
            if secure is not None:
                sessions.remember(secure)


def _has_leftovers(connection: Any) -> bool:
    state = getattr(getattr(connection, "_connection", None), "_h11_state", None)
    return state is not None and bool(state.trailing_data[0])


@lru_cache(maxsize=256)
def _origin(origin: str) -> httpcore.Origin:
    # By way of httpx's URL, which is what its transports compare with: it encodes names as IDNA.
    url = httpx.URL(origin)
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/").origin


def _opened(transport: Any, connection: Any, origin: str, backend: Any) -> tuple[Any, _State]:
    """A transport of httpx's over one connection of httpcore's, or over the pool that a proxy needs."""
    proxy = proxy_for(origin)
    if proxy is not None:
        made = transport(verify=tls_context(), limits=_ONE, proxy=proxy)
        made._pool._network_backend = backend
    else:
        context = tls_context() if origin.startswith("https:") else None
        made = transport.__new__(transport)
        # A single connection does all that the transport asks of a pool.
        made._pool = connection(_origin(origin), context, KEEPALIVE_SECONDS, network_backend=backend)
    return made, _State(made._pool)


class _Lane:
    """One blocking connection, used by one call at a time, and its deadline."""

    transport: httpx.HTTPTransport

    def __init__(self, origin: str) -> None:
        self.deadline = 0.0
        self.lost: threading.Event | None = None
        """Set once another request has won the race that this one runs in; None when it runs in none."""
        self._backend = DeadlineBackend(self)
        self.transport, self.state = _opened(httpx.HTTPTransport, httpcore.HTTPConnection, origin, self._backend)

    def remaining(self, late: type[Exception]) -> float:
        """Seconds until the deadline; raises `late` when it has passed."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise late("the deadline has passed")
        return left

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        self.transport.close()
        self._backend.close()


_BLOCKING_LANES: Lanes[_Lane] = Lanes(_Lane, KEEPALIVE_SECONDS)


class HttpxEngine:
    """Blocking requests over the process's lanes."""

    name = "httpx"

    def __init__(self) -> None:
        self._lanes = _BLOCKING_LANES

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        deadline = time.monotonic() + timeout
        origin = host_of(request.url)
        lane, kept = self._lanes.take(origin)
        if kept and lane.state.ended():
            lane.close()
            lane, kept = self._lanes.open(origin), False
        response = self._through(lane, request, deadline, max_bytes, kept=kept and request.repeatable)
        if response is None:
            response = self._through(self._lanes.open(origin), request, deadline, max_bytes, kept=False)
            assert response is not None  # only a kept connection may turn out to have ended
        return response

    def _through(
        self, lane: _Lane, request: WireRequest, deadline: float, max_bytes: int, *, kept: bool
    ) -> WireResponse | None:
        """The answer over this lane; None when its kept connection had ended before anything came back."""
        lane.deadline = deadline
        lane.lost = race_decided.get()
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
            lane.close()
            if kept and response is None and isinstance(error, _ENDED):
                return None
            failure = _failure(error, request, timeout)
            if failure is None:
                raise
        else:
            self._done(lane, host_of(request.url), response)
            return answer(response.status_code, headers, body, max_bytes)
        raise failure

    def _done(self, lane: _Lane, origin: str, response: httpx.Response) -> None:
        if not lane.state.reusable():
            lane.close()
            return
        lane.state.answered(response)
        unused = self._lanes.give_back(origin, lane)
        if unused is not None:
            unused.close()

    def close(self) -> None:
        """Close the idle connections."""
        for lane in self._lanes.drain():
            lane.close()


class _AsyncLane:
    """One connection of one event loop, used by one call at a time."""

    transport: httpx.AsyncHTTPTransport

    def __init__(self, origin: str) -> None:
        self._backend = AsyncBackend()
        self.transport, self.state = _opened(
            httpx.AsyncHTTPTransport, httpcore.AsyncHTTPConnection, origin, self._backend
        )

    async def aclose(self) -> None:
        """Close the connection, whatever state it is in."""
        await self.transport.aclose()
        await self._backend.aclose()

    def abandon(self) -> None:
        """Close the socket alone: the loop that the connection belongs to has ended."""
        self._backend.abandon()


class _LoopLanes:
    """The lanes of each running event loop: a connection belongs to the loop that opened it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Lanes[_AsyncLane]] = (
            weakref.WeakKeyDictionary()
        )

    def here(self) -> Lanes[_AsyncLane]:
        """The lanes of the running loop."""
        loop = asyncio.get_running_loop()
        lanes = self._by_loop.get(loop)
        if lanes is None:
            with self._lock:
                self._sweep()
                lanes = self._by_loop.setdefault(loop, Lanes(_AsyncLane, KEEPALIVE_SECONDS))
        return lanes

    def _sweep(self) -> None:
        """Close what loops that have ended left open; their own closing can no longer run."""
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            for lane in self._by_loop.pop(loop).drain():
                lane.abandon()


_ASYNC_LANES = _LoopLanes()


class AsyncHttpxEngine:
    """Async requests over the running loop's lanes."""

    name = "httpx"

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        deadline = time.monotonic() + timeout
        lanes, origin = _ASYNC_LANES.here(), host_of(request.url)
        lane, kept = lanes.take(origin)
        if kept and lane.state.ended():
            await _discard(lane)
            lane, kept = lanes.open(origin), False
        response = await self._through(lanes, lane, request, deadline, max_bytes, kept=kept and request.repeatable)
        if response is None:
            response = await self._through(lanes, lanes.open(origin), request, deadline, max_bytes, kept=False)
            assert response is not None  # only a kept connection may turn out to have ended
        return response

    async def _through(
        self,
        lanes: Lanes[_AsyncLane],
        lane: _AsyncLane,
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
                response = await lane.transport.handle_async_request(_written(request, timeout))
                headers = _headers(response)
                check_length(headers, max_bytes)
                assert isinstance(response.stream, httpx.AsyncByteStream)
                body = await _acollect(response.stream, max_bytes)
                await response.stream.aclose()
        except BaseException as error:
            await _discard(lane)
            if kept and response is None and isinstance(error, _ENDED):
                return None
            failure = _failure(error, request, timeout)
            if failure is None:
                raise
        else:
            await self._done(lanes, lane, host_of(request.url), response)
            return answer(response.status_code, headers, body, max_bytes)
        raise failure

    @staticmethod
    async def _done(lanes: Lanes[_AsyncLane], lane: _AsyncLane, origin: str, response: httpx.Response) -> None:
        if not lane.state.reusable():
            await _discard(lane)
            return
        lane.state.answered(response)
        unused = lanes.give_back(origin, lane)
        if unused is not None:
            await _discard(unused)

    async def aclose(self) -> None:
        """Close the idle connections of the running loop."""
        for lane in _ASYNC_LANES.here().drain():
            await lane.aclose()


async def _discard(lane: _AsyncLane) -> None:
    """Close a lane that a failure or a cancellation left in an unknown state."""
    try:
        await asyncio.shield(lane.aclose())
    except Exception:
        lane.abandon()


async def _acollect(stream: httpx.AsyncByteStream, max_bytes: int) -> bytes:
    body = Body(max_bytes)
    async for chunk in stream:
        body.add(chunk)
    return body.whole()


@lru_cache(maxsize=256)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)


def _written(request: WireRequest, timeout: float) -> httpx.Request:
    """The request as httpx's transports take it, with the headers that its clients would add."""
    url = _url(request.url)
    headers = [("host", url.netloc.decode("ascii")), *request.headers, ("accept-encoding", "gzip")]
    if request.body:
        headers.append(("content-length", str(len(request.body))))
    limits = {"connect": timeout, "read": timeout, "write": timeout, "pool": timeout}
    stream = httpx.ByteStream(request.body)
    return httpx.Request(request.method, url, headers=headers, stream=stream, extensions={"timeout": limits})


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
