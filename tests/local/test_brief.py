"""What the server's loop answers itself: nothing that holds up whoever else is asking."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, LocalService, operations
from rage_retrievers.local.embedding import WordVectors
from rage_retrievers.local.wire import LocalResponse

from .conftest import store_of
from .test_account import Client, Held

ASKED = {"question": "bees", "numResults": 3}
LONG_BEFORE = {"messages": [{"role": "user", "content": "b " * 200}]}
TOKEN = {"authorization": "Bearer t"}


def path_of(pipeline: str = LOCAL_PIPELINE) -> str:
    return f"/v1/org/{LOCAL_ORGANIZATION}/pipelines/{pipeline}/retrieval"


def briefly(
    service: LocalService, body: dict[str, Any] | bytes = b"", *, path: str = path_of(), method: str = "POST"
) -> int | None:
    """The status that is answered in the loop; None for what a thread has to do."""
    data = body if isinstance(body, bytes) and body else json.dumps(ASKED | dict(body or {})).encode()
    answer = service.handle_briefly(method, path, TOKEN, data)
    return None if answer is None else answer.status


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
        ({}, {"question": "a.b " * 65}, LOCAL_PIPELINE, False),
        ({}, {"question": "bees", "advanced-query": {"text-fields": ["text"] * 65}}, LOCAL_PIPELINE, None),
        ({}, {"question": "bees and hives", "advanced-query": {"text-fields": ["text"] * 32}}, LOCAL_PIPELINE, False),
        ({}, {"question": "it", "context": LONG_BEFORE}, LOCAL_PIPELINE, False),
        ({}, {"numResults": 51}, LOCAL_PIPELINE, False),
        ({}, {"metadata-filters": [{"year": [2024]}]}, LOCAL_PIPELINE, False),
        ({}, {"advanced-query": {"filters": {"term": {"year": 2024}}}}, LOCAL_PIPELINE, False),
        ({}, {}, "aip-unknown", False),
        ({"follow_seconds": 0.0}, {}, LOCAL_PIPELINE, False),
        ({"embedding": Same()}, {}, LOCAL_PIPELINE, False),
        ({"reranker": Same().rerank}, {}, LOCAL_PIPELINE, False),
    ],
    ids=[
        "short", "words", "too many fields", "fields", "messages", "results", "filter", "query filter", "unknown",
        "look due", "embedding", "reranker",
    ],
)  # fmt: skip
def test_only_a_brief_answer_is_worked_out_in_the_servers_loop(
    folder: Path,
    open_service: Any,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    body: dict[str, Any],
    pipeline: str,
    brief: bool | None,
) -> None:
    """What may take long has a thread of its own, so that others are answered meanwhile; a refusal is brief."""
    service, threads = open_service(folder, **{"follow_seconds": 3600.0, **options}), list[str]()
    handle = service.handle

    def heard(*asked: Any) -> LocalResponse:
        threads.append(threading.current_thread().name)
        return handle(*asked)  # type: ignore[no-any-return]

    monkeypatch.setattr(service, "handle", heard)
    with LocalServer(service, loop_waits=True) as server:
        status = httpx.post(
            server.url.removesuffix("/v1") + path_of(pipeline), json=ASKED | body, headers=TOKEN
        ).status_code
    assert status == (404 if pipeline != LOCAL_PIPELINE else 400 if brief is None else 200)
    assert len(threads) == (brief is False)
    assert "rage-local-server" not in threads


def test_a_loop_waits_only_where_it_was_told_to(
    folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that the service is mounted in has others to serve."""
    service = open_service(folder, follow_seconds=3600.0)
    monkeypatch.setattr(service, "handle_briefly", lambda *asked: pytest.fail("in the loop"))
    with LocalServer(service) as server:
        url = server.url.removesuffix("/v1") + path_of()
        assert httpx.post(url, json=ASKED, headers=TOKEN).status_code == 200


def test_a_filter_is_seen_however_it_is_written(folder: Path, open_service: Any) -> None:
    """JSON can write a letter in two ways."""
    service = open_service(folder, follow_seconds=3600.0)
    escaped = json.dumps(ASKED).encode()[:-1] + rb', "metadata-\u0066ilters": [{"year": [2024]}]}'
    assert briefly(service, escaped) is None


@pytest.mark.parametrize("mark", ["?", "#"])
def test_another_pipeline_cannot_be_asked_in_the_name_of_one_at_rest(
    folder: Path, open_service: Any, mark: str
) -> None:
    """What follows a path names nothing."""
    service = open_service(folder, follow_seconds=3600.0)
    for asked in ("/v1/pipelines", path_of("aip-other"), path_of().replace("retrieval", "deep-research")):
        assert briefly(service, path=f"{asked}{mark}{path_of()}") is None
    assert briefly(service, path=path_of() + mark + "x") == 200
    assert briefly(service, method="GET") is None


def test_a_question_to_many_passages_is_not_brief(
    folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The more there are, the longer a search takes."""
    service = open_service(folder, follow_seconds=3600.0)
    assert briefly(service) == 200
    assert briefly(service, b"{}") == 400
    assert service.handle_briefly("POST", path_of(), {}, b"{}").status == 401
    monkeypatch.setattr(operations, "_BRIEF_PASSAGES", service.stats.chunks - 1)
    assert briefly(service) is None


def test_the_loop_does_not_wait_for_whoever_indexes(folder: Path, open_service: Any) -> None:
    """While documents are read, and while one pipeline's index is made again, the others are answered."""
    service = open_service(folder, follow_seconds=3600.0)
    taken, leave = threading.Event(), threading.Event()

    def write() -> None:
        with service._operations.own.feed.collection._mutex:
            taken.set()
            leave.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    assert taken.wait(60)
    assert briefly(service) is None
    leave.set()
    writer.join(60)
    assert briefly(service) == 200
    service.close()
    assert briefly(service) is None


def test_others_are_answered_while_a_pipeline_is_deployed(
    folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a question to another pipeline nor an upload waits for it; its own end of the deployment does."""
    held = Held()
    client = Client(open_service(folder, executor=held, follow_seconds=3600.0), held)
    connector = client.connector()
    client.upload(connector, "a.txt", b"penguins waddle")
    first = client.pipeline(connector)
    held.run()
    assert client.retrieve(first, "penguins")["documents"]
    second = client.pipeline(connector)
    taken, leave, passages = threading.Event(), threading.Event(), WordVectors.passages

    def slow(self: WordVectors, texts: list[str]) -> Any:
        taken.set()
        leave.wait(60)
        return passages(self, texts)

    monkeypatch.setattr(WordVectors, "passages", slow)
    deployer = threading.Thread(target=held.run)
    deployer.start()
    assert taken.wait(60)
    answered = threading.Thread(target=lambda: client.retrieve(first, "penguins"))
    answered.start()
    answered.join(20)
    stuck = answered.is_alive()
    leave.set()
    deployer.join(60)
    answered.join(60)
    assert not stuck
    assert client.retrieve(second, "penguins")["documents"]


def test_a_pipeline_deleted_before_its_turn_is_not_deployed(folder: Path, open_service: Any) -> None:
    """Nothing of it is left behind."""
    held = Held()
    client = Client(open_service(folder, executor=held), held)
    pipeline = client.pipeline(client.connector())
    client("DELETE", f"/pipelines/{pipeline}")
    held.run()
    assert client.service._operations._pipelines._feeds == {}


def _alter_passages(store: Path) -> None:
    with sqlite3.connect(store) as db:
        db.execute("UPDATE passages SET text = 'altered'")
    db.close()


def _write_elsewhere(store: Path) -> None:
    """As another process does that found a change first."""
    with LocalService.open(store.parents[3] / "many", cache_dir=store.parents[2]) as other:
        (store.parents[3] / "many" / "new.txt").write_text("common words of another process")
        other.refresh()


def _replace(store: Path) -> None:
    """As another process does that found it corrupt."""
    shutil.copy(store, store.with_name("copy"))
    store.with_name("copy").replace(store)


@pytest.mark.parametrize("change", [_alter_passages, _write_elsewhere, _replace])
def test_what_has_to_be_read_again_has_a_thread(
    many: Path, tmp_path: Path, open_service: Any, change: Callable[[Path], None]
) -> None:
    """An index found corrupt is made again, one that another process has written is read, and the loop goes on."""
    service = open_service(many, follow_seconds=3600.0)
    common = {"question": "common words"}
    assert briefly(service, common) == 200
    change(store_of(tmp_path))
    assert briefly(service, common) is None
    assert service.handle("POST", path_of(), TOKEN, json.dumps(ASKED | common).encode()).status == 200
    assert briefly(service, common) == 200
