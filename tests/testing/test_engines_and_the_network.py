"""How the engines reach a server: names, addresses, proxies, and connections that nobody uses any more."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from rage_retrievers.engines import _lanes, _network, _proxy, engines_named
from rage_retrievers.engines._lanes import KEEPALIVE_SECONDS, Lanes
from rage_retrievers.errors import ConnectionFailedError, DeadlineExceededError
from rage_retrievers.testing import Close, Fault, FaultServer, Hang, answer
from testing.engines import OURS, TOKEN, WORLDS, Ask, leave_in_a_closed_loop, operation
from testing.tls import server_context, trusting

GRACE = 0.25
ONE_CALL_A_CONNECTION = Fault((*answer().steps, Close()))


@pytest.fixture(params=OURS)
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    with WORLDS[request.param]() as one:
        yield one


class Resolver:
    """`socket.getaddrinfo`, counted; names that end in .localhost lead to this machine."""

    def __init__(self) -> None:
        self.asked = 0
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        self.asked += name.endswith(".localhost")
        return self._real("127.0.0.1" if name.endswith(".localhost") else host, port, *arguments, **options)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    counted = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", counted)
    monkeypatch.setattr(_network.addresses, "_known", {})
    return counted


def test_an_address_is_kept_for_the_next_connections(ask: Ask, resolver: Resolver) -> None:
    """Three connections ask the resolver once."""
    with FaultServer(ONE_CALL_A_CONNECTION) as server:
        for _ in range(3):
            ask(f"http://kept.localhost:{server.port}/v1")
        assert (server.connections, resolver.asked) == (3, 1)


def test_an_address_that_does_not_answer_any_more_is_looked_up_again(ask: Ask, resolver: Resolver) -> None:
    """A failover by DNS is followed at once, not after ten seconds."""
    with FaultServer(answer()) as server:
        _network.addresses.reached("moved.localhost", server.port, ("127.0.0.2", server.port))
        assert len(ask(f"http://moved.localhost:{server.port}/v1").documents) == 5
        assert resolver.asked == 1


def test_addresses_are_forgotten_after_a_while() -> None:
    """What was known ten seconds ago is asked for again."""
    seconds = [0.0]
    known = _network.Addresses(lambda: seconds[0])
    known.reached("a.example", 443, ("192.0.2.1", 443))
    assert known.known("a.example", 443) == "192.0.2.1"
    seconds[0] = _network.ADDRESS_SECONDS / 2
    known.reached("a.example", 443, ("192.0.2.1", 443))  # another connection there asked nobody
    seconds[0] = _network.ADDRESS_SECONDS
    assert known.known("a.example", 443) is None


def test_a_process_that_asks_many_names_remembers_few() -> None:
    """Of thousands of servers a few hundred addresses and TLS sessions are kept, the newest among them."""
    known, sessions = _network.Addresses(lambda: 0.0), _network.Sessions()
    names = [f"{number}.example" for number in range(2_000)]
    for name in names:
        known.reached(name, 443, ("192.0.2.1", 443))
        sessions.remember(connection_to(name, "session"))
    offered = {name: connection_to(name, None) for name in names}
    for connection in offered.values():
        sessions.resume(connection)
    assert 1 <= sum(known.known(name, 443) is not None for name in names) <= 256
    assert 1 <= sum(connection.session is not None for connection in offered.values()) <= 256
    assert (known.known(names[-1], 443), offered[names[-1]].session) == ("192.0.2.1", "session")


def connection_to(name: str, session: str | None) -> Any:
    """As much of a TLS connection as sessions are kept by."""
    return SimpleNamespace(server_hostname=name, session=session)


def test_a_resolver_that_is_silent_costs_the_deadline(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking a name up is part of the call, in blocking code too."""
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(5) and [])
    try:
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            ask("http://silent.localhost:9/v1", 0.2)
        assert time.monotonic() - started <= 0.2 + GRACE
    finally:
        answered.set()


def test_a_name_that_is_not_known_is_a_failed_connection(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the error says why."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionFailedError, match="Name or service not known"):
        ask("http://unknown.localhost:9/v1")


# Proxies


class Proxy:
    """A proxy on loopback that tunnels CONNECT and records the first line of everything it is asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @contextmanager
    def serving(self) -> Iterator[Proxy]:
        """Serve until the block is left, which breaks every tunnel."""
        with ThreadPoolExecutor(8) as threads, closing(self._listener):
            threads.submit(self._accept, threads)
            yield self
            _break(self._listener, *self._ends)
        for end in self._ends:
            end.close()

    def _accept(self, threads: ThreadPoolExecutor) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._ends.append(client)
            threads.submit(self._tunnel, client, threads)

    def _tunnel(self, client: socket.socket, threads: ThreadPoolExecutor) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.asked.append(head.split(b"\r\n")[0])
        _, port = head.split(b" ")[1].decode().rsplit(":", 1)
        server = socket.create_connection(("127.0.0.1", int(port)))
        self._ends.append(server)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threads.submit(_pour, server, client)
        _pour(client, server)


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # either side may leave
        while data := source.recv(65_536):
            sink.sendall(data)
    _break(source, sink)


def _break(*ends: socket.socket) -> None:
    """Wakes whoever reads there, which closing would not."""
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy().serving() as serving, trusting(AUTHORITY, tmp_path, monkeypatch):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, serving.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield serving


AUTHORITY = trustme.CA()


def test_https_goes_through_the_proxy_of_the_environment(ask: Ask, proxy: Proxy) -> None:
    """In a tunnel, so that the proxy sees the name of the server and nothing else."""
    with FaultServer(answer(), tls=server_context(AUTHORITY)) as server:
        for _ in range(2):
            assert len(ask(server.url).documents) == 5
        assert proxy.asked == [b"CONNECT localhost:%d HTTP/1.1" % server.port]
        assert server.connections == 1


def test_no_proxy_is_heeded(ask: Ask, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host named in NO_PROXY is reached directly."""
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("no_proxy", "localhost")
    with FaultServer(answer(), tls=server_context(AUTHORITY)) as server:
        assert len(ask(server.url).documents) == 5
    assert proxy.asked == []


def test_plain_http_goes_through_no_proxy(ask: Ask, proxy: Proxy) -> None:
    """A token that may travel unencrypted on this machine alone does not leave it by way of a proxy."""
    with FaultServer(answer()) as server:
        assert len(ask(server.url).documents) == 5
    assert proxy.asked == []


@pytest.mark.parametrize("end", [GeneratorExit, asyncio.CancelledError], ids=["thrown away", "cancelled by hand"])
@pytest.mark.parametrize("name", sorted({world.partition("-")[0] for world in OURS}))
def test_a_call_whose_loop_was_closed_leaves_no_tunnel(name: str, end: type[BaseException], proxy: Proxy) -> None:
    """A proxied connection is a pool of httpcore's, which cannot be closed without a loop."""
    with FaultServer(Fault((Hang(),)), tls=server_context(AUTHORITY)) as server:
        kept = leave_in_a_closed_loop(name, operation(server.url).build(TOKEN), server, end)
        assert server.wait_until_idle()
        del kept


def test_a_proxy_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the environment is no part of a call."""
    _proxy.proxy_for.cache_clear()
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert _proxy.proxy_for("https://api.example") == "http://127.0.0.1:1"
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:2")
    assert _proxy.proxy_for("https://api.example") == "http://127.0.0.1:1"
    _proxy.proxy_for.cache_clear()


# Connections that nobody uses any more


def test_a_burst_leaves_no_idle_connections_behind() -> None:
    """Each later call closes one that was idle for too long; the one in use stays."""
    seconds = [0.0]
    lanes = Lanes[object](lambda _: object(), KEEPALIVE_SECONDS, lambda: seconds[0])
    burst = [lanes.take("a")[0] for _ in range(10)]
    assert all(lanes.give_back("a", lane) is None for lane in burst)
    seconds[0] = KEEPALIVE_SECONDS + 1
    closed = []
    for _ in range(12):
        lane, kept = lanes.take("a")
        assert kept
        closed.append(lanes.give_back("a", lane))
    assert [lane for lane in closed if lane is not None] == burst[:9]


def test_a_connection_idle_for_too_long_is_not_used_again(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something between here and the server may have forgotten it without a word."""
    now = time.monotonic
    with FaultServer(answer()) as server:
        for _ in range(2):
            ask(server.url)
        assert server.connections == 1
        monkeypatch.setattr(time, "monotonic", lambda: now() + KEEPALIVE_SECONDS + 1)
        ask(server.url)
        assert server.connections == 2


@pytest.mark.parametrize("world", OURS)
def test_a_new_connection_ends_those_idle_at_other_origins(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An origin that is not asked any more keeps no connection for good."""
    with WORLDS[world]() as ask, FaultServer(answer()) as left, FaultServer(answer()) as server:
        ask(left.url)
        later = time.monotonic() + KEEPALIVE_SECONDS + 1
        for lanes in list(_lanes._every):
            monkeypatch.setattr(lanes, "_clock", lambda: later)
        ask(server.url)
        assert left.wait_until_idle()


@pytest.mark.parametrize("world", OURS)
def test_two_thousand_calls_fifty_at_once_open_fifty_connections(world: str) -> None:
    """Keep-alive holds above twenty connections."""
    name, _, kind = world.partition("-")
    engines = engines_named(name)

    def blocking(url: str) -> None:
        engine, retrieve = engines.blocking(), operation(url)
        with ThreadPoolExecutor(50) as threads:
            list(threads.map(lambda _: engine.send(retrieve.build(TOKEN), 10.0, 1_000_000), range(2000)))
        engine.close()

    async def together(url: str) -> None:
        engine, retrieve = engines.asyncio(), operation(url)
        left = iter(range(2000))

        async def asker() -> None:
            for _ in left:
                await engine.send(retrieve.build(TOKEN), 10.0, 1_000_000)

        await asyncio.gather(*(asker() for _ in range(50)))
        await engine.aclose()

    with FaultServer(answer()) as server:
        if kind == "blocking":
            blocking(server.url)
        else:
            asyncio.run(together(server.url))
        assert server.connections <= 50
        assert server.wait_until_idle()
