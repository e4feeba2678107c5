"""The engine of the embedded pipeline: a call's deadline holds although work cannot be interrupted."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rage_retrievers import AsyncVectorizeClient, VectorizeClient
from rage_retrievers.engines import Engines, embedded
from rage_retrievers.errors import DeadlineExceededError

WORLDS = pytest.mark.parametrize("world", ["blocking", "asyncio"])


class Slow:
    """An embedding and a reranker that wait for leave when told to."""

    def __init__(self) -> None:
        self.leave = threading.Event()
        self.leave.set()
        self.rerankings = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.leave.wait(30)
        return [[1.0, 0.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0]

    def rerank(self, question: str, texts: list[str]) -> list[float]:
        self.leave.wait(30)
        self.rerankings += 1
        return [0.5] * len(texts)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """One whose waiting ends with the test."""
    monkeypatch.setenv("RAGE_CACHE_DIR", str(tmp_path / "cache"))
    made = Slow()
    yield made
    made.leave.set()


@pytest.fixture
def engine(folder: Path, slow: Slow) -> Engines:
    """The embedded pipeline over six documents."""
    return embedded(str(folder), embedding=slow, reranker=slow.rerank)


def ask(world: str, engine: Engines, **options: Any) -> int:
    """The number of documents, in the world named."""
    asked: dict[str, Any] = {"num_results": 2, **options}
    if world == "blocking":
        with VectorizeClient(engine=engine) as client:
            return len(client.retrieve("bees", **asked).documents)

    async def run() -> int:
        async with AsyncVectorizeClient(engine=engine) as client:
            return len((await client.retrieve("bees", **asked)).documents)

    return asyncio.run(run())


@WORLDS
def test_a_deadline_holds_while_the_folder_is_indexed(world: str, engine: Engines, slow: Slow) -> None:
    """The typed error says what goes on; a later call has the index that the first one began."""
    slow.leave.clear()
    with pytest.raises(DeadlineExceededError, match="still being indexed"):
        ask(world, engine, timeout=0.2)
    slow.leave.set()
    assert ask(world, engine, timeout=30) == 2


@WORLDS
def test_a_deadline_holds_while_an_answer_is_made(world: str, engine: Engines, slow: Slow) -> None:
    """A reranker that hangs is left behind."""
    assert ask(world, engine, timeout=30) == 2
    slow.leave.clear()
    with pytest.raises(DeadlineExceededError, match="No whole answer"):
        ask(world, engine, rerank=True, timeout=0.2)
    slow.leave.set()
    assert ask(world, engine, rerank=True, timeout=30) == 2


def test_callers_who_come_together_index_the_folder_once(engine: Engines, slow: Slow) -> None:
    """One of them giving up ends it for nobody else."""
    slow.leave.clear()
    found: list[int] = []
    others = [threading.Thread(target=lambda: found.append(ask("blocking", engine, timeout=30))) for _ in range(3)]
    for other in others:
        other.start()
    with pytest.raises(DeadlineExceededError):
        ask("asyncio", engine, timeout=0.2)
    slow.leave.set()
    for other in others:
        other.join()
    assert found == [2, 2, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_answers(engine: Engines, slow: Slow) -> None:
    """Threads do not outlive a fork, so it begins with new ones."""
    assert ask("blocking", engine, timeout=30) == 2
    child = os.fork()
    if child == 0:
        os._exit(0 if ask("blocking", engine, timeout=30) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
