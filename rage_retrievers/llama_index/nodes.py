"""From the service's documents to LlamaIndex's nodes.

What depends on the question is on the scored node (`score`, `relevancy`, `similarity`, `ordered_by`); what does not is
in the metadata. So a chunk has one hash, whatever was asked, and fusion can tell that two lists hold the same chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from llama_index.core.schema import NodeRelationship, NodeWithScore, ObjectType, RelatedNodeInfo, TextNode

from .._checks import typed
from .._mold import Mold
from ..context import passages
from ..context.passages import readable_name
from ..errors import ConfigurationError
from ..models import Document, Retrieval, ScoreName

__all__ = ["Asked", "RetrievedNode", "RetrievedNodes", "to_nodes"]


class RetrievedNode(NodeWithScore):
    """A scored node that keeps both of the service's scores.

    `score` is the number that ordered the list, until a postprocessor sets another; `ordered_by` names it. `relevancy`
    (the reranker's) and `similarity` (the vector's) live on different scales; each is None when the service sent none.
    """

    relevancy: float | None = None
    similarity: float | None = None
    ordered_by: ScoreName | None = None


class Asked(NamedTuple):
    """Which pipeline was asked, and for how many passages."""

    organization: str
    pipeline_id: str
    top_k: int


class RetrievedNodes(list[NodeWithScore]):
    """The nodes of one answer, best first: a plain list, which also knows the answer it came from."""

    retrieval: Retrieval
    """The whole answer: question, attempts, elapsed, stale, degraded and the documents as the service sent them."""
    asked: Asked | None
    """What a retriever asked; None in a list that was made by hand."""

    def __init__(self, nodes: Iterable[NodeWithScore], retrieval: Retrieval, asked: Asked | None = None) -> None:
        super().__init__(nodes)
        self.retrieval = retrieval
        self.asked = asked

    @property
    def average_relevancy(self) -> float | None:
        """The service's mean relevancy of the list, None where it sent none."""
        return self.retrieval.average_relevancy

    @property
    def ndcg(self) -> float | None:
        """The service's judgement of the order, None where it sent none."""
        return self.retrieval.ndcg

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self), self.retrieval, self.asked)


def to_nodes(retrieval: Retrieval, asked: Asked | None = None) -> RetrievedNodes:
    """The nodes of an answer, in its order. Raises ConfigurationError for what is no `Retrieval`."""
    if not isinstance(retrieval, Retrieval):
        raise ConfigurationError(f"retrieval is {typed(retrieval)}; give the Retrieval that a client answered with.")
    ordered_by = retrieval.ordered_by
    return RetrievedNodes([_scored(one, ordered_by) for one in retrieval.documents], retrieval, asked)


_NODE = TextNode(
    id_="", text="", metadata={}, excluded_embed_metadata_keys=[], excluded_llm_metadata_keys=[], relationships={}
)
_NODES = Mold(_NODE)
_SCORED = Mold(RetrievedNode(node=_NODE, score=None, relevancy=None, similarity=None, ordered_by=None))
_SOURCE = NodeRelationship.SOURCE
_SOURCES = Mold(RelatedNodeInfo(node_id="", node_type=ObjectType.DOCUMENT))


def _scored(document: Document, ordered_by: ScoreName) -> RetrievedNode:
    return _SCORED.cast(
        {
            "node": _node(document),
            "score": document.score(ordered_by),
            "relevancy": document.relevancy,
            "similarity": document.similarity,
            "ordered_by": ordered_by,
        }
    )


def _node(document: Document) -> TextNode:
    metadata = _metadata(document)
    hidden = [name for name in metadata if name in _PLUMBING]
    origin = document.unique_source or document.origin_id or document.source
    source = {_SOURCE: _SOURCES.cast({"node_id": origin})} if origin else {}
    return _NODES.cast(
        {
            "id_": document.id or passages([document])[0].id,
            "text": document.text,
            "metadata": metadata,
            "excluded_embed_metadata_keys": hidden,
            "excluded_llm_metadata_keys": hidden.copy(),
            "relationships": source,
        }
    )


_SCORES = frozenset({"relevancy", "similarity"})
_PLUMBING = frozenset(Document.model_fields) | {"index"}
"""Ids, paths and the nested `metadata`, whose keys are there flat: nothing a model could answer from, or should know.

Names of sources are among them: in the service's documents they are paths that begin with the organization's id.
"""
_RESERVED = _PLUMBING | _SCORES


def _metadata(document: Document) -> dict[str, Any]:
    """Every field that does not depend on the question; the user's own keys flat, and as they were in `metadata`.

    A user's key that a field of the service has already, or that a score would have, is in `metadata` alone. Beside
    them, unless the user has one: `file_name`, the source's name without its path, by which a model can cite it.
    """
    found = document.fields()
    for name in _SCORES:
        found.pop(name, None)
    own = found.get("metadata")
    if isinstance(own, Mapping):
        for name, value in own.items():
            if name not in found and name not in _RESERVED:
                found[name] = value
    file_name = readable_name(found)
    if file_name is not None:
        found.setdefault("file_name", file_name)
    return found
