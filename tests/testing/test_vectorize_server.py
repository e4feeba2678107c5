"""The server for users' own suites: real answers, scripted faults, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from rage_retrievers import VectorizeClient
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndexRetriever
from rage_retrievers.testing import VectorizeServer, fail_then, status, vectorize_server

DOCUMENTS = {"hours.md": "The shop is open from nine to five.", "more/rent.txt": "Rent is due in May."}
QUESTION = "When is the shop open?"

vectorize = vectorize_server(DOCUMENTS)
failing = vectorize_server(DOCUMENTS, status(503), scope="module")


def ask(server: VectorizeServer) -> httpx.Response:
    org, pipeline = server.settings["organization"], server.settings["pipeline_id"]
    url = f"{server.url}/org/{org}/pipelines/{pipeline}/retrieval"
    return httpx.post(url, headers={"Authorization": "Bearer t"}, json={"question": QUESTION, "numResults": 1})


def test_every_face_gets_real_answers(vectorize: VectorizeServer) -> None:
    """The settings fit the client and both retrievers."""
    asked = vectorize.settings | {"num_results": 1}
    with VectorizeClient(**vectorize.settings) as client:
        assert client.retrieve(QUESTION, num_results=1).documents[0].text == DOCUMENTS["hours.md"]
    (document,) = LangChainRetriever(**asked).invoke(QUESTION)
    (node,) = LlamaIndexRetriever(**asked).retrieve(QUESTION)
    assert document.page_content == node.text == DOCUMENTS["hours.md"]


def test_faults_come_where_the_script_says_and_real_answers_elsewhere(vectorize: VectorizeServer) -> None:
    """Two failures, then the pipeline; what was asked is recorded."""
    vectorize.play(fail_then(2, status(503), vectorize.real))
    answers = [ask(vectorize) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503, 503, 200, 200]
    assert answers[-1].json()["documents"][0]["text"] == DOCUMENTS["hours.md"]
    assert [request.json()["question"] for request in vectorize.requests] == [QUESTION] * 4


def test_a_server_that_began_with_faults_recovers(failing: VectorizeServer) -> None:
    """The script given to the fixture is played from the start."""
    assert ask(failing).status_code == 503
    failing.recover()
    assert ask(failing).status_code == 200


def test_the_rest_of_the_protocol_is_there_too(vectorize: VectorizeServer) -> None:
    """Pipelines, uploads and refusals answer as the embedded service does."""
    org = f"{vectorize.url}/org/{vectorize.settings['organization']}"
    headers = {"Authorization": "Bearer t"}
    assert httpx.get(f"{org}/pipelines", headers=headers).json()["data"][0]["documentCount"] == 2
    assert httpx.get(f"{org}/pipelines").status_code == 401
    made = httpx.post(f"{org}/connectors/sources", headers=headers, json={"name": "c", "type": "FILE_UPLOAD"}).json()
    at = f"{org}/uploads/{made['connector']['id']}/files"
    url = httpx.put(at, headers=headers, json={"name": "a.txt", "contentType": "text/plain"}).json()["uploadUrl"]
    assert httpx.put(url, content=b"text").status_code == 200
    assert httpx.get(at, headers=headers).json()["files"][0]["name"] == "a.txt"


def test_a_folder_is_served_and_followed(tmp_path: Path) -> None:
    """A file written during a test is found by the next question."""
    (tmp_path / "a.txt").write_text("bees dance")
    with VectorizeServer(tmp_path) as server, VectorizeClient(**server.settings) as client:
        (tmp_path / "b.txt").write_text("whales sing")
        assert client.retrieve("whales", num_results=1).documents[0].text == "whales sing"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the index nor the documents outlive the block, nor does a failure to start."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with VectorizeServer(DOCUMENTS):
        assert any(tmp_path.glob("vectorize-server-*"))
    with pytest.raises(ValueError, match="leads out"), VectorizeServer({"../escape.txt": "x"}):
        pass
    assert not any(tmp_path.glob("vectorize-server-*"))
