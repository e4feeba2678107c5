"""What operators ask of a running service, over HTTP: `app(...)` to mount in any ASGI application (starlette).

| request | answer |
|---|---|
| `GET /rage/health` | readiness: 200, or 503 when every circuit is open or the probe fails |
| `GET /rage/health/live` | liveness: 200 while the process answers |
| `GET /rage/metrics` | Prometheus's text, or JSON for `Accept: application/json` |
| `GET /rage/circuit` | the state of each circuit in this process |
| `GET /rage/config` | the settings, credentials masked |

`RequestIds(application)` makes each request's `X-Request-ID`, or a new id, the correlation id of the calls made for it.

The answers hold no credential, question or passage, but they name pipelines and settings: serve them to operators only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from ._checks import is_number, shown, typed
from ._flow import is_async
from ._listeners import process_metrics
from .errors import ConfigurationError, ForbiddenError, RageError, StatusError
from .models import PipelineStatus
from .observability.correlation import DEFAULT_PREFIX, HEADER, correlation
from .observability.metrics import Metrics
from .observability.prometheus import exposition
from .observability.redaction import DEFAULT_REDACTOR, Redactor
from .resilience.circuit_breaker import known_circuits
from .resilience.pipeline import Homes, shared_homes
from .settings import VectorizeSettings

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError:
    raise ConfigurationError("rage_retrievers.asgi needs starlette: pip install starlette.") from None

__all__ = ["CircuitState", "Probed", "RequestIds", "app", "circuits", "routes"]

_NO_STORE = {"cache-control": "no-store"}


class Probed(Protocol):
    """What readiness asks of a client; both clients of this package are one."""

    def pipeline(self) -> PipelineStatus | Awaitable[PipelineStatus]:
        """The pipeline's status, or a RageError; blocking, or to be awaited."""
        ...


@dataclass(frozen=True, slots=True)
class CircuitState:
    """One circuit: closed, half-open or open, and the seconds until the next probe is let through."""

    base_url: str
    organization: str
    pipeline: str
    state: str
    retry_after: float


def circuits(homes: Homes = shared_homes) -> list[CircuitState]:
    """Every circuit that a call of this process went through."""
    now = time.monotonic()
    return [
        CircuitState(*target, state=circuit.state, retry_after=round(circuit.retry_after(now), 3))
        for target, circuit in known_circuits(homes)
    ]


@dataclass(slots=True)
class _Probe:
    """The last word of the service, asked for anew after `every` seconds, by one request at a time."""

    client: Probed
    every: float
    timeout: float
    _asked: float = -1e9
    _said: dict[str, Any] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def said(self) -> dict[str, Any]:
        async with self._lock:
            if time.monotonic() - self._asked >= self.every:
                self._said = await self._ask()
                self._asked = time.monotonic()
        return {**self._said, "age_seconds": round(time.monotonic() - self._asked, 1)}

    async def _ask(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self.timeout):
                status = await self._status()
        except ConfigurationError:
            return {"ok": True, "status": "unknown"}  # the older gateway has no status to ask for
        except (RageError, TimeoutError) as error:
            # A token that may only retrieve is refused here by a service that is up.
            up = isinstance(error, ForbiddenError) or (isinstance(error, StatusError) and error.status == 405)
            return {"ok": up, "error_type": type(error).__name__}
        return {"ok": status.answers, "status": status.status}

    async def _status(self) -> PipelineStatus:
        if is_async(self.client.pipeline):
            return await self.client.pipeline()  # type: ignore[misc, no-any-return]  # as the protocol says
        status = await run_in_threadpool(self.client.pipeline)
        assert isinstance(status, PipelineStatus)  # the protocol's other half
        return status


def _check(
    client: object, metrics: object, settings: object, states: object, prefix: object, **seconds: object
) -> None:
    """Raise ConfigurationError for what would fail at a request only."""
    if not isinstance(metrics, Metrics | None):
        raise ConfigurationError(f"metrics is {typed(metrics)}; give Metrics(), or leave it out.")
    if not isinstance(settings, VectorizeSettings | Mapping | None):
        raise ConfigurationError(f"settings is {typed(settings)}; give VectorizeSettings, or a mapping to be shown.")
    if client is not None and not callable(getattr(client, "pipeline", None)):
        raise ConfigurationError(f"client is {typed(client)}; give a client of this package, or leave it out.")
    if not callable(states):
        raise ConfigurationError(f"states is {typed(states)}; give a function that returns circuits.")
    if not isinstance(prefix, str) or (prefix and not prefix.startswith("/")):
        raise ConfigurationError(f"prefix = {shown(prefix)} cannot be used; it begins with a slash, as /rage does.")
    for name, value in seconds.items():
        if not is_number(value) or value <= 0:  # type: ignore[operator]  # it is a number
            raise ConfigurationError(f"probe_{name} = {shown(value)} cannot be used; use seconds above 0.")


def routes(
    client: Probed | None = None,
    *,
    metrics: Metrics | None = None,
    settings: VectorizeSettings | Mapping[str, Any] | None = None,
    states: Callable[[], Iterable[CircuitState]] = circuits,
    redactor: Redactor = DEFAULT_REDACTOR,
    prefix: str = "/rage",
    probe_every: float = 10.0,
    probe_timeout: float = 5.0,
) -> list[Route]:
    """The routes of `app`, for an application that wants them among its own.

    `client` is asked for the pipeline's status at most every `probe_every` seconds, for `probe_timeout` seconds at
    most; without one, readiness rests on the circuits. Without `metrics` the process's are shown (RAGE_ENABLE_METRICS),
    without `settings` those of the environment. Raises ConfigurationError where those are wrong.
    """
    _check(client, metrics, settings, states, prefix, every=probe_every, timeout=probe_timeout)
    given = VectorizeSettings.load() if settings is None else settings
    counted = process_metrics() if metrics is None else metrics
    probe = None if client is None else _Probe(client, probe_every, probe_timeout)

    async def live(request: Request) -> Response:
        return _json({"live": True})

    async def health(request: Request) -> Response:
        known = [state.state for state in states()]
        closed = not known or any(state != "open" for state in known)
        said = None if probe is None else await probe.said()
        ready = closed and (said is None or said["ok"])
        counts = {state: known.count(state) for state in sorted(set(known))}
        return _json({"live": True, "ready": ready, "circuits": counts, "probe": said}, 200 if ready else 503)

    async def measured(request: Request) -> Response:
        if "application/json" in request.headers.get("accept", ""):
            return _json(counted.snapshot().as_dict())
        try:
            body, content_type = exposition(counted)
        except ConfigurationError:
            return _json(counted.snapshot().as_dict())
        return Response(body, headers={**_NO_STORE, "content-type": content_type})

    async def circuit(request: Request) -> Response:
        return _json({"circuits": [redactor.value(asdict(state)) for state in states()]})

    async def config(request: Request) -> Response:
        told = given.model_dump(mode="json") if isinstance(given, VectorizeSettings) else dict(given)
        return _json(redactor.value(told))

    found = {"/health": health, "/health/live": live, "/metrics": measured, "/circuit": circuit, "/config": config}
    return [Route(prefix + path, endpoint, methods=["GET"]) for path, endpoint in found.items()]


def app(client: Probed | None = None, **options: Any) -> Starlette:
    """An ASGI application with these routes; `options` are those of `routes`.

    Mount it at the root (`service.mount("", app(...))`): its paths begin with `prefix` themselves.
    """
    return Starlette(routes=routes(client, **options))


def _json(content: Any, status: int = 200) -> Response:
    return JSONResponse(content, status, headers=_NO_STORE)


class RequestIds:
    """An ASGI application around another one: within a request its `X-Request-ID` is the correlation id.

    A request without a usable one gets a new id, which begins with `prefix`. The answer carries the id in the same
    header.
    """

    def __init__(self, application: ASGIApp, prefix: str = DEFAULT_PREFIX) -> None:
        self._application = application
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._application(scope, receive, send)
            return
        name = HEADER.encode()
        given = next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name), None)
        with correlation(given, prefix=self._prefix) as chosen:

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    others = [header for header in message.get("headers", ()) if header[0].lower() != name]
                    message = {**message, "headers": [*others, (name, chosen.encode())]}
                await send(message)

            await self._application(scope, receive, answer)
