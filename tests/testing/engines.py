"""One way to put a question through an engine, for both engines that speak HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rage_retrievers import _endpoint
from rage_retrievers.engines.httpx import AsyncHttpxEngine, HttpxEngine
from rage_retrievers.models import Query, Retrieval, Target

TOKEN = "secret-token-0451"
QUESTION = "When does the café open?"
MAX_BYTES = 1024 * 1024


class Ask(Protocol):
    """Asks one question at a base URL, in one attempt; gives the retrieval or raises what the attempt raised."""

    def __call__(self, url: str, timeout: float = 3.0, max_bytes: int = MAX_BYTES) -> Retrieval: ...


def operation(url: str) -> _endpoint.Operation[Retrieval]:
    address = _endpoint.Address(Target(url, "org-1", "aip-1"))
    return _endpoint.retrieve(address, Query.make({"question": QUESTION}))


@contextmanager
def blocking() -> Iterator[Ask]:
    engine = HttpxEngine()

    def ask(url: str, timeout: float = 3.0, max_bytes: int = MAX_BYTES) -> Retrieval:
        retrieve = operation(url)
        return retrieve.read(engine.send(retrieve.build(TOKEN), timeout, max_bytes))

    try:
        yield ask
    finally:
        engine.close()


@contextmanager
def asynchronous() -> Iterator[Ask]:
    engine = AsyncHttpxEngine()
    with asyncio.Runner() as runner:

        def ask(url: str, timeout: float = 3.0, max_bytes: int = MAX_BYTES) -> Retrieval:
            retrieve = operation(url)
            return retrieve.read(runner.run(engine.send(retrieve.build(TOKEN), timeout, max_bytes)))

        try:
            yield ask
        finally:
            runner.run(engine.aclose())


WORLDS = {"blocking": blocking, "async": asynchronous}
