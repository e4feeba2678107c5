"""The fast engine (extra `fast`): HTTP/1.1 over plain sockets and asyncio's own transports, parsed by llhttp.

It does what one JSON request and its answer need and no more. Through a proxy of the environment its lanes are httpx's.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import cast

import httpcore

from .._flow import WireRequest, WireResponse
from .._world import race_decided
from ._asyncio_network import abandon, connected, secured
from ._exchange import AsyncLane, AsyncLaneEngine, Lane, LaneEngine
from ._http1 import Reader, parsed, written
from ._lanes import KEEPALIVE_SECONDS, Lanes, LoopLanes
from ._network import DeadlineBackend, Limit, sessions, tls_context, watch
from ._proxy import proxy_for
from .httpx import AsyncHttpxLane, HttpxLane

_READ_SIZE = 64 * 1024
_BUFFER_SIZE = 16 * 1024


class _Lane:
    """What the lanes of both worlds know: where they go, what comes back, and since when they are idle."""

    def __init__(self, origin: str) -> None:
        url = parsed(origin)
        self.secure = url.scheme == "https"
        self.host = url.raw_host.decode("ascii")
        self.port = url.port or (443 if self.secure else 80)
        self.reader = Reader()
        self._idle_since = 0.0

    def response(self, request: WireRequest) -> WireResponse:
        """The answer that was read; from now on the lane is idle."""
        self._idle_since = time.monotonic()
        return self.reader.response(request)

    def idle_too_long(self) -> bool:
        """Whether no call has used it for as long as idle connections are kept."""
        return time.monotonic() - self._idle_since > KEEPALIVE_SECONDS

    def reusable(self) -> bool:
        """Whether the next call may use it."""
        return self.reader.reusable

    def found_dead(self, error: BaseException) -> bool:
        """Whether the connection had ended before anything of an answer came."""
        late = isinstance(error, httpcore.TimeoutException | TimeoutError)
        return not self.reader.begun and isinstance(error, Exception) and not late


class _BlockingLane(_Lane):
    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self._limit = Limit()
        self._backend = DeadlineBackend(self._limit)
        self._stream: httpcore.NetworkStream | None = None

    def _opened(self) -> httpcore.NetworkStream:
        stream = self._backend.connect_tcp(self.host, self.port)
        return stream.start_tls(tls_context(), self.host) if self.secure else stream

    def exchange(self, request: WireRequest, deadline: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        fresh, data = self._stream is None, written(request)
        self._limit.deadline, self._limit.lost = deadline, race_decided.get()
        try:
            stream = self._stream = self._stream or self._opened()
            self.reader.expect(max_bytes)
            with suppress(httpcore.WriteError):  # a server that takes no more may have said why
                stream.write(data)
        finally:
            data = b""  # a failure's traceback holds this frame, and would hold the token with it
        while not self.reader.done:
            received = stream.read(_READ_SIZE)
            if received:
                self.reader.feed(received)
            else:
                self.reader.end()
        if fresh and self.secure:
            sessions.remember(stream.get_extra_info("ssl_object"))
        return self.response(request)

    def ended(self) -> bool:
        """Whether the server has closed the connection, or it was idle for too long."""
        return self.idle_too_long() or self._stream is None or bool(self._stream.get_extra_info("is_readable"))

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        if self._stream is not None:
            self._stream.close()
        self._backend.close()


class _AsyncLane(_Lane, asyncio.BufferedProtocol):
    """One connection of one event loop. What comes in is parsed at once, so nothing has to be paused."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self._transport: asyncio.Transport | None = None
        self._beneath: asyncio.Transport | None = None  # without TLS
        self._waiter: asyncio.Future[bool] | None = None
        self._buffer = memoryview(bytearray(_BUFFER_SIZE))
        self._alarm: asyncio.TimerHandle | None = None
        self._deadline = 0.0  # by the loop's clock
        self._closed = False
        self._error: Exception | None = None

    async def _open(self) -> asyncio.Transport:
        await connected(lambda: self, self.host, self.port)
        assert self._transport is not None  # connection_made has been called
        if self.secure:
            self._transport = await secured(self._transport, self, tls_context(), self.host)
        return self._transport

    async def exchange(self, request: WireRequest, deadline: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        data = written(request)
        try:
            transport, fresh = self._transport, self._transport is None
            if transport is None:
                async with asyncio.timeout(deadline - time.monotonic()):
                    transport = await self._open()
            self.reader.expect(max_bytes)
            if self._closed:  # with the last of the handshake
                raise self._error or ConnectionError("the server ended the connection, or spoke, before it was asked")
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            self._set_alarm(loop, loop.time() + deadline - time.monotonic())
            transport.write(data)
            in_time = await self._waiter
        finally:
            data, self._waiter = b"", None  # a failure's traceback holds this frame, and would hold the token with it
        if not in_time:
            raise TimeoutError
        if self._error is not None and not self.reader.done:
            raise self._error
        if fresh and self.secure:
            sessions.remember(transport.get_extra_info("ssl_object"))
        return self.response(request)

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        # A call in time leaves its alarm to the next one: timers cost more than all else that a lane does.
        self._deadline = deadline
        if self._alarm is None or self._alarm.when() > deadline:
            self._stop_alarm()
            self._alarm = loop.call_at(deadline, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        if self._waiter is not None:
            if loop.time() < self._deadline:
                self._set_alarm(loop, self._deadline)
            else:
                self._wake(False)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _wake(self, in_time: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(in_time)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._beneath = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it
        self._is_readable = watch(transport.get_extra_info("socket"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._waiter is None:  # nobody asked
            self._closed = True
            return
        self.reader.feed(self._buffer[:nbytes])
        if self.reader.done:
            self._wake(True)

    def eof_received(self) -> bool:
        self._closed = True
        if self._waiter is not None:
            self.reader.end()
            self._wake(True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed, self._error = True, exc
        if exc is None and self._waiter is not None:
            self.reader.end()
        self._wake(True)

    def reusable(self) -> bool:
        """Whether the next call may use it; not behind a request that the server answered without taking it in."""
        return self.reader.reusable and self._beneath is not None and not self._beneath.get_write_buffer_size()

    def ended(self) -> bool:
        """Whether the server has closed the connection, or it was idle for too long."""
        if self._closed or self._transport is None or self.idle_too_long():
            return True
        return self._is_readable()

    async def aclose(self) -> None:
        """Close the connection, whatever state it is in."""
        self._stop_alarm()
        self.abandon()

    def abandon(self) -> None:
        """Close the socket alone: the loop that the connection belongs to has ended."""
        abandon(self._transport)


def _lane(origin: str) -> Lane:
    return _BlockingLane(origin) if proxy_for(origin) is None else HttpxLane(origin)


def _async_lane(origin: str) -> AsyncLane:
    return _AsyncLane(origin) if proxy_for(origin) is None else AsyncHttpxLane(origin)


_BLOCKING_LANES: Lanes[Lane] = Lanes(_lane, KEEPALIVE_SECONDS)
_ASYNC_LANES: LoopLanes[AsyncLane] = LoopLanes(_async_lane, KEEPALIVE_SECONDS)


def engine() -> LaneEngine[Lane]:
    """The blocking engine."""
    return LaneEngine("httptools", _BLOCKING_LANES)


def async_engine() -> AsyncLaneEngine[AsyncLane]:
    """The async engine."""
    return AsyncLaneEngine("httptools", _ASYNC_LANES)
