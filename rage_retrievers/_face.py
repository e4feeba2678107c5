"""What the retrievers of both frameworks stand on: one merge of what is asked, and two clients made when first used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._calls import Calls, ClientOptions, QueryOptions
from .client import AsyncVectorizeClient, VectorizeClient
from .errors import ConfigurationError
from .filters import Condition
from .models import Query, unknown_keyword
from .scope import Scope, effective

if TYPE_CHECKING:
    import httpx

__all__ = ["Clients", "Overrides", "RetrieverOptions", "known_names"]


class Overrides(QueryOptions, total=False):
    """What one call can ask for; `k` and `similarity_top_k` are other names of `num_results`."""

    k: int
    similarity_top_k: int
    filters: Condition | None


class RetrieverOptions(ClientOptions, total=False):
    """What a retriever is made from: a client's options and the defaults of its calls."""

    k: int
    similarity_top_k: int
    filters: Condition | None
    http_client: httpx.Client | None
    async_http_client: httpx.AsyncClient | None


_ALIASES = {"k": "num_results", "similarity_top_k": "num_results"}
_ADDRESS = ("pipeline_id", "organization")
_CALL_NAMES = frozenset(Overrides.__annotations__)
_NAMES = frozenset(RetrieverOptions.__annotations__)
_BOUND_TO_PROCESS = ("http_client", "async_http_client")
_NOWHERE = Scope()


def known_names(given: Mapping[str, Any], *, per_call: bool = False) -> None:
    """Raise TypeError for a name that no retriever, or with `per_call` no call, knows."""
    known = _CALL_NAMES if per_call else _NAMES
    for name in given:
        if name not in known:
            raise unknown_keyword(name, sorted(known))


class Clients:
    """Both clients of one pipeline, over the same operations; what a retriever holds and asks.

    Connections, circuits and permits are the process's, so a copy costs nothing. A pickle holds no token: where it is
    read, the token comes from the settings again. Raises ConfigurationError or TypeError for what cannot be used.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        known_names(options)
        self._options = {name: value for name, value in options.items() if value is not None or name in _CALL_NAMES}
        self.asked = {name: value for name, value in self._options.items() if name in _CALL_NAMES - set(_ADDRESS)}
        self._calls: Calls | None = self._made()
        self._closed = False
        self._blocking: VectorizeClient | None = None
        self._asyncio: AsyncVectorizeClient | None = None

    def _made(self) -> Calls:
        Query.make({"question": "?", **effective({}, self.asked, _NOWHERE)})
        apart = {*self.asked, *_BOUND_TO_PROCESS}
        return Calls.make({name: value for name, value in self._options.items() if name not in apart})

    @property
    def calls(self) -> Calls:
        """The operations. Raises ConfigurationError once closed, or where an unpickled copy finds no token."""
        if self._closed:
            raise ConfigurationError("This retriever is closed; make a new one.")
        if self._calls is None:
            self._calls = self._made()
        return self._calls

    @property
    def blocking(self) -> VectorizeClient:
        """The client for blocking code."""
        calls = self.calls
        if self._blocking is None:
            self._blocking = VectorizeClient.over(calls, self._options.get("http_client"))
        return self._blocking

    @property
    def asyncio(self) -> AsyncVectorizeClient:
        """The client for asyncio."""
        calls = self.calls
        if self._asyncio is None:
            self._asyncio = AsyncVectorizeClient.over(calls, self._options.get("async_http_client"))
        return self._asyncio

    def query(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """What one call asks: the retriever's values < the current scope < the call's, with the scope's locks."""
        known_names(overrides, per_call=True)
        return effective(overrides, self.asked)

    def value(self, name: str) -> Any:
        """What a call asks for under this canonical name, where scope and call say nothing."""
        return effective({}, self.asked, _NOWHERE).get(name, self.calls.defaults.get(name))

    def shown(self) -> str:
        """The pipeline, for a `repr`; never the token."""
        if self._calls is None:
            return "unpickled, not asked yet"
        base_url, organization, pipeline_id = self._calls.connection.address.target
        return f"{base_url}, {organization=}, {pipeline_id=}"

    def with_options(self, changed: Mapping[str, Any]) -> Clients:
        """A copy with these options changed."""
        dropped = {name for name, canonical in _ALIASES.items() if name in changed or canonical in changed}
        dropped |= {"num_results"} if dropped else set()
        if "api_key" in changed or "api_token" in changed:
            dropped |= {"api_key", "api_token"}
        kept = {name: value for name, value in self._options.items() if name not in dropped}
        return Clients({**kept, **changed})

    def copy(self) -> Clients:
        """A copy that is closed on its own, and shares everything else."""
        twin = Clients.__new__(Clients)
        twin.__dict__.update(self.__dict__, _blocking=None, _asyncio=None)
        return twin

    def close(self) -> None:
        """Answer no more, and close the idle connections of blocking code."""
        if not self._closed and self._calls is not None:
            self.blocking.close()
        self._closed = True

    async def aclose(self) -> None:
        """Answer no more, and close idle connections, those of the running event loop included."""
        if not self._closed and self._calls is not None:
            await self.asyncio.aclose()
        self.close()

    def __copy__(self) -> Clients:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Clients:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        options = {name: value for name, value in self._options.items() if name not in _KEPT_HERE}
        if (settings := options.get("settings")) is not None:
            options["settings"] = settings.model_copy(update={"api_key": None})
        return {"options": options, "asked": self.asked, "closed": self._closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        options = state["options"]
        self._options = options
        self.asked = state["asked"]
        self._closed = state["closed"]
        self._calls = self._blocking = self._asyncio = None

    def __repr__(self) -> str:
        return f"Clients({self.shown()})"


_KEPT_HERE = frozenset({"api_key", "api_token", *_BOUND_TO_PROCESS})
