"""What the policies cost when all is well, and what a refusal costs when nothing is: microseconds a call.

    python benchmarks/resilience_cost.py [--smoke]

Each figure is the best of several rounds, which leaves out what other processes take.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable

from _table import Row, tabled

from rage_retrievers import VectorizeClient, default_pipeline
from rage_retrievers._flow import Clock, Flow, Send, WireRequest, WireResponse, adrive, drive
from rage_retrievers._world import AsyncioWorld, BlockingWorld
from rage_retrievers.engines import Engines
from rage_retrievers.errors import CircuitOpenError, ConnectionFailedError, RageError
from rage_retrievers.models import Target
from rage_retrievers.resilience import Call, Homes, Pipeline

TARGET = Target("https://example.invalid/v1", "organization", "pipeline")
REQUEST = WireRequest("POST", TARGET.base_url, (), b"{}")
RESPONSE = WireResponse(200, {}, b'{"documents":[]}')


class Memory:
    """An engine that answers from memory, or refuses every connection."""

    def __init__(self, *, down: bool = False) -> None:
        self._down = down
        self.sent = 0

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        self.sent += 1
        if self._down:
            raise ConnectionFailedError("The connection was refused.")
        return RESPONSE

    def close(self) -> None:
        """Nothing to close."""


class AsyncMemory:
    """The same for asyncio."""

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        return RESPONSE

    async def aclose(self) -> None:
        """Nothing to close."""


def attempt(call: Call) -> Flow[WireResponse]:
    response: WireResponse = yield Send(REQUEST, call.remaining(), 1)
    return response


def one(pipeline: Pipeline, clock: Clock, homes: Homes) -> Flow[WireResponse]:
    return pipeline.around(attempt)(Call("retrieve", TARGET, clock, homes.of(TARGET), started=clock.monotonic()))


def sync_cost(pipeline: Pipeline, calls: int, rounds: int) -> float:
    world, homes = BlockingWorld(Memory()), Homes()

    def run() -> None:
        for _ in range(calls):
            drive(one(pipeline, world, homes), world)

    return best(run, calls, rounds)


def async_cost(pipeline: Pipeline, calls: int, rounds: int) -> float:
    world, homes = AsyncioWorld(AsyncMemory()), Homes()

    async def run() -> float:
        fastest = float("inf")
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(calls):
                await adrive(one(pipeline, world, homes), world)
            fastest = min(fastest, time.perf_counter() - began)
        return fastest / calls * 1e6

    return asyncio.run(run())


def best(run: Callable[[], None], calls: int, rounds: int) -> float:
    fastest = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest / calls * 1e6


def rejection(calls: int) -> list[Row]:
    """The whole client before an open circuit: from `retrieve` to the error in the caller's hands."""
    engine = Memory(down=True)
    engines = Engines("memory", lambda: engine, AsyncMemory)
    with VectorizeClient(api_key="token", organization="o", pipeline_id="open", engine=engines) as client:
        # The copy stands before the same circuit, and opens it without the pauses of the retries.
        impatient = client.with_options(resilience=default_pipeline().without("retry"))
        for _ in range(5):
            try:
                impatient.retrieve("What?")
            except RageError:
                continue
        sent, took = engine.sent, []
        for _ in range(calls):
            began = time.perf_counter()
            try:
                impatient.retrieve("What?")
            except CircuitOpenError:
                took.append(time.perf_counter() - began)
        p50 = statistics.median(took) * 1e6
        p99 = statistics.quantiles(took, n=100)[98] * 1e6
    return [
        Row("open circuit: a rejected call of the client, p50", "<= 50 µs", f"{p50:.1f} µs", p50 <= 50),
        Row("  p99", "", f"{p99:.1f} µs", None),
        Row("  requests sent for them", "0", str(engine.sent - sent), engine.sent == sent and len(took) == calls),
    ]


def rows(smoke: bool) -> list[Row]:
    """What the policies cost."""
    calls, rounds = (500, 10) if smoke else (500, 400)
    bare = sync_cost(Pipeline(), calls, rounds), async_cost(Pipeline(), calls, rounds)
    full = sync_cost(default_pipeline(), calls, rounds), async_cost(default_pipeline(), calls, rounds)
    return [
        Row("default pipeline around memory, sync", "<= 10 µs", f"{full[0]:.1f} µs", full[0] <= 10),
        Row("  of which the policies", "", f"{full[0] - bare[0]:.1f} µs", None),
        Row("default pipeline around memory, async", "<= 15 µs", f"{full[1]:.1f} µs", full[1] <= 15),
        Row("  of which the policies", "", f"{full[1] - bare[1]:.1f} µs", None),
        *rejection(20 * calls),
    ]


if __name__ == "__main__":
    sys.exit(tabled(__doc__, rows))
