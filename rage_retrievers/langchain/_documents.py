"""From the service's documents to LangChain's."""

from __future__ import annotations

from langchain_core.documents import Document

from .._mold import Mold
from ..models import Retrieval

_MOLD = Mold(Document(page_content="", metadata={}, id=None))


def to_documents(retrieval: Retrieval) -> list[Document]:
    """Plain `Document`s, best first, in whose metadata is every field of the service's but the text.

    Beside those: `score`, the number that ordered the list (None where the service sent none), `ordered_by`, which of
    the two scores that is, and `source`, where the service left it out but gave another name of the source.
    """
    ordered_by = retrieval.ordered_by
    found = []
    for document in retrieval.documents:
        metadata = document.fields()
        if document.source is None:
            named = document.source_display_name or document.unique_source or document.origin_id
            if named is not None:
                metadata["source"] = named
        metadata["score"] = document.score(ordered_by)
        metadata["ordered_by"] = ordered_by
        found.append(_MOLD.cast({"page_content": document.text, "id": document.id, "metadata": metadata}))
    return found
