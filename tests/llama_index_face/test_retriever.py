"""What the retriever promises a LlamaIndex application."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeRelationship, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from llama_index_face.conftest import TOKEN, Scripted, document
from rage_retrievers import BadRequestError, ConfigurationError, RageError, scope
from rage_retrievers.llama_index import RetrievedNode, RetrievedNodes, VectorizeQuery, VectorizeRetriever, to_context
from rage_retrievers.llama_index.query import CALL_NAMES, NAMES
from rage_retrievers.llama_index.settable import Settable
from rage_retrievers.models import Message

Connect = Callable[..., VectorizeRetriever]
QUESTION = "How do bees tell where flowers are?"


def test_a_query_engine_answers_from_real_documents(connect: Connect) -> None:
    """Over HTTP, RetrieverQueryEngine gets the passage that answers, first, and shows it to the model."""
    engine = RetrieverQueryEngine.from_args(connect(similarity_top_k=2), llm=MockLLM())
    response = engine.query(QUESTION)
    assert "Honey bees dance" in response.source_nodes[0].get_content()
    assert "Honey bees dance" in str(response)


async def test_an_async_query_engine_never_blocks_the_loop(connect: Connect) -> None:
    """aquery over HTTP makes no blocking call at all."""
    retriever = connect(similarity_top_k=2)
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    await retriever.aretrieve(QUESTION)
    response = await engine.aquery(QUESTION)
    assert "Honey bees dance" in response.source_nodes[0].get_content()
    await retriever.aclose()


async def test_concurrent_calls_are_concurrent(scripted: Scripted) -> None:
    """Calls that wait for each other all end: none holds the loop."""
    together = asyncio.Barrier(4)
    scripted.before = together.wait
    retriever = scripted.retriever()
    answers = await asyncio.wait_for(asyncio.gather(*(retriever.aretrieve("What?") for _ in range(4))), 5)
    assert [len(nodes) for nodes in answers] == [3, 3, 3, 3]


async def test_both_worlds_send_the_same_request_and_give_the_same_nodes(scripted: Scripted) -> None:
    """retrieve and aretrieve differ in nothing."""
    retriever = scripted.retriever(num_results=3, rerank=True, metadata_filters=[{"year": [2021]}], min_score=0.0)
    assert retriever.retrieve("What?") == await retriever.aretrieve("What?")
    first, second = scripted.bodies
    assert first == second
    assert first == {"question": "What?", "numResults": 3, "rerank": True, "metadata-filters": [{"year": [2021]}]}


async def test_the_private_hook_is_called_by_keyword(scripted: Scripted) -> None:
    """LlamaIndex's composers call `_aretrieve(query_bundle=...)`."""
    assert len(await scripted.retriever()._aretrieve(query_bundle=QueryBundle("What?"))) == 3


@pytest.mark.parametrize("name", ["num_results", "similarity_top_k"])
def test_both_names_of_the_count_work(scripted: Scripted, name: str) -> None:
    """similarity_top_k is num_results, in the constructor, as an attribute and when set."""
    retriever = scripted.retriever(**{name: 7})
    retriever.retrieve("What?")
    assert getattr(retriever, name) == retriever.num_results == retriever.similarity_top_k == 7
    setattr(retriever, name, 2)
    retriever.retrieve("What?")
    assert [body["numResults"] for body in scripted.bodies] == [7, 2]


def test_an_option_that_is_set_holds_for_the_calls_to_come(scripted: Scripted) -> None:
    """As with the existing integration, options are attributes; one set in vain would return unfiltered data."""
    retriever = scripted.retriever(metadata_filters=[{"tenant": ["t-1"]}])
    assert retriever.metadata_filters == [{"tenant": ["t-1"]}]
    assert (retriever.organization, retriever.pipeline_id, retriever.filters) == ("org-1", "aip-1", None)
    assert (VectorizeRetriever("t").organization, VectorizeRetriever("t").pipeline_id) == (None, None)
    retriever.metadata_filters = [{"tenant": ["t-2"]}]
    retriever.filters = MetadataFilters(filters=[MetadataFilter(key="year", value=2024)])
    retriever.mode, retriever.rerank, retriever.pipeline_id = "hybrid", True, "aip-2"
    retriever.retrieve("What?")
    assert retriever.pipeline_id == "aip-2"
    assert scripted.requests[0].url.endswith("/pipelines/aip-2/retrieval")
    assert scripted.bodies[0] == {
        "question": "What?",
        "numResults": 5,
        "rerank": True,
        "metadata-filters": [{"tenant": ["t-2"]}, {"year": [2024]}],
        "advanced-query": {"mode": "hybrid"},
    }


@pytest.mark.parametrize("name", sorted(NAMES - CALL_NAMES))
def test_what_makes_the_connection_cannot_be_set_in_vain(scripted: Scripted, name: str) -> None:
    """Setting a token or a client would change nothing, so it is an error that says what to do."""
    with pytest.raises(AttributeError, match="with_options"):
        setattr(scripted.retriever(), name, None)


@pytest.mark.parametrize(
    ("name", "meant"), [("metadata_filter", "metadata_filters"), ("filter", "filters"), ("numResults", "num_results")]
)
def test_a_mistyped_option_is_not_set_in_vain(scripted: Scripted, name: str, meant: str) -> None:
    """Every question would stay as it was, and its passages unfiltered; an attribute of the user's own may be set."""
    retriever = scripted.retriever()
    with pytest.raises(AttributeError, match=f"did you mean '{meant}'"):
        setattr(retriever, name, 1)
    for own in ("note", f"_{name}"):
        setattr(retriever, own, "mine")

    class Own(VectorizeRetriever):
        """Whose attributes are its own."""

    setattr(scripted.retriever(Own), name, 1)


@pytest.mark.parametrize("question", [None, 5, ["a"]])
def test_a_question_that_is_no_text_is_refused(scripted: Scripted, question: Any) -> None:
    """In one line, before anything is sent."""
    retriever = scripted.retriever()
    with pytest.raises(ConfigurationError, match=f"type {type(question).__name__}"):
        retriever.retrieve(question)
    with pytest.raises(ConfigurationError, match=f"type {type(question).__name__}"):
        asyncio.run(retriever.aretrieve(question))


@pytest.mark.parametrize("name", sorted(CALL_NAMES))
def test_whatever_can_be_asked_per_query_can_be_set(scripted: Scripted, name: str) -> None:
    """No option of a query is a plain attribute, which nothing would read."""
    assert isinstance(getattr(VectorizeRetriever, name), Settable)
    retriever = scripted.retriever()
    setattr(retriever, name, getattr(retriever, name))


def test_a_value_that_cannot_be_used_is_refused_where_it_is_set(scripted: Scripted) -> None:
    """The option stays as it was."""
    retriever = scripted.retriever(num_results=3)
    with pytest.raises(ConfigurationError, match="num_results"):
        retriever.similarity_top_k = 0
    assert retriever.similarity_top_k == 3


def test_the_constructor_of_the_existing_integration_works_unchanged() -> None:
    """A migration is one import line: its arguments and its positional token are taken."""
    retriever = VectorizeRetriever(
        "t",
        environment="prod",
        organization="1234",
        pipeline_id="5678",
        num_results=4,
        rerank=False,
        metadata_filters=None,
        callback_manager=None,
        verbose=False,
    )
    assert "api.vectorize.io" in repr(retriever)
    assert "1234" in repr(VectorizeRetriever(api_token="t", organization="1234", pipeline_id="5678"))


@pytest.mark.parametrize("rerank", [False, True])
def test_the_score_is_the_number_that_ordered_the_list(scripted: Scripted, rerank: bool) -> None:
    """Relevancy when reranked, else similarity; both stay readable, and absent stays absent."""
    scripted.answer["documents"][2].update(relevancy=None, similarity=None)
    nodes = scripted.retriever(rerank=rerank).retrieve("What?")
    ordered = "relevancy" if rerank else "similarity"
    sent = [one[ordered] for one in scripted.answer["documents"]]
    assert [node.score for node in nodes] == [getattr(node, ordered) for node in nodes] == sent
    assert sent[2] is None
    assert {type(node) for node in nodes} == {RetrievedNode}
    assert isinstance(nodes[0], NodeWithScore)
    scripted.answer["documents"] = [document(relevancy=0.0, similarity=0)]
    (node,) = scripted.retriever(rerank=rerank).retrieve("What?")
    assert isinstance(node, RetrievedNode)
    assert (node.score, node.relevancy, node.similarity) == (0.0, 0.0, 0.0)


def test_metadata_holds_everything_but_what_depends_on_the_question() -> None:
    """Every field of the service and the user's own, flat and nested; neither of the two scores."""
    own = {"year": 2024, "source": "mine", "similarity": "mine, too", "brand_new": 3, "deep": {"a": [1]}}
    (node,) = Scripted(document(metadata=own, brand_new=[1, 2])).retriever().retrieve("What?")
    sent = {name: value for name, value in document().items() if name not in ("text", "relevancy", "similarity")}
    expected = {**sent, "file_name": "report.pdf"}
    assert node.metadata == expected | {"metadata": own, "year": 2024, "deep": {"a": [1]}, "brand_new": [1, 2]}


def test_a_chunk_has_one_hash_whatever_was_asked() -> None:
    """Two answers with other scores hold the same node: same id, same hash."""
    one, two = (Scripted(document(relevancy=r, similarity=r)).retriever().retrieve("What?")[0] for r in (0.1, 0.9))
    assert (one.node.hash, one.node_id) == (two.node.hash, two.node_id)
    assert one.score != two.score


def test_ids_are_unique_per_chunk_and_lead_to_the_source(connect: Connect) -> None:
    """Each chunk has its own node id; the SOURCE relation names the document."""
    nodes = connect(similarity_top_k=4).retrieve("sun and water")
    assert len({node.node_id for node in nodes}) == len(nodes) == 4
    for node in nodes:
        assert node.node.relationships[NodeRelationship.SOURCE].node_id == node.metadata["unique_source"]  # type: ignore[union-attr]
        assert node.node.ref_doc_id == node.metadata["unique_source"]


def test_the_source_is_the_nearest_thing_that_is_known() -> None:
    """And no relation leads to a source that nobody named."""
    unknown: dict[str, Any] = {"unique_source": None, "origin_id": None, "source": None}
    sent = [document(**unknown | known) for known in ({"origin_id": "o-1", "source": "a"}, {"source": "a"}, {})]
    assert [node.node.ref_doc_id for node in Scripted(*sent).retriever().retrieve("What?")] == ["o-1", "a", None]


def test_a_document_without_an_id_gets_a_lasting_one() -> None:
    """The same chunk has the same id in every answer, another text another id."""
    service = Scripted({"text": "One."}, {"text": "Two."})
    first, second = (service.retriever().retrieve("What?") for _ in range(2))
    assert [node.node_id for node in first] == [node.node_id for node in second]
    assert first[0].node_id != first[1].node_id


@pytest.mark.parametrize("mode", [MetadataMode.LLM, MetadataMode.EMBED])
def test_no_model_reads_ids_and_paths(mode: MetadataMode) -> None:
    """A model sees the text, the file's name and the user's own metadata."""
    (node,) = Scripted(document(metadata={"author": "Ada"})).retriever().retrieve("What?")
    assert isinstance(node.node, TextNode)
    shown = node.node.get_content(mode)
    assert "author: Ada" in shown
    assert "file_name: report.pdf" in shown
    for name in ("org/conn", "aip-1", "org-1", "u-1", "file-1", "sp-1536", "total_chunks"):
        assert name not in shown


@pytest.mark.parametrize("mode", [MetadataMode.LLM, MetadataMode.EMBED])
def test_of_the_published_document_a_model_reads_the_file_name(published: bytes, mode: MetadataMode) -> None:
    """Neither the organization's id, with which its path begins, nor any other id; the path stays in the metadata."""
    first = json.loads(published)["documents"][0]
    (node,) = Scripted(first).retriever().retrieve("What?")
    shown = node.node.get_content(mode)
    assert shown.startswith("created-from-api: True\nfile_name: apple.pdf\n\n2014")
    for name in ("org_id", "pipeline_id", "origin_id", "unique_source", "source", "index"):
        assert first[name][:8] not in shown
    assert node.metadata["source_display_name"] == first["source_display_name"]


def test_a_file_name_of_the_users_own_stays() -> None:
    """What a model reads as the file's name is the user's, where there is one."""
    (node,) = Scripted(document(metadata={"file_name": "Annual report"})).retriever().retrieve("What?")
    assert node.metadata["file_name"] == "Annual report"


def test_what_is_said_of_the_whole_list_is_on_the_list() -> None:
    """average_relevancy, ndcg and the whole answer are readable, in a pickle too; the list stays a list."""
    nodes = Scripted(document(), average_relevancy=0.48, ndcg=1).retriever().retrieve("What?")
    assert isinstance(nodes, RetrievedNodes)
    assert list(nodes) == nodes
    assert (nodes.average_relevancy, nodes.ndcg, nodes.retrieval.attempts) == (0.48, 1.0, 1)
    twin = pickle.loads(pickle.dumps(nodes))
    assert (twin, twin.retrieval, twin.asked) == (nodes, nodes.retrieval, ("org-1", "aip-1", 5))


async def test_every_passage_of_the_answer_arrives() -> None:
    """Two passages under one id both reach the caller, blocking or not."""
    retriever = Scripted(document(text="One."), document(text="Two.")).retriever()
    assert [node.text for node in retriever.retrieve("What?")] == ["One.", "Two."]
    assert [node.text for node in await retriever.aretrieve("What?")] == ["One.", "Two."]


def test_an_error_is_never_an_empty_list(scripted: Scripted) -> None:
    """What the service refuses is raised, typed, without token or question."""
    scripted.status = 400
    with pytest.raises(BadRequestError) as caught:
        scripted.retriever().retrieve("a private question")
    assert TOKEN not in str(caught.value)
    assert "private" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"num_results": 0}, "num_results"),
        ({"metadata_filters": 3}, "metadata_filters"),
        ({"min_score": "x"}, "min"),
        ({"mode": "TEXT"}, "^mode = 'TEXT'"),
        ({"async_http_client": 5}, "^async_http_client is an int"),
    ],
)
def test_what_no_call_could_use_is_refused_at_once(options: dict[str, Any], name: str) -> None:
    """A wrong value is a ConfigurationError when the retriever is made, and names itself."""
    with pytest.raises(ConfigurationError, match=name):
        Scripted().retriever(**options)


def test_an_unknown_keyword_names_the_nearest() -> None:
    """A mistyped filter would return unfiltered data, so it is an error."""
    with pytest.raises(TypeError, match="metadata_filters"):
        Scripted().retriever(metadataFilters=[{"year": [2024]}])


def test_a_pipeline_that_nobody_names_is_asked_for_before_anything_is_sent(scripted: Scripted) -> None:
    """The retriever may leave it to the scope."""
    retriever = scripted.retriever(pipeline_id=None)
    with pytest.raises(ConfigurationError, match=r"pipeline_id is missing; .*the scope"):
        retriever.retrieve("What?")
    assert scripted.requests == []
    with scope(pipeline_id="aip-3"):
        retriever.retrieve("What?")
    assert scripted.requests[0].url.endswith("/pipelines/aip-3/retrieval")


def test_what_a_query_says_of_the_search_is_put_upon_what_the_scope_says(scripted: Scripted) -> None:
    """And not upon what the retriever says, where the scope says something."""
    retriever, query = scripted.retriever(mode="hybrid"), VectorizeQuery("What?", text_boost=2.0)
    with scope(advanced_query={"mode": "text", "text-fields": ["title"]}):
        retriever.retrieve(query)
    retriever.retrieve(query)
    first, second = (body["advanced-query"] for body in scripted.bodies)
    assert first == {"mode": "text", "text-fields": ["title"], "text-boost": 2.0}
    assert second == {"mode": "hybrid", "text-boost": 2.0}


def test_a_query_is_a_query_bundle() -> None:
    """With all that one holds, for the retrievers that it may also be given to."""
    query = VectorizeQuery("What?", "picture.png", ["What, then?"], [0.5], rerank=True)
    assert (query.query_str, query.image_path) == ("What?", "picture.png")
    assert (query.custom_embedding_strs, query.embedding) == (["What, then?"], [0.5])


@pytest.mark.parametrize(
    ("role", "said"),
    [
        *((role, "user") for role in (MessageRole.USER,)),
        *((role, "assistant") for role in (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)),
        *((role, "system") for role in (MessageRole.SYSTEM, MessageRole.DEVELOPER)),
        *((role, None) for role in (MessageRole.TOOL, MessageRole.FUNCTION)),
    ],
)
def test_whoever_speaks_has_one_of_the_services_roles(role: MessageRole, said: str | None) -> None:
    """A tool's answer is no part of a conversation; a message in the service's own form stays as it is."""
    own: Message = {"role": "user", "content": "And?"}
    told = [] if said is None else [{"role": said, "content": "Hello"}]
    assert to_context([ChatMessage("Hello", role=role), ChatMessage(" ", role=role), own]) == {"messages": [*told, own]}


def test_an_empty_question_is_refused_before_anything_is_sent(scripted: Scripted) -> None:
    """Nothing is sent for a question of blanks."""
    with pytest.raises(RageError, match="question"):
        scripted.retriever().retrieve("  ")
    assert scripted.requests == []


def test_without_the_extra_the_import_says_what_to_install() -> None:
    """Importing the face where llama-index-core is missing names the extra."""
    code = (
        "import sys; sys.modules['llama_index'] = None\n"
        "try:\n    import rage_retrievers.llama_index\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "rage-retrievers[llama-index]"' in done.stdout
