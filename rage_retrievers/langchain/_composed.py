"""Which retrievers answer in the end, when one is composed of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable

from .._checks import typed
from ..errors import ConfigurationError
from .retriever import VectorizeRetriever


def check_retriever(given: object) -> None:
    """Raise ConfigurationError for what cannot be asked, while it is given."""
    if not isinstance(given, Runnable):
        raise ConfigurationError(
            f"retriever is {typed(given)}; give a VectorizeRetriever, or another retriever of LangChain's."
        )


def retrievers_in(value: Any, _seen: frozenset[int] = frozenset()) -> list[BaseRetriever]:
    """The retrievers inside of an ensemble, a compression, a binding or a chain; one that holds none is one itself."""
    if isinstance(value, VectorizeRetriever):
        return [value]
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, Runnable) and id(value) not in _seen:
        parts = list(vars(value).values())
    else:
        return []
    seen = _seen | {id(value)}
    found = [one for part in parts for one in retrievers_in(part, seen)]
    return [value] if not found and isinstance(value, BaseRetriever) else found
