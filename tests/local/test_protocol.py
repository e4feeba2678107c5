"""What the service refuses, and how it says so."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, LocalService

GOOD = {"question": "bees", "numResults": 1}


@pytest.fixture
def ask(steady: Any) -> Any:
    """No test here changes the folder."""
    return steady


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"question": 7}, "question"),
        ({"question": None}, "question"),
        ({"numResults": 0}, "numResults"),
        ({"numResults": "3"}, "numResults"),
        ({"numResults": True}, "numResults"),
        ({"numResults": 1e400}, "body"),
        ({"rerank": "yes"}, "rerank"),
        ({"metadata-filters": {"year": [1]}}, "metadata-filters"),
        ({"metadata-filters": None}, "metadata-filters"),
        ({"metadata-filters": [7]}, "metadata-filters[0]"),
        ({"metadata-filters": [{"year": [{}]}]}, "metadata-filters[0].year"),
        ({"context": {}}, "context.messages"),
        ({"context": {"messages": [{"role": "user"}]}}, "context.messages[0].content"),
        ({"advanced-query": {"mode": "fuzzy"}}, "advanced-query.mode"),
        ({"advanced-query": {"match-type": "x"}}, "advanced-query.match-type"),
        ({"advanced-query": {"text-fields": "title"}}, "advanced-query.text-fields"),
        ({"advanced-query": {"text-fields": ["title^x"]}}, "advanced-query.text-fields[0]"),
        ({"advanced-query": {"text-boost": -1}}, "advanced-query.text-boost"),
        ({"advanced-query": {"filters": {"fuzzy": {}}}}, "advanced-query.filters.fuzzy"),
        ({"advanced-query": {"filters": {"range": {"a": {"over": 1}}}}}, "advanced-query.filters.range.a.over"),
        ({"advanced-query": {"filters": {"bool": {"most": []}}}}, "advanced-query.filters.bool.most"),
    ],
)
def test_a_bad_body_is_refused_with_the_field_named(ask: Any, change: dict[str, Any], field: str) -> None:
    """400, with the field first in the details."""
    status, body = ask.post(GOOD | change)
    assert status == 400
    assert body["error"]
    assert body["details"].startswith(f"{field}:")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"question":"\\ud800","numResults":1}', b"[" * 9999]
)
def test_a_body_that_is_no_object_is_refused(ask: Any, body: bytes) -> None:
    """400, whatever the bytes are."""
    assert ask.post(body)[0] == 400


def test_a_missing_field_is_named(ask: Any) -> None:
    """Both required fields are told apart."""
    assert ask.post({"numResults": 1}) == (400, {"error": "Invalid request", "details": "question: is required"})
    assert ask.post({"question": "x"}) == (400, {"error": "Invalid request", "details": "numResults: is required"})


def test_filters_nested_too_deeply_are_refused(ask: Any) -> None:
    """Depth and number of conditions are bounded."""
    deep: dict[str, Any] = {"term": {"a": 1}}
    for _ in range(20):
        deep = {"bool": {"must": [deep]}}
    assert ask.post(GOOD | {"advanced-query": {"filters": deep}})[0] == 400
    assert ask.post(GOOD | {"metadata-filters": [{"a": [1]}] * 5000})[0] == 400


def test_a_request_without_a_token_is_unauthorized(ask: Any) -> None:
    """401 always, whether or not the service knows a key."""
    assert ask.post(GOOD, token="")[0] == 401


@pytest.mark.parametrize("sent", ["Bearer", "Bearer  ", "Basic dDp0", ""])
def test_a_scheme_without_a_token_is_unauthorized(ask: Any, sent: str) -> None:
    """The word Bearer is no token."""
    path = f"/v1/org/{LOCAL_ORGANIZATION}/pipelines"
    assert ask.service.handle("GET", path, {"authorization": sent}, b"").status == 401


def test_only_the_key_given_opens_the_service(folder: Any, open_service: Any) -> None:
    """With an api_key any other token is 401, in both headers."""
    service: LocalService = open_service(folder, api_key="sesame")
    path = f"/api/org/{LOCAL_ORGANIZATION}/pipelines/{LOCAL_PIPELINE}"
    assert service.handle("GET", path, {"x-lambda-api-key": "sesame"}, b"").status == 200
    assert service.handle("GET", path, {"authorization": "Bearer sesame"}, b"").status == 200
    assert service.handle("GET", path, {"authorization": "Bearer other"}, b"").status == 401


def test_unknown_pipelines_and_organizations_are_not_found(ask: Any) -> None:
    """404 with an error body."""
    assert ask.post(GOOD, pipeline="aipother")[0] == 404
    answer = ask.service.handle("GET", "/v1/org/other/pipelines/x", {"authorization": "Bearer t"}, b"")
    assert answer.status == 404
    assert json.loads(answer.body)["error"]


def test_the_server_answers_as_the_service_does(ask: Any) -> None:
    """The same operation over loopback HTTP, under both base paths."""
    with LocalServer(ask.service) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/v1"
        for base in (server.url, server.url.removesuffix("v1") + "api"):
            url = f"{base}/org/{LOCAL_ORGANIZATION}/pipelines/{LOCAL_PIPELINE}/retrieval"
            answer = httpx.post(url, headers={"Authorization": "Bearer t"}, json=GOOD)
            assert answer.status_code == 200
            assert answer.json() == ask.post(GOOD)[1]
        assert httpx.post(url, json=GOOD).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("127.0.0.1@evil.example", 403),
        ("127.0.0.1 evil.example", 403),
        ("127.0.0.1/evil.example", 403),
        ("[::1", 403),
        ("", 403),
        ("127.0.0.1:80", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
    ],
)
def test_the_server_answers_only_to_loopback_names(ask: Any, host: str, status: int) -> None:
    """A web page whose name was pointed at this machine gets nothing, nor does a header that holds no name."""
    with LocalServer(ask.service) as server:
        headers = {"Authorization": "Bearer t", "Host": host}
        url = f"{server.url}/org/{LOCAL_ORGANIZATION}/pipelines"
        assert httpx.get(url, headers=headers).status_code == status


def test_other_machines_need_a_key(ask: Any) -> None:
    """Listening beyond loopback without an api_key is refused before anything listens."""
    with pytest.raises(ConfigurationError, match="api_key"):
        LocalServer(ask.service, host="0.0.0.0")


@pytest.mark.parametrize("api_key", ["", " "])
def test_an_empty_key_is_no_key(folder: Path, open_service: Any, api_key: str) -> None:
    """A variable that was not set opens nothing to other machines, and is told of before every token is refused."""
    with pytest.raises(ConfigurationError, match="api_key is empty"):
        open_service(folder, api_key=api_key)


def test_a_port_that_is_taken_is_told(ask: Any) -> None:
    """The error names the port."""
    with LocalServer(ask.service) as server, pytest.raises(ConfigurationError, match=str(server.port)):
        LocalServer(ask.service, port=server.port)


@pytest.mark.parametrize("path", ["/v1/org/%0A/pipelines", "//[::1/v1", "http://evil.example/v1/org", "*", "/v1//org"])
@pytest.mark.parametrize("method", ["GET", "TRACE", "OPTIONS", "ODD"])
def test_every_path_and_method_is_answered_in_the_protocols_form(ask: Any, method: str, path: str) -> None:
    """404 as JSON, whatever the request line says."""
    with LocalServer(ask.service) as server:
        sent = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: t\r\nConnection: close\r\n\r\n"
        head, _, body = raw(server.port, sent.encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404")
    assert json.loads(body)["error"]


def test_a_client_that_leaves_in_the_middle_is_no_error(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Half a body and a closed connection: nothing is logged, and the next client is answered."""
    with LocalServer(ask.service) as server:
        url = f"/v1/org/{LOCAL_ORGANIZATION}/pipelines/{LOCAL_PIPELINE}/retrieval"
        with socket.create_connection(("127.0.0.1", server.port)) as leaving:
            leaving.sendall(f"POST {url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{{".encode())
        answer = httpx.post(f"http://127.0.0.1:{server.port}{url}", headers={"Authorization": "t"}, json=GOOD)
    assert answer.status_code == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def raw(port: int, sent: bytes) -> bytes:
    """What comes back for these bytes, until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65_536), b""))
