"""The server in a thread of this process: what it loads when, and how it ends."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from starlette.testclient import TestClient

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, asgi_app
from rage_retrievers.local.asgi import PromptServer
from rage_retrievers.local.wire import LocalResponse

from .conftest import Asker

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
ENDS = """
import http.client, sys, threading
from pathlib import Path
from rage_retrievers.local import LocalServer, LocalService
folder, asked = Path(sys.argv[1]), threading.Event()
def never(*_):
    asked.set()
    threading.Event().wait()
service = LocalService.open(folder, cache_dir=folder / ".cache")
service.handle = never
connection = http.client.HTTPConnection("127.0.0.1", LocalServer(service).start().port)
connection.request("GET", "/v1")
asked.wait()
"""
FORKS = """
import asyncio, os, sys
from pathlib import Path
import httpx
from rage_retrievers.local import LocalService
from rage_retrievers.local.asgi import asgi_app
folder = Path(sys.argv[1])
app = asgi_app(LocalService.open(folder, cache_dir=folder / ".cache"))
async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as http:
        return (await asyncio.wait_for(http.get("/elsewhere"), 30)).status_code
print(asyncio.run(ask()), asyncio.run(ask()), flush=True)
child = os.fork()
if child:
    os.waitpid(child, 0)
print(asyncio.run(ask()), flush=True)
os._exit(0)
"""


def test_the_server_is_loaded_while_documents_are_read(tmp_path: Path) -> None:
    """Its import holds up no reading, and is not left for the end either."""
    done = subprocess.run([sys.executable, "-c", LOADS, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_the_application_starts_in_a_server_that_tells_it_so(folder: Path, open_service: Any) -> None:
    """What is no request at all, such as a server's word of its start, is held to no name."""
    with TestClient(asgi_app(open_service(folder), hosts=lambda name: name == "testserver")) as http:
        assert http.get(f"/v1/{PATH}", headers={"Authorization": "Bearer t"}).status_code == 200
        assert http.get(f"/v1/{PATH}", headers={"Authorization": "Bearer t", "Host": "elsewhere"}).status_code == 403


def test_a_server_leaves_the_logs_to_the_application(folder: Path, open_service: Any) -> None:
    """No logger gets a handler or a level, and no request is logged."""
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(list(one.handlers), one.level, one.propagate) for one in loggers[:2]]
    with LocalServer(open_service(folder)):
        assert [(list(one.handlers), one.level, one.propagate) for one in loggers[:2]] == before
        assert not loggers[2].handlers


def test_a_server_at_rest_ends_at_once(folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for no tick of a clock, idle connections or not."""
    sleep = asyncio.sleep

    async def endless(delay: float, result: Any = None) -> Any:
        return await sleep(3600 if delay >= 0.1 else delay, result)

    monkeypatch.setattr(asyncio, "sleep", endless)
    monkeypatch.setattr(PromptServer, "GRACE_SECONDS", 3600.0)
    server = LocalServer(open_service(folder))
    server._server.config.timeout_keep_alive = 3600
    server.start()
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


def test_a_process_ends_while_an_answer_is_worked_out(tmp_path: Path) -> None:
    """An embedding or a reranker that hangs keeps nobody's program from ending."""
    subprocess.run([sys.executable, "-c", ENDS, tmp_path], capture_output=True, check=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_an_app_answers_in_one_loop_after_the_other_and_in_a_forked_process(tmp_path: Path) -> None:
    """What its threads were when it was forked is its parent's."""
    done = subprocess.run([sys.executable, "-c", FORKS, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["404"] * 4


def test_a_users_embedding_runs_in_the_context_of_the_request(folder: Path, open_service: Any) -> None:
    """What is set for a request (a trace, a tenant) is there in the thread that works out its answer."""
    tenant = contextvars.ContextVar("tenant", default="nobody")
    seen: list[str] = []

    class Marked:
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0, 0.0] for _ in texts]

        def embed_query(self, _: str) -> list[float]:
            seen.append(tenant.get())
            return [1.0, 0.0]

    app = asgi_app(open_service(folder, embedding=Marked()))

    async def ask() -> int:
        tenant.set("acme")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver/v1") as http:
            body = {"question": "bees", "numResults": 3}
            return (await http.post(f"{PATH}/retrieval", json=body, headers={"authorization": "t"})).status_code

    assert asyncio.run(ask()) == 200
    assert seen == ["acme"]


def test_a_service_that_is_closed_under_a_request_is_unavailable(folder: Path, open_service: Any) -> None:
    """Whoever asked is told so, and it is no failure to look into."""
    service = open_service(folder)

    def closing(*_: object) -> Any:
        service.close()
        raise ZeroDivisionError

    with mock.patch.object(service._operations, "answer", closing):
        status, answer = Asker(service).post({"question": "bees", "numResults": 3})
    assert (status, answer["details"]) == (503, "the service is closed")
