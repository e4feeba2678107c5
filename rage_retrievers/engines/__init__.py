"""Who performs a request: httpx, the caller's own client, or the embedded pipeline; by name, or as a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._checks import typed
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .._world import AsyncEngine, Engine

__all__ = ["ENGINES", "Engines", "embedded", "engines_named"]


@dataclass(frozen=True, slots=True)
class Engines:
    """How to make the engine of each world; each is made on first use."""

    name: str
    blocking: Callable[[], Engine]
    asyncio: Callable[[], AsyncEngine]
    identity: str = ""
    """Tells one embedded pipeline from another; empty for engines that go where the address says."""


def _httpx() -> Engines:
    from .httpx import async_engine, engine

    return Engines("httpx", engine, async_engine)


def _httptools() -> Engines:
    try:
        from .httptools import async_engine, engine
    except ImportError as missing:
        raise ConfigurationError(
            'engine="httptools" needs the extra `fast`: pip install "rage-retrievers[fast]"'
        ) from missing
    return Engines("httptools", engine, async_engine)


ENGINES: dict[str, Callable[[], Engines]] = {"httpx": _httpx, "httptools": _httptools}
"""The engines that can be named in `engine=` and `RAGE_ENGINE`."""


def engines_named(name: object) -> Engines:
    """The engines of that name. Raises ConfigurationError for a name nobody has, and for what is no name."""
    known = " or ".join(map(repr, ENGINES))
    if not isinstance(name, str):
        raise ConfigurationError(f"engine is {typed(name)}; give {known}, or an Engines of your own.")
    if name not in ENGINES:
        raise ConfigurationError(f"engine={name!r} is not known; give {known}.")
    return ENGINES[name]()


def embedded(
    folder: str,
    *,
    organization: str | None = None,
    pipeline_id: str | None = None,
    embedding: object | None = None,
    reranker: Callable[[str, list[str]], list[float]] | None = None,
) -> Engines:
    """The embedded pipeline over a folder of documents, answering in this process (extra `local`).

    `embedding` takes a LangChain `Embeddings` or a LlamaIndex `BaseEmbedding` in place of the built-in one; `reranker`
    scores (question, texts). Raises ConfigurationError for a folder that cannot be used. The folder is indexed at the
    first request.
    """
    from ._embedded import open_embedded

    return open_embedded(
        folder, organization=organization, pipeline_id=pipeline_id, embedding=embedding, reranker=reranker
    )
