"""What postprocessors, fusion and engines make of the nodes, and what `rage_retrievers.context` does for them."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.postprocessor import LongContextReorder, SimilarityPostprocessor
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
from llama_index.core.schema import NodeWithScore, TextNode

from llama_index_face.conftest import Scripted, document
from rage_retrievers import ConfigurationError
from rage_retrievers.context import Budget, Deduplicate, Order, PerSource, Threshold, cite, cited
from rage_retrievers.llama_index import ContextPostprocessor, RetrievedNode, RetrievedNodes, VectorizeRetriever


def engine(retriever: VectorizeRetriever, *postprocessors: Any) -> RetrieverQueryEngine:
    """A query engine with these postprocessors."""
    return RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=list(postprocessors))


@pytest.mark.parametrize("rerank", [False, True])
def test_a_cutoff_sees_the_score_that_ordered_the_list(scripted: Scripted, rerank: bool) -> None:
    """SimilarityPostprocessor cuts by relevancy when reranked, else by similarity."""
    cutoff = 0.4 if rerank else 0.68
    found = engine(scripted.retriever(rerank=rerank), SimilarityPostprocessor(similarity_cutoff=cutoff)).query("What?")
    assert [node.node_id for node in found.source_nodes] == ["file-1", "file-2"]


@pytest.mark.parametrize("mode", list(FUSION_MODES))
def test_fusion_of_a_retriever_with_itself_finds_the_same_chunks(scripted: Scripted, mode: FUSION_MODES) -> None:
    """In every mode, blocking and async, two equal lists are one list, in its order."""
    fusion = QueryFusionRetriever(
        [scripted.retriever(), scripted.retriever(rerank=True)],
        llm=MockLLM(),
        mode=mode,
        num_queries=1,
        similarity_top_k=3,
        use_async=False,
    )
    for nodes in (fusion.retrieve("What?"), asyncio.run(fusion.aretrieve("What?"))):
        assert nodes[0].node_id == "file-1"
        assert sorted(node.node_id for node in nodes) == ["file-1", "file-2", "file-3"]
        assert all(isinstance(node, RetrievedNode) and node.similarity is not None for node in nodes)


def test_fusion_doubles_the_score_of_what_both_lists_hold(scripted: Scripted) -> None:
    """A chunk has one hash in both lists, so its reciprocal ranks add up."""
    one, two = (
        QueryFusionRetriever(
            [scripted.retriever() for _ in range(count)],
            llm=MockLLM(),
            mode=FUSION_MODES.RECIPROCAL_RANK,
            num_queries=1,
            use_async=False,
        ).retrieve("What?")
        for count in (1, 2)
    )
    assert [node.score for node in two] == [pytest.approx(2 * (node.score or 0)) for node in one]


def test_both_scores_stay_readable_behind_an_engine(scripted: Scripted) -> None:
    """The source nodes of a response know relevancy and similarity, whatever became of the score."""
    response = engine(scripted.retriever(rerank=True), LongContextReorder()).query("What?")
    known = {node.node_id: (node.relevancy, node.similarity) for node in response.source_nodes}  # type: ignore[attr-defined]
    sent = {one["id"]: (one["relevancy"], one["similarity"]) for one in scripted.answer["documents"]}
    assert known == sent


@pytest.mark.parametrize("again", [copy.deepcopy, lambda nodes: pickle.loads(pickle.dumps(nodes))])
def test_the_list_survives_copies(scripted: Scripted, again: Any) -> None:
    """A copy of the list is equal, and knows the answer it came from."""
    scripted.answer["ndcg"] = 0.5
    nodes = scripted.retriever().retrieve("What?")
    twin = again(nodes)
    assert isinstance(twin, RetrievedNodes)
    assert twin == nodes
    assert twin.ndcg == 0.5


def test_a_node_can_be_written_and_read(scripted: Scripted) -> None:
    """What to_json writes holds id and scores; the node in it can be made again, with the same hash."""
    node = scripted.retriever().retrieve("What?")[0]
    written = json.loads(node.to_json())
    again = RetrievedNode(**{**written, "node": TextNode.from_dict(written["node"])})
    assert (again.score, again.node_id, again.node.hash) == (node.score, "file-1", node.node.hash)
    assert again == node


@pytest.fixture
def doubled() -> Scripted:
    """Six passages: two of one text, four of one source."""
    texts = ["Red roses.", "Red roses.", "Blue violets grow.", "Tulips are tall.", "Lilies are white.", "Ivy climbs."]
    return Scripted(
        *(
            document(place, text=text, unique_source="u-1" if place < 5 else f"u-{place}", similarity=1 - place / 10)
            for place, text in enumerate(texts, 1)
        )
    )


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Threshold(similarity=0.65), [1, 2, 3]),
        (Deduplicate(), [1, 3, 4, 5, 6]),
        (PerSource(1), [1, 5, 6]),
        (Order("both_ends"), [1, 3, 5, 6, 4, 2]),
        (Budget(1), []),
    ],
)
async def test_policies_are_postprocessors(doubled: Scripted, policy: Any, kept: list[int]) -> None:
    """Threshold, dedup, cap, budget and order work in an engine, blocking and async, on the same objects."""
    asked = engine(doubled.retriever(), ContextPostprocessor(policy))
    for response in (asked.query("What?"), await asked.aquery("What?")):
        assert [int(node.node_id[5:]) for node in response.source_nodes] == kept
        assert all(isinstance(node, RetrievedNode) for node in response.source_nodes)


def test_policies_take_the_nodes_of_other_retrievers() -> None:
    """A plain node without a score is kept, and never compared by a number."""
    plain = [NodeWithScore(node=TextNode(text=text)) for text in ("a", "b")]
    assert ContextPostprocessor(Threshold(similarity=0.9)).postprocess_nodes(plain) == plain


@pytest.mark.parametrize("make", [ContextPostprocessor, lambda policy: ContextPostprocessor(policies=[policy])])
def test_policies_may_be_named_and_are_looked_at_when_given(make: Callable[[Any], ContextPostprocessor]) -> None:
    """Not when the first nodes arrive."""
    given = [NodeWithScore(node=TextNode(text="a")), NodeWithScore(node=TextNode(text="A"))]
    assert make(Deduplicate()).postprocess_nodes(given) == given[:1]
    with pytest.raises(ConfigurationError, match="Deduplicate is a class"):
        make(Deduplicate)


def test_citations_lead_to_the_chunks(doubled: Scripted) -> None:
    """Numbers in an answer of CitationQueryEngine are places in its source nodes, with lasting ids."""
    asked = CitationQueryEngine(
        doubled.retriever(), llm=MockLLM(), node_postprocessors=[ContextPostprocessor(PerSource(1))]
    )
    sources = asked.query("What?").source_nodes
    first, second = cited("Roses are red [1], and ivy climbs [3].", cite(sources))
    assert "Red roses." in first.text
    assert (first.source, second.source) == ("u-1", "u-6")
    assert first.title == "report.pdf"


async def test_a_chat_engine_with_memory_selects_its_context(doubled: Scripted) -> None:
    """ContextChatEngine shows the model what got through, turn after turn."""
    chat = ContextChatEngine.from_defaults(
        doubled.retriever(),
        llm=MockLLM(),
        memory=ChatMemoryBuffer.from_defaults(token_limit=4000),
        node_postprocessors=[ContextPostprocessor(Deduplicate(), PerSource(1))],
    )
    for response in (chat.chat("What is red?"), await chat.achat("And what climbs?")):
        assert [node.node_id for node in response.source_nodes] == ["file-1", "file-5", "file-6"]
