"""The two clients: one set of operations (`_calls`), driven in blocking code or in asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from typing_extensions import Unpack

from ._calls import Calls
from ._checks import typed
from ._closing import AsyncClosing, Closing
from ._flow import adrive, drive
from ._options import ClientOptions, QueryOptions, ResearchOptions
from ._world import AsyncioWorld, BlockingWorld
from .errors import ConfigurationError
from .models import PipelineStatus, Research, Retrieval

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncVectorizeClient", "ClientOptions", "QueryOptions", "ResearchOptions", "VectorizeClient"]


class _Client:
    """What both clients are: a connection that can be shown without its token."""

    _calls: Calls
    _closed = False

    def __repr__(self) -> str:
        base_url, organization, pipeline_id = self._calls.connection.address.target
        engine = self._calls.connection.engines.name
        return f"{type(self).__name__}({base_url}, {organization=}, {pipeline_id=}, {engine=})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{type(self).__name__} holds a token and is not pickled; make it where it is needed")

    def _open(self) -> Calls:
        if self._closed:
            raise ConfigurationError(f"This {type(self).__name__} is closed; make a new one.")
        return self._calls


def check_own(http_client: object, kind: str, name: str = "http_client") -> None:
    """Raise ConfigurationError for what is no client of httpx's, or is one of the other world."""
    import httpx

    if not isinstance(http_client, getattr(httpx, kind)):
        raise ConfigurationError(f"{name} is {typed(http_client)}; an httpx.{kind} is needed here.")


class VectorizeClient(Closing, _Client):
    """Asks a Vectorize pipeline in blocking code; safe to share between threads.

    See `ClientOptions` for what it takes; what is left out comes from `VectorizeSettings`. `http_client` is your own
    `httpx.Client`, never closed here. Raises ConfigurationError when a token, an organization or a pipeline is missing
    or an address cannot be used, TypeError for an unknown keyword.
    """

    def __init__(self, *, http_client: httpx.Client | None = None, **options: Unpack[ClientOptions]) -> None:
        self._bind(Calls.make(options), http_client)

    @classmethod
    def over(cls, calls: Calls, http_client: httpx.Client | None = None) -> Self:
        """A client over operations that exist already, as the retrievers have them."""
        client = cls.__new__(cls)
        client._bind(calls, http_client)
        return client

    def _bind(self, calls: Calls, http_client: httpx.Client | None) -> None:
        self._calls = calls
        self._http_client = http_client
        if http_client is None:
            self._engine = calls.connection.engines.blocking()
        else:
            from .engines.own_client import OwnClientEngine

            check_own(http_client, "Client")
            self._engine = OwnClientEngine(http_client)
        self._world = BlockingWorld(self._engine)

    def retrieve(self, question: str, **options: Unpack[QueryOptions]) -> Retrieval:
        """The passages for a question, best first.

        An option given here wins over the client's, whatever its value. Raises ConfigurationError or TypeError before
        anything is sent, and else any `RageError`.
        """
        return drive(self._open().retrieve(self._world, question, options), self._world)

    def pipeline(self) -> PipelineStatus:
        """The pipeline's status; a cheap probe, which costs no retrieval."""
        return drive(self._open().pipeline(self._world), self._world)

    def deep_research(self, query: str, **options: Unpack[ResearchOptions]) -> Research:
        """Start a deep research and wait until it is ready; `on_progress` is called after each poll.

        Raises ResearchFailedError when the service says so, DeadlineExceededError after `timeout` seconds.
        """
        return drive(self._open().deep_research(self._world, query, options), self._world)

    def with_options(self, **options: Unpack[ClientOptions]) -> Self:
        """A cheap copy with these options changed; it shares connections, circuit and budget."""
        return self.over(self._open().with_options(options), self._http_client)

    def close(self) -> None:
        """Close the idle connections; the client answers no more. Your own `http_client` stays open."""
        self._closed = True
        self._engine.close()


class AsyncVectorizeClient(AsyncClosing, _Client):
    """Asks a Vectorize pipeline in asyncio; safe to share between tasks and, one after the other, event loops.

    The twin of `VectorizeClient`; `http_client` is your own `httpx.AsyncClient`, never closed here.
    """

    def __init__(self, *, http_client: httpx.AsyncClient | None = None, **options: Unpack[ClientOptions]) -> None:
        self._bind(Calls.make(options), http_client)

    @classmethod
    def over(cls, calls: Calls, http_client: httpx.AsyncClient | None = None) -> Self:
        """A client over operations that exist already, as the retrievers have them."""
        client = cls.__new__(cls)
        client._bind(calls, http_client)
        return client

    def _bind(self, calls: Calls, http_client: httpx.AsyncClient | None) -> None:
        self._calls = calls
        self._http_client = http_client
        if http_client is None:
            self._engine = calls.connection.engines.asyncio()
        else:
            from .engines.own_client import AsyncOwnClientEngine

            check_own(http_client, "AsyncClient")
            self._engine = AsyncOwnClientEngine(http_client)
        self._world = AsyncioWorld(self._engine)

    async def retrieve(self, question: str, **options: Unpack[QueryOptions]) -> Retrieval:
        """See `VectorizeClient.retrieve`."""
        return await adrive(self._open().retrieve(self._world, question, options), self._world)

    async def pipeline(self) -> PipelineStatus:
        """See `VectorizeClient.pipeline`."""
        return await adrive(self._open().pipeline(self._world), self._world)

    async def deep_research(self, query: str, **options: Unpack[ResearchOptions]) -> Research:
        """See `VectorizeClient.deep_research`."""
        return await adrive(self._open().deep_research(self._world, query, options), self._world)

    def with_options(self, **options: Unpack[ClientOptions]) -> Self:
        """See `VectorizeClient.with_options`."""
        return self.over(self._open().with_options(options), self._http_client)

    async def aclose(self) -> None:
        """Close the idle connections of this event loop; the client answers no more."""
        self._closed = True
        await self._engine.aclose()
