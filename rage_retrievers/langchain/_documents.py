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
    documents = []
    for passage in retrieval.documents:
        metadata = passage.fields()
        if metadata.get("source") is None:
            named = passage.source_display_name or passage.unique_source or passage.origin_id
            if named is not None:
                metadata["source"] = named
        metadata["score"] = metadata.get(ordered_by)
        metadata["ordered_by"] = ordered_by
        documents.append(
            _MOLD.cast({"id": passage.id, "metadata": metadata, "page_content": passage.text, "type": "Document"})
        )
    return documents
