"""What one question asks for: by a query of its own, or by the scope it is asked in, through every engine."""

from __future__ import annotations

import asyncio
import copy
import itertools
import pickle
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from blockbuster import BlockBuster
from llama_index.core.agent.workflow import AgentWorkflow, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, CompletionResponse, LLMMetadata, MessageRole
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.indices.query.query_transform.base import HyDEQueryTransform
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import (
    CitationQueryEngine,
    RetrieverQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
    TransformQueryEngine,
)
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import QueryFusionRetriever, RouterRetriever
from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import AsyncBaseTool, QueryEngineTool, RetrieverTool, ToolMetadata
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step

from llama_index_face.conftest import Scripted
from rage_retrievers import ConfigurationError, scope
from rage_retrievers.filters import F
from rage_retrievers.llama_index import VectorizeQuery, VectorizeRetriever, retrieval_tool, to_context

LOCKED = [{"tenant": ["t-1"]}]


Run = Callable[[VectorizeRetriever], Any]
ARun = Callable[[VectorizeRetriever], Awaitable[Any]]


class Lines(CustomLLM):
    """A model that says its lines one after the other, and the last one for ever."""

    lines: list[str]

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self.lines.pop(0) if len(self.lines) > 1 else self.lines[0])

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        answer = self.complete(prompt)
        yield CompletionResponse(text=answer.text, delta=answer.text)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        async def told() -> AsyncGenerator[CompletionResponse, None]:
            for one in self.stream_complete(prompt):
                yield one

        return told()


class Two(BaseQuestionGenerator):
    """Two sub-questions for any question."""

    def generate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        return [SubQuestion(sub_question=text, tool_name="documents") for text in ("First?", "Second?")]

    async def agenerate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        return self.generate(tools, query)

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: dict[str, Any]) -> None: ...


def _engine(retriever: VectorizeRetriever) -> RetrieverQueryEngine:
    return RetrieverQueryEngine.from_args(retriever, llm=MockLLM())


def _router(retriever: VectorizeRetriever) -> RouterQueryEngine:
    tool = QueryEngineTool.from_defaults(_engine(retriever), name="documents", description="All documents")
    selector = LLMSingleSelector.from_defaults(llm=Lines(lines=['[{"choice": 1, "reason": "It fits."}]']))
    return RouterQueryEngine(selector, [tool], llm=MockLLM())


def _fusion(retriever: VectorizeRetriever) -> QueryFusionRetriever:
    return QueryFusionRetriever(
        [retriever], llm=Lines(lines=["Second?\nThird?"]), num_queries=3, similarity_top_k=5, use_async=True
    )


def _fusing(mode: FUSION_MODES, use_async: bool) -> tuple[Run, ARun]:
    def make(retriever: VectorizeRetriever) -> RetrieverQueryEngine:
        fusion = QueryFusionRetriever(
            [retriever, retriever.with_options(mode="text")],
            llm=Lines(lines=["Second?\nThird?"]),
            num_queries=3,
            mode=mode,
            use_async=use_async,
        )
        return RetrieverQueryEngine.from_args(fusion, llm=MockLLM())

    return lambda r: make(r).query("What?"), lambda r: make(r).aquery("What?")


def _router_retriever(retriever: VectorizeRetriever) -> RouterRetriever:
    selector = LLMSingleSelector.from_defaults(llm=Lines(lines=['[{"choice": 1, "reason": "It fits."}]']))
    return RouterRetriever(selector, [_retriever_tool(retriever)], llm=MockLLM())


def _transforming(retriever: VectorizeRetriever) -> TransformQueryEngine:
    return TransformQueryEngine(_engine(retriever), HyDEQueryTransform(llm=MockLLM()))


def _streamed(response: Any) -> None:
    for _ in response.response_gen:
        pass


async def _astreamed(engine: Any) -> None:
    async for _ in (await engine.astream_chat("What?")).async_response_gen():
        pass


def _sub_questions(retriever: VectorizeRetriever) -> SubQuestionQueryEngine:
    tool = QueryEngineTool.from_defaults(_engine(retriever), name="documents", description="All documents")
    synthesizer = get_response_synthesizer(llm=MockLLM(), use_async=True)
    return SubQuestionQueryEngine(Two(), synthesizer, [tool], verbose=False, use_async=True)


def _citations(retriever: VectorizeRetriever) -> CitationQueryEngine:
    return CitationQueryEngine(retriever, llm=MockLLM())


def _condensing(retriever: VectorizeRetriever) -> CondensePlusContextChatEngine:
    past = [ChatMessage("Hello", role=MessageRole.USER), ChatMessage("Hi", role=MessageRole.ASSISTANT)]
    # A memory of one's own: LlamaIndex makes its default one by blocking the loop.
    memory = ChatMemoryBuffer.from_defaults(chat_history=past, token_limit=4000)
    return CondensePlusContextChatEngine.from_defaults(retriever, llm=MockLLM(), memory=memory)


def _talking(retriever: VectorizeRetriever) -> ContextChatEngine:
    memory = ChatMemoryBuffer.from_defaults(token_limit=4000)
    return ContextChatEngine.from_defaults(retriever, llm=MockLLM(), memory=memory)


def _retriever_tool(retriever: VectorizeRetriever) -> RetrieverTool:
    return RetrieverTool.from_defaults(retriever, name="documents", description="All documents")


def _engine_tool(retriever: VectorizeRetriever) -> QueryEngineTool:
    return QueryEngineTool.from_defaults(_engine(retriever), name="documents", description="All documents")


ENGINES: dict[str, tuple[Run, ARun]] = {
    "query engine": (lambda r: _engine(r).query("What?"), lambda r: _engine(r).aquery("What?")),
    "router": (lambda r: _router(r).query("What?"), lambda r: _router(r).aquery("What?")),
    "fusion": (lambda r: _fusion(r).retrieve("What?"), lambda r: _fusion(r).aretrieve("What?")),
    "sub-questions": (lambda r: _sub_questions(r).query("What?"), lambda r: _sub_questions(r).aquery("What?")),
    "citations": (lambda r: _citations(r).query("What?"), lambda r: _citations(r).aquery("What?")),
    "condense plus context": (lambda r: _condensing(r).chat("What?"), lambda r: _condensing(r).achat("What?")),
    "context chat": (lambda r: _talking(r).chat("What?"), lambda r: _talking(r).achat("What?")),
    "retriever tool": (lambda r: _retriever_tool(r)(input="What?"), lambda r: _retriever_tool(r).acall(input="What?")),
    "engine tool": (lambda r: _engine_tool(r)(input="What?"), lambda r: _engine_tool(r).acall(input="What?")),
    "our tool": (lambda r: retrieval_tool(r)(query="What?"), lambda r: retrieval_tool(r).acall(query="What?")),
    "streamed context chat": (lambda r: _streamed(_talking(r).stream_chat("What?")), lambda r: _astreamed(_talking(r))),
    "streamed condense plus context": (
        lambda r: _streamed(_condensing(r).stream_chat("What?")),
        lambda r: _astreamed(_condensing(r)),
    ),
    "router retriever": (
        lambda r: _router_retriever(r).retrieve("What?"),
        lambda r: _router_retriever(r).aretrieve("What?"),
    ),
    "transformed": (lambda r: _transforming(r).query("What?"), lambda r: _transforming(r).aquery("What?")),
}
for fusion_mode, at_once in itertools.product(FUSION_MODES, (True, False)):
    ENGINES[f"fusion, {fusion_mode.value}, use_async={at_once}"] = _fusing(fusion_mode, at_once)


@pytest.mark.parametrize("name", ENGINES)
def test_a_scope_reaches_the_retriever_in_blocking_code(scripted: Scripted, name: str) -> None:
    """A locked tenant filter and a count are in every request, whatever engine asks."""
    with scope(filters=F("tenant") == "t-1", locked=True, similarity_top_k=2):
        ENGINES[name][0](scripted.retriever())
    assert scripted.bodies
    assert {(str(body["metadata-filters"]), body["numResults"]) for body in scripted.bodies} == {(str(LOCKED), 2)}


@pytest.mark.parametrize("name", ENGINES)
async def test_a_scope_reaches_the_retriever_in_asyncio(
    scripted: Scripted, name: str, nothing_blocks_a_loop: BlockBuster
) -> None:
    """The same, awaited, without one blocking call."""
    retriever = scripted.retriever()
    nothing_blocks_a_loop.deactivate()
    ENGINES[name][0](retriever)  # what LlamaIndex loads from disk once is loaded now
    nothing_blocks_a_loop.activate()
    scripted.requests.clear()
    async with scope(filters=F("tenant") == "t-1", locked=True, similarity_top_k=2):
        await ENGINES[name][1](retriever)
    assert scripted.bodies
    assert {(str(body["metadata-filters"]), body["numResults"]) for body in scripted.bodies} == {(str(LOCKED), 2)}


@pytest.mark.parametrize("name", ENGINES)
async def test_a_scope_reaches_the_retriever_from_blocking_code_within_a_loop(
    scripted: Scripted, name: str, nothing_blocks_a_loop: BlockBuster
) -> None:
    """In a notebook, LlamaIndex runs what it does at once in a thread with a loop of its own: the scope goes along."""
    nothing_blocks_a_loop.deactivate()
    with scope(filters=F("tenant") == "t-1", locked=True, similarity_top_k=2):
        ENGINES[name][0](scripted.retriever())
    assert scripted.bodies
    assert {(str(body["metadata-filters"]), body["numResults"]) for body in scripted.bodies} == {(str(LOCKED), 2)}


class Part(Event):
    """One question of several."""

    question: str


class Found(Event):
    """How many passages a question found."""

    count: int


class Asking(Workflow):
    """Asks four questions at once, in steps of its own."""

    retriever: VectorizeRetriever

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        """Send the questions."""
        for number in range(4):
            ctx.send_event(Part(question=f"{ev.tenant} {number}"))
        return None

    @step(num_workers=4)
    async def ask(self, ctx: Context, ev: Part) -> Found:
        """Ask one of them."""
        return Found(count=len(await self.retriever.aretrieve(ev.question)))

    @step
    async def count(self, ctx: Context, ev: Found) -> StopEvent | None:
        """Give back how many passages there are."""
        found = ctx.collect_events(ev, [Found] * 4)
        return StopEvent(result=sum(one.count for one in found)) if found else None


async def test_a_scope_reaches_the_steps_of_a_workflow(scripted: Scripted) -> None:
    """Steps run in the scope in which their workflow was started, also when many run at once for many tenants."""
    workflow = Asking()
    workflow.retriever = scripted.retriever()

    async def run(tenant: str) -> int:
        with scope(filters=F("tenant") == tenant, locked=True):
            handler = workflow.run(tenant=tenant)
        return int(await handler)

    assert await asyncio.gather(*(run(f"t-{number}") for number in range(5))) == [12] * 5
    assert len(scripted.bodies) == 20
    for body in scripted.bodies:
        assert body["metadata-filters"] == [{"tenant": [body["question"].split()[0]]}]


AGENT_TOOLS: dict[str, Callable[[VectorizeRetriever], AsyncBaseTool]] = {
    "our tool": lambda r: retrieval_tool(r, name="documents"),
    "retriever tool": _retriever_tool,
    "engine tool": _engine_tool,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LlamaIndex looks at its own fields
@pytest.mark.parametrize("whole", [False, True], ids=["agent", "agent workflow"])
@pytest.mark.parametrize("name", AGENT_TOOLS)
async def test_a_scope_reaches_an_agents_tool(scripted: Scripted, name: str, whole: bool) -> None:
    """An agent's own question is asked inside the scope, with a clean text."""
    argument = "query" if name == "our tool" else "input"
    said = [
        f'Thought: look.\nAction: documents\nAction Input: {{"{argument}": "roses"}}',
        "Thought: done.\nAnswer: Red.",
    ]
    tool = AGENT_TOOLS[name](scripted.retriever())
    agent = ReActAgent(tools=[tool], llm=Lines(lines=said), streaming=False)
    with scope(filters=F("tenant") == "t-1", locked=True):
        answer = await (AgentWorkflow(agents=[agent]) if whole else agent).run("Which roses?")
    assert "Red." in str(answer)
    assert [(body["question"], body["metadata-filters"]) for body in scripted.bodies] == [("roses", LOCKED)]


@pytest.mark.parametrize(
    "ask", [lambda t: t(input="Which roses?"), lambda t: t(query="Which roses?"), lambda t: t("Which roses?")]
)
def test_the_noise_of_a_retriever_tool_is_stripped(scripted: Scripted, ask: Callable[[RetrieverTool], Any]) -> None:
    """RetrieverTool sends the question as it was asked."""
    ask(_retriever_tool(scripted.retriever()))
    assert scripted.bodies[0]["question"] == "Which roses?"


@pytest.mark.parametrize("question", ["input is broken, why?", "input is broken\n", "\nWhat?\n", "a\nb"])
def test_a_question_that_looks_like_the_noise_is_left_alone(scripted: Scripted, question: str) -> None:
    """Only what RetrieverTool adds is taken away, also where the question begins as that does."""
    scripted.retriever().retrieve(question)
    _retriever_tool(scripted.retriever())(question)
    assert [body["question"] for body in scripted.bodies] == [question, question]


def test_a_query_carries_overrides_through_engines(scripted: Scripted) -> None:
    """Every knob can be set for one question; False, 0.0 and [] mean what they say."""
    retriever = scripted.retriever(rerank=True, metadata_filters=[{"year": [2024]}], min_score=0.99)
    query = VectorizeQuery("What?", similarity_top_k=2, rerank=False, metadata_filters=[], min_score=0.0, timeout=3.0)
    for ask in (_engine(retriever).query, _router(retriever).query, retriever.retrieve):
        response: Any = ask(query)
        assert len(getattr(response, "source_nodes", response)) == 3
    assert scripted.bodies == [{"question": "What?", "numResults": 2, "rerank": False}] * 3


@pytest.mark.parametrize("again", [copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q)), replace])
def test_a_query_survives_copies(scripted: Scripted, again: Callable[[VectorizeQuery], VectorizeQuery]) -> None:
    """A copy of a query asks for the same."""
    scripted.retriever().retrieve(again(VectorizeQuery("What?", similarity_top_k=1, mode="hybrid")))
    assert (scripted.bodies[0]["numResults"], scripted.bodies[0]["advanced-query"]) == (1, {"mode": "hybrid"})


def test_an_unknown_override_names_the_nearest() -> None:
    """A mistyped override is an error where it is written."""
    with pytest.raises(TypeError, match="similarity_top_k"):
        VectorizeQuery("What?", similarity_topk=3)  # type: ignore[call-arg]


def test_search_modes_and_filters_join(scripted: Scripted) -> None:
    """A mode for one query keeps what else the retriever's advanced query says."""
    retriever = scripted.retriever(mode="hybrid", text_boost=2.0, filters=F("year") >= 2023)
    retriever.retrieve(VectorizeQuery("What?", mode="text", text_fields=["title"]))
    found = {"mode": "text", "text-boost": 2.0, "text-fields": ["title"], "filters": {"range": {"year": {"gte": 2023}}}}
    assert scripted.bodies[0]["advanced-query"] == found


def test_a_conversation_is_sent_as_context(scripted: Scripted) -> None:
    """ChatMessages become role and content; a tool's answers and empty messages stay away."""
    history = [
        ChatMessage("Be brief.", role=MessageRole.SYSTEM),
        ChatMessage("Hello", role=MessageRole.USER),
        ChatMessage("Hi", role=MessageRole.ASSISTANT),
        ChatMessage("", role=MessageRole.ASSISTANT),
        ChatMessage("rows", role=MessageRole.TOOL),
    ]
    spoken = [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi")]
    scripted.retriever().retrieve(VectorizeQuery("What?", context=history))
    with scope(context=to_context(history)):
        scripted.retriever().retrieve("What?")
    sent = {"messages": [{"role": role, "content": content} for role, content in spoken]}
    assert [body["context"] for body in scripted.bodies] == [sent, sent]
    assert to_context([]) is None


def test_a_least_score_leaves_out_what_is_below(scripted: Scripted) -> None:
    """min_score is on the scale of the score that orders the list."""
    assert [n.score for n in scripted.retriever().retrieve(VectorizeQuery("What?", min_score=0.68))] == [0.69, 0.68]


def test_a_lock_cannot_be_stepped_over_by_a_query(scripted: Scripted) -> None:
    """What a query says beside a locked filter can only narrow it."""
    with scope(metadata_filters=LOCKED, locked=True):
        scripted.retriever().retrieve(VectorizeQuery("What?", metadata_filters=[]))
        scripted.retriever().retrieve(VectorizeQuery("What?", metadata_filters=[{"year": [2024]}]))
    first, second = (body["metadata-filters"] for body in scripted.bodies)
    assert first == LOCKED
    assert second == [*LOCKED, {"year": [2024]}]


async def test_a_research_does_not_step_over_a_lock(scripted: Scripted) -> None:
    """Deep research reads a whole pipeline, so it is refused where filters hold."""
    with scope(metadata_filters=LOCKED, locked=True):
        with pytest.raises(ConfigurationError, match="deep research cannot be filtered"):
            scripted.retriever().deep_research("Why?")
        with pytest.raises(ConfigurationError, match="deep research cannot be filtered"):
            await scripted.retriever().adeep_research("Why?")
    assert scripted.requests == []


def test_another_pipeline_for_one_question(scripted: Scripted) -> None:
    """A query, or a scope, can go to another pipeline."""
    scripted.retriever().retrieve(VectorizeQuery("What?", pipeline_id="aip-2"))
    with scope(pipeline_id="aip-3"):
        scripted.retriever().retrieve("What?")
    assert [request.url.split("/")[-2] for request in scripted.requests] == ["aip-2", "aip-3"]
