"""Documents and nodes that are made without validation are those that validation would have made."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_core.load import dumps, loads
from llama_index.core.schema import MetadataMode, NodeRelationship, NodeWithScore, ObjectType, RelatedNodeInfo, TextNode
from pydantic import BaseModel

from rage_retrievers._mold import Mold
from rage_retrievers.langchain._documents import to_documents
from rage_retrievers.llama_index.nodes import to_nodes
from rage_retrievers.models import Retrieval

ANSWER = Retrieval.model_validate(
    {
        "documents": [
            {"text": "One", "id": "a-1", "unique_source": "a", "similarity": 0.5, "metadata": {"year": 2024}},
            {"text": "Two", "similarity": None, "new": [1]},
        ]
    }
)


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
def test_documents_are_as_langchain_makes_them() -> None:
    """Equal, shown, dumped and copied alike."""
    for made in to_documents(ANSWER):
        right = LangChainDocument(page_content=made.page_content, metadata=made.metadata, id=made.id)
        assert type(made) is LangChainDocument
        assert made == right
        assert repr(made) == repr(right)
        assert made.model_dump() == right.model_dump()
        assert made.model_fields_set == right.model_fields_set
        assert loads(dumps(made), allowed_objects="core") == right
        assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made.model_copy() == right


def test_nodes_are_as_llama_index_makes_them() -> None:
    """Equal, with the same hash and content, and dumped alike."""
    for scored in to_nodes(ANSWER):
        made: Any = scored.node
        source = made.relationships.get(NodeRelationship.SOURCE)
        kept = {} if source is None else {NodeRelationship.SOURCE: _source(source.node_id)}
        right = TextNode(
            id_=made.id_,
            text=made.text,
            metadata=made.metadata,
            excluded_embed_metadata_keys=made.excluded_embed_metadata_keys,
            excluded_llm_metadata_keys=made.excluded_llm_metadata_keys,
            relationships=kept,
        )
        assert type(made) is TextNode
        assert made == right
        assert (made.hash, made.get_content(MetadataMode.LLM)) == (right.hash, right.get_content(MetadataMode.LLM))
        assert made.to_dict() == right.to_dict()
        assert made.model_fields_set == right.model_fields_set
        assert NodeWithScore(node=made, score=0.5).model_dump() == NodeWithScore(node=right, score=0.5).model_dump()
        assert pickle.loads(pickle.dumps(scored)) == copy.deepcopy(scored) == scored


def _source(node_id: str) -> RelatedNodeInfo:
    return RelatedNodeInfo(node_id=node_id, node_type=ObjectType.DOCUMENT)


def test_what_can_be_changed_is_shared_by_no_two() -> None:
    """Changing one node, or one document, changes no other and no later one."""
    first, second = to_nodes(ANSWER)
    first.node.excluded_embed_metadata_keys.append("mine")
    assert "mine" not in first.node.excluded_llm_metadata_keys
    first.node.relationships[NodeRelationship.NEXT] = _source("n")
    first.node.metadata["mine"] = 1
    for other in (second, *to_nodes(ANSWER)):
        assert "mine" not in other.node.excluded_embed_metadata_keys
        assert NodeRelationship.NEXT not in other.node.relationships
        assert "mine" not in other.node.metadata
    to_documents(ANSWER)[0].metadata["mine"] = 1
    assert "mine" not in to_documents(ANSWER)[0].metadata


def test_a_mold_copies_the_defaults_that_can_be_changed() -> None:
    """A list that nobody gave is a new one each time."""

    class Model(BaseModel):
        name: str
        tags: list[str] = []

    mold = Mold(Model(name="first"))
    one, other = mold.cast({"name": "a"}), mold.cast({"name": "b"})
    one.tags.append("y")
    assert mold.cast({"name": "c"}) == Model(name="c")
    assert (other.name, other.tags, other.model_fields_set) == ("b", [], {"name"})


def test_a_mold_refuses_what_it_would_lose() -> None:
    """Extra fields and private attributes are not copied, so a model that has some is no first one."""

    class Open(BaseModel, extra="allow"):
        name: str

    with pytest.raises(AssertionError):
        Mold(Open.model_validate({"name": "first", "more": 1}))
