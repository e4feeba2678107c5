"""What the retriever and its calls take: names, aliases, search modes, and LangChain messages as context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
)
from pydantic import ValidationError

from .._checks import typed
from .._face import MadeFrom, SearchOptions
from .._keywords import unknown_keyword
from ..errors import ConfigurationError
from ..filters import Condition

Context: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any] | BaseMessage | tuple[str, str]] | None
RuntimeFilters: TypeAlias = Callable[[Any], Condition]


class CallOptions(SearchOptions, total=False):
    """What can be said per call. Leaving one out and giving None, False, 0.0 or [] are different things.

    `k` is `num_results`. `filters` takes `F(...)` expressions or raw filters. `mode`, `text_fields`, `match_type` and
    `text_boost` are the parts of `advanced_query`, typed. `context` takes LangChain messages, too; it switches the
    service's query rewriting on. `timeout` is the seconds of the whole call.
    """

    k: int
    num_results: int
    rerank: bool
    filters: Condition | None
    context: Context
    pipeline_id: str
    organization: str


class RetrieverOptions(MadeFrom, total=False):
    """What a retriever is made from. None stands for not given; then `VectorizeSettings` decides.

    Beside what a call takes: the connection, the policies (`resilience`), `listeners`, and your own `http_client` or
    `async_http_client`, which are never closed here. `runtime_filters` maps a LangGraph runtime's context to filters
    that nobody can widen.
    """

    k: int | None
    filters: Condition | None
    context: Context
    runtime_filters: RuntimeFilters | None
    name: str | None
    tags: list[str] | None
    metadata: dict[str, Any] | None


CALL_NAMES = frozenset(CallOptions.__annotations__)


def check_call(options: Mapping[str, Any]) -> None:
    """Raise TypeError for a keyword nobody reads: dropping one in silence could return unfiltered data."""
    if not options.keys() <= CALL_NAMES:
        raise unknown_keyword(next(name for name in options if name not in CALL_NAMES), sorted(CALL_NAMES))


def init_or_refuse(init: Callable[..., None], given: Mapping[str, Any]) -> None:
    """Call the `__init__` of a class of LangChain's; what pydantic says of its fields (`name`) is said in our error."""
    try:
        init(**given)
    except ValidationError as invalid:
        wrong = invalid.errors(include_url=False, include_context=False)[0]
        name = wrong["loc"][0] if wrong["loc"] else "a field"
        raise ConfigurationError(f"{name} is {typed(wrong['input'])}; {wrong['msg']}.") from None


def as_context(value: Any) -> Any:
    """`context` as the service reads it: LangChain messages become `{"role", "content"}`.

    Messages without text, and a tool's answers, are left out: they are no part of a conversation. What holds no
    LangChain message is given back as it is.
    """
    messages = value.get("messages") if isinstance(value, Mapping) else value
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        return value
    if all(isinstance(message, Mapping) for message in messages):
        return value
    spoken = [turn for message in messages if (turn := _turn(message)) is not None]
    return {**value, "messages": spoken} if isinstance(value, Mapping) else {"messages": spoken}


def with_context(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with their `context`, where there is one, as the service reads it."""
    if "context" in values:
        values["context"] = as_context(values["context"])
    return values


_ROLES: tuple[tuple[type[BaseMessage], str], ...] = (
    (HumanMessage, "user"), (AIMessage, "assistant"), (SystemMessage, "system"),
)  # fmt: skip


def _turn(message: Any) -> Any:
    if isinstance(message, Mapping):
        return message
    if not isinstance(message, BaseMessage):
        try:
            (message,) = convert_to_messages([message])
        except (ValueError, NotImplementedError):
            return message  # Query says what is wrong with it
    role = message.role if isinstance(message, ChatMessage) else _role(message)
    text = message_text(message)
    return {"role": role, "content": text} if role and text.strip() else None


def _role(message: BaseMessage) -> str | None:
    return next((role for kind, role in _ROLES if isinstance(message, kind)), None)


def message_text(message: BaseMessage) -> str:
    """The text of a message; blocks that are no text (images, tool calls) are left out."""
    if isinstance(message.content, str):
        return message.content
    parts = (part if isinstance(part, str) else part.get("text", "") for part in message.content)
    return "".join(part for part in parts if isinstance(part, str))
