"""The retrieval operation: a request body in, the protocol's answer out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rage_retrievers.local import conversation
from rage_retrievers.local.embedding import Embedding
from rage_retrievers.local.filters import BadFilterError, Bool, Filter, read_metadata_filters, read_query_filters
from rage_retrievers.local.ranking import Ask, Ranked, Reranker, quality, rank
from rage_retrievers.local.snapshot import Snapshot
from rage_retrievers.local.store import Passage
from rage_retrievers.local.text_index import FIELDS
from rage_retrievers.local.wire import Fields, RefusedError, bad

MAX_RESULTS = 10_000
MAX_QUESTION_CHARACTERS = 100_000
_BRIEF_RESULTS = 50
_BRIEF_CHARACTERS = 256
_MODES = ("text", "vector", "hybrid")
_MATCHES = ("match", "match_phrase", "multi_match")


def read_ask(body: Mapping[str, Any]) -> Ask:
    """Understand a request body; raises `RefusedError` with 400 naming the field that is wrong.

    `numResults` is a number in the protocol; its whole part counts, and beyond `MAX_RESULTS` no more are given.
    """
    fields = Fields(body)
    question = fields.text("question")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise bad("question", f"longer than {MAX_QUESTION_CHARACTERS:,} characters")
    number = fields.number("numResults")
    if number < 1:
        raise bad("numResults", "must be at least 1")
    advanced = Fields(fields.object("advanced-query", {}), "advanced-query")
    boost = advanced.number("text-boost", 1)
    if not 0 <= boost <= 1e6:
        raise bad("advanced-query.text-boost", "must be between 0 and 1000000")
    return Ask(
        question=question,
        limit=int(min(number, MAX_RESULTS)),
        background=conversation.background(question, _messages(fields)),
        mode=advanced.choice("mode", _MODES, "vector"),
        rerank=fields.boolean("rerank", True),
        match=advanced.choice("match-type", _MATCHES, "match"),
        fields=_text_fields(advanced),
        text_boost=boost,
        condition=_condition(body, advanced),
    )


def is_brief(ask: Ask) -> bool:
    """Whether the answer takes a few milliseconds, of few passages: few words to look for, and few passages to give.

    A filter may have to read first what all documents say of themselves.
    """
    words = len(ask.question) + len(ask.background)
    return (
        ask.condition is None and ask.limit <= _BRIEF_RESULTS and words * max(len(ask.fields), 1) <= _BRIEF_CHARACTERS
    )


def answer(
    snapshot: Snapshot, embedding: Embedding, ask: Ask, reranker: Reranker | None, owner: Mapping[str, str]
) -> dict[str, Any]:
    """The protocol's answer; `owner` holds pipeline_id and org_id."""
    ranked = rank(snapshot, embedding, ask, reranker)
    found = snapshot.passages([one.n for one in ranked])
    kept = [one for one in ranked if one.n in found]
    average, ndcg = quality([one.relevancy for one in kept])
    documents = [document(one, found[one.n], owner) for one in kept]
    return {"question": ask.question, "documents": documents, "average_relevancy": average, "ndcg": ndcg}


def document(ranked: Ranked, passage: Passage, owner: Mapping[str, str]) -> dict[str, Any]:
    """One document of the answer; `chunk_id` counts from 0 and is a string, as the service writes it."""
    return {
        "relevancy": ranked.relevancy,
        "id": f"{passage.fields['unique_source']}-{passage.number}",
        "text": passage.text,
        "chunk_id": str(passage.number),
        "total_chunks": str(passage.total),
        "similarity": ranked.similarity,
        **passage.fields,
        **owner,
        "metadata": passage.metadata,
    }


def _messages(fields: Fields) -> list[tuple[str, str]]:
    context = Fields(fields.object("context", {"messages": []}), "context")
    said: list[tuple[str, str]] = []
    for index, message in enumerate(context.array("messages")):
        if not isinstance(message, dict):
            raise bad(f"context.messages[{index}]", "expected an object")
        one = Fields(message, f"context.messages[{index}]")
        said.append((one.text("role"), one.text("content")))
    return said


def _text_fields(advanced: Fields) -> tuple[tuple[str, float], ...]:
    """`text`, `title`, `source`, or the path of a metadata field; `title^3` counts three times."""
    read: list[tuple[str, float]] = []
    given = advanced.array("text-fields", [])
    if len(given) > 32:
        raise bad("advanced-query.text-fields", "more than 32 fields")
    for index, field in enumerate(given):
        at = f"advanced-query.text-fields[{index}]"
        if not isinstance(field, str) or not field.strip():
            raise bad(at, "expected the name of a field")
        name, caret, boost = field.strip().partition("^")
        try:
            weight = float(boost) if caret else 1.0
        except ValueError as error:
            raise bad(at, f"{boost!r} is not a number") from error
        if not 0 <= weight <= 1e6:
            raise bad(at, "a boost must be between 0 and 1000000")
        read.append((_indexed(name), weight))
    return tuple(read)


def _indexed(name: str) -> str:
    name = {"source_display_name": "source"}.get(name, name)
    if name in FIELDS:
        return name
    return "metadata." + name.removeprefix("metadata.").removeprefix("document_metadata.")


def _condition(body: Mapping[str, Any], advanced: Fields) -> Filter | None:
    try:
        parts = [
            read_metadata_filters(Fields(body).array("metadata-filters", [])),
            read_query_filters(advanced.object("filters", {})),
        ]
    except BadFilterError as error:
        raise RefusedError(400, "Invalid request", str(error)) from error
    asked = tuple(part for part in parts if part is not None)
    return None if not asked else asked[0] if len(asked) == 1 else Bool(must=asked)
