"""The fault server: it does what the script says, records what it was asked, and leaves nothing behind."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rage_retrievers.testing import (
    FAULTS,
    Close,
    Drip,
    Fault,
    FaultServer,
    Flood,
    Hang,
    ReceivedRequest,
    Reset,
    Wait,
    Write,
    answer,
    delay,
    fail_then,
    fraction,
    refused_url,
    status,
)
from testing import raw

FLOOD = Fault((Write(b"HTTP/1.1 200 OK\r\n\r\n"), Flood(b" " * 65_536, 300 * 1024 * 1024)))


def statuses(server: FaultServer, calls: int) -> list[int]:
    return [raw.ask(server.url)[0] for _ in range(calls)]


def test_an_answer_is_right_and_repeats_its_question() -> None:
    """Concurrent callers can tell their own answers, and both scores order the list alike."""
    with FaultServer(answer(documents=4)) as server:
        code, body = raw.ask(server.url, "Why?")
    retrieval = json.loads(body)
    documents = retrieval["documents"]
    assert (code, retrieval["question"], len(documents)) == (200, "Why?", 4)
    for score in ("relevancy", "similarity"):
        assert documents == sorted(documents, key=lambda document: -document[score])


def test_a_sequence_gives_one_fault_per_request_and_repeats_its_last() -> None:
    """The index counts requests over all connections."""
    with FaultServer([status(500), status(404), answer()]) as server:
        assert statuses(server, 5) == [500, 404, 200, 200, 200]


def test_a_function_is_asked_for_the_fault_of_each_index() -> None:
    """A script may be any function of the request's index."""
    with FaultServer(lambda index: status(400 + index)) as server:
        assert statuses(server, 3) == [400, 401, 402]


def test_requests_on_one_connection_move_through_the_script() -> None:
    """A connection is kept for the next request unless a fault ends it."""
    with FaultServer([status(500), answer()]) as server, raw.connected(server.url) as connection:
        seen = []
        for _ in range(2):
            connection.sendall(raw.written())
            seen.append(raw.read_answer(connection)[0])
        assert (seen, server.connections, server.open_connections) == ([500, 200], 1, 1)


def test_fail_then_fails_that_often_and_then_works() -> None:
    """The way back from an outage."""
    with FaultServer(fail_then(2, status(503))) as server:
        assert statuses(server, 4) == [503, 503, 200, 200]


def test_a_fraction_fails_the_same_requests_in_every_run() -> None:
    """Seeded: neither order nor repetition changes which requests fail, and the share holds."""
    bad, good = status(500), answer()
    script = fraction(0.05, bad, good, seed=7)
    chosen = [index for index in range(20_000) if script(index) is bad]
    again = fraction(0.05, bad, good, seed=7)
    assert chosen == sorted(index for index in reversed(range(20_000)) if again(index) is bad)
    assert chosen != [index for index in range(20_000) if fraction(0.05, bad, good, seed=8)(index) is bad]
    assert 900 <= len(chosen) <= 1_100


def test_a_delay_comes_before_the_fault() -> None:
    """The same fault, later."""
    late = delay(0.05, status(503))
    assert late.steps == (Wait(0.05), *status(503).steps)
    with FaultServer(late) as server:
        started = time.monotonic()
        assert raw.ask(server.url)[0] == 503
        assert time.monotonic() - started >= 0.05


def test_play_goes_on_with_another_script_from_its_start() -> None:
    """A service can go down and come up again within one test."""
    with FaultServer(answer()) as server:
        assert statuses(server, 2) == [200, 200]
        server.play([status(503), answer()])
        assert statuses(server, 2) == [503, 200]


def test_requests_are_recorded_as_they_came() -> None:
    """Method, path, headers in lower case, body and port; the credential is not in the repr."""
    with FaultServer(answer()) as server:
        raw.ask(server.url)
        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/v1/org/o/pipelines/p/retrieval")
        assert request.headers["authorization"] == "Bearer secret"
        assert request.json()["question"] == raw.QUESTION
        assert f"http://127.0.0.1:{request.port}/v1" == server.url
        assert "secret" not in repr(request)


def test_a_followed_redirect_shows_in_the_port() -> None:
    """The other origin records what reaches it, so a test can prove that nothing does."""
    with FaultServer(FAULTS["redirect/307-other-origin"].script) as server:
        assert raw.ask(server.url)[0] == 307
        assert raw.ask(server.other_url)[0] == 307
        first, second = server.requests
        assert (first.port, first.other_port) == (second.other_port, second.port)
        assert f"http://127.0.0.1:{second.port}/v1" == server.other_url


def test_close_is_an_end_and_reset_is_a_break() -> None:
    """A client sees FIN as the end of the data, RST as an error."""
    with FaultServer([Fault((Write(b"part"), Close())), Fault((Reset(),))]) as server:
        with raw.connected(server.url) as connection:
            connection.sendall(raw.written())
            assert (connection.recv(100), connection.recv(100)) == (b"part", b"")
        with raw.connected(server.url) as connection:
            connection.sendall(raw.written())
            with pytest.raises(ConnectionResetError):
                connection.recv(100)


def test_a_fault_on_accept_comes_before_any_request() -> None:
    """The connection ends though nothing was sent."""
    with FaultServer(FAULTS["connection/dropped-on-accept"].script) as server:
        with raw.connected(server.url) as connection:
            assert connection.recv(100) == b""
        assert server.requests == []


@pytest.mark.parametrize("step", [Hang(), Wait(60), Drip(b"a", every=60), Drip(b"a", every=0.001, forever=True)])
def test_a_fault_ends_when_its_client_leaves(step: Hang | Wait | Drip) -> None:
    """A client that gave up leaves no connection behind in the server."""
    with FaultServer(Fault((Write(b"HTTP"), step))) as server:
        with raw.connected(server.url) as connection:
            connection.sendall(raw.written())
            assert connection.recv(4) == b"HTTP"
            assert server.open_connections == 1
        assert server.wait_until_idle()
        assert server.open_connections == 0


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET /\r\n\r\n", b"A b c\r\nContent-Length: x\r\n\r\n"]
)
def test_what_is_no_request_ends_its_own_connection_alone(junk: bytes) -> None:
    """The server goes on for everybody else, and counts no request."""
    with FaultServer([status(503), answer()]) as server:
        with raw.connected(server.url) as connection:
            connection.sendall(junk)
            assert connection.recv(100) == b""
        assert statuses(server, 2) == [503, 200]


def test_an_error_in_a_script_is_raised_at_the_end_of_the_block() -> None:
    """A mistake in a test's script is not taken for a dropped connection."""

    def broken(index: int) -> Fault:
        raise LookupError(index)

    with pytest.raises(RuntimeError, match="script") as caught, FaultServer(broken) as server:  # noqa: SIM117
        with raw.connected(server.url) as connection:
            assert connection.recv(100) == b""
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_server_serves_one_block() -> None:
    """Outside its block it has no address, and it is not entered twice."""
    server = FaultServer(answer())
    with pytest.raises(RuntimeError, match="block"):
        _ = server.url
    with server:
        pass
    with pytest.raises(RuntimeError, match="block"):
        server.__enter__()


def test_an_empty_script_is_refused() -> None:
    """There would be nothing to answer the first request with."""
    with pytest.raises(ValueError, match="at least one"):
        FaultServer([])


def asking(server: FaultServer, clients: int) -> list[socket.socket]:
    """Connections that have asked; the server may not have accepted them yet."""
    connections = [socket.create_connection(("127.0.0.1", server.port), 1.0) for _ in range(clients)]
    for connection in connections:
        connection.sendall(raw.written())
    return connections


def see_it_end(connection: socket.socket) -> None:
    """Reads to the end of the connection; TimeoutError if the server has left it open for a second."""
    with connection, suppress(ConnectionResetError):
        while connection.recv(65_536):
            pass


def test_leaving_the_block_ends_everything_at_once() -> None:
    """Silent, dripping, flooding and idle connections end within a second, and so do the thread and its loop."""
    faults = [Fault((Hang(),)), Fault((Drip(b"a" * 10_000),)), FLOOD, delay(60, answer())]
    with FaultServer(faults * 5) as server:
        clients = [*asking(server, 20), socket.create_connection(("127.0.0.1", server.port), 1.0)]
        clients[2].recv(1)
        leaving = time.monotonic()
    assert time.monotonic() - leaving < 1.0
    assert not server._thread.is_alive()
    assert server._loop.is_closed()
    for client in clients:
        see_it_end(client)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_leaving_the_block_ends_what_was_just_accepted() -> None:
    """A connection that comes while the block is left is no exception."""
    for _ in range(10):
        with FaultServer(Fault((Hang(),))) as server:
            clients = asking(server, 20)
        for client in clients:
            see_it_end(client)


def test_a_refused_url_refuses() -> None:
    """Nothing listens there."""
    with pytest.raises(ConnectionRefusedError), raw.connected(refused_url()):
        pass


def test_a_write_may_depend_on_the_request() -> None:
    """A fault's bytes can be made from what was asked."""

    def echo(request: ReceivedRequest) -> bytes:
        return request.path.encode()

    with FaultServer(Fault((Write(echo), Close()))) as server:
        assert raw.drain(server.url) == len("/v1/org/o/pipelines/p/retrieval")


def test_the_server_stays_small_whatever_it_sends() -> None:
    """A body of 300 MB and a bomb of the same size, to a client that reads everything: under 16 MiB."""
    grown = subprocess.run(
        [sys.executable, Path(__file__).with_name("memory.py"), "server"], capture_output=True, text=True, check=True
    )
    assert int(grown.stdout) < 16 * 1024 * 1024, grown.stdout
