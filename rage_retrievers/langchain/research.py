"""Deep research as a Runnable that streams its progress, and as a tool."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    CallbackManagerForChainRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, Field
from typing_extensions import TypedDict, Unpack, override

from .._checks import typed
from .._face import check_tool
from .._keywords import unknown_keyword
from .._options import ResearchPlan
from ..errors import ConfigurationError
from ..models import Research, ResearchEvent
from ._options import init_or_refuse
from ._runs import within
from .retriever import VectorizeRetriever

Progress: TypeAlias = ResearchEvent | Research
EVENT = "vectorize.research.progress"


class ResearchCallOptions(TypedDict, total=False):
    """How a research is done; `timeout` (300) and `poll_every` (2) are seconds, `schema` shapes the report."""

    web_search: bool
    schema: str | None
    n8n: Mapping[str, Any] | None
    timeout: float
    poll_every: float


def _check(retriever: object) -> None:
    if not isinstance(retriever, VectorizeRetriever):
        raise ConfigurationError(f"retriever is {typed(retriever)}; give a VectorizeRetriever.")


class VectorizeResearch(RunnableSerializable[str, Progress]):
    """Starts a deep research for a question and waits for it; `invoke` gives the `Research`.

    `stream` and `astream` give a `ResearchEvent` after each poll, and the `Research` last. The connection, its token
    and its policies are the retriever's, and so is the pipeline that a scope names. A deep research knows no filters,
    so where a scope has locked some, or the retriever or the scope asks for any, it is refused.
    """

    retriever: VectorizeRetriever
    options: dict[str, Any] = Field(default_factory=dict)
    """`ResearchCallOptions` for every call; those of a call win."""

    def __init__(self, **given: Any) -> None:
        for name in given:
            if name not in type(self).model_fields:
                raise unknown_keyword(name, type(self).model_fields)
        _check(given.get("retriever"))
        options = given.get("options", {})
        if not isinstance(options, Mapping):
            raise ConfigurationError(f"options is {typed(options)}; give a mapping, such as {{'web_search': True}}.")
        ResearchPlan.make(options)  # what is wrong, pydantic's error would quote
        init_or_refuse(super().__init__, given)

    @override
    def invoke(self, input: str, config: RunnableConfig | None = None, **options: Any) -> Research:
        """The finished research. Raises ResearchFailedError, DeadlineExceededError and any other `RageError`."""
        asked = self._asked(options)

        def run(question: str, run_manager: CallbackManagerForChainRun) -> Research:
            with within(run_manager):
                return self._run(question, asked, None)

        found = self._call_with_config(run, input, config)
        assert isinstance(found, Research)  # _run gives nothing else
        return found

    @override
    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **options: Any) -> Research:
        """See `invoke`."""
        asked = self._asked(options)

        async def run(question: str, run_manager: AsyncCallbackManagerForChainRun) -> Research:
            with within(run_manager):
                return await self._arun(question, asked, None)

        found = await self._acall_with_config(run, input, config)
        assert isinstance(found, Research)  # _arun gives nothing else
        return found

    @override
    def stream(self, input: str, config: RunnableConfig | None = None, **options: Any) -> Iterator[Progress]:
        """Events as they come, then the research."""
        asked = self._asked(options)

        def steps(questions: Iterator[str], run_manager: CallbackManagerForChainRun) -> Iterator[Progress]:
            for question in questions:
                yield from self._steps(question, asked, run_manager)

        yield from self._transform_stream_with_config(iter([input]), steps, config)

    @override
    async def astream(
        self, input: str, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[Progress]:
        """See `stream`."""
        asked = self._asked(options)

        async def steps(
            questions: AsyncIterator[str], run_manager: AsyncCallbackManagerForChainRun
        ) -> AsyncIterator[Progress]:
            async for question in questions:
                async with aclosing(self._asteps(question, asked, run_manager)) as found:
                    async for step in found:
                        yield step

        # Closed from the inside out, so that leaving the stream cancels the research at once.
        stream: Any = self._atransform_stream_with_config(_one(input), steps, config)
        async with aclosing(stream):
            async for step in stream:
                yield step

    def as_research_tool(self, name: str = "deep_research", description: str | None = None) -> StructuredTool:
        """A tool that takes a `question` and gives the report; see `create_research_tool`."""
        return _tool(self, name, description or _DESCRIPTION)

    def _asked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        asked = {**self.options, **options}
        ResearchPlan.make(asked)
        return asked

    def _run(self, question: str, asked: Mapping[str, Any], tell: Callable[[ResearchEvent], object] | None) -> Research:
        link, address = self._where()
        client = link.blocking.with_options(**address) if address else link.blocking
        found: Research = client.deep_research(question, **{"on_progress": tell, **asked})
        return found

    async def _arun(
        self, question: str, asked: Mapping[str, Any], tell: Callable[[ResearchEvent], object] | None
    ) -> Research:
        link, address = self._where()
        client = link.asyncio.with_options(**address) if address else link.asyncio
        found: Research = await client.deep_research(question, **{"on_progress": tell, **asked})
        return found

    def _where(self) -> tuple[Any, dict[str, Any]]:
        """The link, and the ids that the scope sets."""
        link = self.retriever._linked()
        address = link.research_address(self.retriever.asked())
        return link, address

    def _steps(
        self, question: str, asked: Mapping[str, Any], run_manager: CallbackManagerForChainRun
    ) -> Iterator[Progress]:
        """The research runs in a thread, so that each event is given when it comes; it ends when nobody listens."""
        told: queue.SimpleQueue[Progress | BaseException] = queue.SimpleQueue()
        left = threading.Event()

        def tell(event: ResearchEvent) -> None:
            if left.is_set():
                raise GeneratorExit
            told.put(event)

        def run() -> None:
            try:
                with within(run_manager):
                    told.put(self._run(question, asked, tell))
            except BaseException as error:
                told.put(error)

        threading.Thread(target=contextvars.copy_context().run, args=(run,), name="rage-research", daemon=True).start()
        try:
            while True:
                step = told.get()
                if isinstance(step, BaseException):
                    raise step
                yield step
                if isinstance(step, Research):
                    return
        finally:
            left.set()

    async def _asteps(
        self, question: str, asked: Mapping[str, Any], run_manager: AsyncCallbackManagerForChainRun
    ) -> AsyncGenerator[Progress, None]:
        told: asyncio.Queue[ResearchEvent | None] = asyncio.Queue()
        with within(run_manager):  # the task copies this context
            task = asyncio.ensure_future(self._arun(question, asked, told.put_nowait))
        task.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (event := await told.get()) is not None:
                yield event
            yield await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _one(value: str) -> AsyncIterator[str]:
    yield value


_DESCRIPTION = (
    "Writes a report on a question from the document collection. Takes up to minutes; use it for questions that one "
    "search cannot answer."
)


class _ResearchInput(BaseModel):
    question: str = Field(description="The question to research, with all the detail that matters.", min_length=1)


def create_research_tool(
    retriever: VectorizeRetriever,
    *,
    name: str = "deep_research",
    description: str = _DESCRIPTION,
    **options: Unpack[ResearchCallOptions],
) -> StructuredTool:
    """A tool that takes a `question` and gives the report's markdown, with the whole research as a dict as artifact.

    Progress is streamed as the custom event `vectorize.research.progress` (`astream_events`), and inside LangGraph to
    `stream_mode="custom"`, as dicts with `research_id`, `polls`, `elapsed` and `ready`.
    """
    return _tool(VectorizeResearch(retriever=retriever, options=dict(options)), name, description)


def _tool(runnable: VectorizeResearch, name: str, description: str) -> StructuredTool:
    check_tool(name, description)

    def research(question: str) -> tuple[str, dict[str, Any]]:
        write = _graph_writer()
        for step in runnable.stream(question):
            if isinstance(step, Research):
                return step.markdown, step.model_dump(mode="json")
            write(_written(step))
            dispatch_custom_event(EVENT, step.model_dump())
        raise AssertionError("a stream ends with a research or an error")

    async def aresearch(question: str) -> tuple[str, dict[str, Any]]:
        write = _graph_writer()
        async for step in runnable.astream(question):
            if isinstance(step, Research):
                return step.markdown, step.model_dump(mode="json")
            write(_written(step))
            await adispatch_custom_event(EVENT, step.model_dump())
        raise AssertionError("a stream ends with a research or an error")

    return StructuredTool(
        name=name,
        description=description,
        func=research,
        coroutine=aresearch,
        args_schema=_ResearchInput,
        response_format="content_and_artifact",
    )


def _written(event: ResearchEvent) -> dict[str, Any]:
    return {"event": EVENT, **event.model_dump()}


def _graph_writer() -> Callable[[Any], object]:
    """LangGraph's writer of custom stream events, where there is a graph."""
    try:
        from langgraph.config import get_stream_writer

        return get_stream_writer()
    except (ImportError, RuntimeError, KeyError, AttributeError):
        return lambda _: None
