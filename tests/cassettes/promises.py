"""The promises of the wire contract, one cassette each: what is asked, of whom, and what must hold of it.

The same list is recorded by `scripts/record_cassettes.py` and replayed by the tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rage_retrievers.errors import (
    BadRequestError,
    ForbiddenError,
    InvalidResponseError,
    NotFoundError,
    QuotaExceededError,
    RateLimitedError,
    ResearchFailedError,
    ServerError,
    StatusError,
    UnauthorizedError,
)
from rage_retrievers.models import PipelineStatus, Research, Retrieval
from rage_retrievers.testing import Fault, Script, Write, answer, fail_then, http, status

GATEWAY = "/api/gateways/service/org-recorded/aip-recorded/retrieve"
PUBLISHED = (Path(__file__).parent / "published.json").read_bytes()


@dataclass(frozen=True)
class Taped:
    """What came of a promise's request: the answer or the error, and what was sent."""

    outcome: Any
    requests: list[Any]

    @property
    def bodies(self) -> list[Any]:
        """The JSON bodies that were sent; None for a request without one."""
        return [json.loads(request.body) if request.body else None for request in self.requests]

    @property
    def body(self) -> Any:
        """The body of the first request."""
        return self.bodies[0]


@dataclass(frozen=True)
class Promise:
    """One promise. `script` is the fault server's; None records from the embedded pipeline, or the real service."""

    name: str
    says: str
    check: Callable[[Taped], object]
    """Asserts; its value means nothing."""
    script: Script | None = None
    operation: str = "retrieve"
    question: str = "What does a late return cost?"
    options: Mapping[str, Any] = field(default_factory=dict)
    client: Mapping[str, Any] = field(default_factory=dict)
    gateway: bool = False
    environment: str | None = None
    """The service's environment that is named in place of an address."""
    quoted: bool = False
    """Whether the answer is published and is kept word for word."""


def _sends(**expected: Any) -> Callable[[Taped], object]:
    """The request holds the question, `numResults`, `rerank` and these fields (`_` for `-`), and nothing else."""

    def check(taped: Taped) -> None:
        assert isinstance(taped.outcome, Retrieval)
        sent = dict(taped.body)
        wanted = {"numResults": 5, "rerank": False, **{name.replace("_", "-"): v for name, v in expected.items()}}
        wanted["numResults"] = wanted.pop("num-results", wanted["numResults"])
        assert sent.pop("question")
        assert sent == wanted
        assert len(taped.outcome.documents) <= wanted["numResults"]
        scores = [document.score(taped.outcome.ordered_by) for document in taped.outcome.documents]
        present = [score for score in scores if score is not None]
        assert present == sorted(present, reverse=True)

    return check


def _searches(**expected: Any) -> Callable[[Taped], object]:
    return _sends(advanced_query={name.replace("_", "-"): value for name, value in expected.items()})


def _fails(kind: type[Exception], **facts: Any) -> Callable[[Taped], object]:
    def check(taped: Taped) -> None:
        assert type(taped.outcome) is kind
        assert {name: getattr(taped.outcome, name) for name in facts} == facts

    return check


def _both(*checks: Callable[[Taped], object]) -> Callable[[Taped], object]:
    return lambda taped: [check(taped) for check in checks]


def _all_have(key: str, *values: object) -> Callable[[Taped], object]:
    def check(taped: Taped) -> None:
        assert all(document.metadata[key] in values for document in taped.outcome.documents)

    return check


def _empty(taped: Taped) -> None:
    assert taped.outcome.documents == ()


def _idle(taped: Taped) -> None:
    assert isinstance(taped.outcome, PipelineStatus)
    assert taped.outcome.answers
    assert [request.method for request in taped.requests] == ["GET"]


def _researched(**started: Any) -> Callable[[Taped], object]:
    def check(taped: Taped) -> None:
        assert isinstance(taped.outcome, Research)
        assert taped.outcome.markdown
        assert {name: taped.body[name] for name in started} == started
        first, *polls = [request.method for request in taped.requests]
        assert first == "POST"
        assert set(polls) == {"GET"}

    return check


def _after(attempts: int) -> Callable[[Taped], object]:
    def check(taped: Taped) -> None:
        assert taped.outcome.attempts == attempts == len(taped.requests)
        assert len({request.body for request in taped.requests}) == 1

    return check


def _bare_token(taped: Taped) -> None:
    assert len(taped.outcome.documents) == 2
    assert taped.requests[0].headers["authorization"] == "[redacted]"
    assert taped.requests[0].path == GATEWAY


def _bearer(taped: Taped) -> None:
    assert taped.requests[0].headers["authorization"] == "Bearer [redacted]"
    assert taped.requests[0].path == "/v1/org/org-recorded/pipelines/aip-recorded/retrieval"


def _both_headers(taped: Taped) -> None:
    assert len(taped.outcome.documents) == 2
    headers = taped.requests[0].headers
    assert (headers["authorization"], headers["x-lambda-api-key"]) == ("Bearer [redacted]", "[redacted]")
    assert taped.requests[0].path == "/api/org/org-recorded/pipelines/aip-recorded/retrieval"


def _drifted(taped: Taped) -> None:
    first, second = taped.outcome.documents
    assert (first.relevancy, first.similarity, first.chunk_id, first.source_display_name) == (None, None, "84", None)
    assert first.fields()["reading_time"] == 3
    assert (second.similarity, second.metadata) == (0.5, {"public": True})


def _published(taped: Taped) -> None:
    answer = taped.outcome
    assert [document.relevancy for document in answer.documents] == [
        0.9959771, 0.5240598, 0.46717983, 0.4115838, 0.0019418169,
    ]  # fmt: skip
    assert (answer.ordered_by, answer.ndcg, answer.average_relevancy) == ("relevancy", 1, 0.48014846938)
    first = answer.documents[0]
    assert (first.similarity, first.chunk_id, first.metadata) == (0.77146006, "84", {"created-from-api": True})
    assert first.fields()["index"] == "sp-1536-dev"


def answers(body: Any) -> Fault:
    return Fault((Write(http(200, json.dumps(body, ensure_ascii=False).encode())),))


def _status(code: int, error: str, details: str) -> Fault:
    return status(code, json.dumps({"error": error, "details": details}).encode())


_SHORT = {"documents": [{"text": "A passage.", "similarity": 0.7}, {"text": "Another.", "similarity": 0.6}],
          "question": "?"}  # fmt: skip
_DRIFTED = {
    "documents": [
        {"text": "A passage.", "relevancy": None, "similarity": "high", "chunk_id": 84, "reading_time": 3},
        {"text": "Another.", "similarity": 0.5, "metadata": {"public": True}},
    ]
}
_TALK = {
    "messages": [
        {"role": "user", "content": "How far does a battery go?"},
        {"role": "assistant", "content": "Sixty kilometres."},
    ]
}
_NESTED = {
    "bool": {
        "must": [{"term": {"metadata.public": True}}],
        "should": [{"term": {"metadata.type": "manual"}}, {"range": {"metadata.year": {"gte": 2024}}}],
        "must_not": [{"terms": {"metadata.year": [2022]}}],
    }
}
_BOOL_IN_BOOL = {"bool": {"must": [{"bool": {"should": [_NESTED, {"term": {"metadata.year": 2022}}]}}]}}
_N8N = {"account": "acme", "webhookPath": "/research", "headers": {"x-team": "returns"}}
_PROBLEM = json.dumps({"type": "about:blank", "title": "Backend timed out", "detail": "no answer in 30 s"}).encode()
_PAGE = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_NO_DOCUMENTS = {"question": "?", "results": [{"content": "A passage."}]}


def _retrieving() -> list[Promise]:
    return [
        Promise("retrieve", "question, numResults and rerank are always sent, nothing else is; the token is a Bearer",
                _both(_sends(), _bearer)),
        Promise("num-results", "numResults bounds the list", _sends(num_results=2), options={"num_results": 2}),
        Promise("question-unicode", "a question in any script arrives as it was asked",
                _sends(), question="Wann öffnet das Café? 営業時間は？ 🚲"),
        Promise("rerank", "a reranked list is ordered by relevancy", _sends(rerank=True), options={"rerank": True}),
        Promise("context", "the conversation is sent as context.messages", _sends(context=_TALK),
                question="And how long does it charge?", options={"context": _TALK}),
        Promise("context-empty", "a conversation without a message is not sent", _sends(),
                options={"context": {"messages": []}}),
    ]  # fmt: skip


def _filtering() -> list[Promise]:
    return [
        Promise("metadata-filters", "metadata-filters is a list of one-key objects with a list of values",
                _both(_sends(metadata_filters=[{"year": [2023, 2024]}]), _all_have("year", 2023, 2024)),
                options={"metadata_filters": [{"year": [2023, 2024]}]}),
        Promise("metadata-filters-and", "several objects in metadata-filters all hold",
                _both(_sends(metadata_filters=[{"type": ["manual"]}, {"year": [2023]}]), _all_have("year", 2023),
                      _all_have("type", "manual")),
                options={"metadata_filters": {"type": ["manual"], "year": [2023]}}),
        Promise("metadata-filters-empty", "an empty list of filters is not sent", _sends(),
                options={"metadata_filters": []}),
        Promise("metadata-filters-none-left", "a filter that nothing passes gives an empty list, and no error",
                _both(_sends(metadata_filters=[{"year": [1899]}]), _empty),
                options={"metadata_filters": [{"year": [1899]}]}),
        *[
            Promise(f"filters-{name}", f"advanced-query.filters takes {name}", _searches(mode="hybrid", filters=said),
                    options={"advanced_query": {"mode": "hybrid", "filters": said}})
            for name, said in {
                "term": {"term": {"metadata.year": 2024}},
                "terms": {"terms": {"metadata.year": [2023, 2024]}},
                "range": {"range": {"metadata.year": {"gte": 2023, "lt": 2025}}},
                "bool": _NESTED,
                "nested": _BOOL_IN_BOOL,
            }.items()
        ],
    ]  # fmt: skip


def _searching() -> list[Promise]:
    modes: dict[str, dict[str, Any]] = {
        "mode-text": {"mode": "text"},
        "mode-vector": {"mode": "vector"},
        "mode-hybrid": {"mode": "hybrid"},
        "text-fields": {"mode": "text", "text_fields": ["text", "title"]},
        "match-type-match": {"mode": "text", "match_type": "match"},
        "match-type-phrase": {"mode": "text", "match_type": "match_phrase"},
        "match-type-multi": {"mode": "text", "text_fields": ["text", "title^2"], "match_type": "multi_match"},
        "text-boost": {"mode": "hybrid", "text_boost": 2.5},
    }
    return [
        Promise(name, f"advanced-query with {', '.join(said).replace('_', '-')} is sent as asked", _searches(**said),
                question="half hour", options={"advanced_query": {k.replace("_", "-"): v for k, v in said.items()}})
        for name, said in modes.items()
    ]  # fmt: skip


def _operating() -> list[Promise]:
    failed = {"ready": True, "data": {"success": False, "error": "the web could not be reached"}}
    return [
        Promise("pipeline", "the pipeline's status is asked for with GET", _idle, operation="pipeline"),
        Promise("deep-research", "a research is started once and polled until it is ready",
                _researched(query="What is charged for?", webSearch=False), operation="deep_research",
                question="What is charged for?"),
        Promise("deep-research-options", "webSearch and schema are sent", _researched(webSearch=True, schema="{}"),
                operation="deep_research", options={"web_search": True, "schema": "{}"}),
        Promise("deep-research-n8n", "the webhook of n8n is sent whole", _researched(n8n=_N8N),
                operation="deep_research", options={"n8n": _N8N}),
        Promise("deep-research-failed", "a research that failed is an error with the service's words",
                _fails(ResearchFailedError, research_id="r-1"), (answers({"researchId": "r-1"}), answers(failed)),
                operation="deep_research"),
    ]  # fmt: skip


def _refusing() -> list[Promise]:
    bad = {"advanced_query": {"mode": "hybrid", "filters": {"no_such_clause": {}}}}
    return [
        Promise("error-400", "a request that is not understood is a BadRequestError", _fails(BadRequestError),
                options=bad),
        Promise("error-401", "a wrong token is an UnauthorizedError, asked once", _fails(UnauthorizedError),
                client={"api_key": "a-wrong-token"}),
        Promise("error-402", "a spent quota is a QuotaExceededError", _fails(QuotaExceededError, transient=False),
                _status(402, "Payment required", "advanced retrieval quota exceeded")),
        Promise("error-403", "a token of another organization is a ForbiddenError", _fails(ForbiddenError),
                _status(403, "Forbidden", "the token belongs to another organization")),
        Promise("error-404", "an unknown pipeline is a NotFoundError", _fails(NotFoundError),
                client={"pipeline_id": "aip-unknown"}),
        Promise("error-405", "an operation that the address does not take is a StatusError",
                _fails(StatusError, status=405), _status(405, "Method not allowed", "POST")),
        Promise("error-429", "too many requests is a RateLimitedError with retry_after",
                _fails(RateLimitedError, retry_after=7.0, transient=True),
                status(429, b'{"error": "Too many requests"}', ("Retry-After", "7"))),
        Promise("error-500", "a failure of the service is a ServerError with its words",
                _fails(ServerError, error="Internal error", details="the index is gone"),
                _status(500, "Internal error", "the index is gone")),
        Promise("error-502-page", "a gateway's HTML page is a ServerError with the page's title",
                _fails(ServerError, error="502 Bad Gateway"), status(502, _PAGE, content_type="text/html")),
        Promise("error-503", "a pipeline that still deploys is a ServerError that is transient",
                _fails(ServerError, status=503, transient=True), _status(503, "Unavailable", "deploying")),
        Promise("error-504-problem", "a problem document of RFC 7807 is read for its words",
                _fails(ServerError, error="Backend timed out", details="no answer in 30 s"),
                status(504, _PROBLEM, content_type="application/problem+json")),
        Promise("redirect", "a redirect is an error, and is not followed", _fails(StatusError, status=307),
                status(307, b"", ("Location", "https://elsewhere.invalid/"))),
        Promise("answer-without-documents", "an answer without documents is an InvalidResponseError",
                _fails(InvalidResponseError), answers(_NO_DOCUMENTS)),
    ]  # fmt: skip


def _enduring() -> list[Promise]:
    again = status(429, b'{"error": "Too many requests"}', ("Retry-After", "0"))
    return [
        Promise("retry-503", "503 is asked again, with the same bytes, until there is an answer", _after(3),
                fail_then(2, status(503), answer(2))),
        Promise("retry-429", "429 is asked again after Retry-After", _after(2), fail_then(1, again, answer(2))),
        Promise("gateway", "the older gateway takes the bare token at its own address", _bare_token, answer(2),
                gateway=True),
        Promise("gateway-wrapped", "the older gateway's answer is unwrapped", _bare_token,
                answers({"record": {"value": json.dumps(_SHORT)}}), gateway=True),
        Promise("local-environment", "on the local environment the token is sent as x-lambda-api-key, too", _both_headers,
                answer(2), environment="local"),
        Promise("answer-drifted", "scores of the wrong type are absent, new fields are kept", _drifted,
                answers(_DRIFTED)),
        Promise("published-document", "the one published answer is read whole", _published,
                Fault((Write(http(200, PUBLISHED)),)), options={"rerank": True}, quoted=True),
    ]  # fmt: skip


PROMISES = {
    promise.name: promise
    for promise in (*_retrieving(), *_filtering(), *_searching(), *_operating(), *_refusing(), *_enduring())
}
