"""What a LlamaIndex user asks with: a `QueryBundle` that carries overrides, `MetadataFilters`, chat messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.schema import QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters
from typing_extensions import Unpack

from .._checks import typed
from .._face import MadeFrom, SearchOptions, folded
from .._keywords import unknown_keyword
from ..errors import ConfigurationError
from ..filters import Condition
from ..models import Message
from .filters import from_metadata_filters

__all__ = [
    "CALL_NAMES",
    "NAMES",
    "Context",
    "QueryOverrides",
    "RetrieverOptions",
    "VectorizeQuery",
    "to_context",
    "translated",
]

Context: TypeAlias = Mapping[str, Any] | Sequence[Message | ChatMessage] | None


class QueryOverrides(SearchOptions, total=False):
    """What can be said per question. Leaving one out and giving None, False, 0.0 or [] are different things.

    `similarity_top_k` is `num_results`. `filters` takes `MetadataFilters`, `F(...)` expressions or raw filters. `mode`,
    `text_fields`, `match_type` and `text_boost` are the parts of `advanced_query`, typed. `context` takes a list of
    `ChatMessage`, too; it switches the service's query rewriting on. `timeout` is the seconds of the whole call.
    """

    num_results: int
    similarity_top_k: int
    rerank: bool
    filters: MetadataFilters | Condition | None
    context: Context
    pipeline_id: str
    organization: str


class RetrieverOptions(MadeFrom, total=False):
    """What a retriever is made from. None stands for not given; then `VectorizeSettings` decides.

    Beside what a query takes: the connection, the policies (`resilience`), `listeners`, and your own `http_client` or
    `async_http_client`, which are never closed here.
    """

    similarity_top_k: int | None
    filters: MetadataFilters | Condition | None
    context: Context


CALL_NAMES = frozenset(QueryOverrides.__annotations__)
NAMES = frozenset(RetrieverOptions.__annotations__) - {"api_token", "similarity_top_k"}


@dataclass(init=False)
class VectorizeQuery(QueryBundle):
    """A question with overrides for this one call: `VectorizeQuery("Which?", similarity_top_k=2, rerank=True)`.

    A query engine, a router and `retrieve` hand it on as it is; whatever writes a question of its own (chat engines,
    query generation, sub-questions) makes a plain one: use `rage_retrievers.scope` there.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __init__(
        self,
        query_str: str,
        image_path: str | None = None,
        custom_embedding_strs: list[str] | None = None,
        embedding: list[float] | None = None,
        overrides: Mapping[str, Any] | None = None,
        **more: Unpack[QueryOverrides],
    ) -> None:
        super().__init__(query_str, image_path, custom_embedding_strs, embedding)
        self.overrides = {**(overrides or {}), **more}
        for name in self.overrides:
            if name not in CALL_NAMES:
                raise unknown_keyword(name, sorted(CALL_NAMES))


def translated(options: Mapping[str, Any], base: Any) -> dict[str, Any]:
    """The options in the core's terms; `base` is the `advanced_query` that typed search options are put upon."""
    found = dict(options)
    if isinstance(filters := found.get("filters"), MetadataFilters):
        found["filters"] = from_metadata_filters(filters)
    context = found.get("context")
    if isinstance(context, list | tuple) and any(isinstance(message, ChatMessage) for message in context):
        found["context"] = to_context(context)
    return folded(found, base)


_SPOKEN = {
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
}


def to_context(messages: Sequence[ChatMessage | Message]) -> dict[str, Any] | None:
    """The conversation as the service reads it, None if nobody said a word yet.

    Messages without text, and a tool's answers, are left out: they are no part of a conversation.
    """
    _check(messages)
    said = [one for message in messages if (one := _message(message)) is not None]
    return {"messages": said} if said else None


def _check(messages: object) -> None:
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise ConfigurationError(f"messages is {typed(messages)}; give a list of messages, such as a chat's history.")


def _message(message: ChatMessage | Message) -> Message | None:
    if not isinstance(message, ChatMessage):
        return message
    role, content = _SPOKEN.get(message.role), message.content
    return {"role": role, "content": content} if role and content and content.strip() else None
