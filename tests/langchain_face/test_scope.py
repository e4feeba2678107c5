"""A scope reaches the retriever through every composer, and what it locks stays locked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import create_retriever_tool
from langgraph.graph import END, START, StateGraph

from rage_retrievers import ConfigurationError, F, scope
from rage_retrievers.langchain import VectorizeRetriever

from .conftest import Ask, Recorder, in_loop

TENANT = [{"tenant": ["acme"]}]


class ScriptedModel(GenericFakeChatModel):
    """A chat model that says what it is told to, and takes tools."""

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self


def model_saying(*messages: AIMessage) -> ScriptedModel:
    return ScriptedModel(messages=iter(messages))


def test_scope_goes_between_constructor_and_call(ask: Ask, service: Recorder) -> None:
    """Constructor < scope < call, name by name."""
    retriever = service.retriever(k=1, rerank=True, mode="text")
    with scope(k=2, pipeline_id="aip-2", filters=F("a") == 1):
        ask(retriever, "q", k=3)
    assert service.body == {
        "question": "q", "numResults": 3, "rerank": True, "metadata-filters": [{"a": [1]}],
        "advanced-query": {"mode": "text"},
    }  # fmt: skip
    assert "/aip-2/" in str(service.requests[-1].url)
    ask(retriever, "q")
    assert service.body["numResults"] == 1


@pytest.mark.parametrize(
    "attempt",
    [
        {"metadata_filters": []}, {"metadata_filters": None}, {"filters": None}, {"filters": F("tenant") == "other"},
        {"metadata_filters": [{"tenant": ["other", "acme"]}]}, {"advanced_query": None}, {"mode": None},
        {"filters": (F("tenant") == "other") | (F("x") == 1)},
    ],
)  # fmt: skip
def test_locked_filter_cannot_be_widened(ask: Ask, service: Recorder, attempt: dict[str, Any]) -> None:
    """Whatever a caller passes, the locked condition is sent, too."""
    with scope(filters=F("tenant") == "acme", locked=True):
        ask(service.retriever(filters=F("tenant") == "mine"), "q", **attempt)
    assert {"tenant": ["acme"]} in service.body["metadata-filters"]


def test_locked_filter_can_be_narrowed(ask: Ask, service: Recorder) -> None:
    """A caller's own filter is ANDed to the locked one."""
    with scope(filters=F("tenant") == "acme", locked=True):
        ask(service.retriever(), "q", filters=F("year") == 2024)
    assert service.body["metadata-filters"] == [*TENANT, {"year": [2024]}]


def test_locked_search_mode_is_not_changed_by_a_typed_option(ask: Ask, service: Recorder) -> None:
    """`mode=` per call cannot get round a locked `advanced_query`."""
    with scope(advanced_query={"mode": "text"}, locked=True):
        ask(service.retriever(), "q", mode="vector", text_boost=3.0)
    assert service.body["advanced-query"] == {"mode": "text"}


def test_typed_option_builds_on_the_scope(ask: Ask, service: Recorder) -> None:
    """A typed option per call changes one part of what the scope set, its filters stay."""
    with scope(advanced_query={"mode": "text", "filters": {"term": {"a": 1}}}):
        ask(service.retriever(mode="vector"), "q", text_boost=3.0)
    assert service.body["advanced-query"] == {"mode": "text", "text-boost": 3.0, "filters": {"term": {"a": 1}}}


def test_every_call_of_a_batch_is_in_the_scope(service: Recorder) -> None:
    """Threads and tasks of `batch` and `abatch` inherit the scope."""
    retriever = service.retriever()
    with scope(filters=F("tenant") == "acme", locked=True):
        retriever.batch(["a", "b", "c"])
        asyncio.run(retriever.abatch(["d", "e"]))
        asyncio.run(_in_async_scope(retriever))
    assert [json.loads(one.content)["metadata-filters"] for one in service.requests] == [TENANT] * 6


async def _in_async_scope(retriever: VectorizeRetriever) -> None:
    async with scope(k=2):
        await retriever.ainvoke("f")


def test_concurrent_tasks_keep_their_own_tenant(service: Recorder) -> None:
    """Two requests served at once never see each other's filters."""
    retriever = service.retriever()

    async def one(tenant: str) -> None:
        async with scope(filters=F("tenant") == tenant, locked=True):
            await retriever.ainvoke(tenant)

    async def main() -> None:
        await asyncio.gather(*(one(f"t{number}") for number in range(20)))

    asyncio.run(main())
    for request in service.requests:
        body = json.loads(request.content)
        assert body["metadata-filters"] == [{"tenant": [body["question"]]}]


def _ensemble(retriever: VectorizeRetriever) -> Any:
    classic = pytest.importorskip("langchain_classic.retrievers")
    return classic.EnsembleRetriever(retrievers=[retriever, retriever], weights=[0.5, 0.5])


def _multi_query(retriever: VectorizeRetriever) -> Any:
    classic = pytest.importorskip("langchain_classic.retrievers")
    model = model_saying(AIMessage("first\nsecond"), AIMessage("first\nsecond"))
    return classic.MultiQueryRetriever.from_llm(retriever, model)


def _compression(retriever: VectorizeRetriever) -> Any:
    classic = pytest.importorskip("langchain_classic.retrievers")
    filters = pytest.importorskip("langchain_classic.retrievers.document_compressors")
    return classic.ContextualCompressionRetriever(
        base_retriever=retriever, base_compressor=filters.DocumentCompressorPipeline(transformers=[])
    )


def _retrieval_chain(retriever: VectorizeRetriever) -> Any:
    chains = pytest.importorskip("langchain_classic.chains")
    chain = chains.create_retrieval_chain(retriever, RunnableLambda(lambda _: "answer"))
    return RunnableLambda(lambda question: {"input": question}) | chain


def _tool(retriever: VectorizeRetriever) -> Any:
    return create_retriever_tool(retriever, "search", "Search.")


def _parallel(retriever: VectorizeRetriever) -> Any:
    return RunnableParallel(left=retriever, right=retriever.bind(k=2))


def _agent(retriever: VectorizeRetriever) -> Any:
    calls = [ToolCall(name="search", args={"query": f"q{number}"}, id=str(number)) for number in range(3)]
    says = [AIMessage("", tool_calls=calls), AIMessage("done")] * 2
    agent: Any = create_agent(model_saying(*says), tools=[_tool(retriever)])
    return RunnableLambda(lambda question: {"messages": [("user", question)]}) | agent


COMPOSERS = [_ensemble, _multi_query, _compression, _retrieval_chain, _tool, _parallel, _agent]


@pytest.mark.parametrize("compose", COMPOSERS)
@pytest.mark.parametrize("world", ["sync", "async"])
def test_scope_reaches_through_composers(
    service: Recorder, compose: Callable[[VectorizeRetriever], Any], world: str
) -> None:
    """A locked filter set outside is in every request a composer makes, an agent's parallel tool calls included."""
    composed = compose(service.retriever())
    with scope(filters=F("tenant") == "acme", locked=True):
        if world == "sync":
            composed.invoke("question")
        else:
            asyncio.run(composed.ainvoke("question"))
    assert service.requests
    assert [json.loads(one.content)["metadata-filters"] for one in service.requests] == [TENANT] * len(service.requests)


@dataclass
class Tenancy:
    tenant: str


class State(TypedDict):
    question: str
    documents: list[Any]


def _graph(retriever: VectorizeRetriever, asynchronous: bool) -> Any:
    wider: Any = {"filters": F("tenant") == "other", "metadata_filters": []}

    def node(state: State) -> Any:
        return {"documents": retriever.invoke(state["question"], **wider)}

    async def anode(state: State) -> Any:
        return {"documents": await retriever.ainvoke(state["question"], **wider)}

    graph: Any = StateGraph(State, context_schema=Tenancy)
    graph.add_node("retrieve", anode if asynchronous else node)
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", END)
    return graph.compile()


@pytest.mark.parametrize("world", ["sync", "async"])
def test_langgraph_context_becomes_a_locked_filter(service: Recorder, world: str) -> None:
    """With `runtime_filters`, a field of the runtime's context bounds every retrieval of the graph."""
    retriever = service.retriever(runtime_filters=lambda context: F("tenant") == context.tenant)
    graph = _graph(retriever, world == "async")
    call = {"input": {"question": "q"}, "context": Tenancy("acme")}
    answer = graph.invoke(**call) if world == "sync" else asyncio.run(graph.ainvoke(**call))
    assert service.body["metadata-filters"] == TENANT
    assert service.body["advanced-query"]["filters"]["bool"]["must"][-1] == {"term": {"tenant": "other"}}
    assert len(answer["documents"]) == 1


def _asked_in_a_graph(node: Any, world: str, tenant: str = "acme") -> None:
    graph: Any = StateGraph(State, context_schema=Tenancy)
    graph.add_node("retrieve", node)
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", END)
    call = {"input": {"question": "q"}, "context": Tenancy(tenant)}
    _run(graph.compile(), call, world)


def _run(app: Any, call: Any, world: str) -> None:
    if world == "sync":
        app.invoke(**call)
    else:
        in_loop(lambda: app.ainvoke(**call))


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_chain_that_is_a_node_knows_the_runtime(service: Recorder, world: str) -> None:
    """The steps of a chain given as a node are bound by the graph's context, whichever graph is around it."""
    retriever = service.retriever(runtime_filters=lambda context: F("tenant") == context.tenant)
    chain = RunnableLambda(lambda state: state["question"]) | retriever | (lambda found: {"documents": found})
    _asked_in_a_graph(chain, world)
    assert service.body["metadata-filters"] == TENANT

    def around(_: State) -> Any:
        _asked_in_a_graph(chain, "sync", "inner")

    _asked_in_a_graph(around, "sync", "outer")
    assert service.body["metadata-filters"] == [{"tenant": ["inner"]}]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_every_way_to_call_knows_the_runtime(service: Recorder, world: str) -> None:
    """Batches, streams, bindings and configs of their own inside a node are bound by the graph's context."""
    retriever = service.retriever(runtime_filters=lambda context: F("tenant") == context.tenant)
    configs: Any = [{"tags": ["a"]}, {"configurable": {"k": 1}}]

    def node(_: State) -> Any:
        retriever.batch(["a", "b"], configs)
        list(retriever.batch_as_completed(["a", "b"]))
        list(retriever.stream("q", configs[1]))
        RunnableParallel(a=retriever.bind(k=2), b=retriever.with_retry()).invoke("q")

    async def anode(_: State) -> Any:
        await retriever.abatch(["a", "b"], configs)
        [found async for found in retriever.abatch_as_completed(["a", "b"])]
        [found async for found in retriever.astream("q", configs[1])]
        await RunnableParallel(a=retriever.bind(k=2), b=retriever.with_retry()).ainvoke("q")

    _asked_in_a_graph(node if world == "sync" else anode, world)
    assert [json.loads(one.content)["metadata-filters"] for one in service.requests] == [TENANT] * 7


def test_the_runtimes_filter_goes_before_a_models(service: Recorder) -> None:
    """A field that a model filters by cannot take the runtime's place in either of the service's languages."""
    retriever = service.retriever(runtime_filters=lambda context: F("tenant") == context.tenant)
    tool = retriever.as_tool(filters=["tenant"])
    _asked_in_a_graph(lambda _: tool.invoke({"query": "q", "tenant": ["other"]}) and None, "sync")
    assert service.body["metadata-filters"] == TENANT
    assert {"term": {"tenant": "other"}} in service.body["advanced-query"]["filters"]["bool"]["must"]


def test_runtime_filters_that_come_out_empty_ask_nothing(service: Recorder) -> None:
    """A context without a tenant opens nothing."""
    retriever = service.retriever(runtime_filters=lambda context: context.tenant and [])
    with pytest.raises(ConfigurationError, match="lock nothing"):
        _asked_in_a_graph(lambda _: {"documents": retriever.invoke("q")}, "sync")
    assert service.requests == []


def test_runtime_filters_outside_of_a_graph_ask_nothing(ask: Ask, service: Recorder) -> None:
    """Where there is no runtime, the filter cannot be known, so the call is refused."""
    retriever = service.retriever(runtime_filters=lambda context: F("tenant") == context.tenant)
    with pytest.raises(ConfigurationError, match="runtime"):
        ask(retriever, "q")
    assert service.requests == []
