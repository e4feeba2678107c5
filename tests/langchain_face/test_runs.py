"""LangChain's own run around a retrieval: made for whoever hears of it, and left out where nobody does."""

from __future__ import annotations

import os
import subprocess
import sys
from contextvars import ContextVar
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.context import _configure_hooks, register_configure_hook

from rage_retrievers.langchain import VectorizeRetriever

from .conftest import Ask, Recorder, in_loop


class Heard(BaseCallbackHandler):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_retriever_start(self, serialized: Any, query: str, **_: Any) -> None:
        self.told.append("start")

    def on_retriever_end(self, documents: Any, **_: Any) -> None:
        self.told.append(f"end {len(documents)}")

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self.told.append(type(error).__name__)


def test_nobody_listens_no_run_is_made(service: Recorder, ask: Ask) -> None:
    """Where no callback would hear of it, LangChain's bookkeeping of a run costs a call nothing."""
    started = mock.Mock(side_effect=AssertionError("a run that nobody hears of"))
    with (
        mock.patch.object(CallbackManager, "on_retriever_start", started),
        mock.patch.object(AsyncCallbackManager, "on_retriever_start", started),
    ):
        assert len(ask(service.retriever(), "q")) == 1


def test_who_comes_later_hears_of_the_next_call(service: Recorder, ask: Ask) -> None:
    """LangChain is asked at each call: a hook that is registered between two calls hears of the second."""
    variable: ContextVar[BaseCallbackHandler | None] = ContextVar("late", default=None)
    register_configure_hook(variable, inheritable=True)
    try:
        retriever, heard = service.retriever(), Heard()
        ask(retriever, "unheard")
        token = variable.set(heard)
        ask(retriever, "heard")
        variable.reset(token)
        ask(retriever, "unheard again")
    finally:
        _configure_hooks.pop()
    assert heard.told == ["start", "end 1"]


def test_callbacks_of_the_chain_around_are_told(service: Recorder) -> None:
    """A callback given to a chain hears of the retrieval inside it, in both worlds."""
    heard = Heard()
    chain = service.retriever() | (lambda found: found)
    chain.invoke("q", {"callbacks": [heard]})
    in_loop(lambda: chain.ainvoke("q", {"callbacks": [heard]}))
    assert heard.told == ["start", "end 1"] * 2


def test_callbacks_around_are_told_of_a_call_that_names_none(service: Recorder) -> None:
    """A function within a chain calls the retriever with no config: the chain's callbacks hear of it all the same."""
    heard, retriever = Heard(), service.retriever()

    def blocking(question: str) -> list[Document]:
        return retriever.invoke(question)

    async def native(question: str) -> list[Document]:
        return await retriever.ainvoke(question)

    RunnableLambda(blocking).invoke("q", {"callbacks": [heard]})
    in_loop(lambda: RunnableLambda(native).ainvoke("q", {"callbacks": [heard]}))
    assert heard.told == ["start", "end 1"] * 2


def test_verbose_is_a_runs_own_keyword(service: Recorder) -> None:
    """`verbose` and `run_id` go to LangChain's run, and no further."""
    own: Any = {"verbose": True, "run_id": uuid4()}
    assert service.retriever().invoke("q", **own)
    assert service.body == {"question": "q", "numResults": 5, "rerank": False}


def test_a_subclass_gets_the_run_with_its_tags(service: Recorder) -> None:
    """Whoever overrides the hook may hand the run on, so it is LangChain's own, with tags and metadata."""
    seen: list[Any] = []

    class Own(VectorizeRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any, **options: Any) -> list[Document]:
            seen.append(run_manager)
            return super()._get_relevant_documents(query, run_manager=run_manager, **options)

    clients: Any = {"http_client": service.client}
    own = Own(api_key="t", organization="o", pipeline_id="p", tags=["mine"], **clients)
    own.invoke("q", {"tags": ["theirs"]})
    assert set(seen[0].tags) == {"mine", "theirs"}


def test_each_unheard_call_has_an_id_of_its_own(service: Recorder, ask: Ask) -> None:
    """Where the application has set no id, each call sends another, run or no run."""
    from rage_retrievers.observability.correlation import correlation_id

    token = correlation_id.set(None)
    try:
        ask(service.retriever(), "q")
        ask(service.retriever(), "q")
    finally:
        correlation_id.reset(token)
    first, second = (request.headers["x-request-id"] for request in service.requests)
    assert first.startswith("rage-")
    assert first != second


def test_langsmith_traces_by_the_environment(service: Recorder) -> None:
    """LANGSMITH_TRACING makes a run of each call, with nothing said in code."""
    script = "from rage_retrievers.langchain._runs import is_heard\nprint(is_heard(None))"
    environment = {**os.environ, "LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": "none"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
