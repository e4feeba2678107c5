"""What clients and their operations may be given: the options, and the checks of their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from ._checks import is_number, shown, typed
from ._credential import ApiKey
from ._flow import is_async
from ._keywords import unknown_keyword
from .engines import Engines
from .errors import ConfigurationError
from .models import AdvancedQuery, Message, ResearchEvent
from .observability.events import Listener
from .resilience import Pipeline

if TYPE_CHECKING:
    from .settings import VectorizeSettings


class QueryOptions(TypedDict, total=False):
    """What shapes an answer beside the question. Leaving one out and giving None, 0 or [] are different things."""

    num_results: int
    rerank: bool
    metadata_filters: list[dict[str, Any]] | dict[str, Any] | None
    context: Mapping[str, Any] | list[Message] | None
    advanced_query: AdvancedQuery | Mapping[str, Any] | None
    min_score: float | None
    timeout: float | None
    pipeline_id: str
    organization: str


class ClientOptions(QueryOptions, total=False):
    """What a client is made from; everything left out comes from `VectorizeSettings`.

    `timeout` is the seconds of a whole call. `resilience` replaces the default policies. `engine` is a name or a pair
    from `rage_retrievers.engines`.
    """

    api_key: ApiKey
    api_token: ApiKey
    base_url: str
    environment: str
    retrieval_url: str
    engine: str | Engines
    resilience: Pipeline
    listeners: tuple[Listener, ...] | list[Listener]
    allow_insecure: bool
    max_response_mib: float
    user_agent: str
    settings: VectorizeSettings


class ResearchOptions(TypedDict, total=False):
    """How a deep research is done. `timeout` (300) and `poll_every` (2) are seconds; `schema` shapes the report.

    `n8n` names the webhook that the service calls: `account`, `webhookPath` and, if need be, `headers`.
    """

    web_search: bool
    schema: str | None
    n8n: Mapping[str, Any] | None
    timeout: float
    poll_every: float
    on_progress: Callable[[ResearchEvent], object] | None


@dataclass(frozen=True, slots=True)
class ResearchPlan:
    """Checked `ResearchOptions`."""

    web_search: bool = False
    schema: str | None = None
    n8n: Mapping[str, Any] | None = field(default=None, repr=False)
    timeout: float = 300.0
    poll_every: float = 2.0
    on_progress: Callable[[ResearchEvent], object] | None = None

    def __post_init__(self) -> None:
        for name in ("timeout", "poll_every"):
            value = getattr(self, name)
            if not is_number(value) or value <= 0:
                raise ConfigurationError(f"{name} = {shown(value)} cannot be used; use a number of seconds above 0.")
        if not isinstance(self.web_search, bool):
            raise ConfigurationError(f"web_search = {shown(self.web_search)} cannot be used; use True or False.")
        if not isinstance(self.schema, str | None):
            raise ConfigurationError(f"schema is {typed(self.schema)}; give the text of a JSON schema.")
        if not callable(self.on_progress) and self.on_progress is not None:
            raise ConfigurationError(f"on_progress is {typed(self.on_progress)}; give a function of a ResearchEvent.")
        if is_async(self.on_progress):
            raise ConfigurationError("on_progress is an async function, which nobody would await; give a plain one.")
        if self.n8n is not None and not (isinstance(self.n8n, Mapping) and {"account", "webhookPath"} <= {*self.n8n}):
            raise ConfigurationError('n8n cannot be used; use {"account": "…", "webhookPath": "…"}.')

    @classmethod
    def make(cls, options: Mapping[str, Any]) -> ResearchPlan:
        """Raises ConfigurationError for a wrong value, TypeError for an unknown name."""
        for name in options:
            if name not in cls.__slots__:
                raise unknown_keyword(name, cls.__slots__)
        return cls(**options)


_QUERY_NAMES = tuple(QueryOptions.__annotations__)
_CLIENT_NAMES = tuple(ClientOptions.__annotations__)


def checked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options under their canonical names. Raises TypeError for a name nobody reads."""
    for name in given:
        if name not in _CLIENT_NAMES:
            raise unknown_keyword(name, _CLIENT_NAMES)
    options = dict(given)
    if "api_token" in options:
        token = options.pop("api_token")
        if options.get("api_key") is not None and token is not None:
            raise ConfigurationError("api_key and api_token are two names of one thing; give one of them.")
        options.setdefault("api_key", token)
        if options["api_key"] is None:
            options["api_key"] = token
    return {name: value for name, value in options.items() if value is not None or name in _QUERY_NAMES}
