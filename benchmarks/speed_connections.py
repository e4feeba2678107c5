"""Connections: how many are opened, what cancelling costs, and a thousand calls at once, with each engine.

python benchmarks/speed_connections.py [--smoke]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import Any
from urllib.request import urlopen

import _answers
from _table import Row, tabled
from speed_calls import Entrant, all_at_work

ENGINES = ("httpx", "httptools")
CANCELLED_TOGETHER = 100


def thousand(rounds: int, at_once: int) -> list[Row]:
    """A thousand async calls of 100 ms at once, with default settings but for the size of the bulkhead."""
    bars = {"httpx": 2.0, "httptools": 0.8}
    entrants = [Entrant("async client, bulkhead of 1,000", engine, at_once, at_once) for engine in ENGINES]
    with _answers.running(0.1) as url, all_at_work(entrants, url) as contenders:
        took = [[contender.run(at_once, at_once).wall for _ in range(rounds)] for contender in contenders]
    # A contender that fails at a call ends, and the table with it: every call here was answered.
    found = []
    for engine, walls in zip(ENGINES, took, strict=True):
        wall = statistics.median(walls)
        measure = f"{at_once:,} concurrent calls of 100 ms, all answered, {engine}"
        found.append(Row(measure, f"<= {bars[engine]} s", f"{wall:.2f} s", wall <= bars[engine]))
    return found


def opened(calls: int) -> list[Row]:
    """Connections for many calls, fifty at once."""
    found = []
    for engine in ENGINES:
        with _answers.running() as url:
            asyncio.run(_many(_client(url, engine), calls, 50))
            with urlopen(url.removesuffix("/v1") + "/connections") as told:
                count = int(told.read()) - 1  # the one that asks
        found.append(
            Row(f"Connections opened for {calls:,} calls, 50 at once, {engine}", "<= 50", str(count), count <= 50)
        )
    return found


def cancelled(calls: int) -> list[Row]:
    """Calls cancelled at every stage, then a hundred that are not."""
    found = []
    for engine in ENGINES:
        with _answers.running(0.02) as url:
            answered, seconds = asyncio.run(_cancel(_client(url, engine), calls))
        figure = f"{answered} answered in {seconds:.2f} s"
        found.append(Row(f"{calls:,} cancellations, then 100 healthy calls, {engine}", "100", figure, answered == 100))
    return found


def _client(url: str, engine: str) -> Any:
    from rage_retrievers import AsyncVectorizeClient, default_pipeline
    from rage_retrievers.resilience import Bulkhead

    policies = default_pipeline().with_policies(Bulkhead(1000))
    return AsyncVectorizeClient(
        api_key="token", organization="o", pipeline_id="p", base_url=url, engine=engine, resilience=policies
    )


async def _many(client: Any, calls: int, at_once: int) -> None:
    left = iter(range(calls))

    async def asker() -> None:
        for _ in left:
            await client.retrieve("What?")

    await asyncio.gather(*(asker() for _ in range(at_once)))


async def _cancel(client: Any, calls: int) -> tuple[int, float]:
    for start in range(0, calls, CANCELLED_TOGETHER):
        tasks = [asyncio.create_task(client.retrieve("What?")) for _ in range(CANCELLED_TOGETHER)]
        # From before the connection is made to while the answers arrive.
        await asyncio.sleep(start // CANCELLED_TOGETHER % 16 * 0.002)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    began = time.perf_counter()
    outcomes = await asyncio.gather(*(client.retrieve("What?") for _ in range(100)), return_exceptions=True)
    return sum(not isinstance(one, BaseException) for one in outcomes), time.perf_counter() - began


def rows(smoke: bool) -> list[Row]:
    """Every measure."""
    if smoke:
        return [*thousand(1, 50), *opened(200), *cancelled(200)]
    return [*thousand(5, 1000), *opened(2000), *cancelled(20_000)]


if __name__ == "__main__":
    sys.exit(tabled(__doc__, rows))
