"""How long `batch` and `abatch` of 200 questions take when the service needs 200 ms for each. The bar is 1.5 s.

Run: python benchmarks/langchain_batch.py [--smoke]. The service answers over loopback from a thread of this process, so
its work is in the figures. The first batch opens the connections, the later ones find them open.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable

from rage_retrievers.langchain import VectorizeRetriever
from rage_retrievers.testing import FaultServer
from rage_retrievers.testing.faults import answer, delay

BAR = 1.5


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Measure, print, and say with the exit code whether the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few and quick questions, to see that it runs")
    smoke = parser.parse_args().smoke
    questions = [f"question {number}" for number in range(10 if smoke else 200)]
    with FaultServer(delay(0.02 if smoke else 0.2, answer(documents=5))) as server:
        retriever = VectorizeRetriever(api_key="t", organization="o", pipeline_id="p", base_url=server.url, timeout=60)
        with asyncio.Runner() as runner:
            runs: dict[str, Callable[[], object]] = {
                "batch, first": lambda: retriever.batch(list(questions)),
                "batch, again": lambda: retriever.batch(list(questions)),
                "abatch, first": lambda: runner.run(retriever.abatch(list(questions))),
                "abatch, again": lambda: runner.run(retriever.abatch(list(questions))),
            }
            measured = {name: seconds(run) for name, run in runs.items()}
    for name, took in measured.items():
        print(f"{name:16}{took:7.2f} s   bar {BAR:g}: {'held' if took < BAR else 'MISSED'}")
    sys.exit(any(took >= BAR for took in measured.values()))


if __name__ == "__main__":
    main()
