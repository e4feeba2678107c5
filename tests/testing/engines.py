"""One way to put a question through an engine, for every engine that speaks HTTP, in both worlds."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Protocol

import httpx
import pytest

from rage_retrievers import _endpoint
from rage_retrievers._flow import WireRequest
from rage_retrievers.engines import ENGINES, Engines, engines_named
from rage_retrievers.engines._network import tls_context
from rage_retrievers.engines.own_client import AsyncOwnClientEngine, OwnClientEngine
from rage_retrievers.models import Query, Retrieval, Target
from rage_retrievers.testing import FaultServer

TOKEN = "secret-token-0451"
QUESTION = "When does the café open?"
MAX_BYTES = 1024 * 1024


class Ask(Protocol):
    """Asks one question at a base URL, in one attempt; gives the retrieval or raises what the attempt raised."""

    def __call__(self, url: str, timeout: float = 3.0, max_bytes: int = MAX_BYTES) -> Retrieval: ...


def operation(url: str) -> _endpoint.Operation[Retrieval]:
    address = _endpoint.Address(Target(url, "org-1", "aip-1"))
    return _endpoint.retrieve(address, Query.make({"question": QUESTION}))


def leave_in_a_closed_loop(name: str, request: WireRequest, server: FaultServer, end: type[BaseException]) -> object:
    """Send a request that the server has and does not answer, close the loop under it, and end the call so.

    Gives what holds the frames of a call that was cancelled: while it is kept, no garbage collection closes anything.
    """
    kept: object = None
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: None)  # a task was destroyed
    call = engines_named(name).asyncio().send(request, 5.0, 1000)
    task = loop.create_task(call)
    while not server.requests:
        loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    if end is not GeneratorExit:
        with pytest.raises((end, RuntimeError)) as kept:  # httpcore misses the loop
            call.throw(end())
    del call, task
    gc.collect()
    return kept


@contextmanager
def blocking(name: str) -> Iterator[Ask]:
    engine = engines_called(name).blocking()

    def ask(url: str, timeout: float = 3.0, max_bytes: int = MAX_BYTES) -> Retrieval:
        retrieve = operation(url)
        return retrieve.read(engine.send(retrieve.build(TOKEN), timeout, max_bytes))

    try:
        yield ask
    finally:
        engine.close()


@contextmanager
def asynchronous(name: str) -> Iterator[Ask]:
    engine = engines_called(name).asyncio()
    with asyncio.Runner() as runner:

        def ask(url: str, timeout: float = 3.0, max_bytes: int = MAX_BYTES) -> Retrieval:
            retrieve = operation(url)
            return retrieve.read(runner.run(engine.send(retrieve.build(TOKEN), timeout, max_bytes)))

        try:
            yield ask
        finally:
            runner.run(engine.aclose())


class _OwnClosed(OwnClientEngine):
    """Closes the client, as its owner would."""

    def close(self) -> None:
        self._client.close()


class _AsyncOwnClosed(AsyncOwnClientEngine):
    """Closes the client, as its owner would."""

    async def aclose(self) -> None:
        await self._client.aclose()


def own_engines() -> Engines:
    """The engines of the caller's own httpx clients, one for each world."""
    return Engines(
        "own",
        cache(lambda: _OwnClosed(httpx.Client(verify=tls_context()))),
        cache(lambda: _AsyncOwnClosed(httpx.AsyncClient(verify=tls_context()))),
    )


def engines_called(name: str) -> Engines:
    """The engines of that name, or the caller's own clients."""
    return own_engines() if name == "own" else engines_named(name)


NAMES = (*ENGINES, "own")
WORLDS = {
    f"{name}-{world}": partial(open_engine, name)
    for name in NAMES
    for world, open_engine in (("blocking", blocking), ("async", asynchronous))
}
OURS = sorted(name for name in WORLDS if not name.startswith("own-"))
"""The engines that are named, without the caller's own clients."""
