"""How long `batch` and `abatch` of 200 questions take when the service needs 200 ms for each. The bar is 1.5 s.

Run: python benchmarks/langchain_batch.py [--smoke]. The service answers over loopback from a process of its own. The
first batch opens the connections, the later ones find them open. `cpu` is the processor time of this process.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from rage_retrievers.langchain import VectorizeRetriever
from rage_retrievers.testing import FaultServer
from rage_retrievers.testing.faults import answer, delay

BAR = 1.5


def serve(pipe: Connection, pause: float) -> None:
    """Answer each request after a pause, until told to end."""
    with FaultServer(delay(pause, answer(documents=5))) as server:
        pipe.send(server.url)
        pipe.recv()


def took(call: Callable[[], object]) -> tuple[float, float]:
    """The seconds of one call, and those of processor time."""
    started, worked = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - worked


def measure(url: str, questions: list[str]) -> dict[str, tuple[float, float]]:
    """Each batch in turn."""
    retriever = VectorizeRetriever(api_key="t", organization="o", pipeline_id="p", base_url=url, timeout=60)
    with asyncio.Runner() as runner:
        runs: dict[str, Callable[[], object]] = {
            "batch, first": lambda: retriever.batch(questions),
            "batch, again": lambda: retriever.batch(questions),
            "abatch, first": lambda: runner.run(retriever.abatch(questions)),
            "abatch, again": lambda: runner.run(retriever.abatch(questions)),
        }
        return {name: took(run) for name, run in runs.items()}


def main() -> None:
    """Measure, print, and say with the exit code whether the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few and quick questions, to see that it runs; no bar")
    smoke = parser.parse_args().smoke
    here, there = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    server = spawn.Process(target=serve, args=(there, 0.02 if smoke else 0.2))
    server.start()
    measured = measure(here.recv(), [f"question {number}" for number in range(10 if smoke else 200)])
    here.send("end")
    server.join()
    for name, (wall, cpu) in measured.items():
        print(f"{name:16}{wall:7.2f} s   cpu {cpu:.2f} s   bar {BAR:g}: {'held' if wall < BAR else 'MISSED'}")
    sys.exit(not smoke and any(wall >= BAR for wall, _ in measured.values()))


if __name__ == "__main__":
    main()
