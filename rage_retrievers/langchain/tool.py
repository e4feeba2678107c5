"""A search tool for agents: a clean query, filters from an allow-list, numbered sources within a token budget."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from langchain_core.documents import Document
from langchain_core.tools import StructuredTool, ToolException
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, create_model
from typing_extensions import TypedDict

from .._checks import shown, typed
from .._face import check_tool, shaping
from ..context import Budget, Deduplicate, Policy, Style, estimate_tokens, render, select
from ..context.policies import checked
from ..errors import ConfigurationError, RageError
from ..filters import F, Filter
from ..filters.expressions import as_scalar
from ..scope import scope
from ._composed import check_retriever, retrievers_in
from .retriever import VectorizeRetriever

if TYPE_CHECKING:
    from langchain_core.retrievers import BaseRetriever

AllowedFilters: TypeAlias = Mapping[str, Any] | Sequence[str]

_DESCRIPTION = (
    "Searches the document collection and returns numbered passages with their sources. "
    "Ask one question in plain words; cite passages by their number, as in [1]."
)
_NOTHING = "No passages were found."
_TOO_LARGE = "Passages were found, but even the best of them does not fit; ask something more specific."


class ToolOptions(TypedDict, total=False):
    """What shapes the tool; see `create_vectorize_tool`."""

    name: str
    description: str
    filters: AllowedFilters
    max_tokens: int
    count_tokens: Callable[[str], int]
    style: Style
    policies: Sequence[Policy]
    tell_errors: bool


def create_vectorize_tool(
    retriever: BaseRetriever,
    *,
    name: str = "search_documents",
    description: str = _DESCRIPTION,
    filters: AllowedFilters = (),
    max_tokens: int | None = None,
    count_tokens: Callable[[str], int] = estimate_tokens,
    style: Style | None = None,
    policies: Sequence[Policy] = (Deduplicate(),),
    tell_errors: bool = False,
) -> StructuredTool:
    """A tool that takes a `query` and gives numbered passages as content and the `Document`s as artifact.

    `filters` names the metadata fields that the model may filter by, with the type of their values where it is not
    text: `{"year": int, "type": Literal["pdf", "html"]}`. Each is an argument that takes one value or a list
    of them. What the model asks for is ANDed with every other filter, so it can only narrow; a retriever that would
    pass over such filters is refused. Passages go through `policies`, and the best of them that fit into `max_tokens`
    are told; a text cannot break out of its delimiters. `max_tokens` and `style` are those of the settings
    (RAGE_MAX_TOKENS without RAGE_TOKEN_BUFFER, and RAGE_FORMAT_STYLE) unless given. With `tell_errors` a
    failed search is told to the model; else it raises.
    """
    check_retriever(retriever)
    check_tool(name, description)
    if not isinstance(tell_errors, bool):
        raise ConfigurationError(f"tell_errors = {shown(tell_errors)} cannot be used; use True or False.")
    allowed = _allowed(filters)
    if allowed:
        _check_heeded(retriever)
    tokens, written = shaping(retriever, max_tokens, style)
    chosen = (*checked(policies), Budget(tokens, count_tokens, style=written))
    search = _Search(retriever, allowed, chosen, written, tell_errors)
    return StructuredTool(
        name=name,
        description=description,
        func=search.blocking,
        coroutine=search.asyncio,
        args_schema=_schema(name, allowed),
        response_format="content_and_artifact",
        handle_tool_error=tell_errors,
    )


@dataclass(frozen=True, slots=True)
class _Search:
    """What the tool does when it is called."""

    retriever: BaseRetriever
    allowed: Mapping[str, tuple[str, Any]]
    policies: Sequence[Policy]
    style: Style
    tells_errors: bool

    # No config is passed on: the one in the context makes the retrieval a child of the tool's run.
    def blocking(self, query: str, **asked: Any) -> tuple[str, list[Document]]:
        with self._telling(), _narrowed(self.allowed, asked):
            return self._answer(self.retriever.invoke(query))

    async def asyncio(self, query: str, **asked: Any) -> tuple[str, list[Document]]:
        with self._telling(), _narrowed(self.allowed, asked):
            return self._answer(await self.retriever.ainvoke(query))

    def _answer(self, documents: list[Document]) -> tuple[str, list[Document]]:
        kept = select(documents, *self.policies).passages
        if not kept:
            return (_TOO_LARGE if documents else _NOTHING), []
        return render(kept, self.style), [one.original for one in kept]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except RageError as error:
            if not self.tells_errors:
                raise
            raise ToolException(f"The search failed: {error}") from error


def _allowed(filters: AllowedFilters) -> dict[str, tuple[str, Any]]:
    """From the name of an argument to the field and the type of its values."""
    if isinstance(filters, str) or not isinstance(filters, Mapping | Sequence):
        raise ConfigurationError(
            f"filters of type {type(filters).__name__} cannot be used; name the fields: ['type'] or {{'year': int}}."
        )
    kinds = filters if isinstance(filters, Mapping) else dict.fromkeys(filters, str)
    found: dict[str, tuple[str, Any]] = {}
    for field, kind in kinds.items():
        argument = re.sub(r"\W+", "_", str(field)).strip("_").lower()
        if not argument or argument[0].isdigit() or argument in {"query", "callbacks", "config", "run_manager", *found}:
            raise ConfigurationError(f"filters field = {field!r} makes no argument of its own; leave it out.")
        found[argument] = (field, kind)
    return found


def _check_heeded(retriever: BaseRetriever) -> None:
    """Refuse filters that a retriever would pass over: the model would take all it finds for what it asked for."""
    for one in retrievers_in(retriever):
        if not isinstance(one, VectorizeRetriever):
            raise ConfigurationError(
                f"filters cannot be used with {typed(one)}, which would pass over them; use a "
                "VectorizeRetriever or a composition of such retrievers, or leave filters out."
            )


def _schema(name: str, allowed: Mapping[str, tuple[str, Any]]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        argument: (
            _several(field, kind) | None,
            Field(default=None, description=f"Only passages whose {field} is one of these; leave out for all."),
        )
        for argument, (field, kind) in allowed.items()
    }
    words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    query = (words, Field(description="What to look for, as a question or key words."))
    # What no filter or query could be is told to the model, and not raised when it searches.
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    return create_model(f"{name}_input", __config__=config, query=query, **fields)


def _several(field: str, kind: Any) -> Any:
    """The type of an argument: a list of such values, where one alone is taken for a list of one."""
    (one,) = get_args(kind) if get_origin(kind) is list else (kind,)
    if not _is_type(one):
        raise ConfigurationError(
            f"filters field {field!r} = {shown(kind)} is no type; use str, int, float, bool or a Literal of values."
        )
    return Annotated[list[one], BeforeValidator(_listed)]  # type: ignore[valid-type]  # known when the tool is made


def _is_type(kind: Any) -> bool:
    """Whether a filter can hold the values of such an argument; of a date, say, none can."""
    kind = getattr(kind, "__supertype__", getattr(kind, "__value__", kind))  # of a NewType, of an alias
    if get_origin(kind) in (Annotated, UnionType, Union):
        return all(map(_is_type, get_args(kind)[: 1 if get_origin(kind) is Annotated else None]))
    if get_origin(kind) is Literal:
        return all(as_scalar(value) is not None for value in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return all(as_scalar(value) is not None for value in kind)
    return isinstance(kind, type) and issubclass(kind, str | int | float | bool)


def _listed(given: object) -> object:
    return given if given is None or isinstance(given, list | tuple | set | frozenset) else [given]


def _narrowed(allowed: Mapping[str, tuple[str, Any]], asked: Mapping[str, Any]) -> Any:
    """The scope in which the model's filters hold; nothing where it asked for none."""
    chosen: Filter | None = None
    for argument, values in asked.items():
        if values:
            one = F(allowed[argument][0]).in_(values)
            chosen = one if chosen is None else chosen & one
    return nullcontext() if chosen is None else scope(filters=chosen, locked=True)
