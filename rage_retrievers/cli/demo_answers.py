"""The same question through a LangChain chain and a LlamaIndex query engine, as a user would write them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from .passages import Passage, chunk_of, source_of

T = TypeVar("T")

PROMPT = "Answer from the context alone.\n\nContext:\n{context}\n\nQuestion: {question}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came out of one framework, and how long it took; seconds."""

    framework: str
    how: str
    passages: tuple[Passage, ...]
    first: float
    again: float
    ended: str
    prompt: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "framework": self.framework,
            "how": self.how,
            "passages": [passage.as_dict() for passage in self.passages],
            "first_ms": round(self.first * 1000, 3),
            "again_ms": round(self.again * 1000, 3),
            "ended": self.ended,
            "prompt": self.prompt,
        }


def need_both_frameworks() -> None:
    """Raise an error that names the extra to install where a framework is missing."""
    for face in ("langchain", "llama_index"):
        import_module(f"rage_retrievers.{face}.retriever")


def ask_langchain(question: str, number: int, base_url: str) -> Answer:
    """Through an LCEL chain: retriever, then prompt, and no model after it."""
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnablePassthrough

    from ..langchain import VectorizeRetriever

    retriever = VectorizeRetriever(k=number, base_url=base_url)
    prompt = RunnablePassthrough.assign(context=_context) | ChatPromptTemplate.from_template(PROMPT)
    chain = {"documents": retriever, "question": RunnablePassthrough()} | RunnablePassthrough.assign(prompt=prompt)
    answer, first = _timed(lambda: chain.invoke(question))
    _, again = _timed(lambda: chain.invoke(question))
    found = [
        Passage(
            document.metadata.get("score"),
            source_of(document.metadata),
            document.page_content,
            chunk_of(document.metadata),
        )
        for document in answer["documents"]
    ]
    return Answer(
        framework="LangChain",
        how='{"documents": retriever, "question": RunnablePassthrough()} | prompt',
        passages=tuple(found),
        first=first,
        again=again,
        ended="No chat model is configured, so the chain ends in the assembled prompt.",
        prompt=answer["prompt"].to_string(),
    )


def ask_llama_index(question: str, number: int, base_url: str) -> Answer:
    """Through a query engine that synthesizes nothing."""
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.response_synthesizers.no_text import NoText

    from ..llama_index import VectorizeRetriever

    retriever = VectorizeRetriever(similarity_top_k=number, base_url=base_url)
    # A synthesizer insists on some model; NO_TEXT never asks it.
    engine = RetrieverQueryEngine(retriever, response_synthesizer=NoText(llm=MockLLM()))
    answer, first = _timed(lambda: engine.query(question))
    _, again = _timed(lambda: engine.query(question))
    found = [
        Passage(node.score, source_of(node.node.metadata), node.node.get_content(), chunk_of(node.node.metadata))
        for node in answer.source_nodes
    ]
    return Answer(
        framework="LlamaIndex",
        how="RetrieverQueryEngine(retriever, response_synthesizer=NoText())",
        passages=tuple(found),
        first=first,
        again=again,
        ended="No model is configured, so the query engine ends in its source nodes (no_text).",
    )


def _context(values: dict[str, Any]) -> str:
    return "\n\n".join(f"[{source_of(d.metadata)}]\n{d.page_content}" for d in values["documents"])


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    value = work()
    return value, time.perf_counter() - started
