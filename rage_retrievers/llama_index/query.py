"""What a LlamaIndex user asks with: a `QueryBundle` that carries overrides, `MetadataFilters`, chat messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.schema import QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters
from typing_extensions import Unpack

from .._face import Overrides, RetrieverOptions, known_names
from ..filters import Condition
from ..models import Message
from .filters import from_metadata_filters

__all__ = ["Options", "QueryOverrides", "VectorizeQuery", "to_context", "translated"]


class QueryOverrides(Overrides, total=False):
    """What one question can ask for beside the retriever's values; a name left out leaves those as they are."""

    filters: Condition | MetadataFilters | None  # type: ignore[misc]  # LlamaIndex's own filters, too
    context: Mapping[str, Any] | Sequence[Message | ChatMessage] | None  # type: ignore[misc]


class Options(RetrieverOptions, total=False):
    """What the retriever takes; see `ClientOptions` and `QueryOverrides`."""

    filters: Condition | MetadataFilters | None  # type: ignore[misc]
    context: Mapping[str, Any] | Sequence[Message | ChatMessage] | None  # type: ignore[misc]


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
        known_names(self.overrides, per_call=True)


def translated(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with LlamaIndex's filters and messages in the service's terms."""
    found = dict(options)
    if isinstance(filters := found.get("filters"), MetadataFilters):
        found["filters"] = from_metadata_filters(filters)
    context = found.get("context")
    if isinstance(context, list | tuple) and any(isinstance(message, ChatMessage) for message in context):
        found["context"] = to_context(context)
    return found


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
    said = [one for message in messages if (one := _message(message)) is not None]
    return {"messages": said} if said else None


def _message(message: ChatMessage | Message) -> Message | None:
    if not isinstance(message, ChatMessage):
        return message
    role, content = _SPOKEN.get(message.role), message.content
    return {"role": role, "content": content} if role and content and content.strip() else None
