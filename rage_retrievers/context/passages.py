"""`Passage`: one view of a retrieved document, whichever framework it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._checks import shown, typed
from ..errors import ConfigurationError
from ..models import Document, Retrieval, ScoreName, _finite

_SCORES: tuple[ScoreName, ScoreName] = ("relevancy", "similarity")
_SOURCES = ("unique_source", "source", "source_display_name", "origin_id")
# What the service itself says of a document; every other key is the user's metadata.
_PROTOCOL = frozenset(Document.model_fields) | {"score", "ordered_by", "index"}


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved text and what is known of it. Its `repr` shows neither text nor metadata.

    `score` is the number that ordered the list and `ordered_by` its kind, None for another tool's (a fusion's, another
    reranker's). `relevancy` and `similarity` are the service's numbers, None where it sent none. `id` is the document's
    own, or made of source, chunk and text, so the same document always has the same one. `original` is the object that
    came in, and `position` its place in the list, from 0.
    """

    text: str = field(repr=False)
    id: str
    score: float | None = None
    ordered_by: ScoreName | None = None
    relevancy: float | None = None
    similarity: float | None = None
    source: str | None = None
    """What tells one source document from another: `unique_source`, else the nearest thing to it; None if unknown."""
    title: str | None = None
    """The source's name for people, such as a file name."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What the service said beside: `chunk_id`, `total_chunks`, `origin`, …"""
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The user's own metadata."""
    original: Any = field(default=None, repr=False, compare=False)
    position: int = 0

    @property
    def kind(self) -> str:
        """The scale that `score` is on, empty where there is none; numbers of different kinds are never compared."""
        return "" if self.score is None else self.ordered_by or "score"


def passages(documents: Iterable[Any] | Retrieval, *, ordered_by: ScoreName | None = None) -> list[Passage]:
    """The passages of a retrieval, or of a list of documents, nodes or dicts, in the order given.

    Which score ordered the list is told by `ordered_by`, by a `Retrieval`, or by the document: `ordered_by` in its
    metadata, or a `score` equal to one of the two. Where nobody says so, it is the only score there is, or the one by
    which the list is in fact in descending order, relevancy looked at first; else the passages have no `score`.
    ConfigurationError for what is no document. Passages are given back as they are.
    """
    if ordered_by is not None and ordered_by not in _SCORES:
        raise ConfigurationError(f"ordered_by = {shown(ordered_by)} cannot be used; use {' or '.join(_SCORES)}.")
    if isinstance(documents, Retrieval):
        return passages(documents.documents, ordered_by=ordered_by or documents.ordered_by)
    if isinstance(documents, str | bytes | Mapping) or not isinstance(documents, Iterable):
        raise _no_documents(documents)
    given = list(documents)
    found = [
        one if isinstance(one, Passage) else _passage(one, ordered_by, position) for position, one in enumerate(given)
    ]
    untold = {
        place
        for place, one in enumerate(found)
        if one.score is None and one is not given[place] and not (ordered_by or one.fields.get("ordered_by"))
    }
    ordering = _ordering([found[place] for place in sorted(untold)])
    if ordering is None:
        return found
    return [
        replace(one, score=number, ordered_by=ordering)
        if place in untold and (number := getattr(one, ordering)) is not None
        else one
        for place, one in enumerate(found)
    ]


def _ordering(found: list[Passage]) -> ScoreName | None:
    numbers = {name: [n for one in found if (n := getattr(one, name)) is not None] for name in _SCORES}
    present = [name for name in _SCORES if numbers[name]]
    if len(present) == 1:
        return present[0]
    return next((name for name in present if numbers[name] == sorted(numbers[name], reverse=True)), None)


def _passage(given: Any, ordered_by: ScoreName | None, position: int) -> Passage:
    text, own_id, own_score, known = _parts(given)
    numbers = {name: _finite(known.get(name)) for name in _SCORES}
    score, kind = _scored(_finite(own_score), known, ordered_by, numbers)
    nested = known.get("metadata")
    name = readable_name(known)
    derived = ("file_name", name)  # what `llama_index.nodes` adds for models to read
    return Passage(
        text=text,
        id=own_id or _text(known.get("id")) or _made_id(text, known),
        score=score,
        ordered_by=kind,
        relevancy=numbers["relevancy"],
        similarity=numbers["similarity"],
        source=_first(known, *_SOURCES, "file_path", "file_name", "url"),
        title=_first(known, "title", "file_name") or name,
        fields={key: value for key, value in known.items() if key in _PROTOCOL and key != "metadata"},
        metadata={key: value for key, value in known.items() if key not in _PROTOCOL and (key, value) != derived}
        | (dict(nested) if isinstance(nested, Mapping) else {}),
        original=given,
        position=position,
    )


def _scored(
    own: float | None, known: Mapping[str, Any], ordered_by: ScoreName | None, numbers: Mapping[ScoreName, float | None]
) -> tuple[float | None, ScoreName | None]:
    """The number that ordered the list and its kind, as far as this one document tells."""
    score, written = own, _finite(known.get("score"))
    # A `score` beside the service's numbers and equal to neither is the user's own, of an exam perhaps.
    if score is None and (written in numbers.values() or set(numbers.values()) == {None}):
        score = written
    said = ordered_by or next((name for name in _SCORES if known.get("ordered_by") == name), None)
    if said is not None and score is None:
        return numbers[said], said if numbers[said] is not None else None
    if said is not None and (ordered_by or numbers[said] in (None, score)):
        return score, said
    equal = [name for name in _SCORES if score is not None and numbers[name] == score]
    return score, equal[0] if len(equal) == 1 else None


def _parts(given: Any) -> tuple[str, str | None, Any, dict[str, Any]]:
    """Text, id, score and all that is known of a document of any shape."""
    if isinstance(given, Document):
        return given.text, given.id, None, given.fields()
    if isinstance(given, Mapping):
        return _parts_of_dict(given)
    if (node := getattr(given, "node", None)) is not None:  # a scored node
        text, own_id, _, known = _parts(node)
        told = {name: value for name in ("ordered_by", *_SCORES) if (value := getattr(given, name, None)) is not None}
        return text, own_id, getattr(given, "score", None), {**known, **told}
    known = _mapping(getattr(given, "metadata", None))
    if isinstance(content := getattr(given, "page_content", None), str):
        return content, _text(getattr(given, "id", None)), None, known
    if callable(read := getattr(given, "get_content", None)) and isinstance(content := read(), str):
        return content, _text(getattr(given, "node_id", None)), None, known
    raise _no_documents(given)


def _parts_of_dict(given: Mapping[str, Any]) -> tuple[str, str | None, Any, dict[str, Any]]:
    if isinstance(node := given.get("node"), Mapping):  # a scored node
        text, own_id, _, known = _parts_of_dict(node)
        told = {name: given[name] for name in ("ordered_by", *_SCORES) if given.get(name) is not None}
        return text, own_id, given.get("score"), {**known, **told}
    if isinstance(written := given.get("kwargs"), Mapping) and "lc" in given:  # LangChain's serialized form
        return _parts_of_dict(written)
    known = _mapping(given.get("metadata"))
    if isinstance(content := given.get("page_content"), str):
        return content, _text(given.get("id")), None, known
    content = given.get("text")
    if "id_" in given:  # a node
        saved = _mapping(given.get("text_resource")).get("text") if content is None else content
        if saved is None or isinstance(saved, str):  # a node without text is saved without a resource
            return saved or "", _text(given["id_"]), None, known
    if isinstance(content, str):  # a document as the service sends it
        return content, _text(given.get("id")), None, {key: value for key, value in given.items() if key != "text"}
    raise _no_documents(given)


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _made_id(text: str, known: Mapping[str, Any]) -> str:
    parts = [_first(known, *_SOURCES), _text(known.get("chunk_id")), text]
    return "sha256-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def readable_name(known: Mapping[str, Any]) -> str | None:
    """The last part of the source's path, which is all of it that a model may read.

    The folders hold the organization's id and where the file is stored, and a query behind `?` may hold a signature.
    """
    for name in _PATHS:
        path = _text(known.get(name))
        if path and "://" in path:
            path = path.partition("?")[0].partition("#")[0]
        last = path and path.replace("\\", "/").rstrip("/").rpartition("/")[2]
        if last and last != known.get("org_id"):
            return last
    return None


_PATHS = ("source_display_name", "source", "file_path", "url", "unique_source", "origin_id")


def _first(known: Mapping[str, Any], *names: str) -> str | None:
    return next((found for name in names if (found := _text(known.get(name)))), None)


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value) or None


def _no_documents(given: Any) -> ConfigurationError:
    return ConfigurationError(
        f"documents with {typed(given)} cannot be used; give a Retrieval, or a list of documents, nodes or "
        "the dicts they were saved as."
    )
