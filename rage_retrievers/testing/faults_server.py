"""The server that plays faults: raw bytes over TCP on a loopback port, in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self

from ._needs import given_by, need, need_script
from .faults import Close, Drip, Fault, Flood, Hang, ReceivedRequest, Reset, Script, Step, Wait, Write

MAX_REQUEST_BYTES = 16 * 1024 * 1024
RECORDED_REQUESTS = 10_000
STOP_SECONDS = 1.0


class FaultServer:
    """A server on 127.0.0.1 that meets each request with the fault that `script` says; use it in a `with` block.

    Its index counts requests over all connections, from 0. There is a second origin, `other_url`, which answers by the
    same script and shows what followed a redirect: each recorded request names its port. Requests must announce their
    length. Memory stays small whatever is sent; leaving the block breaks every connection and ends the thread. With
    `tls`, a server's context, both origins are https, and faults begin after the handshake.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        need(isinstance(tls, ssl.SSLContext | None), "FaultServer's tls", tls, "a server's ssl.SSLContext")
        self._asked = 0
        self._script = (_by_index(script), 0)
        self._requests: deque[ReceivedRequest] = deque(maxlen=RECORDED_REQUESTS)
        self._live: set[_Connection] = set()
        self._failure: Exception | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._ports: tuple[int, int] | None = None
        self.connections = 0
        """Connections accepted so far."""
        self.resumed = 0
        """How many of them resumed a TLS session."""
        self._tls = tls
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return self._url(0)

    @property
    def other_url(self) -> str:
        """The base URL of the second origin, to which redirects point."""
        return self._url(1)

    def _url(self, origin: int) -> str:
        # Certificates are for names, as a rule.
        place = "http://127.0.0.1" if self._tls is None else "https://localhost"
        return f"{place}:{self._bound[origin]}/v1"

    @property
    def port(self) -> int:
        """The port of `url`."""
        return self._bound[0]

    @property
    def requests(self) -> list[ReceivedRequest]:
        """What was asked, in order of arrival; the last 10,000 requests are kept."""
        return list(self._requests)

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._live)

    def play(self, script: Script) -> None:
        """Go on with another script, whose index starts at 0 with the next request."""
        self._script = (_by_index(script), self._asked)

    def wait_until_idle(self, timeout: float = STOP_SECONDS) -> bool:
        """Wait until no connection is open; whether that came true within `timeout` seconds."""
        return self._idle.wait(timeout)

    def __enter__(self) -> Self:
        if self._ports is not None:
            raise RuntimeError("A FaultServer serves one `with` block; make a new one.")
        listeners = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2)]
        ports = [listener.getsockname()[1] for listener in listeners]
        self._ports = (ports[0], ports[1])
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(listeners, started), name="fault-server", daemon=True)
        self._thread.start()
        started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"The fault server did not stop within {STOP_SECONDS} s.")
        if self._failure is not None and error is None:
            raise RuntimeError("The script of the fault server failed.") from self._failure

    @property
    def _bound(self) -> tuple[int, int]:
        if self._ports is None:
            raise RuntimeError("The fault server has an address inside its `with` block only.")
        return self._ports

    def _run(self, listeners: list[socket.socket], started: Future[None]) -> None:
        try:
            asyncio.run(self._serve_until_stopped(listeners, started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)  # whoever enters the block is waiting for it

    async def _serve_until_stopped(self, listeners: list[socket.socket], started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        ports = self._bound
        # A client that is gone answers no close_notify; asyncio would wait half a minute for it.
        goodbye = None if self._tls is None else 0.05
        servers = [
            await self._loop.create_server(
                partial(_Connection, self, here, there), sock=listener, ssl=self._tls, ssl_shutdown_timeout=goodbye
            )
            for listener, here, there in zip(listeners, ports, reversed(ports), strict=True)
        ]
        started.set_result(None)
        await self._stop.wait()
        await _all_tasks_begun()
        for server in servers:
            server.close()
        await asyncio.sleep(0)  # the last that was accepted becomes a connection
        while self._live:
            for connection in list(self._live):
                connection.abort()
            await asyncio.sleep(0)
        await asyncio.gather(*self._serving)

    # What follows is called by connections, in the server's own thread.

    def _opened(self, connection: _Connection) -> None:
        """Count a connection in."""
        self.connections += 1
        self._live.add(connection)
        self._idle.clear()

    def _closed(self, connection: _Connection) -> None:
        """Count a connection out."""
        self._live.discard(connection)
        if not self._live:
            self._idle.set()

    def _failed(self, error: Exception) -> None:
        """Keep the first error of a script, to raise it at the end of the block."""
        self._failure = self._failure or error

    def _on_accept(self) -> Fault | None:
        """The fault that a new connection meets before it has sent anything, if the script says so."""
        fault = self._next_fault()
        if not fault.on_accept:
            return None
        self._asked += 1
        return fault

    def _on_request(self, request: ReceivedRequest) -> Fault:
        """Record a request and say which fault it meets."""
        self._requests.append(request)
        fault = self._next_fault()
        self._asked += 1
        return fault

    def _next_fault(self) -> Fault:
        fault_of, first = self._script
        return fault_of(self._asked - first)


async def _all_tasks_begun() -> None:
    """Wait until every accepted socket has its transport: asyncio forgets it open if the server is closed before."""
    begun: set[asyncio.Task[Any]] = set()
    for _ in range(100):  # clients that connect without a pause do not keep the server
        tasks = asyncio.all_tasks()
        if tasks <= begun:
            return
        begun = tasks
        await asyncio.sleep(0)


def _by_index(script: Script) -> Callable[[int], Fault]:
    need_script("A fault server's script", script, Fault)
    match script:
        case Fault():
            return lambda _: script
        case Sequence():
            faults = tuple(script)
            return lambda index: faults[min(index, len(faults) - 1)]
        case _:
            return given_by(script, Fault)


class _Connection(asyncio.StreamReaderProtocol):
    """One accepted connection: reads a request, plays its fault, and so on until either side closes."""

    def __init__(self, server: FaultServer, port: int, other_port: int) -> None:
        super().__init__(asyncio.StreamReader(limit=MAX_REQUEST_BYTES), self._accepted)
        self._server = server
        self._ports = (port, other_port)
        self._left = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        secure = transport.get_extra_info("ssl_object")
        self._server.resumed += secure is not None and secure.session_reused
        self._server._opened(self)
        super().connection_made(transport)

    def eof_received(self) -> bool | None:
        self._left.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._left.set()
        super().connection_lost(exc)
        # asyncio closes the socket right after this call; only then is the connection closed for the client too.
        asyncio.get_running_loop().call_soon(self._server._closed, self)

    def abort(self) -> None:
        """Break the connection; what is not sent yet is dropped."""
        self._wire.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._server._serving.add(task)
        try:
            await self._serve(reader, writer)
        except OSError:
            pass  # the client has left
        except Exception as error:
            self._server._failed(error)  # what the script raised is for whoever wrote it
        finally:
            self._server._serving.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        early = self._server._on_accept()
        if early is not None:
            await self._play(early, ReceivedRequest("", "", {}, b"", *self._ports), writer)
        while not self._wire.is_closing() and (request := await _read_request(reader, *self._ports)):
            await self._play(self._server._on_request(request), request, writer)

    async def _play(self, fault: Fault, request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        for step in fault.steps:
            await self._perform(step, request, writer)

    async def _perform(self, step: Step, request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        match step:
            case Write(data):
                await _write(writer, data(request) if callable(data) else data)
            case Drip():
                await self._drip(step, writer)
            case Flood(chunk, total):
                for start in range(0, total, len(chunk)):
                    await _write(writer, chunk[: total - start])
                    await asyncio.sleep(0)  # under TLS, draining lets nobody else tell that the client has left
            case Wait(seconds):
                await self._pause(seconds)
            case Hang():
                await self._left.wait()
            case Close():
                writer.close()
            case Reset():
                # Lingering for 0 s makes the kernel send RST instead of FIN.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self._wire.abort()

    async def _drip(self, drip: Drip, writer: asyncio.StreamWriter) -> None:
        while True:
            for byte in drip.data:
                await _write(writer, bytes([byte]))
                await self._pause(drip.every)
            if not drip.forever:
                return

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the client leaves: then there is nobody left to wait for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._left.wait()
                raise ConnectionResetError("the client has left")


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _read_request(reader: asyncio.StreamReader, port: int, other_port: int) -> ReceivedRequest | None:
    """The next request, or None when there is none that can be read."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        method, path, _version = first.split(" ")
        headers = _read_headers(lines)
        length = int(headers.get("content-length", "0"))
        body = await reader.readexactly(length) if length <= MAX_REQUEST_BYTES else None
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    if body is None:
        return None
    return ReceivedRequest(method, path, headers, body, port, other_port)


def _read_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        key = name.strip().lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return headers
