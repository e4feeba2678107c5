"""What clients make: connectors, uploads, pipelines, research, extraction; answers as the OpenAPI document says."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import httpx
import pytest

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, LocalService

from . import openapi
from .conftest import make_docx, make_pdf

ORG = f"/org/{LOCAL_ORGANIZATION}"
DESTINATION = {"id": "00000000-0000-4000-8000-000000000002", "type": "VECTORIZE"}
PLATFORM = {"id": "00000000-0000-4000-8000-000000000003", "type": "VECTORIZE", "config": {}}


class Held(Executor):
    """Runs what was submitted when the test says so."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._waiting.append(lambda: fn(*args, **kwargs))
        return Future()

    def run(self) -> None:
        while self._waiting:
            self._waiting.pop(0)()


class Client:
    """Calls a service in process and checks every answer of a described operation against the document."""

    def __init__(self, service: LocalService, held: Held) -> None:
        self.service = service
        self.held = held

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        headers = {"authorization": "Bearer t", "host": "127.0.0.1:3000"}
        data = b"" if body is None else json.dumps(body).encode()
        answer = self.service.handle(method, f"/v1{ORG}{path}", headers, data)
        found = json.loads(answer.body)
        assert answer.status == status, found
        if status in (200, 400, 401, 403, 404):
            openapi.check(method, (ORG + path).partition("?")[0], status, found)
        return found

    def upload(self, connector: str, name: str, data: bytes, kind: str = "text/plain", **asked: Any) -> None:
        url = self("PUT", f"/uploads/{connector}/files", {"name": name, "contentType": kind} | asked)["uploadUrl"]
        assert self.put(url, data) == 200

    def put(self, url: str, data: bytes) -> int:
        return self.service.handle("PUT", httpx.URL(url).path, {}, data).status

    def connector(self) -> str:
        made = self("POST", "/connectors/sources", {"name": "mine", "type": "FILE_UPLOAD"})
        return str(made["connector"]["id"])

    def pipeline(self, connector: str, **config: Any) -> str:
        return str(self("POST", "/pipelines", configuration(connector, **config))["data"]["id"])

    def retrieve(self, pipeline: str, question: str, knobs: dict[str, Any] | None = None, status: int = 200) -> Any:
        body = {"question": question, "numResults": 5, "rerank": True} | (knobs or {})
        return self("POST", f"/pipelines/{pipeline}/retrieval", body, status)


def configuration(connector: str, **config: Any) -> dict[str, Any]:
    return {
        "sourceConnectors": [{"id": connector, "type": "FILE_UPLOAD", "config": {}}],
        "destinationConnector": DESTINATION,
        "aiPlatformConnector": PLATFORM | {"config": config},
        "pipelineName": "mine",
        "schedule": {"type": "manual"},
    }


@pytest.fixture
def client(folder: Path, open_service: Any) -> Client:
    """A service over the folder whose background work waits for the test."""
    held = Held()
    return Client(open_service(folder, executor=held), held)


def test_answers_are_held_against_the_document() -> None:
    """The check refuses an answer that lacks what the document requires (skipped where jsonschema is missing)."""
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        openapi.check("GET", f"{ORG}/pipelines", 200, {"message": "x"})


def test_the_folder_is_a_pipeline_among_others(client: Client) -> None:
    """It is listed, described, and says what was indexed."""
    listed = client("GET", "/pipelines")["data"]
    assert [(one["id"], one["documentCount"], one["status"]) for one in listed] == [(LOCAL_PIPELINE, 6, "LISTENING")]
    details = client("GET", f"/pipelines/{LOCAL_PIPELINE}")["data"]
    assert [one["type"] for one in details["destinationConnectors"]] == ["VECTORIZE"]
    assert client("GET", f"/pipelines/{LOCAL_PIPELINE}/events")["data"][0]["type"] == "DOCUMENTS_INDEXED"
    assert client("GET", f"/pipelines/{LOCAL_PIPELINE}/metrics")["data"][0]["newObjects"] == 6


def test_what_is_uploaded_is_found_in_a_created_pipeline(client: Client) -> None:
    """Upload, create, 503 until it is ready, then answers from every format with the user's metadata."""
    connector = client.connector()
    metadata = {"year": 2021, "draft": False, "by": {"name": "Ada"}}
    client.upload(connector, "whales.txt", b"Blue whales eat krill by the ton", metadata=json.dumps(metadata))
    client.upload(connector, "a/tax.pdf", make_pdf("Customs duties are paid at the border"), "application/pdf")
    client.upload(connector, "letter.docx", make_docx("The plumber repairs the kitchen sink"))
    client.upload(connector, "page", b"<html><body><p>Granite is an igneous rock</p></body></html>", "text/html")
    client.upload(connector, "notes.md", b"# Glaciers\n\nGlaciers carve valleys")
    pipeline = client.pipeline(connector)
    assert pipeline.startswith("aip")
    assert client("GET", f"/pipelines/{pipeline}")["data"]["status"] == "DEPLOYING"
    assert "not ready" in client.retrieve(pipeline, "whales", status=503)["error"]
    client.held.run()
    assert client("GET", f"/pipelines/{pipeline}")["data"]["status"] == "LISTENING"
    best = client.retrieve(pipeline, "what do blue whales eat")["documents"][0]
    assert best["metadata"] == metadata
    assert (best["origin"], best["origin_id"], best["pipeline_id"]) == ("file-upload", connector, pipeline)
    assert best["source_display_name"] == f"{LOCAL_ORGANIZATION}/{connector}/whales.txt"
    for question, name in [("customs duties", "tax.pdf"), ("sink", "docx"), ("granite", "page"), ("glaciers", "md")]:
        assert client.retrieve(pipeline, question)["documents"][0]["source"].endswith(name)
    year = [{"year": [2021]}]
    assert len(client.retrieve(pipeline, "glaciers", {"metadata-filters": year})["documents"]) == 1
    assert client.retrieve(LOCAL_PIPELINE, "krill", {"advanced-query": {"mode": "text"}})["documents"] == []


def test_a_file_of_the_same_name_overwrites_and_a_deleted_one_is_gone(client: Client) -> None:
    """The next answer sees it, and the list of files too."""
    connector = client.connector()
    client.upload(connector, "a.txt", b"penguins waddle", metadata='{"v": 1}')
    pipeline = client.pipeline(connector)
    client.held.run()
    client.upload(connector, "a.txt", b"ostriches run", metadata='{"v": 2}')
    (listed,) = client("GET", f"/uploads/{connector}/files")["files"]
    assert (listed["name"], listed["size"], listed["metadata"]) == ("a.txt", 13, {"v": 2})
    assert [one["text"] for one in client.retrieve(pipeline, "birds")["documents"]] == ["ostriches run"]
    client("DELETE", f"/uploads/{connector}/files/a.txt")
    client("DELETE", f"/uploads/{connector}/files/a.txt", status=404)
    assert client.retrieve(pipeline, "birds")["documents"] == []
    assert client("GET", f"/uploads/{connector}/files")["files"] == []


def test_an_upload_url_takes_one_file(client: Client) -> None:
    """A URL that is used or invented is refused; a file name is never a path."""
    connector = client.connector()
    asked = {"name": "../../escape.txt", "contentType": "text/plain"}
    url = client("PUT", f"/uploads/{connector}/files", asked)["uploadUrl"]
    assert url.startswith("http://127.0.0.1:3000/v1/upload/")
    assert client.put(url, b"one") == 200
    assert client.put(url, b"two") == 403
    assert client.put("http://x/v1/upload/invented", b"x") == 403
    assert [file["name"] for file in client("GET", f"/uploads/{connector}/files")["files"]] == ["../../escape.txt"]


@pytest.mark.parametrize("metadata", ["{", "[1]", '"x"', '{"a": NaN}', '{"a":' * 99 + "1" + "}" * 99, '{"a": 1e999}'])
def test_upload_metadata_must_be_an_object_that_can_be_kept(client: Client, metadata: str) -> None:
    """400 naming the field."""
    body = {"name": "a.txt", "contentType": "text/plain", "metadata": metadata}
    answer = client("PUT", f"/uploads/{client.connector()}/files", body, 400)
    assert answer["details"].startswith("metadata:")


def test_state_outlives_the_process(client: Client, folder: Path, open_service: Any) -> None:
    """Connectors, files, pipelines and research are there after a restart, an undone deployment is taken up again."""
    connector = client.connector()
    client.upload(connector, "a.txt", b"penguins waddle")
    done, undone = client.pipeline(connector), ""
    client.held.run()
    undone = client.pipeline(connector, chunkSize=500)
    research = client("POST", f"/pipelines/{done}/deep-research", {"query": "penguins"})["researchId"]
    client.service.close()
    again = Client(open_service(folder, executor=client.held), client.held)
    client.held._waiting.clear()
    assert again.retrieve(done, "penguins")["documents"][0]["text"] == "penguins waddle"
    again.retrieve(undone, "penguins", status=503)
    assert again("GET", f"/pipelines/{done}/deep-research/{research}") == {"ready": False}
    again.held.run()
    assert again.retrieve(undone, "penguins")["documents"][0]["text"] == "penguins waddle"
    assert again("GET", f"/pipelines/{done}/deep-research/{research}")["ready"] is True


def test_a_pipeline_can_be_stopped_started_and_deleted(client: Client) -> None:
    """Stopped it answers from what it had; deleted it is unknown and its files stay."""
    connector = client.connector()
    client.upload(connector, "a.txt", b"penguins waddle")
    pipeline = client.pipeline(connector)
    client.held.run()
    client("POST", f"/pipelines/{pipeline}/stop")
    client.upload(connector, "b.txt", b"ostriches run")
    assert client("GET", f"/pipelines/{pipeline}")["data"]["status"] == "IDLE"
    assert len(client.retrieve(pipeline, "birds")["documents"]) == 1
    client("POST", f"/pipelines/{pipeline}/start")
    assert len(client.retrieve(pipeline, "birds")["documents"]) == 2
    kinds = [event["type"] for event in client("GET", f"/pipelines/{pipeline}/events")["data"]]
    assert {"PIPELINE_CREATED", "PIPELINE_DEPLOYED", "PIPELINE_STOPPED", "PIPELINE_STARTED"} <= set(kinds)
    client("DELETE", f"/connectors/sources/{connector}", status=400)
    client("DELETE", f"/pipelines/{pipeline}")
    client("GET", f"/pipelines/{pipeline}", status=404)
    client.retrieve(pipeline, "birds", status=404)
    assert len(client("GET", f"/uploads/{connector}/files")["files"]) == 2
    client("DELETE", f"/connectors/sources/{connector}")
    client("DELETE", f"/pipelines/{LOCAL_PIPELINE}", status=403)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"pipelineName": ""}, "pipelineName"),
        ({"sourceConnectors": []}, "sourceConnectors"),
        ({"sourceConnectors": [{"id": "x", "type": "FILE_UPLOAD", "config": {}}]}, "sourceConnectors[0].id"),
        ({"destinationConnector": DESTINATION | {"type": "PINECONE"}}, "destinationConnector.type"),
        ({"aiPlatformConnector": PLATFORM | {"config": {"chunkSize": 0}}}, "aiPlatformConnector.config.chunkSize"),
        ({"schedule": {"type": "yearly"}}, "schedule.type"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(client: Client, change: dict[str, Any], field: str) -> None:
    """400 with the field first in the details, and nothing is made."""
    body = configuration(client.connector()) | change
    assert client("POST", "/pipelines", body, 400)["details"].startswith(f"{field}:")
    assert len(client("GET", "/pipelines")["data"]) == 1


@pytest.mark.parametrize(
    ("family", "listed", "kind"),
    [
        ("sources", "sourceConnectors", "AWS_S3"),
        ("destinations", "destinationConnectors", "PINECONE"),
        ("aiplatforms", "aiPlatformConnectors", "OPENAI"),
    ],
)
def test_connectors_are_made_changed_and_deleted(client: Client, family: str, listed: str, kind: str) -> None:
    """All three families alike; credentials are never shown again, built-in connectors stay."""
    at = f"/connectors/{family}"
    body = {
        "name": "first",
        "type": kind,
        "config": {"api-key": "hunter2", "bucket-name": "b", "secret-key": "hunter2"},
    }
    made = client("POST", at, body)["connector"]["id"]
    shown = client("GET", f"{at}/{made}")
    assert shown["configDoc"]["bucket-name"] == "b"
    assert "hunter2" not in json.dumps(shown)
    changed = client("PATCH", f"{at}/{made}", {"config": {"bucket-name": "c"}})["data"]["updatedConnector"]
    assert changed["configDoc"]["bucket-name"] == "c"
    both = client("GET", at)[listed]
    assert [one["id"] for one in both][1:] == [made]
    client("DELETE", f"{at}/{made}")
    client("GET", f"{at}/{made}", status=404)
    client("DELETE", f"{at}/{both[0]['id']}", status=403)
    assert client("POST", at, {"name": "x", "type": "FAX", "config": {}}, 400)["details"].startswith("type:")


def test_users_of_a_source_come_and_go(client: Client) -> None:
    """Added, updated, removed; one that is unknown is not found."""
    made = client("POST", "/connectors/sources", {"name": "d", "type": "NOTION_OAUTH_MULTI", "config": {}})
    at = f"/connectors/sources/{made['connector']['id']}/users"
    client("POST", at, {"userId": "u", "selectedFiles": {"pageIds": ["p"]}, "refreshToken": "t"})
    client("PATCH", at, {"userId": "u"})
    client("DELETE", at, {"userId": "u"})
    client("DELETE", at, {"userId": "u"}, 404)


def test_deep_research_quotes_and_says_that_it_is_local(client: Client) -> None:
    """Not ready at first; then markdown that names its sources and what it is."""
    at = f"/pipelines/{LOCAL_PIPELINE}/deep-research"
    body = {"query": "How do bees tell where flowers are?", "webSearch": True}
    research = client("POST", at, body)["researchId"]
    assert client("GET", f"{at}/{research}") == {"ready": False}
    client.held.run()
    data = client("GET", f"{at}/{research}")["data"]
    assert data["success"] is True
    assert "No language model was asked" in data["markdown"]
    assert "The web was not searched" in data["markdown"]
    assert "Honey bees dance to tell each other where the flowers are." in data["markdown"]
    assert "notes/bees.txt" in data["markdown"]
    client("GET", f"{at}/unknown", status=404)
    another = client.pipeline(client.connector())
    client("GET", f"/pipelines/{another}/deep-research/{research}", status=404)
    assert client("POST", at, {"query": " "}, 400)["details"].startswith("query:")


def test_a_file_is_extracted(client: Client) -> None:
    """Send it, start, poll: text and chunks; a broken file is told as a failure."""
    for data, good in ((make_pdf("Income tax returns are due in April"), True), (b"nonsense", False)):
        sent = client("POST", "/files", {"name": "tax.pdf", "contentType": "application/pdf"})
        assert client.put(sent["uploadUrl"], data) == 200
        started = client("POST", "/extraction", {"fileId": sent["fileId"], "chunkSize": 100})
        assert client("GET", f"/extraction/{started['extractionId']}") == {"ready": False}
        client.held.run()
        result = client("GET", f"/extraction/{started['extractionId']}")["data"]
        assert result["success"] is good
        assert (result.get("chunks") == ["Income tax returns are due in April"]) is good
    client("POST", "/extraction", {"fileId": "unknown"}, 404)
    client("GET", "/extraction/unknown", status=404)


def test_there_is_one_workspace(client: Client) -> None:
    """Listed and found by its id."""
    (only,) = client("GET", "/workspaces")["workspaces"]
    assert client("GET", f"/workspaces/{only['id']}") == only
    client("GET", "/workspaces/other", status=404)


@pytest.mark.parametrize("question", ["bees", "", "zzz", "日本語", "the of and"])
@pytest.mark.parametrize("mode", ["text", "vector", "hybrid"])
def test_retrieval_answers_as_the_document_says(client: Client, question: str, mode: str) -> None:
    """Every mode and odd question validates."""
    for rerank in (True, False):
        client.retrieve(LOCAL_PIPELINE, question, {"rerank": rerank, "advanced-query": {"mode": mode}})


def test_the_whole_way_over_http(folder: Path, open_service: Any) -> None:
    """Upload through the URL given, deploy in the service's own threads, and retrieve."""
    service: LocalService = open_service(folder)
    with LocalServer(service) as server, httpx.Client(headers={"Authorization": "Bearer t"}) as http:
        base = server.url + ORG
        made = http.post(f"{base}/connectors/sources", json={"name": "c", "type": "FILE_UPLOAD"}).json()
        connector = made["connector"]["id"]
        asked = {"name": "a b.txt", "contentType": "text/plain"}
        url = http.put(f"{base}/uploads/{connector}/files", json=asked).json()["uploadUrl"]
        assert httpx.put(url, content=b"penguins waddle").status_code == 200
        pipeline = http.post(f"{base}/pipelines", json=configuration(connector)).json()["data"]["id"]
        body = {"question": "penguins", "numResults": 1, "rerank": True}
        answers = (http.post(f"{base}/pipelines/{pipeline}/retrieval", json=body) for _ in range(10_000))
        first = next(answer for answer in answers if answer.status_code != 503)
        assert first.json()["documents"][0]["text"] == "penguins waddle"
        assert http.delete(f"{base}/uploads/{connector}/files/a%20b.txt").json()["fileName"] == "a b.txt"
