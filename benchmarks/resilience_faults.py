"""The client and both retrievers against a server that fails in every way we know, and under load; real HTTP.

python benchmarks/resilience_faults.py [--smoke]
"""

from __future__ import annotations

import asyncio
import io
import logging
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import _answers
from _table import Row, tabled

from rage_retrievers import (
    AsyncVectorizeClient,
    Bulkhead,
    Deadline,
    Pipeline,
    RageError,
    Retry,
    VectorizeClient,
    default_pipeline,
)
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndexRetriever
from rage_retrievers.resilience import CircuitBreaker
from rage_retrievers.resilience.pipeline import shared_homes
from rage_retrievers.testing import FAULTS, FaultCase, FaultServer, answer

TOKEN = "planted-token-0451"
DEADLINE = 5.0
NAMES = {"api_key": TOKEN, "organization": "o", "pipeline_id": "p"}
VIEWS: dict[str, Callable[[dict[str, Any]], object]] = {
    "LangChain, sync": lambda options: LangChainRetriever(**options).invoke("When?"),
    "LangChain, async": lambda options: asyncio.run(LangChainRetriever(**options).ainvoke("When?")),
    "LlamaIndex, sync": lambda options: LlamaIndexRetriever(**options).retrieve("When?"),
    "LlamaIndex, async": lambda options: asyncio.run(LlamaIndexRetriever(**options).aretrieve("When?")),
}
MIB = 1024 * 1024


def catalogue(cases: Iterable[FaultCase], engine: str) -> list[Row]:
    """Every fault through every view: outcomes, time beyond the deadline, and where the token went."""
    tried = right = leaks = strangers = 0
    overruns = []
    logged = io.StringIO()
    logging.basicConfig(stream=logged, level=logging.DEBUG, force=True)
    for case in cases:
        timeout = 0.3 if "DeadlineExceededError" in case.outcomes else 3.0
        resilience = Pipeline([Deadline(timeout), Retry(attempts=2, base=0.001, cap=0.001)])
        for ask in VIEWS.values():
            error = None
            with FaultServer(case.script) as server:
                began = time.monotonic()
                try:
                    ask({**NAMES, "base_url": server.url, "engine": engine, "resilience": resilience})
                except RageError as raised:
                    error = raised
                overruns.append(time.monotonic() - began - timeout)
                strangers += any(request.port != server.port for request in server.requests)
            tried += 1
            right += case.allows(error)
            shown = "".join(traceback.format_exception(error)) + repr(error) + repr(getattr(error, "__dict__", ""))
            leaks += TOKEN in shown + logged.getvalue()
            logged.truncate(0)
    logging.basicConfig(level=logging.WARNING, force=True)
    most = max(overruns)
    return [
        Row(f"{engine}: {tried:,} faults in 4 views: right outcomes", str(tried), str(right), right == tried),
        Row("  longest time beyond the deadline", "<= 0.25 s", f"{most:.3f} s", most <= 0.25),
        Row("  tokens in errors, logs and at other origins", "0", str(leaks + strangers), leaks + strangers == 0),
    ]


def oversized(engine: str) -> Row:
    """Memory of a process of its own that asks for every answer that is too large."""
    command = [sys.executable, __file__, "--measure-memory", engine]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown = int(done.stdout) / MIB
    return Row(f"{engine}: memory, whatever is sent", "< 64 MiB", f"{grown:.0f} MiB", grown < 64)


def measure_memory(engine: str) -> int:
    """Bytes by which this process grows, at its peak, over all the oversized answers; the servers are elsewhere."""
    cases = [name for name in FAULTS if name.startswith("size/")]
    idle = 0
    for name in ["", *cases]:
        command = [sys.executable, __file__, "--serve-fault", name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            for ask in VIEWS.values():
                with suppress(RageError):
                    ask({**NAMES, "base_url": url, "engine": engine, "resilience": Pipeline([Deadline(10)])})
            process.terminate()
        idle = idle or peak()
    return peak() - idle


def peak() -> int:
    """The most memory this process had resident so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def serve_fault(name: str) -> None:
    """Serve one fault, or right answers for an empty name, until the standard input ends."""
    with FaultServer(FAULTS[name].script if name else answer()) as server:
        print(server.url, flush=True)
        sys.stdin.read()


async def cancelled(engine: str, calls: int) -> Row:
    """Calls cancelled in mid-flight, then healthy ones."""
    with FaultServer(FAULTS["time/silent"].script) as server:
        resilience = default_pipeline().with_policies(Bulkhead(100), Deadline(DEADLINE))
        client = AsyncVectorizeClient(base_url=server.url, engine=engine, resilience=resilience, **NAMES)
        tasks_before = len(asyncio.all_tasks())
        for _ in range(calls // 100):
            seen = len(server.requests)
            tasks = [asyncio.create_task(client.retrieve("When?")) for _ in range(100)]
            while len(server.requests) < seen + 100:
                await asyncio.sleep(0.002)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        ended = time.monotonic()
        while server.open_connections:
            await asyncio.sleep(0.01)
        lived_on = time.monotonic() - ended
        home = shared_homes.of(client._calls.connection.address.target)
        permits = home.state(Bulkhead(100), Bulkhead(100)._permits)
        state = CircuitBreaker().circuit(home).state
        left = len(asyncio.all_tasks()) - tasks_before
        figures = (server.open_connections, 100 - permits.free, left, state)
        assert lived_on < DEADLINE + 1
    return Row(
        f"{engine}: {calls:,} cancellations: open connections, permits, tasks; circuit",
        "0, 0, 0; closed",
        "{}, {}, {}; {}".format(*figures) + f" after {lived_on:.1f} s",
        figures == (0, 0, 0, "closed"),
    )


async def concurrent(engine: str, calls: int) -> Row:
    """So many calls at once of a server that takes 100 ms."""
    took = []
    with _answers.running(delay=0.1) as url:
        resilience = default_pipeline().with_policies(Bulkhead(calls))
        client = AsyncVectorizeClient(base_url=url, engine=engine, resilience=resilience, **NAMES)
        await client.retrieve("When?")
        for _ in range(3):
            began = time.monotonic()
            answers = await asyncio.gather(*(client.retrieve("When?") for _ in range(calls)))
            took.append(time.monotonic() - began)
        right = sum(len(answer) == 5 for answer in answers)
        await client.aclose()
    figure = statistics.median(took)
    return Row(
        f"{engine}: {calls:,} concurrent calls of 100 ms, {right} answered",
        "<= 2 s, all",
        f"{figure:.2f} s",
        figure <= 2 and right == calls,
    )


def hedged(calls: int) -> list[Row]:
    """One request in 50 forty times slower (400 ms), one call after the other, with and without hedging."""
    from rage_retrievers import Hedge

    def p99(resilience: Pipeline) -> tuple[float, int]:
        took, attempts = [], 0
        with _answers.running(delay=0.01, slow_every=50) as url:
            client = VectorizeClient(base_url=url, engine="httpx", resilience=resilience, **NAMES)
            for _ in range(calls):
                began = time.monotonic()
                attempts += client.retrieve("When?").attempts
                took.append(time.monotonic() - began)
        return sorted(took)[int(0.99 * calls)], attempts

    plain, _ = p99(default_pipeline())
    with_hedge, sent = p99(default_pipeline().with_policies(Hedge()))
    ratio, extra = plain / with_hedge, sent / calls - 1
    return [
        Row(f"1 request in 50 forty times slower, {calls:,} calls over HTTP: p99", ">= 5x less", f"{ratio:.1f}x less",
            ratio >= 5),
        Row("  extra requests", "<= 5 %", f"{extra:.2%}", extra <= 0.05),
    ]  # fmt: skip


QUICK = ("status/404-json", "content/unknown-fields", "coding/gzip", "size/gzip-bomb")


def rows(smoke: bool) -> list[Row]:
    """Everything that is measured over real HTTP."""
    found: list[Row] = []
    for engine in ("httpx", "httptools"):
        cases = [FAULTS[name] for name in (QUICK if smoke else FAULTS)]
        found += catalogue(cases, engine)
        if not smoke:
            found.append(oversized(engine))
        found.append(asyncio.run(cancelled(engine, 100 if smoke else 10_000)))
        found.append(asyncio.run(concurrent(engine, 50 if smoke else 1_000)))
    return found + ([] if smoke else hedged(2_000))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure-memory"]:
        print(measure_memory(sys.argv[2]))
    elif sys.argv[1:2] == ["--serve-fault"]:
        serve_fault(sys.argv[2])
    else:
        sys.exit(tabled(__doc__, rows))
