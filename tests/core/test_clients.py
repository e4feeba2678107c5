"""Both clients over real HTTP on loopback, and over the embedded pipeline."""

from __future__ import annotations

import asyncio
import pickle
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import httpx
import pytest
from testing.engines import operation

from rage_retrievers import (
    AsyncVectorizeClient,
    CircuitBreaker,
    ConfigurationError,
    ConnectionFailedError,
    Deadline,
    DeadlineExceededError,
    Hedge,
    Pipeline,
    Retrieval,
    Retry,
    StatusError,
    UnauthorizedError,
    VectorizeClient,
)
from rage_retrievers._flow import Flow, Race, Sleep, immediate
from rage_retrievers._world import AsyncioWorld, BlockingWorld
from rage_retrievers.engines import _network as engine
from rage_retrievers.engines import httpx as httpx_engine
from rage_retrievers.resilience.pipeline import shared_homes
from rage_retrievers.testing import Close, Fault, FaultServer, Hang, answer, delay, refused_url, status
from rage_retrievers.testing.faults import Write, http

OPTIONS: dict[str, Any] = {"api_key": "planted-token", "organization": "org-1", "pipeline_id": "aip-1"}


class Noting:
    """A listener that notes the names of the events it hears."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def on_event(self, event: Any, /) -> None:
        """Note the name."""
        self._names.append(event.name)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server that answers three documents to every question."""
    with FaultServer(answer(documents=3)) as server:
        yield server


def blocking(url: str, question: str, **options: Any) -> Retrieval:
    """One retrieval in blocking code."""
    with VectorizeClient(base_url=url, **OPTIONS) as client:
        return client.retrieve(question, **options)


def in_asyncio(url: str, question: str, **options: Any) -> Retrieval:
    """One retrieval in asyncio."""

    client = AsyncVectorizeClient(base_url=url, **OPTIONS)

    async def main() -> Retrieval:
        async with client:
            return await client.retrieve(question, **options)

    return asyncio.run(main())


@pytest.mark.parametrize("ask", [blocking, in_asyncio])
def test_a_question_is_answered_over_http(server: FaultServer, ask: Any) -> None:
    """The documents of a real answer arrive, with the same request on the wire from both clients."""
    retrieval = ask(server.url, "What?", rerank=True, num_results=2)
    assert len(retrieval) == 3
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/org/org-1/pipelines/aip-1/retrieval")
    assert request.body == b'{"question":"What?","numResults":2,"rerank":true}'


@pytest.mark.parametrize("ask", [blocking, in_asyncio])
def test_a_refused_connection_is_a_typed_error(ask: Any) -> None:
    """Nobody listening is a ConnectionFailedError whose text and chain hold no token."""
    with pytest.raises(ConnectionFailedError) as caught:
        ask(refused_url(), "What?", timeout=1.0)
    link: BaseException | None = caught.value
    while link is not None:
        assert "planted-token" not in f"{link!r}"
        link = link.__cause__ or link.__context__


@pytest.mark.parametrize("ask", [blocking, in_asyncio])
def test_a_redirect_is_not_followed(ask: Any) -> None:
    """The token goes to no other origin; the error says what to change."""
    with (
        FaultServer(answer()) as elsewhere,
        FaultServer(status(307, None, ("location", elsewhere.url))) as server,
    ):
        with pytest.raises(StatusError, match="redirects are not followed"):
            ask(server.url, "What?")
        assert elsewhere.requests == []


def test_connections_are_kept_alive(server: FaultServer) -> None:
    """A second question uses the first one's connection, in either world."""
    with VectorizeClient(base_url=server.url, **OPTIONS) as client:
        for _ in range(5):
            client.retrieve("What?")
    assert len(server.requests) == 5
    assert server.connections == 1


def test_a_client_is_shared_by_threads() -> None:
    """Concurrent questions of one client each get their own answer, over as many connections as threads."""
    with FaultServer(delay(0.02, answer())) as server, VectorizeClient(base_url=server.url, **OPTIONS) as client:
        answers: list[Retrieval] = []
        threads = [threading.Thread(target=lambda: answers.append(client.retrieve("What?"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 8
        assert server.connections <= 8


def test_threads_that_begin_together_load_the_certificates_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread makes the TLS context the others wait for it, and all have the same one."""
    made: list[bool] = []

    def make() -> ssl.SSLContext:
        made.append(engine._making_tls_context.locked())
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    engine._made_tls_context.cache_clear()
    monkeypatch.setattr(httpx, "create_ssl_context", make)
    try:
        with ThreadPoolExecutor(8) as pool:
            contexts = list(pool.map(lambda _: engine.tls_context(), range(8)))
    finally:
        engine._made_tls_context.cache_clear()
    assert made == [True]
    assert len(set(map(id, contexts))) == 1


def test_a_probe_warms_the_connection_up_for_every_client() -> None:
    """The status of the pipeline and the questions of another client go over one connection."""
    probe = Fault((Write(http(200, b'{"data": {"id": "aip-1", "status": "LISTENING"}}')),))
    with FaultServer([probe, answer()]) as server:
        options: dict[str, Any] = {"base_url": server.url, **OPTIONS}
        assert VectorizeClient(**options).pipeline().answers
        assert len(VectorizeClient(**options).retrieve("What?")) == 5
        assert server.connections == 1


def test_an_async_client_outlives_an_event_loop(server: FaultServer) -> None:
    """Two asyncio.run in a row work with one client, though a connection belongs to one loop."""
    client = AsyncVectorizeClient(base_url=server.url, **OPTIONS)

    async def ask() -> int:
        return len(await client.retrieve("What?"))

    assert [asyncio.run(ask()), asyncio.run(ask())] == [3, 3]
    asyncio.run(client.aclose())


def test_cancelled_calls_leave_no_connection_and_break_nothing() -> None:
    """Cancelling many questions in flight leaves the client as good as before."""
    with FaultServer(lambda n: delay(30, answer()) if n < 50 else answer()) as server:
        client = AsyncVectorizeClient(base_url=server.url, **OPTIONS)

        async def main() -> int:
            async with client:
                tasks = [asyncio.create_task(client.retrieve("What?")) for _ in range(50)]
                while len(server.requests) < 50:
                    await asyncio.sleep(0.01)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert all(task.cancelled() for task in tasks)
                healthy = await asyncio.gather(*(client.retrieve("What?") for _ in range(10)))
                while server.open_connections > 10:  # the server sees the closing a moment later
                    await asyncio.sleep(0.01)
                return len(healthy)

        assert asyncio.run(main()) == 10


def test_your_own_http_client_is_used_and_never_closed(server: FaultServer) -> None:
    """Requests go through the user's client, with its headers, and closing ours leaves it open."""
    with httpx.Client(headers={"x-mine": "yes"}) as own:
        with VectorizeClient(http_client=own, base_url=server.url, **OPTIONS) as client:
            assert len(client.retrieve("What?")) == 3
        assert not own.is_closed
    assert server.requests[0].headers["x-mine"] == "yes"

    mine = httpx.AsyncClient(headers={"x-mine": "too"})
    over_mine = AsyncVectorizeClient(http_client=mine, base_url=server.url, **OPTIONS)

    async def main() -> None:
        async with mine:
            async with over_mine:
                assert len(await over_mine.retrieve("What?")) == 3
            assert not mine.is_closed

    asyncio.run(main())
    assert server.requests[1].headers["x-mine"] == "too"


def test_a_client_of_the_other_world_is_refused(server: FaultServer) -> None:
    """An AsyncClient in blocking code, or the other way round, is named when our client is made."""
    with httpx.Client() as sync, pytest.raises(ConfigurationError, match=r"http_client.*httpx\.AsyncClient"):
        AsyncVectorizeClient(http_client=sync, base_url=server.url, **OPTIONS)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"http_client.*httpx\.Client"):
        VectorizeClient(http_client=httpx.AsyncClient(), base_url=server.url, **OPTIONS)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["base_url", "retrieval_url"])
def test_an_empty_address_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Passed over, the token would go to the default address, or to that of a variable."""
    monkeypatch.setenv("VECTORIZE_BASE_URL", "https://near.example/v1")
    given: Any = {name: " "}
    with pytest.raises(ConfigurationError, match=f"{name} is empty"):
        VectorizeClient(**given, **OPTIONS)


@pytest.mark.parametrize(
    ("engine", "said"), [("curl", "engine='curl' is not known"), ((None, None), "engine is a tuple")]
)
def test_an_engine_that_is_none_is_refused_with_those_there_are(engine: Any, said: str) -> None:
    """By its name where it is one, by its type where it is not."""
    with pytest.raises(ConfigurationError, match=f"{said}.*give 'httpx' or 'httptools'"):
        VectorizeClient(base_url="http://localhost", engine=engine, **OPTIONS)


def test_your_own_client_may_answer_from_a_mock() -> None:
    """A client with httpx's own mock transport is one of the user's own, too, in either world."""
    document = {"text": "A passage."}
    mock = httpx.MockTransport(lambda request: httpx.Response(200, json={"documents": [document]}))
    with VectorizeClient(http_client=httpx.Client(transport=mock), **OPTIONS) as client:
        assert client.retrieve("What?").documents[0].text == "A passage."

    over_mock = AsyncVectorizeClient(http_client=httpx.AsyncClient(transport=mock), **OPTIONS)

    async def main() -> None:
        async with over_mock as client:
            assert (await client.retrieve("What?")).documents[0].text == "A passage."

    asyncio.run(main())


def test_a_closed_client_says_so(server: FaultServer) -> None:
    """A client that was closed refuses further questions with a typed error."""
    client = VectorizeClient(base_url=server.url, **OPTIONS)
    client.close()
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        client.retrieve("What?")


def test_a_client_shows_no_token_and_is_not_pickled(server: FaultServer) -> None:
    """repr names the pipeline alone; pickling is refused rather than done without the token."""
    client = VectorizeClient(base_url=server.url, **OPTIONS)
    assert "planted-token" not in repr(client)
    assert "aip-1" in repr(client)
    with pytest.raises(TypeError):
        pickle.dumps(client)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two documents, and a cache directory of the test's own."""
    monkeypatch.setenv("RAGE_CACHE_DIR", str(tmp_path / "cache"))
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "retry.md").write_text("# Retry\n\nA failed request is tried again after a pause with full jitter.\n")
    (docs / "fruit.txt").write_text("Apples and pears grow on trees in the orchard.\n")
    return docs


@pytest.mark.parametrize("ask", [blocking, in_asyncio])
def test_the_embedded_pipeline_needs_no_account(folder: Path, ask: Any) -> None:
    """base_url="local:FOLDER" answers from the folder's documents, best first."""
    retrieval = ask(f"local:{folder}", "orchard trees")
    assert retrieval.documents[0].source == "fruit.txt"


def test_an_embedded_pipeline_needs_neither_token_nor_ids(folder: Path) -> None:
    """Without key, organization and pipeline the folder still answers, and so does its status."""
    with VectorizeClient(base_url=f"local:{folder}") as client:
        assert client.retrieve("How is a request tried again?").documents[0].source == "retry.md"
        assert client.pipeline().answers


def test_an_unreadable_folder_is_named_at_once(tmp_path: Path) -> None:
    """A folder that does not exist is a ConfigurationError when the client is made."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        VectorizeClient(base_url=f"local:{tmp_path / 'nowhere'}")


def test_the_loser_of_a_race_sends_nothing_more() -> None:
    """In blocking code a hedged call's loser, failing late, is not retried once the winner has answered."""

    def script(index: int) -> Fault:
        return delay(0.3, status(503)) if index == 0 else answer()

    resilience = Pipeline([Deadline(5.0), Hedge(delay=0.02, budget=1.0), Retry(attempts=3, base=0.01)])
    with FaultServer(script) as server:
        client = VectorizeClient(base_url=server.url, resilience=resilience, **OPTIONS)
        assert len(client.retrieve("What?")) == 5
        for thread in threading.enumerate():
            if thread.name.startswith("rage-hedge"):
                thread.join(timeout=5)
        assert len(server.requests) == 2


def test_the_loser_of_a_race_is_cancelled_in_blocking_code_too(server: FaultServer) -> None:
    """Its connection closes at once, its circuit hears nothing of it, and no event follows the end of the call."""
    told: list[str] = []
    breaker = CircuitBreaker(in_a_row=1)
    resilience = Pipeline([Deadline(30.0), Hedge(delay=0.02, budget=1.0), breaker])
    server.play([Fault((Hang(),)), Fault((*answer().steps, Close()))])
    client = VectorizeClient(
        base_url=server.url, engine="httpx", resilience=resilience, listeners=[Noting(told)], **OPTIONS
    )
    assert len(client.retrieve("What?")) == 5
    assert server.wait_until_idle(5)
    for thread in threading.enumerate():
        if thread.name.startswith("rage-hedge"):
            assert thread.daemon, "it would hold the end of the process back"
            thread.join(timeout=5)
            assert not thread.is_alive()
    assert told[-1] == "call.completed"
    assert "attempt.failed" not in told
    assert breaker.circuit(shared_homes.of(client._calls.connection.address.target)).state == "closed"


@pytest.mark.parametrize("end", ["decided", "cancelled"])
async def test_the_loser_of_a_race_is_waited_for_in_asyncio(end: str) -> None:
    """It takes steps to let go of what it holds: when the race is over, whoever won or ended it, it has."""
    left: list[str] = []

    def losing() -> Flow[Any]:
        try:
            yield Sleep(60)
        except asyncio.CancelledError:
            left.append("ended")
            raise

    async def racing() -> None:
        try:
            await world.perform(Race(losing(), lambda: second, 0))
        finally:
            left.append("over")

    world = AsyncioWorld(None)  # type: ignore[arg-type]  # nothing is sent
    second = immediate("won") if end == "decided" else losing()
    race = asyncio.ensure_future(racing())
    if end == "cancelled":
        await asyncio.sleep(0.01)
        race.cancel()
    await asyncio.wait([race])
    assert left == ["ended"] * (1 if end == "decided" else 2) + ["over"]


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str, when: threading.Event | None = None) -> None:
    """Let every name have these addresses, once the event is set."""

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host in addresses:
            return list(real(host, port, type=socket.SOCK_STREAM))
        if when is not None:
            when.wait()
        return [found for address in addresses for found in real(address, port, type=socket.SOCK_STREAM)]

    real: Any = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def send_to(name: str, port: int, timeout: float) -> object:
    """One blocking attempt over a connection of its own."""
    retrieve = operation(f"http://{name}:{port}/v1")
    return retrieve.read(httpx_engine.engine().send(retrieve.build("planted-token"), timeout, 1_000_000))


def test_a_name_that_is_not_resolved_in_time_is_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocking code does not wait for a resolver that is silent."""
    end = threading.Event()
    resolving(monkeypatch, "127.0.0.1", when=end)
    began = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        send_to("slow-resolver.test", 9, 0.2)
    end.set()
    assert time.monotonic() - began < 0.2 + 0.25


@pytest.mark.skipif(sys.platform != "linux", reason="it takes a second loopback address and a full backlog")
def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two addresses the first is silent: the second is tried within the same deadline; alone it is the deadline."""
    with socket.create_server(("127.0.0.2", server.port), backlog=0), socket.socket() as one, socket.socket() as two:
        for filling in (one, two):
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.2", server.port))
        resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
        assert send_to("two-addresses.test", server.port, 1.0)
        resolving(monkeypatch, "127.0.0.2")
        began = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            send_to("one-address.test", server.port, 0.3)
        assert time.monotonic() - began < 0.3 + 0.25


@pytest.mark.parametrize("world", ["blocking", "asyncio"])
def test_a_hook_of_your_own_client_that_raises_for_a_status_is_a_typed_error(server: FaultServer, world: str) -> None:
    """httpx's HTTPStatusError, raised in an event hook, is the error of its status, and is retried where that helps."""
    server.play([status(503), status(401)])
    resilience = Pipeline([Deadline(3.0), Retry(base=0.001)])

    def hook(response: httpx.Response) -> None:
        response.raise_for_status()

    async def ahook(response: httpx.Response) -> None:
        response.raise_for_status()

    options: dict[str, Any] = {"base_url": server.url, "resilience": resilience, **OPTIONS}

    other = httpx.AsyncClient(event_hooks={"response": [ahook]})
    client = AsyncVectorizeClient(http_client=other, **options)

    async def in_tasks() -> None:
        async with other:
            await client.retrieve("What?")

    def in_a_thread() -> None:
        with httpx.Client(event_hooks={"response": [hook]}) as own:
            VectorizeClient(http_client=own, **options).retrieve("What?")

    ask = in_a_thread if world == "blocking" else lambda: asyncio.run(in_tasks())
    with pytest.raises(UnauthorizedError):
        ask()
    assert len(server.requests) == 2


def test_your_own_client_when_it_is_closed_is_named(server: FaultServer) -> None:
    """Not a RuntimeError of httpx's."""
    own = httpx.Client()
    own.close()
    with pytest.raises(ConfigurationError, match="http_client is closed"):
        VectorizeClient(base_url=server.url, http_client=own, **OPTIONS).retrieve("What?")

    another = httpx.AsyncClient()
    client = AsyncVectorizeClient(base_url=server.url, http_client=another, **OPTIONS)

    async def main() -> None:
        await another.aclose()
        with pytest.raises(ConfigurationError, match="http_client is closed"):
            await client.retrieve("What?")

    asyncio.run(main())


def test_a_host_that_your_own_client_cannot_read_is_named() -> None:
    """A client with mounts decodes the host to choose one; not the IDNAError that this may end in."""
    address: dict[str, Any] = {"base_url": "https://xn--n3h/v1", **OPTIONS}
    own = httpx.Client(mounts={"all://example.com": httpx.HTTPTransport()})
    with own, pytest.raises(ConfigurationError, match="https://xn--n3h cannot be written"):
        VectorizeClient(http_client=own, **address).retrieve("What?")
    mine = httpx.AsyncClient(mounts={"all://example.com": httpx.AsyncHTTPTransport()})
    client = AsyncVectorizeClient(http_client=mine, **address)

    async def main() -> None:
        async with mine:
            with pytest.raises(ConfigurationError, match="https://xn--n3h cannot be written"):
                await client.retrieve("What?")

    asyncio.run(main())


def test_your_own_client_is_called_in_your_context(server: FaultServer) -> None:
    """What instruments it, such as OpenTelemetry, finds the caller's span."""
    seen: list[str] = []
    name: ContextVar[str] = ContextVar("name", default="nobody")
    name.set("caller")
    with httpx.Client(event_hooks={"request": [lambda _: seen.append(name.get())]}) as own:
        VectorizeClient(base_url=server.url, http_client=own, **OPTIONS).retrieve("What?")
    assert seen == ["caller"]


def test_a_pause_of_a_thousand_years_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a deadline an absurd Retry-After is slept through, and is no error of the clock's."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    BlockingWorld(httpx_engine.engine()).perform(Sleep(31_536_000_000.0))
    assert pauses == [10 * 365 * 86_400]


@pytest.mark.parametrize("delay", [1e10, 1e300])
def test_a_hedge_after_centuries_is_none(delay: float) -> None:
    """Without a deadline the first answer is waited for, and a wait beyond the clock's is no error of the clock's."""

    def first() -> Flow[str]:
        return "answered"
        yield Sleep(0)  # type: ignore[unreachable]  # makes this function a generator

    race = Race(first(), lambda: None, delay)
    assert BlockingWorld(httpx_engine.engine()).perform(race) == (0, "answered")
