"""Deep research without a language model: the sentences of the documents that come closest to the question, quoted.

It says so in its first line. What needs a model or the web (`webSearch`, `schema`, `n8n`) is accepted, and told as left
undone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from rage_retrievers.local import analysis
from rage_retrievers.local.account import Job, new_id
from rage_retrievers.local.ranking import Ask
from rage_retrievers.local.retrieval import MAX_QUESTION_CHARACTERS
from rage_retrievers.local.wire import Fields, bad

NOTICE = "Made by the local service from sentences quoted word for word. No language model was asked."
_PASSAGES = 24
_SENTENCES = 3
_LONGEST = 600
_ENDS = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n(?=[#*\-|])")
Answer = Callable[[Ask], dict[str, Any]]


def read_job(body: Mapping[str, Any], pipeline: str) -> Job:
    """Understand a request; raises `RefusedError` with 400 naming the field that is wrong."""
    fields = Fields(body)
    query = fields.text("query", filled=True)
    if len(query) > MAX_QUESTION_CHARACTERS:
        raise bad("query", f"longer than {MAX_QUESTION_CHARACTERS:,} characters")
    asked: dict[str, Any] = {"query": query, "webSearch": fields.boolean("webSearch", False)}
    if fields.has("schema"):
        asked["schema"] = bool(fields.text("schema"))
    if fields.has("n8n"):
        account = Fields(fields.object("n8n"), "n8n")
        asked["n8n"] = bool(account.text("account") and account.text("webhookPath"))
    return Job(new_id(), pipeline, asked)


def result(asked: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """The protocol's result: `success`, `events` and `markdown`."""
    query = str(asked["query"])
    documents = answer(Ask(query, _PASSAGES, mode="hybrid"))["documents"]
    wanted = set(analysis.terms(query))
    quoted = _by_source(documents, wanted)
    left = _left_undone(asked)
    events = [
        f"Searched the pipeline: {len(documents)} passages",
        f"Quoted {sum(map(len, quoted.values()))} sentences of {len(quoted)} documents",
        *left,
    ]
    return {"success": True, "events": events, "markdown": _markdown(query, quoted, left)}


def _left_undone(asked: Mapping[str, Any]) -> list[str]:
    told = {
        "webSearch": "The web was not searched.",
        "schema": "The schema was not filled in: that needs a language model.",
        "n8n": "The n8n webhook was not called.",
    }
    return [words for name, words in told.items() if asked.get(name)]


def _by_source(documents: list[dict[str, Any]], wanted: set[str]) -> dict[str, list[str]]:
    """The best sentences of each source, the sources in the order of their best passages."""
    quoted: dict[str, list[str]] = {}
    for document in documents:
        chosen = _best_sentences(document["text"], wanted)
        if chosen:
            place = f"passage {int(document['chunk_id']) + 1} of {document['total_chunks']}"
            lines = quoted.setdefault(document["source_display_name"], [])
            lines.extend(f"> {sentence}\n> ({place}, relevancy {document['relevancy']:.2f})" for sentence in chosen)
    return quoted


def _best_sentences(text: str, wanted: set[str]) -> list[str]:
    sentences = [" ".join(piece.split()) for piece in _ENDS.split(text) if piece.strip()]
    scored = [(len(wanted.intersection(analysis.terms(s))), -place, s) for place, s in enumerate(sentences)]
    best = sorted((one for one in scored if one[0]), reverse=True)[:_SENTENCES]
    # The best sentence sets the measure: one that shares half as many words adds little.
    kept = [one for one in best if 2 * one[0] > best[0][0]]
    return [s if len(s) <= _LONGEST else f"{s[:_LONGEST]} …" for _, _, s in sorted(kept, key=lambda one: -one[1])]


def _markdown(query: str, quoted: Mapping[str, list[str]], left: list[str]) -> str:
    parts = [f"# {' '.join(query.split())}", " ".join([NOTICE, *left])]
    if not quoted:
        parts.append("The documents hold no sentence with a word of the question.")
    for number, (source, lines) in enumerate(quoted.items(), 1):
        parts.append(f"## {number}. {source}")
        parts.extend(lines)
    return "\n\n".join(parts) + "\n"
