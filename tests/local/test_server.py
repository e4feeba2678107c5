"""The server in a thread of this process: what it loads when, and how it ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, operations
from rage_retrievers.local.wire import LocalResponse

PATH = f"org/{LOCAL_ORGANIZATION}/pipelines/{LOCAL_PIPELINE}"
LOADS = """
import sys
from pathlib import Path
from rage_retrievers.local import LocalServer, LocalService
print("uvicorn" in sys.modules)
folder = Path(sys.argv[1])
with LocalService.open(folder, cache_dir=folder / ".cache"):
    print("uvicorn" in sys.modules)
"""


def test_the_server_is_loaded_while_documents_are_read(tmp_path: Path) -> None:
    """Its import holds up no reading, and is not left for the end either."""
    done = subprocess.run([sys.executable, "-c", LOADS, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_server_at_rest_ends_at_once(folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for no tick of a clock, idle connections or not."""
    sleep = asyncio.sleep

    async def endless(delay: float, result: Any = None) -> Any:
        return await sleep(3600 if delay >= 0.1 else delay, result)

    monkeypatch.setattr(asyncio, "sleep", endless)
    server = LocalServer(open_service(folder)).start()
    with httpx.Client(headers={"Authorization": "Bearer t"}) as http:
        assert http.get(f"{server.url}/{PATH}").status_code == 200
        server.stop()
    assert server._thread is not None
    assert not server._thread.is_alive()


def test_a_request_under_way_is_answered_before_the_end(
    folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever had asked by then has the whole answer."""
    service = open_service(folder)
    asked, ended = threading.Event(), threading.Event()

    def handle(*_: object) -> LocalResponse:
        asked.set()
        assert ended.wait(60)
        return LocalResponse(200, {}, b"whole")

    monkeypatch.setattr(service, "handle", handle)
    server = LocalServer(service).start()
    answers: list[bytes] = []
    client = threading.Thread(target=lambda: answers.append(httpx.get(f"{server.url}/{PATH}", timeout=60).content))
    client.start()
    assert asked.wait(60)
    end = server._server.end

    def end_and_answer() -> None:
        end()
        ended.set()

    monkeypatch.setattr(server._server, "end", end_and_answer)
    server.stop()
    client.join(60)
    assert answers == [b"whole"]


def post(server: LocalServer, body: dict[str, Any], pipeline: str = LOCAL_PIPELINE) -> int:
    """Ask for passages; gives the status."""
    url = f"{server.url}/org/{LOCAL_ORGANIZATION}/pipelines/{pipeline}/retrieval"
    return httpx.post(
        url, json={"question": "bees", "numResults": 3} | body, headers={"x-lambda-api-key": "t"}
    ).status_code


class Same:
    """An embedding and a reranker of the user's."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0]

    def rerank(self, question: str, texts: list[str]) -> list[float]:
        return [0.5] * len(texts)


@pytest.mark.parametrize(
    ("options", "body", "pipeline", "brief"),
    [
        ({}, {}, LOCAL_PIPELINE, True),
        ({}, {"question": "bees " * 500}, LOCAL_PIPELINE, False),
        ({}, {"metadata-filters": [{"year": [2024]}]}, LOCAL_PIPELINE, False),
        ({}, {"advanced-query": {"filters": {"term": {"year": 2024}}}}, LOCAL_PIPELINE, False),
        ({}, {}, "aip-unknown", False),
        ({"follow_seconds": 0.0}, {}, LOCAL_PIPELINE, False),
        ({"embedding": Same()}, {}, LOCAL_PIPELINE, False),
        ({"reranker": Same().rerank}, {}, LOCAL_PIPELINE, False),
    ],
    ids=["short", "long", "filter", "query filter", "unknown", "look due", "embedding", "reranker"],
)
def test_only_a_brief_answer_is_worked_out_in_the_servers_loop(
    folder: Path,
    open_service: Any,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    body: dict[str, Any],
    pipeline: str,
    brief: bool,
) -> None:
    """What may take long has a thread of its own, so that others are answered meanwhile."""
    service, threads = open_service(folder, **{"follow_seconds": 3600.0, **options}), list[str]()
    handle = service.handle

    def heard(*asked: Any) -> LocalResponse:
        threads.append(threading.current_thread().name)
        return handle(*asked)  # type: ignore[no-any-return]

    monkeypatch.setattr(service, "handle", heard)
    with LocalServer(service, loop_waits=True) as server:
        assert post(server, body, pipeline) == (200 if pipeline == LOCAL_PIPELINE else 404)
    assert [name == "rage-local-server" for name in threads] == [brief]


def test_a_loop_waits_only_where_it_was_told_to(
    folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that the service is mounted in has others to serve."""
    service, asked = open_service(folder, follow_seconds=3600.0), list[str]()
    handle = service.handle

    def heard(*request: Any) -> LocalResponse:
        asked.append(threading.current_thread().name)
        return handle(*request)  # type: ignore[no-any-return]

    monkeypatch.setattr(service, "handle", heard)
    with LocalServer(service) as server:
        assert post(server, {}) == 200
    assert asked != ["rage-local-server"]


def test_a_question_to_many_passages_is_not_brief(
    folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The more there are, the longer a search takes."""
    service = open_service(folder, follow_seconds=3600.0)
    path = f"/v1/{PATH}/retrieval"
    assert service.is_brief("POST", path, b"{}")
    assert not service.is_brief("GET", path, b"{}")
    monkeypatch.setattr(operations, "_BRIEF_PASSAGES", service.stats.chunks - 1)
    assert not service.is_brief("POST", path, b"{}")


def test_the_loop_does_not_wait_for_whoever_indexes(folder: Path, open_service: Any) -> None:
    """While documents are read, and while one pipeline's index is made again, the others are answered."""
    service = open_service(folder, follow_seconds=3600.0)
    path, collection = f"/v1/{PATH}/retrieval", service._operations.own.feed.collection
    taken, leave = threading.Event(), threading.Event()

    def write() -> None:
        with collection._mutex:
            taken.set()
            leave.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    assert taken.wait(60)
    assert not service.is_brief("POST", path, b"{}")
    leave.set()
    writer.join(60)
    assert service.is_brief("POST", path, b"{}")
    service.close()
    assert not service.is_brief("POST", path, b"{}")


def test_a_server_that_never_ran_can_be_ended(folder: Path, open_service: Any) -> None:
    """And one that has ended, once more."""
    server = LocalServer(open_service(folder))
    server.stop()
    running = LocalServer(open_service(folder)).start()
    running.stop()
    running.stop()
