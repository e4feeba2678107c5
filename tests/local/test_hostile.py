"""Whatever a request holds, the service answers and goes on: no 500, no hang, no unbounded work."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, LocalService, asgi

from . import openapi
from .conftest import Asker

OPERATIONS = [
    (method.upper(), path)
    for path, methods in openapi.document()["paths"].items()
    for method in methods
    if method in ("get", "post", "put", "patch", "delete")
]
KNOWN = {"organizationId": LOCAL_ORGANIZATION, "pipelineId": LOCAL_PIPELINE}
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
RETRIEVAL = {
    "numResults": st.integers(-1, 12) | values,
    "rerank": st.booleans() | values,
    "metadata-filters": st.lists(st.dictionaries(st.sampled_from(["year", "a.b", ""]), values, max_size=2)) | values,
    "context": st.fixed_dictionaries({"messages": st.lists(values, max_size=2)}) | values,
    "advanced-query": st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(["text", "vector", "hybrid", "x"]),
            "match-type": st.sampled_from(["match", "match_phrase", "multi_match"]) | values,
            "text-fields": st.lists(st.sampled_from(["text", "title", "metadata.year", "a^2", "^", "b^-1"]) | values),
            "text-boost": st.floats() | values,
            "filters": st.dictionaries(st.sampled_from(["term", "terms", "range", "bool", "exists"]), values) | values,
        },
    )
    | values,
}
quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(question=st.text() | values, rest=st.fixed_dictionaries({}, optional=RETRIEVAL))
def test_any_retrieval_body_is_answered_or_refused(steady: Asker, question: Any, rest: dict[str, Any]) -> None:
    """200 with at most the documents asked for, or 400 with a reason."""
    body = {"question": question, "numResults": 2} | rest
    status, answer = steady.post(json.dumps(body).encode())
    assert status in (200, 400), answer
    if status == 200:
        assert len(answer["documents"]) <= float(body["numResults"])
        openapi.check("POST", f"/org/{LOCAL_ORGANIZATION}/pipelines/{LOCAL_PIPELINE}/retrieval", 200, answer)
    else:
        assert answer["details"]


@quick
@given(operation=st.sampled_from(OPERATIONS), identity=st.text(min_size=1, max_size=9), body=values)
def test_any_operation_with_any_body_is_answered(folder_service: LocalService, **given: Any) -> None:
    """Never a 500, and an error always says what is wrong."""
    method, template = given["operation"]
    path = re.sub(r"\{(\w+)\}", lambda found: KNOWN.get(found[1], quote(given["identity"], safe="")), template)
    body = json.dumps(given["body"]).encode()
    answer = folder_service.handle(method, f"/v1{path}", {"authorization": "t"}, body)
    assert answer.status in (200, 400, 403, 404, 405), answer.body
    if answer.status != 200:
        assert json.loads(answer.body)["error"]


@pytest.fixture(scope="module")
def folder_service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service without a folder's documents whose account the requests may fill."""
    home = tmp_path_factory.mktemp("hostile")
    (home / "docs").mkdir()
    with LocalService.open(home / "docs", cache_dir=home / "cache") as service:
        yield service


def test_a_body_beyond_the_bound_is_refused_while_it_arrives(
    folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """413, without the rest being read."""
    monkeypatch.setattr(asgi, "MAX_UPLOAD_BYTES", 1000)
    url = f"/org/{LOCAL_ORGANIZATION}/pipelines/{LOCAL_PIPELINE}/retrieval"
    with LocalServer(open_service(folder)) as running:
        answer = httpx.post(running.url + url, headers={"Authorization": "Bearer t"}, content=b" " * 2000)
    assert answer.status_code == 413


def test_no_path_of_the_request_reaches_a_file(steady: Asker) -> None:
    """Dots and encoded slashes name nothing."""
    for path in ("/v1/../../etc/passwd", "/v1/upload/..%2f..%2fetc%2fpasswd", "/v1/org/%2e%2e/pipelines"):
        answer = steady.service.handle("GET", path, {"authorization": "t"}, b"")
        assert answer.status in (403, 404, 405)
        assert b"root" not in answer.body


def test_only_so_many_results_are_given(steady: Asker) -> None:
    """An absurd number of results costs no more than what there is."""
    assert len(steady("bees", num_results=10**9)["documents"]) == 6


def test_many_threads_ask_while_the_folder_changes(folder: Path, open_service: Any) -> None:
    """Every answer is whole, and the last ones know the last change."""
    service: LocalService = open_service(folder)

    def work(number: int) -> list[str]:
        ask = Asker(service)
        for turn in range(10):
            (folder / f"new{number}.txt").write_text(f"common {turn} thread{number}")
            assert ask("bees", num_results=3, advanced={"mode": "hybrid"})["documents"]
        return ask.sources(f"thread{number} 9", advanced={"mode": "text"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    service.refresh()
    assert set(Asker(service).sources("common 9", num_results=99, advanced={"mode": "text"})) == {
        f"new{number}.txt" for number in range(8)
    }
