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

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer
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


def test_a_server_that_never_ran_can_be_ended(folder: Path, open_service: Any) -> None:
    """And one that has ended, once more."""
    server = LocalServer(open_service(folder))
    server.stop()
    running = LocalServer(open_service(folder)).start()
    running.stop()
    running.stop()
