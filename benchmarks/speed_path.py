"""What the library itself costs a call, at import, and in memory; the engine answers from memory.

    python benchmarks/speed_path.py [--smoke]

Times are CPU time, the least of several rounds, which leaves out what other processes take. Beside them stands what no
Python client can go below: parsing the answer with pydantic's own parser into plain dicts, and each framework's empty
retriever, measured in turn with ours. Imports are measured from bytecode, as pip leaves it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import _answers
import resilience_cost
from _table import Row, tabled

STATM = Path("/proc/self/statm")
MEASURED_IMPORT = """
import resource, time
import langchain_core.retrievers, httpx
began, held = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from rage_retrievers.langchain import VectorizeRetriever
print(time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held)
"""


def best(run: Callable[[], object], calls: int, rounds: int) -> float:
    """Microseconds of CPU a call in the quickest round."""
    fastest = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            run()
        fastest = min(fastest, time.process_time() - began)
    return fastest / calls * 1e6


def abest(run: Callable[[], Awaitable[object]], calls: int, rounds: int) -> float:
    """The same for coroutines."""

    async def main() -> float:
        fastest = float("inf")
        for _ in range(rounds):
            began = time.process_time()
            for _ in range(calls):
                await run()
            fastest = min(fastest, time.process_time() - began)
        return fastest / calls * 1e6

    return asyncio.run(main())


def memory_engines() -> Any:
    """Engines that answer from memory."""
    from rage_retrievers._flow import WireRequest, WireResponse
    from rage_retrievers.engines import Engines

    response = WireResponse(200, {"content-type": "application/json"}, _answers.BODY)

    class Memory:
        def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
            return response

        def close(self) -> None: ...

    class AsyncMemory:
        async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
            return response

        async def aclose(self) -> None: ...

    return Engines("memory", Memory, AsyncMemory)


def pipeline(calls: int, rounds: int) -> list[Row]:
    """The policies alone."""
    from rage_retrievers import default_pipeline

    blocking = resilience_cost.sync_cost(default_pipeline(), calls, rounds)
    asynchronous = resilience_cost.async_cost(default_pipeline(), calls, rounds)
    return [
        Row("Whole pipeline around memory, sync", "<= 10 µs", f"{blocking:.1f} µs", blocking <= 10),
        Row("  async", "<= 15 µs", f"{asynchronous:.1f} µs", asynchronous <= 15),
    ]


def conversion(calls: int, rounds: int) -> list[Row]:
    """From the answer's bytes to LangChain's documents."""
    from pydantic_core import from_json

    from rage_retrievers._endpoint import read_retrieval
    from rage_retrievers._flow import WireResponse
    from rage_retrievers.langchain._documents import to_documents
    from rage_retrievers.models import Query

    query = Query.make({"question": "What?"})
    response = WireResponse(200, {}, _answers.BODY)
    documents = to_documents(read_retrieval(response, query, 100))
    assert documents[0].metadata["index"] == "sp-1536"
    took = best(lambda: to_documents(read_retrieval(response, query, 100)), calls, rounds)
    floor = best(lambda: from_json(_answers.BODY), calls, rounds)
    return [
        Row(
            "Parse and convert 5 documents to LangChain's, unknown fields kept",
            "<= 30 µs",
            f"{took:.1f} µs",
            took <= 30,
        ),
        Row("  of which parsing to plain dicts, the floor", "", f"{floor:.1f} µs", None),
    ]


def faces(calls: int, rounds: int) -> list[Row]:
    """Each framework's empty retriever, and how much ours around memory takes above it; taken in turn."""
    from langchain_core.retrievers import BaseRetriever as LangChainBase
    from llama_index.core.base.base_retriever import BaseRetriever as LlamaIndexBase

    from rage_retrievers.langchain import VectorizeRetriever as LangChain
    from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndex

    class EmptyLangChain(LangChainBase):
        def _get_relevant_documents(self, query: str, **_: Any) -> list[Any]:
            return []

        async def _aget_relevant_documents(self, query: str, **_: Any) -> list[Any]:
            return []

    class EmptyLlamaIndex(LlamaIndexBase):
        def _retrieve(self, query_bundle: Any) -> list[Any]:
            return []

        async def _aretrieve(self, query_bundle: Any) -> list[Any]:
            return []

    options: Any = {"api_key": "token", "organization": "o", "pipeline_id": "p", "engine": memory_engines()}
    rows = []
    for name, empty, ours, ask, aask in (
        ("LangChain", EmptyLangChain(), LangChain(**options), "invoke", "ainvoke"),
        ("LlamaIndex", EmptyLlamaIndex(), LlamaIndex(**options), "retrieve", "aretrieve"),
    ):
        pair = (empty, ours)
        blocking = in_turn([partial(best, partial(getattr(one, ask), "What?"), calls, 1) for one in pair], rounds)
        asynchronous = in_turn([partial(abest, partial(getattr(one, aask), "What?"), calls, 1) for one in pair], rounds)
        floor = f"{blocking[0]:.0f} / {asynchronous[0]:.0f} µs"
        above = f"{blocking[1] - blocking[0]:.0f} / {asynchronous[1] - asynchronous[0]:.0f} µs above"
        total = f"{blocking[1]:.0f} / {asynchronous[1]:.0f} µs"
        rows.append(Row(f"  {name}'s empty retriever, sync / async", "", floor, None))
        rows.append(Row(f"  our {name} retriever around memory", "", f"{total}, {above}", None))
    return rows


def in_turn(measures: list[Callable[[], float]], rounds: int) -> list[float]:
    """The least of each; a round takes them all, so that a busy moment of the machine meets them alike."""
    taken = [[measure() for measure in measures] for _ in range(rounds)]
    return [min(column) for column in zip(*taken, strict=True)]


def imports(rounds: int) -> list[Row]:
    """What the LangChain face adds to what its user has imported already."""
    taken: list[tuple[float, float]] = []
    with TemporaryDirectory() as bytecode:
        # Whoever measures may forbid bytecode; an installed package has it.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
        code = [sys.executable, "-c", MEASURED_IMPORT]
        for _ in range(rounds + 1):
            told = subprocess.run(code, capture_output=True, text=True, check=True, env=environment).stdout.split()
            taken.append((float(told[0]), float(told[1])))
    time_ms = min(seconds for seconds, _ in taken) * 1000
    memory_mb = max(kib for _, kib in taken[1:]) / 1024  # the first has compiled
    figure = f"{time_ms:.0f} ms, {memory_mb:.1f} MB"
    measure = "Import of the LangChain face, above langchain_core.retrievers and httpx"
    return [Row(measure, "<= 60 ms, 8 MB", figure, time_ms <= 60 and memory_mb <= 8)]


def resident() -> float:
    """Megabytes of memory in use."""
    gc.collect()
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(calls: int) -> list[Row]:
    """Growth over many real calls, and what one more retriever takes."""
    from rage_retrievers.langchain import VectorizeRetriever

    rows = []
    with _answers.running() as url:
        options: Any = {"api_key": "token", "organization": "o", "pipeline_id": "p", "base_url": url}
        before = resident()
        retriever = VectorizeRetriever(**options)
        retriever.invoke("What?")
        one = resident() - before
        for _ in range(calls // 20 + 100):
            retriever.invoke("What?")
        warm = resident()
        for _ in range(calls):
            retriever.invoke("What?")
        grown = resident() - warm
        rows.append(Row(f"Memory growth over {calls:,} calls", "< 2 MB", f"{grown:.2f} MB", grown < 2))
        rows.append(
            Row("Memory of an instance, its first call and engine included", "< 50 MB", f"{one:.1f} MB", one < 50)
        )
    return rows


def rows(smoke: bool) -> list[Row]:
    """Every measure."""
    calls, rounds = (100, 3) if smoke else (1000, 60)
    # First, for a child's peak of memory begins with its parent's, and the frameworks are not loaded here yet.
    imported = imports(1 if smoke else 7)
    return [
        *pipeline(calls, rounds),
        *conversion(calls, rounds),
        *faces(calls // 5, rounds),
        *imported,
        *memory(500 if smoke else 100_000),
    ]


if __name__ == "__main__":
    sys.exit(tabled(__doc__, rows))
