"""Async connections on their edges: other loops' transports, servers out of turn, calls that are thrown away."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from rage_retrievers._flow import WireRequest, WireResponse
from rage_retrievers.engines import ENGINES, engines_named
from rage_retrievers.errors import ConnectionFailedError
from rage_retrievers.testing import Fault, FaultServer, Hang, answer
from testing.engines import leave_in_a_closed_loop
from testing.tls import server_context, trusting

OVER_HTTP = [name for name in ENGINES if name != "embedded"]
REFUSAL = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
WELCOME = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


def question(url: str, body: bytes = b"{}") -> WireRequest:
    return WireRequest("POST", f"{url}/v1", (), body)


@contextmanager
def serving(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of bare sockets on loopback; each connection is handled in a thread and closed after the test."""
    kept: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):  # closed at the end
            while True:
                kept.append(listener.accept()[0])
                threading.Thread(target=handle, args=(kept[-1],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


class Foreign:
    """A transport that is no `asyncio.Transport`, as uvloop's are not."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OtherLoop(asyncio.SelectorEventLoop):
    async def create_connection(self, factory: Any, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        def make() -> Any:
            protocol = factory()
            made = protocol.connection_made
            protocol.connection_made = lambda transport: made(Foreign(transport))
            return protocol

        return await super().create_connection(make, *arguments, **options)


@pytest.mark.parametrize("name", OVER_HTTP)
def test_the_transports_of_another_loop_are_used(name: str) -> None:
    """uvloop's are no subclasses of asyncio's."""
    engine = engines_named(name).asyncio()
    with FaultServer(answer()) as server, asyncio.Runner(loop_factory=OtherLoop) as runner:
        for _ in range(2):
            assert runner.run(engine.send(question(server.url), 3.0, 1_000_000)).status == 200
        assert server.connections == 1
        runner.run(engine.aclose())


@pytest.mark.parametrize("name", OVER_HTTP)
def test_what_comes_with_the_handshake_fails_the_call_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS 1.2 lets a server speak first, in the segment that ends the handshake; nobody waits for more then."""
    authority = trustme.CA()
    context = server_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def speak_first(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured, done = context.wrap_bio(incoming, outgoing, server_side=True), False
        while not done:
            try:
                secured.do_handshake()
                done = True
                secured.write(WELCOME)
            except ssl.SSLWantReadError:
                pass
            connection.sendall(outgoing.read())
            if not done:
                incoming.write(connection.recv(65_536))

    engine = engines_named(name).asyncio()
    with trusting(authority, tmp_path, monkeypatch), serving(speak_first) as port, asyncio.Runner() as runner:
        started = time.monotonic()
        with suppress(ConnectionFailedError):  # or it is read as the answer
            runner.run(engine.send(question(f"https://localhost:{port}"), 3.0, 1000))
        assert time.monotonic() - started < 1.5
        runner.run(engine.aclose())


@pytest.mark.parametrize("name", OVER_HTTP)
def test_a_connection_that_still_holds_a_request_is_not_used_again(name: str) -> None:
    """The server answered before it read; the next request would wait behind what it may never read."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(REFUSAL)

    async def twice(url: str) -> list[WireResponse]:
        engine = engines_named(name).asyncio()
        answers = [await engine.send(question(url, bytes(20_000_000)), 3.0, 1000) for _ in range(2)]
        await engine.aclose()
        return answers

    with serving(refuse) as port:
        assert [one.status for one in asyncio.run(twice(f"http://127.0.0.1:{port}"))] == [413, 413]


@pytest.mark.parametrize("name", OVER_HTTP)
def test_a_call_that_is_cancelled_as_it_connects_closes_its_socket(name: str) -> None:
    """At whatever step; none is left for the collector to find."""

    async def cancel(url: str) -> None:
        engine = engines_named(name).asyncio()
        for steps in [*range(12)] * 3:
            task = asyncio.ensure_future(engine.send(question(url), 3.0, 1000))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            del task
            gc.collect()
        await engine.aclose()

    gc.freeze()  # what was there before need not be looked through thirty-six times
    try:
        with FaultServer(Fault((Hang(),))) as server, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            asyncio.run(cancel(server.url.replace("localhost", "127.0.0.1")))
            assert [str(one.message) for one in caught] == []
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("end", [GeneratorExit, asyncio.CancelledError], ids=["thrown away", "cancelled by hand"])
@pytest.mark.parametrize("name", OVER_HTTP)
def test_a_call_whose_loop_was_closed_closes_its_connection(name: str, end: type[BaseException]) -> None:
    """When it ends all the same, without another word: it can await nothing any more."""
    with FaultServer(Fault((Hang(),))) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        kept = leave_in_a_closed_loop(name, question(server.url), server, end)
        assert server.wait_until_idle()
        del kept
        assert [str(one.message) for one in caught if "Lane.aclose" in str(one.message)] == []
