"""A recording service for the retriever's requests, the embedded pipeline over HTTP, and its four entry points."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from rage_retrievers.langchain import VectorizeRetriever
from rage_retrievers.local import LocalServer, LocalService
from rage_retrievers.observability import correlation

TOKEN = "planted-token-4711"
IDS: dict[str, Any] = {"organization": "org-1", "pipeline_id": "aip-1"}
WIRE: dict[str, Any] = {
    "relevancy": 0.9959771,
    "id": "bd649160-84",
    "text": "2014 Employee Stock Plan",
    "chunk_id": "84",
    "total_chunks": "229",
    "origin": "file-upload",
    "origin_id": "bd649160",
    "similarity": 0.77146006,
    "source": "582893ba/apple.pdf",
    "unique_source": "bd649160-87ac",
    "source_display_name": "582893ba/apple.pdf",
    "pipeline_id": "aipf9ab5",
    "org_id": "582893ba",
    "index": "sp-1536-dev",
    "metadata": {"created-from-api": True, "year": 2014},
}
TEXTS = {
    "bees.md": "# Bees\n\nHoney bees dance to tell each other where the flowers are. A hive holds one queen.",
    "engines.md": "# Engines\n\nA two stroke engine fires once in every revolution of the crankshaft.",
    "rent.md": "# Rent\n\nThe landlord may raise the rent once a year, in autumn, with three months of notice.",
    "tomatoes.md": "# Tomatoes\n\nTomatoes want sun and water. Prune the side shoots of tomatoes every week.",
    "volcanoes.md": "# Volcanoes\n\nLava is molten rock that a volcano expels; below the ground it is called magma.",
}

Ask: TypeAlias = Callable[..., Any]


def reply(answer: Any, status: int = 200) -> httpx.Response:
    """An answer whose body is still to be read, as one from a socket is."""
    return httpx.Response(status, stream=httpx.ByteStream(json.dumps(answer).encode()))


class Recorder:
    """Answers every request in both worlds, and keeps what it saw."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.documents: list[dict[str, Any]] = [WIRE]
        self.answer: Callable[[httpx.Request], httpx.Response] | None = None
        self.client = httpx.Client(transport=httpx.MockTransport(self._respond))
        self.async_client = httpx.AsyncClient(transport=httpx.MockTransport(self._respond))

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.answer is not None:
            return self.answer(request)
        return reply({"question": "?", "documents": self.documents, "ndcg": 1})

    def retriever(self, **options: Any) -> VectorizeRetriever:
        """A retriever whose requests come here."""
        clients: Any = {"http_client": self.client, "async_http_client": self.async_client}
        return VectorizeRetriever(**{"api_key": TOKEN, **IDS, **clients, **options})

    @property
    def body(self) -> dict[str, Any]:
        """The last request's body."""
        return json.loads(self.requests[-1].content)  # type: ignore[no-any-return]

    @property
    def seen(self) -> list[tuple[str, str, list[tuple[bytes, bytes]], bytes]]:
        """Every request, whole."""
        return [(one.method, str(one.url), one.headers.raw, one.content) for one in self.requests]


@pytest.fixture(autouse=True)
def _nothing_blocks(nothing_blocks: None) -> None:
    """Every test of this folder."""


@pytest.fixture
def service() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.client.close()


def _invoke(retriever: Any, question: str, **options: Any) -> Any:
    return retriever.invoke(question, **options)


def _batch(retriever: Any, question: str, **options: Any) -> Any:
    return retriever.batch([question], **options)[0]


def in_loop(call: Callable[[], Any]) -> Any:
    """Run in a loop of its own."""

    async def main() -> Any:
        return await call()

    return asyncio.run(main())


def _ainvoke(retriever: Any, question: str, **options: Any) -> Any:
    return in_loop(lambda: retriever.ainvoke(question, **options))


def _abatch(retriever: Any, question: str, **options: Any) -> Any:
    async def call() -> Any:
        return (await retriever.abatch([question], **options))[0]

    return in_loop(call)


ENTRIES: dict[str, Ask] = {"invoke": _invoke, "ainvoke": _ainvoke, "batch": _batch, "abatch": _abatch}


@pytest.fixture(params=list(ENTRIES))
def ask(request: pytest.FixtureRequest) -> Ask:
    """Asks a retriever one question, through each of the four entry points in turn."""
    return ENTRIES[request.param]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five short real documents."""
    home = tmp_path_factory.mktemp("documents")
    for name, text in TEXTS.items():
        (home / name).write_text(text, encoding="utf-8")
    return home


@pytest.fixture(scope="session")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The embedded pipeline over loopback HTTP."""
    cache = tmp_path_factory.mktemp("cache")
    with LocalService.open(folder, cache_dir=cache) as service, LocalServer(service) as server:
        yield server


@pytest.fixture(autouse=True)
def _one_correlation_id() -> Iterator[None]:
    """Requests can be compared byte by byte: without an id of the application's, each run sends its own."""
    with correlation("req-1"):
        yield
