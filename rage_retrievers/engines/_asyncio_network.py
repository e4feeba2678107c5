"""Async connections for httpcore, on asyncio itself: httpcore's own go through anyio, which costs as much again.

A request's head and body leave in one write. Whoever sends sets the deadline around it all, so timeouts of single reads
and writes are not looked at.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import httpcore

from ._network import addresses, is_address, is_readable

_HAPPY_EYEBALLS = 0.25
"""Seconds after which the next address of a name is tried beside the one before, as RFC 8305 advises."""
_PAUSE_ABOVE = 256 * 1024


P = TypeVar("P", bound=asyncio.BaseProtocol)


class _Wire(asyncio.Protocol):
    """What asyncio tells of one connection; bytes that nobody has read yet are bounded by pausing the sender."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.beneath: asyncio.Transport | None = None  # without TLS
        self.ended = False
        self.error: Exception | None = None
        self._received = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self.beneath = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _PAUSE_ABOVE and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self.ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = exc
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read(self, max_bytes: int) -> bytes:
        """Some bytes, or none at the end of the connection. Raises httpcore.ReadError where it broke."""
        while not self._received:
            if self.error is not None:
                raise httpcore.ReadError(str(self.error) or type(self.error).__name__)
            if self.ended:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        if self._paused and len(self._received) <= _PAUSE_ABOVE and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return data

    @property
    def readable(self) -> bool:
        """Whether a read would return at once, as far as the loop has told: there are bytes, or it has ended."""
        return self.ended or bool(self._received)


class AsyncStream(httpcore.AsyncNetworkStream):
    """One connection. What is written waits for the read that follows it."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._unsent = bytearray()

    @property
    def transport(self) -> asyncio.Transport:
        assert self._wire.transport is not None  # set before anybody has the stream
        return self._wire.transport

    @property
    def holds_request(self) -> bool:
        """Whether the server has not taken in all that was written."""
        beneath = self._wire.beneath
        return bool(self._unsent or (beneath is not None and beneath.get_write_buffer_size()))

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unsent:
            self.transport.write(bytes(self._unsent))
            self._unsent.clear()
        return await self._wire.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._wire.error is not None:
            raise httpcore.WriteError(str(self._wire.error))
        self._unsent += buffer

    async def aclose(self) -> None:
        # Not close(): it would wait for a server that takes nothing in.
        abandon(self.transport)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        self._wire.transport = await secured(self.transport, self._wire, ssl_context, server_hostname)
        return AsyncStream(self._wire)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._wire.readable or is_readable(self.transport.get_extra_info("socket"))
        named = {"server_addr": "peername", "client_addr": "sockname"}.get(info, info)
        return self.transport.get_extra_info(named)


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """Makes the connection of one lane, and can close it whatever has become of it."""

    _stream: AsyncStream | None = None

    @property
    def holds_request(self) -> bool:
        """Whether the server has answered a request without taking it in: the next would wait behind it."""
        return self._stream is not None and self._stream.holds_request

    async def aclose(self) -> None:
        """Close what was opened, also where a cancelled TLS handshake left it to nobody."""
        if self._stream is not None:
            await self._stream.aclose()

    def abandon(self) -> None:
        """Close the socket beneath what was opened, where the event loop that serves it has ended."""
        if self._stream is not None:
            abandon(self._stream.transport)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self._stream = AsyncStream(await connected(_Wire, host, port))
        return self._stream


async def connected(make: Callable[[], P], host: str, port: int) -> P:
    """The protocol of a new connection: to the address that answered last, or else to the first that answers now.

    Raises httpcore.ConnectError.
    """
    known = addresses.known(host, port)
    if known is not None:
        try:
            return (await _connected(make, known, port))[1]
        except httpcore.ConnectError:
            addresses.forget(host, port)
        except BaseException:  # no answer from there in time: the next call asks the resolver
            addresses.forget(host, port)
            raise
    transport, protocol = await _connected(make, host, port)
    addresses.reached(host, port, transport.get_extra_info("peername"))
    return protocol


async def _connected(make: Callable[[], P], host: str, port: int) -> tuple[asyncio.Transport, P]:
    loop = asyncio.get_running_loop()
    # Other loops than asyncio's own, such as uvloop, do not know the option. For one address it would do nothing but
    # lose the socket of a connection that is cancelled as it is made.
    several = isinstance(loop, asyncio.BaseEventLoop) and not is_address(host)
    options: Any = {"happy_eyeballs_delay": _HAPPY_EYEBALLS} if several else {}
    try:
        return await loop.create_connection(make, host, port, **options)
    except OSError as error:
        raise httpcore.ConnectError(str(error) or type(error).__name__) from error


async def secured(
    transport: asyncio.Transport, protocol: asyncio.BaseProtocol, context: ssl.SSLContext, host: str | None
) -> asyncio.Transport:
    """The transport once the TLS handshake is done. Raises httpcore.ConnectError, with the connection closed."""
    loop = asyncio.get_running_loop()
    try:
        made = await loop.start_tls(transport, protocol, context, server_hostname=host)
    except (OSError, ssl.SSLError) as error:
        transport.abort()
        raise httpcore.ConnectError(str(error) or type(error).__name__) from error
    assert made is not None
    return made


def abandon(transport: asyncio.Transport | None) -> None:
    """Close the socket beneath a transport whose event loop has ended; where it has not, as the loop would have it."""
    if transport is None:
        return
    try:
        transport.abort()
    except RuntimeError:  # the loop has ended
        # asyncio hands out a guarded view of the socket; closing the descriptor is what is left to do.
        raw = getattr(transport.get_extra_info("socket"), "_sock", None)
        if raw is not None:
            raw.close()
