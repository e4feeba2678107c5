"""What the policies send when the service is down or slow, and what cancelled calls leave behind.

    python benchmarks/resilience_outage.py [--smoke]

Runs in virtual time against a scripted service, but for the cancellations, which are real asyncio tasks.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

from _table import Row, tabled

from rage_retrievers._flow import Flow, Sleep, WireRequest, WireResponse, adrive
from rage_retrievers._world import AsyncioWorld
from rage_retrievers.errors import CircuitOpenError, RageError
from rage_retrievers.models import Query
from rage_retrievers.resilience import (
    Bulkhead,
    Call,
    CircuitBreaker,
    Deadline,
    Hedge,
    Home,
    Pipeline,
    default_pipeline,
)
from rage_retrievers.testing.world import REFUSED, SILENCE, TARGET, Reply, VirtualWorld, send_once

WORKERS = 32
THINKING = 1.0
OUTAGES = {
    "503 after 50 ms": Reply(503, after=0.05),
    "429 after 50 ms": Reply(429, after=0.05),
    "refused": REFUSED,
    "silent": SILENCE,
}


class Outage:
    """Workers that call one after the other, with a short pause between, while the service is down."""

    def __init__(self, pipeline: Pipeline, reply: Reply, calls: int) -> None:
        self.world = VirtualWorld(then=reply)
        self.pipeline = pipeline
        self.calls = calls
        self.began: list[float] = []
        self.opened_at: float | None = None

    def run(self) -> None:
        """Carry the calls out."""
        self.world.gather([self._worker(self.calls // WORKERS) for _ in range(WORKERS)])

    def on_event(self, event: Any, /) -> None:
        """Note when the circuit opened first."""
        if event.name == "circuit.changed" and event.after == "open" and self.opened_at is None:
            self.opened_at = self.world.now

    def _worker(self, calls: int) -> Flow[None]:
        for _ in range(calls):
            self.began.append(self.world.now)
            try:
                yield from self.world.call(self.pipeline, listeners=(self,))
            except RageError:
                yield Sleep(THINKING)

    def ratio_before_open(self) -> float:
        """Requests sent for each call made, up to the instant the circuit opened (or to the end)."""
        until = self.world.now if self.opened_at is None else self.opened_at
        return sum(at <= until for at in self.world.sent) / sum(at <= until for at in self.began)

    def sent_after_open(self) -> int:
        """Requests sent once the circuit was open."""
        return sum(at > self.opened_at for at in self.world.sent) if self.opened_at is not None else 0


def outages(calls: int) -> list[Row]:
    rows = []
    for name, reply in OUTAGES.items():
        outage = Outage(default_pipeline(), reply, calls)
        outage.run()
        ratio, world = outage.ratio_before_open(), outage.world
        what = f"outage ({name}), {calls:,} calls: requests per call"
        if outage.opened_at is None:
            # A 429 opens no circuit, so this is what the retry budget lets through: 10 % and its reserve of 10.
            rows.append(Row(what, "<= 1.1 + 10", f"{ratio:.3f}", len(world.sent) <= 1.1 * calls + 10))
            continue
        rows.append(Row(f"{what} until open", "<= 1.1", f"{ratio:.3f}", ratio <= 1.1))
        probes = (world.now - outage.opened_at) / CircuitBreaker().reset_after
        sent = outage.sent_after_open()
        rows.append(
            Row(
                f"  then only probes, in {world.now - outage.opened_at:,.0f} s",
                f"<= {probes:.0f}",
                str(sent),
                sent <= probes + 1e-9,
            )
        )
    return rows


def half_open(calls: int) -> Row:
    world = VirtualWorld([503] * 5, then=Reply(after=0.5))
    pipeline = Pipeline([Deadline(), CircuitBreaker()])
    world.gather([world.call(pipeline) for _ in range(5)])
    world.pass_time(30)
    outcomes = world.gather([world.call(pipeline) for _ in range(calls)])
    probes = len(world.sent) - 5
    refused = sum(isinstance(outcome, CircuitOpenError) for outcome in outcomes)
    return Row(f"half-open, {calls} concurrent calls: probes", "1", str(probes), probes == 1 and refused == calls - 1)


def hedging(calls: int) -> list[Row]:
    def percentile(pipeline: Pipeline) -> tuple[float, int]:
        chance = random.Random(11)

        def reply(_: WireRequest) -> Reply:
            slow = 40 if chance.random() < 1 / 50 else 1
            return Reply(after=0.01 * slow * chance.uniform(0.8, 1.2))

        world = VirtualWorld(reply)
        took = []
        for _ in range(calls):
            began = world.now
            world.gather([world.call(pipeline)])
            took.append(world.now - began)
        return sorted(took)[int(0.99 * calls)], len(world.sent)

    plain, _ = percentile(default_pipeline())
    hedged, sent = percentile(default_pipeline().with_policies(Hedge()))
    extra = sent / calls - 1
    return [
        Row(
            f"1 in 50 forty times slower, {calls:,} calls: p99 {plain * 1e3:.0f} ms, hedged",
            ">= 5x less",
            f"{hedged * 1e3:.0f} ms, {plain / hedged:.1f}x less",
            plain / hedged >= 5,
        ),
        Row("  extra requests", "<= 5 %", f"{extra:.2%}", extra <= 0.05),
    ]


class Never:
    """An engine that does not answer."""

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        await asyncio.sleep(timeout)
        raise AssertionError("the calls are cancelled before this")

    async def aclose(self) -> None:
        """Nothing to close."""


async def cancellations(calls: int) -> Row:
    world, home = AsyncioWorld(Never()), Home()
    bulkhead, breaker = Bulkhead(limit=64), CircuitBreaker()
    pipeline = default_pipeline().with_policies(bulkhead, breaker, Hedge(delay=0.0, budget=1.0))

    async def call() -> None:
        one = Call("retrieve", TARGET, world, home, query=Query(question="What?"), started=world.monotonic())
        await adrive(pipeline.around(send_once)(one), world)

    before = len(asyncio.all_tasks())
    for _ in range(calls // 100):
        tasks = [asyncio.create_task(call()) for _ in range(100)]
        await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    permits = home.state(bulkhead, bulkhead._permits)
    tasks_left = len(asyncio.all_tasks()) - before
    state = breaker.circuit(home).state
    lost = bulkhead.limit - permits.free
    return Row(
        f"{calls:,} cancellations in flight and in line: leaked permits, tasks; circuit",
        "0, 0; closed",
        f"{lost}, {tasks_left}; {state}",
        (lost, tasks_left, state, permits.waiting) == (0, 0, "closed", 0),
    )


def rows(smoke: bool) -> list[Row]:
    """Outages, probes, hedging and cancellation."""
    calls = 640 if smoke else 10_000
    return [*outages(calls), half_open(100), *hedging(1_000 if smoke else 20_000), asyncio.run(cancellations(calls))]


if __name__ == "__main__":
    sys.exit(tabled(__doc__, rows))
