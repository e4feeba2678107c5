"""HTTPS, which is how the service is reached: every engine, blocking and async, against certificates made here."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import hypercorn.asyncio
import hypercorn.config
import pytest
import trustme

from rage_retrievers.engines._network import tls_context
from rage_retrievers.engines.own_client import AsyncOwnClientEngine
from rage_retrievers.errors import ConnectionFailedError, DeadlineExceededError, RageError
from rage_retrievers.testing import FAULTS, Close, Fault, FaultCase, FaultServer, Hang, Reset, answer
from rage_retrievers.testing.faults import answer_body
from testing.engines import OURS, TOKEN, WORLDS, Ask, operation
from testing.tls import server_context, trusting

GRACE = 0.25
OVER_TLS = {name: case for name, case in FAULTS.items() if name.startswith(("time/", "connection/"))}
OVER_TLS |= {name: FAULTS[name] for name in ("size/body-300mb", "size/gzip-bomb", "size/endless-headers")}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def _trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with trusting(authority, tmp_path, monkeypatch):
        yield


@pytest.fixture(params=OURS)
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    with WORLDS[request.param]() as one:
        yield one


@pytest.mark.parametrize("case", OVER_TLS.values(), ids=OVER_TLS.keys())
def test_each_fault_has_its_outcome_over_tls_too(ask: Ask, authority: trustme.CA, case: FaultCase) -> None:
    """The same right answer or typed error as without TLS, within the deadline."""
    timeout = 0.4 if "DeadlineExceededError" in case.outcomes else 3.0
    error: RageError | None = None
    with FaultServer(case.script, tls=server_context(authority)) as server:
        started = time.monotonic()
        try:
            ask(server.url, timeout)
        except RageError as raised:
            error = raised
        assert time.monotonic() - started <= timeout + GRACE
    assert case.allows(error), repr(error)


@pytest.mark.parametrize("name", ["other.invalid", "localhost"])
def test_a_certificate_that_cannot_be_trusted_gets_no_request(ask: Ask, authority: trustme.CA, name: str) -> None:
    """Of another name, or of an unknown authority: a connection error, and the token was not sent."""
    issuer = authority if name != "localhost" else trustme.CA()
    with FaultServer(answer(), tls=server_context(issuer, name)) as server:
        with pytest.raises(ConnectionFailedError, match=r"(?i)certificate"):
            ask(server.url)
        assert server.requests == []


def test_a_new_connection_resumes_the_tls_session(ask: Ask, authority: trustme.CA) -> None:
    """The second connection to a server needs no second exchange of certificates."""
    once = Fault((*answer().steps, Close()))
    with FaultServer(once, tls=server_context(authority)) as server:
        for _ in range(3):
            assert len(ask(server.url).documents) == 5
            server.wait_until_idle()
        assert (server.connections, server.resumed) == (3, 2)


def test_a_handshake_that_never_ends_is_given_up_and_closed(ask: Ask) -> None:
    """A server that accepts and says nothing costs the deadline, and no connection stays open."""
    with FaultServer(Fault((Hang(),), on_accept=True)) as server:
        url = f"https://localhost:{server.port}/v1"
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                ask(url, 0.2)
            assert time.monotonic() - started <= 0.2 + GRACE
        assert server.connections == 3
        assert server.wait_until_idle()


def test_a_reset_in_the_handshake_is_a_failed_connection(ask: Ask) -> None:
    """A broken handshake is told as what it is."""
    with FaultServer(Fault((Reset(),), on_accept=True)) as server, pytest.raises(ConnectionFailedError):
        ask(f"https://localhost:{server.port}/v1")


@contextmanager
def http2_server(authority: trustme.CA) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that speaks HTTP/2 to whoever asks for it, and the scopes of the requests that it answered."""
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scopes.append(scope)
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": answer_body()})

    config = hypercorn.config.Config()
    config.bind, config.loglevel = ["127.0.0.1:0"], "CRITICAL"
    config.create_ssl_context = lambda: _speaking_http2(authority)  # type: ignore[method-assign]
    config.certfile = config.keyfile = "held by the context"
    sockets = config.create_sockets()
    config.create_sockets = lambda: sockets  # type: ignore[method-assign]
    sockets.secure_sockets[0].listen()  # whoever comes before the loop runs waits in line
    port = sockets.secure_sockets[0].getsockname()[1]
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    serving = hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait)
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,), daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{port}/v1", scopes
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


def _speaking_http2(authority: trustme.CA) -> Any:
    context = server_context(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def test_the_callers_own_client_may_speak_http2_over_one_connection(authority: trustme.CA) -> None:
    """Fifty calls at once share a connection, each with its own answer and the token."""

    async def main(url: str) -> list[int]:
        client = httpx.AsyncClient(verify=tls_context(), http2=True)
        engine = AsyncOwnClientEngine(client)
        retrieve = operation(url)

        async def one() -> int:
            return len(retrieve.read(await engine.send(retrieve.build(TOKEN), 5.0, 1_000_000)).documents)

        async with client:
            first = await one()
            return [first, *await asyncio.gather(*(one() for _ in range(50)))]

    with http2_server(authority) as (url, scopes):
        assert asyncio.run(main(url)) == [5] * 51
        assert {scope["http_version"] for scope in scopes} == {"2"}
        assert len({scope["client"] for scope in scopes}) == 1


@pytest.mark.parametrize("world", OURS)
def test_our_engines_keep_to_http_1(world: str, authority: trustme.CA) -> None:
    """A server that offers both is spoken to in HTTP/1.1."""
    with http2_server(authority) as (url, scopes), WORLDS[world]() as ask:
        assert len(ask(url).documents) == 5
        assert [scope["http_version"] for scope in scopes] == ["1.1"]
