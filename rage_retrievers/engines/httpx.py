"""The default engine: httpx's transports, one connection each, with a deadline that holds while bytes drip in.

httpx's own timeouts are per read, and its pools grow slow with their size and break when requests are cancelled. So
each lane is a transport over a single connection of httpcore, without a pool, that belongs to one call at a time. The
requests pass through `httpx.HTTPTransport` all the same, where tools that record or fake httpx expect them.
"""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import Any

import httpcore
import httpx

from .._flow import WireRequest, WireResponse
from .._world import race_decided
from ._answer import Body, answer, check_length, collect
from ._asyncio_network import AsyncBackend
from ._exchange import AsyncLaneEngine, LaneEngine
from ._lanes import KEEPALIVE_SECONDS, Lanes, LoopLanes
from ._network import DeadlineBackend, Limit, sessions, tls_context
from ._proxy import proxy_for

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


class HttpxLane:
    """One blocking connection, used by one call at a time."""

    transport: httpx.HTTPTransport

    def __init__(self, origin: str) -> None:
        self._limit = Limit()
        self._begun = False
        self._backend = DeadlineBackend(self._limit)
        self.transport, self._state = _opened(httpx.HTTPTransport, httpcore.HTTPConnection, origin, self._backend)
        self.ended, self.reusable = self._state.ended, self._state.reusable

    def exchange(self, request: WireRequest, deadline: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        self._begun = False
        self._limit.deadline, self._limit.lost = deadline, race_decided.get()
        response = self.transport.handle_request(_written(request, deadline - time.monotonic()))
        self._begun = True
        headers = headers_of(response)
        check_length(headers, max_bytes)
        assert isinstance(response.stream, httpx.SyncByteStream)
        body = collect(response.stream, max_bytes)
        response.stream.close()
        self._state.answered(response)
        return answer(response.status_code, headers, body, max_bytes)

    def found_dead(self, error: BaseException) -> bool:
        """Whether the connection had ended before anything of an answer came."""
        return not self._begun and isinstance(error, _ENDED)

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        self.transport.close()
        self._backend.close()


class AsyncHttpxLane:
    """One connection of one event loop, used by one call at a time."""

    transport: httpx.AsyncHTTPTransport

    def __init__(self, origin: str) -> None:
        self._begun = False
        self._backend = AsyncBackend()
        self.transport, self._state = _opened(
            httpx.AsyncHTTPTransport, httpcore.AsyncHTTPConnection, origin, self._backend
        )
        self.ended = self._state.ended

    def reusable(self) -> bool:
        """Whether the next call may use it."""
        return self._state.reusable() and not self._backend.holds_request

    async def exchange(self, request: WireRequest, deadline: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        self._begun = False
        timeout = deadline - time.monotonic()
        async with asyncio.timeout(timeout):
            response = await self.transport.handle_async_request(_written(request, timeout))
            self._begun = True
            headers = headers_of(response)
            check_length(headers, max_bytes)
            assert isinstance(response.stream, httpx.AsyncByteStream)
            body = await acollect(response.stream, max_bytes)
            await response.stream.aclose()
        self._state.answered(response)
        return answer(response.status_code, headers, body, max_bytes)

    def found_dead(self, error: BaseException) -> bool:
        """Whether the connection had ended before anything of an answer came."""
        return not self._begun and isinstance(error, _ENDED)

    async def aclose(self) -> None:
        """Close the connection, whatever state it is in."""
        await self.transport.aclose()
        await self._backend.aclose()

    def abandon(self) -> None:
        """Close the socket alone: the loop that the connection belongs to has ended."""
        self._backend.abandon()


_BLOCKING_LANES: Lanes[HttpxLane] = Lanes(HttpxLane, KEEPALIVE_SECONDS)
_ASYNC_LANES: LoopLanes[AsyncHttpxLane] = LoopLanes(AsyncHttpxLane, KEEPALIVE_SECONDS)


def engine() -> LaneEngine[HttpxLane]:
    """The blocking engine."""
    return LaneEngine("httpx", _BLOCKING_LANES)


def async_engine() -> AsyncLaneEngine[AsyncHttpxLane]:
    """The async engine."""
    return AsyncLaneEngine("httpx", _ASYNC_LANES)


async def acollect(stream: httpx.AsyncByteStream, max_bytes: int) -> bytes:
    """The body, or `ResponseTooLargeError` as soon as it passes the bound."""
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


def headers_of(response: httpx.Response) -> dict[str, str]:
    """The headers as plain data."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
