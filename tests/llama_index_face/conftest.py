"""A folder of real documents behind real HTTP, and a scripted service that keeps what it was asked."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from llama_index.core.utils import get_tokenizer

from rage_retrievers._flow import WireRequest, WireResponse
from rage_retrievers.engines import Engines
from rage_retrievers.llama_index import VectorizeRetriever
from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, LocalService

TOKEN = "planted-token-8f3a"  # a word no message may hold

TEXTS = {
    "bees.txt": "Honey bees dance to tell each other where the flowers are. A hive holds one queen.",
    "engines.txt": "A two stroke engine fires once in every revolution of the crankshaft.",
    "tomatoes.md": "---\nyear: 2024\ntags: [garden, red]\n---\n# Tomatoes\n\nTomatoes want sun and water every day.",
    "roses.md": "---\nyear: 2021\ntags: [garden]\n---\n# Roses\n\nRoses want sun, and pruning in late winter.",
}


get_tokenizer()  # reads a file when first asked for, which LlamaIndex's own query engine does in an event loop


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a local Vectorize over four documents."""
    home = tmp_path_factory.mktemp("served")
    for name, text in TEXTS.items():
        path = home / "docs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with LocalService.open(home / "docs", cache_dir=home / "cache") as service, LocalServer(service) as server:
        yield server.url


@pytest.fixture(autouse=True)
def nothing_blocks_a_loop() -> Iterator[BlockBuster]:
    """Whatever blocks a running event loop fails its test, but for what a test does while this is deactivated."""
    with blockbuster_ctx() as watch:
        # LlamaIndex's chat engines wait for a thread to estimate tokens.
        watch.functions["threading.Lock.acquire"].can_block_in("llama_index/core/async_utils.py", "asyncio_run")
        watch.functions["os.stat"].can_block_in("rage_retrievers/settings.py", "load")  # looks for a .env, once
        yield watch


@pytest.fixture
def connect(served: str) -> Callable[..., VectorizeRetriever]:
    """Makes retrievers that ask it, over HTTP."""

    def make(**options: Any) -> VectorizeRetriever:
        return VectorizeRetriever(
            TOKEN, base_url=served, organization=LOCAL_ORGANIZATION, pipeline_id=LOCAL_PIPELINE, **options
        )

    return make


def document(number: int = 1, **fields: Any) -> dict[str, Any]:
    """A document as the service sends it."""
    return {
        "id": f"file-{number}",
        "text": f"Passage {number}.",
        "chunk_id": str(number),
        "total_chunks": "9",
        "origin": "file-upload",
        "origin_id": "o-1",
        "source": "org/conn/report.pdf",
        "unique_source": "u-1",
        "source_display_name": "org/conn/report.pdf",
        "pipeline_id": "aip-1",
        "org_id": "org-1",
        "index": "sp-1536",
        "relevancy": round(0.9 / number, 3),
        "similarity": round(0.7 - number / 100, 3),
        **fields,
    }


class Scripted:
    """A service that answers the same each time and keeps the requests; an engine of both worlds."""

    def __init__(self, *documents: dict[str, Any], **answer: Any) -> None:
        self.answer: dict[str, Any] = {"documents": list(documents), **answer}
        self.requests: list[WireRequest] = []
        self.closed: list[str] = []
        """Whose idle connections were closed, time after time."""
        self.status = 200
        self.before: Callable[[], Awaitable[object]] | None = None
        """Awaited before each async answer."""
        self.failures = 0
        """How many of the next requests get a 503."""
        self.respond: Callable[[WireRequest], WireResponse] | None = None
        """Answers in place of the documents."""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was asked, call by call."""
        return [json.loads(request.body or b"{}") for request in self.requests]

    def retriever(self, kind: type[VectorizeRetriever] = VectorizeRetriever, /, **options: Any) -> VectorizeRetriever:
        """A retriever that asks this service."""
        known: dict[str, Any] = {"organization": "org-1", "pipeline_id": "aip-1", **options}
        return kind(TOKEN, engine=Engines("scripted", self._engine, self._aengine), **known)

    def _answer(self, request: WireRequest) -> WireResponse:
        self.requests.append(request)
        if self.respond is not None:
            return self.respond(request)
        if self.failures:
            self.failures -= 1
            return WireResponse(503, {}, b"{}")
        return WireResponse(self.status, {"content-type": "application/json"}, json.dumps(self.answer).encode())

    def _engine(self) -> Any:
        return _Engine(self)

    def _aengine(self) -> Any:
        return _AsyncEngine(self)


class _Engine:
    def __init__(self, service: Scripted) -> None:
        self._service = service

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        return self._service._answer(request)

    def close(self) -> None:
        self._service.closed.append("blocking")


class _AsyncEngine:
    def __init__(self, service: Scripted) -> None:
        self._service = service

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        if self._service.before is not None:
            await self._service.before()
        return self._service._answer(request)

    async def aclose(self) -> None:
        self._service.closed.append("asyncio")


@pytest.fixture
def scripted() -> Scripted:
    """A service with three passages."""
    return Scripted(*(document(number, metadata={"year": 2020 + number}) for number in (1, 2, 3)))
