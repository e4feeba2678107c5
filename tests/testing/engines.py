"""One way to put a question through an engine, for every engine that speaks HTTP, in both worlds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from rage_retrievers import _endpoint
from rage_retrievers.engines import ENGINES, engines_named
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
def blocking(name: str) -> Iterator[Ask]:
    engine = engines_named(name).blocking()

    def ask(url: str, timeout: float = 3.0, max_bytes: int = MAX_BYTES) -> Retrieval:
        retrieve = operation(url)
        return retrieve.read(engine.send(retrieve.build(TOKEN), timeout, max_bytes))

    try:
        yield ask
    finally:
        engine.close()


@contextmanager
def asynchronous(name: str) -> Iterator[Ask]:
    engine = engines_named(name).asyncio()
    with asyncio.Runner() as runner:

        def ask(url: str, timeout: float = 3.0, max_bytes: int = MAX_BYTES) -> Retrieval:
            retrieve = operation(url)
            return retrieve.read(runner.run(engine.send(retrieve.build(TOKEN), timeout, max_bytes)))

        try:
            yield ask
        finally:
            runner.run(engine.aclose())


WORLDS = {
    f"{name}-{world}": partial(open_engine, name)
    for name in ENGINES
    for world, open_engine in (("blocking", blocking), ("async", asynchronous))
}
