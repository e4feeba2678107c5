"""LangChain's documents and LlamaIndex's nodes say the same, whatever the service answers."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_face.conftest import TOKEN, Scripted
from rage_retrievers import scope
from rage_retrievers.context import cite
from rage_retrievers.engines import Engines
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import VectorizeQuery

_scores = st.none() | st.floats(-2, 2) | st.integers(-1, 1) | st.just("0.5") | st.just("high")
_plain = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
_names = st.sampled_from(["year", "source", "similarity", "relevancy", "score", "text", "id", "metadata", "a b"])
_documents = st.fixed_dictionaries(
    {"text": st.text(max_size=20)},
    optional={
        "id": st.none() | st.text(min_size=1, max_size=5) | st.integers(0, 9),
        "relevancy": _scores,
        "similarity": _scores,
        "chunk_id": st.none() | st.integers(0, 9) | st.text(max_size=3),
        "unique_source": st.none() | st.text(max_size=3),
        "source": st.none() | st.text(max_size=3),
        "source_display_name": st.none() | st.text(max_size=3),
        "metadata": st.none()
        | st.dictionaries(_names, _plain | st.lists(_plain, max_size=2), max_size=3)
        | st.just("x"),
        "brand_new": _plain,
    },
)
_questions = st.text(min_size=1, max_size=9).filter(lambda text: text.strip() and not text.endswith("\n\n"))
"""Any; but two line breaks at the end are what RetrieverTool adds, and are taken off."""
_queries: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "num_results": st.integers(1, 50),
        "rerank": st.booleans(),
        "metadata_filters": st.lists(st.just({"year": [2024]}), max_size=1),
        "mode": st.sampled_from(["text", "vector", "hybrid"]),
        "context": st.just({"messages": [{"role": "user", "content": "Hi"}]}),
        "min_score": st.sampled_from([None, 0.0, 0.5]),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_documents, max_size=4), _questions, _queries, _queries, _queries)
def test_the_same_answer_in_both_frameworks(
    documents: list[dict[str, Any]], question: str, built: Any, within: Any, asked: Any
) -> None:
    """For any query and any answer: the same request, ids, order, scores, texts and user metadata."""
    service = Scripted(*documents)
    other = LangChainRetriever(
        api_key=TOKEN,
        organization="org-1",
        pipeline_id="aip-1",
        engine=Engines("scripted", service._engine, service._aengine),
        **built,
    )
    within.pop("mode", None)  # a scope says it as advanced_query
    with scope(**within):
        nodes = service.retriever(**built).retrieve(VectorizeQuery(question, **asked))
        found = other.invoke(question, **asked)
    assert service.requests[0].body == service.requests[1].body
    assert [node.text for node in nodes] == [one.page_content for one in found]
    assert [node.score for node in nodes] == [one.metadata["score"] for one in found]
    assert [node.node_id for node in nodes if _has_id(node)] == [one.id for one in found if one.id]
    assert [one.id for one in cite(nodes)] == [one.id for one in cite(found)]
    assert [node.metadata.get("metadata") for node in nodes] == [one.metadata.get("metadata") for one in found]
    assert [node.metadata.get("brand_new") for node in nodes] == [one.metadata.get("brand_new") for one in found]


def _has_id(node: Any) -> bool:
    return bool(node.metadata.get("id"))
