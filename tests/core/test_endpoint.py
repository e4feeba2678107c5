"""The wire contract: what is sent for a query, and what is read from an answer."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from rage_retrievers import _endpoint, errors
from rage_retrievers._flow import WireResponse
from rage_retrievers.models import Document, PipelineStatus, Query, Retrieval, Target

ADDRESS = _endpoint.Address(Target("https://api.vectorize.io/v1", "org", "aip1"))

# The one published real document of the service, its text shortened.
APPLE = {
    "relevancy": 0.9959771,
    "id": "bd649160-a790-4b81-a4f4-4655ffe3a71f-87ac4bd6c356e27-84",
    "text": "2014 Employee Stock Plan…",
    "chunk_id": "84",
    "total_chunks": "229",
    "origin": "file-upload",
    "origin_id": "bd649160-a790-4b81-a4f4-4655ffe3a71f",
    "similarity": 0.77146006,
    "source": "582893ba/cdfa4981/apple.pdf",
    "unique_source": "bd649160-87ac4bd6c356e27",
    "source_display_name": "582893ba/cdfa4981/apple.pdf",
    "pipeline_id": "aipf9ab5-702c-40de-a2f7-8a2139129ba5",
    "org_id": "582893ba-291c-4ec7-a6ee-e85c26888817",
    "index": "sp-1536-dev",
    "metadata": {"created-from-api": True},
}


def body_of(**values: object) -> dict[str, object]:
    request = _endpoint.retrieve(ADDRESS, Query.make({"question": "why?", **values})).build("t")
    return json.loads(request.body)  # type: ignore[no-any-return]


def read(answer: object, status: int = 200, **values: object) -> Retrieval:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    query = Query.make({"question": "why?", **values})
    return _endpoint.read_retrieval(WireResponse(status, {}, body), query, 100)


def test_rerank_is_always_sent() -> None:
    """The documentation disagrees on what leaving it out means, so it is never left out."""
    assert body_of() == {"question": "why?", "numResults": 5, "rerank": False}


@pytest.mark.parametrize("question", ["why?", 'a "b" \\ c', "\n\t\x00\x7f", "é 文 \U0001f600 \u2028", "cut \ud83d"])
@pytest.mark.parametrize("rerank", [True, False])
def test_a_body_is_as_json_writes_it(question: str, rerank: bool) -> None:
    """Byte for byte, whatever is in the question; half a character is replaced."""
    query = Query.make({"question": question, "num_results": 7, "rerank": rerank})
    sent = {"question": question.replace("\ud83d", "\ufffd"), "numResults": 7, "rerank": rerank}
    assert _endpoint.encode_query(query) == json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode()


def test_hyphenated_keys_are_what_the_service_reads() -> None:
    """A key the service does not know would return unfiltered data."""
    sent = body_of(
        metadata_filters=[{"year": [2024]}],
        advanced_query={"mode": "hybrid", "text_fields": ["text"], "match-type": "match_phrase", "text_boost": 2},
        context={"messages": [{"role": "user", "content": "hi"}]},
    )
    assert sent["metadata-filters"] == [{"year": [2024]}]
    assert sent["advanced-query"] == {
        "mode": "hybrid",
        "text-fields": ["text"],
        "match-type": "match_phrase",
        "text-boost": 2,
    }
    assert sent["context"] == {"messages": [{"role": "user", "content": "hi"}]}


def test_empty_filters_are_left_out() -> None:
    """An empty list is a value to us and nothing to the service."""
    assert "metadata-filters" not in body_of(metadata_filters=[])


def test_the_published_document_keeps_every_field() -> None:
    """Unknown fields and the user's own metadata reach the user with their types."""
    document = read({"documents": [APPLE], "average_relevancy": 0.48, "ndcg": 1}).documents[0]
    assert document.fields() | {"text": document.text} == APPLE


def test_a_kind_of_document_with_a_field_more_says_what_was_sent() -> None:
    """A field that was not sent is left out of `fields()`, however many others were."""

    class Shelved(Document):
        shelf: str = "none"

    document = Shelved.model_validate({name: "1" for name in Shelved.model_fields if name != "origin"} | {"more": 2})
    assert "origin" not in document.fields()
    assert document.fields()["more"] == 2


@pytest.mark.parametrize("score", [None, "high", True, [], "NaN", float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_absent(score: object) -> None:
    """No score is invented, and the passage reaches the user all the same."""
    document = read({"documents": [{"text": "a", "similarity": score, "chunk_id": 7}]}).documents[0]
    assert (document.text, document.similarity, document.chunk_id) == ("a", None, "7")


@pytest.mark.parametrize(
    ("sent", "label"),
    [("a", "a"), ("", ""), (7, "7"), (1.5, "1.5"), (10**400, str(10**400)), (None, None), (True, None), ([1], None)],
)
def test_a_label_is_text_or_absent(sent: object, label: str | None) -> None:
    """A number is the text of it; what is neither text nor number is no label, and costs no passage."""
    assert read({"documents": [{"text": "a", "id": sent}]}).documents[0].id == label
    assert Document.model_validate({"text": "a", "id": sent}).id == label


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{", b"{}", {"documents": {}}, {"documents": [{}]}, {"documents": [{"text": None}]}, b"\xff"],
)
def test_an_answer_without_usable_documents_is_a_typed_error(answer: object) -> None:
    """Never an empty list where the service broke its contract."""
    with pytest.raises(errors.InvalidResponseError):
        read(answer)


def test_the_older_gateway_s_wrapped_answer_is_read() -> None:
    """`{"record": {"value": "<JSON>"}}` holds the same answer."""
    wrapped = {"record": {"value": json.dumps({"documents": [APPLE]})}}
    assert read(wrapped).documents[0].id == APPLE["id"]


@pytest.mark.parametrize(
    ("status", "kind", "transient"),
    [
        (400, errors.BadRequestError, False),
        (401, errors.UnauthorizedError, False),
        (402, errors.QuotaExceededError, False),
        (403, errors.ForbiddenError, False),
        (404, errors.NotFoundError, False),
        (408, errors.StatusError, True),
        (429, errors.RateLimitedError, True),
        (500, errors.ServerError, True),
        (501, errors.ServerError, False),
        (503, errors.ServerError, True),
        (302, errors.StatusError, False),
    ],
)
def test_each_status_is_its_error(status: int, kind: type[errors.StatusError], transient: bool) -> None:
    """The class says what happened, `transient` whether to try again."""
    with pytest.raises(kind) as caught:
        read({"error": "no", "details": "because"}, status)
    assert (caught.value.transient, caught.value.error, caught.value.details) == (transient, "no", "because")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("question", " "),
        ("num_results", 0),
        ("num_results", 1.5),
        ("num_results", True),
        ("metadata_filters", "year"),
        ("metadata_filters", ["year"]),
        ("timeout", 0),
        pytest.param("timeout", 10**5_000, id="a number too long to be shown"),
        ("min_score", float("nan")),
        ("context", {"messages": ["hi"]}),
        ("advanced_query", {"mode": "fuzzy"}),
    ],
)
def test_bad_input_is_refused_by_name(name: str, value: object) -> None:
    """The error names the field before anything is sent."""
    with pytest.raises(errors.ConfigurationError, match=name):
        Query.make({"question": "why?", name: value})


def test_an_unknown_keyword_names_the_nearest() -> None:
    """Silently dropping `metadataFilters` would return unfiltered data."""
    with pytest.raises(TypeError, match="metadata_filters"):
        Query.make({"question": "why?", "metadataFilters": []})


def test_an_answer_made_by_hand_is_a_fresh_one() -> None:
    """Such as a fallback of the user's gives: one request, in the order of similarity, neither old nor degraded."""
    made = Retrieval(documents=(Document(text="t", similarity=0.5, relevancy=0.1),))
    assert (made.ordered_by, made.attempts, made.elapsed) == ("similarity", 1, 0.0)
    assert (made.stale, made.degraded) == (False, None)


@pytest.mark.parametrize(
    ("status", "answers"),
    [
        *((status, True) for status in ("IDLE", "LISTENING", "PROCESSING", "a new one", None)),
        *((status, False) for status in ("CREATED", "DEPLOYING", "ERROR_DEPLOYING", "OVERQUOTA", "HIBERNATING")),
        *((status, False) for status in ("SHUTDOWN", "STOPPED", "TERMINATED")),
    ],
)
def test_which_pipelines_answer(status: str | None, answers: bool) -> None:
    """Those that run; a status that nobody knows yet is no reason to give up."""
    described = PipelineStatus.model_validate({"id": "aip-1", "status": status, "documentCount": 3, "region": "eu"})
    assert (described.answers, described.document_count) == (answers, 3)
    assert described.model_dump()["region"] == "eu"


def test_a_copy_of_an_answer_says_what_it_is_told_and_keeps_the_rest() -> None:
    """0, False and an empty list are told; the first answer stays as it was."""
    first = read({"documents": [APPLE], "question": "why?", "more": 1}).with_facts(
        ordered_by="relevancy", attempts=3, elapsed=2.0, stale=True, degraded="local"
    )
    assert (first.with_facts(), first.with_facts().facts) == (first, first.facts)
    copy = first.with_facts(documents=(), ordered_by="similarity", attempts=0, elapsed=0.0, stale=False)
    assert copy.facts == ("similarity", 0, 0.0, False, "local")
    assert (copy.documents, copy.question, copy.model_extra) == ((), "why?", {"more": 1})
    assert copy.model_extra is not first.model_extra
    assert (len(first), first.facts) == (1, ("relevancy", 3, 2.0, True, "local"))
    for one, name in ((first, "question"), (first.documents[0], "text")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(one, name, "changed")
