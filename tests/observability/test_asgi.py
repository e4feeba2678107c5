"""What operators can ask over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from rage_retrievers._listeners import process_metrics
from rage_retrievers.asgi import CircuitState, Probed, RequestIds, app, circuits
from rage_retrievers.errors import ConfigurationError, ConnectionFailedError, ForbiddenError, UnauthorizedError
from rage_retrievers.models import PipelineStatus
from rage_retrievers.observability import Metrics, correlation_id
from rage_retrievers.resilience import CircuitBreaker
from rage_retrievers.resilience.pipeline import Homes
from rage_retrievers.settings import VectorizeSettings

from .conftest import TARGET, Story


def get(path: str, client: Probed | None = None, accept: str = "*/*", **options: Any) -> httpx.Response:
    options.setdefault("states", list)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app(client, **options))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.get(path, headers={"accept": accept})

    return asyncio.run(ask())


class Service:
    """A client whose pipeline has this status, or fails."""

    def __init__(self, status: str | Exception) -> None:
        self.status = status
        self.asked = 0

    async def pipeline(self) -> PipelineStatus:
        self.asked += 1
        if isinstance(self.status, Exception):
            raise self.status
        return PipelineStatus(id="aip-1", status=self.status)


class Blocking:
    def pipeline(self) -> PipelineStatus:
        return PipelineStatus(id="aip-1", status="IDLE")


def circuit(state: str) -> CircuitState:
    return CircuitState(*TARGET, state=state, retry_after=0.0 if state == "closed" else 12.5)


@pytest.mark.parametrize(
    ("client", "states", "ready"),
    [
        (None, [], True),
        (Service("IDLE"), [], True),
        (Blocking(), ["closed"], True),
        (Service("HIBERNATING"), [], False),
        (Service(ConnectionFailedError("no")), [], False),
        (Service(UnauthorizedError("no", status=401)), [], False),
        (Service(ForbiddenError("no", status=403)), [], True),
        (Service(ConfigurationError("the older gateway has no status")), [], True),
        (None, ["open"], False),
        (None, ["open", "closed"], True),
        (None, ["half-open"], True),
    ],
)
def test_readiness_is_the_circuits_and_the_probe(client: Probed | None, states: list[str], ready: bool) -> None:
    """503 when the service does not answer or every circuit is open; a token that may only retrieve is fine."""
    response = get("/rage/health", client, states=lambda: [circuit(state) for state in states])
    assert response.status_code == (200 if ready else 503)
    assert response.json()["ready"] is ready
    assert response.headers["cache-control"] == "no-store"


def test_liveness_asks_nobody() -> None:
    """A service that is down does not get this process restarted."""
    client = Service(ConnectionFailedError("no"))
    assert get("/rage/health/live", client).json() == {"live": True}
    assert client.asked == 0


def test_many_questions_are_one_probe() -> None:
    """However often health is asked for, the service is asked once in ten seconds."""
    client = Service("IDLE")
    service = app(client, states=list)

    async def ask() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://test") as http:
            return [answer.json() for answer in await asyncio.gather(*(http.get("/rage/health") for _ in range(20)))]

    answers = asyncio.run(ask())
    assert client.asked == 1
    assert answers[0]["probe"] == {"ok": True, "status": "IDLE", "age_seconds": 0.0}


def test_a_probe_that_hangs_is_a_failed_one() -> None:
    """Health answers in time whatever the service does."""

    class Silent:
        async def pipeline(self) -> PipelineStatus:
            await asyncio.Event().wait()
            raise AssertionError

    response = get("/rage/health", Silent(), probe_timeout=0.01)
    assert (response.status_code, response.json()["probe"]["error_type"]) == (503, "TimeoutError")


def test_metrics_for_prometheus_or_as_json() -> None:
    """The same numbers in the form that is asked for; without any given, those that the settings ask for."""
    metrics = Metrics()
    Story((metrics,)).answered()
    text = get("/rage/metrics", metrics=metrics)
    assert text.headers["content-type"].startswith("text/plain")
    assert "gen_ai_client_operation_duration_seconds_count" in text.text
    data = get("/rage/metrics", metrics=metrics, accept="application/json").json()
    assert data["calls"][0]["outcome"] == "answered"
    Story((process_metrics(),)).answered()
    assert get("/rage/metrics", accept="application/json").json()["calls"][0]["outcome"] == "answered"


def test_the_circuits_of_the_process_are_shown() -> None:
    """Which pipeline, in which state, and when the next probe is let through."""
    homes, breaker = Homes(), CircuitBreaker(in_a_row=1)
    state = breaker.circuit(homes.of(TARGET))
    admission = state.admit(time.monotonic())
    assert admission is not None
    state.failed(admission, time.monotonic())
    (shown,) = get("/rage/circuit", states=lambda: circuits(homes)).json()["circuits"]
    assert 29 < shown.pop("retry_after") <= 30
    assert shown == {
        "base_url": "https://api.vectorize.io/v1",
        "organization": "org-1",
        "pipeline": "aip-1",
        "state": "open",
    }


def test_the_settings_are_shown_without_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials are masked wherever they stand; what counts tokens is shown."""
    part = base64.urlsafe_b64encode(json.dumps({"aud": "org-1"}).encode()).decode().rstrip("=")
    token = f"eyJhbGciOiJub25lIn0.{part}.c2lnbmF0dXJl"
    settings = VectorizeSettings.load(api_key=token, organization="org-1", pipeline_id="aip-1")
    response = get("/rage/config", settings=settings)
    assert response.json()["pipeline_id"] == "aip-1"
    assert response.json()["num_results"] == 5
    assert token not in response.text
    assert part not in response.text
    mapped = get("/rage/config", settings={"url": "https://u:pass@h/", "t": SecretStr("abc"), "max_tokens": 5}).json()
    assert mapped == {"url": "https://[redacted]@h/", "t": "**********", "max_tokens": 5}
    monkeypatch.setenv("RAGE_TIMEOUT_MS", "4321")
    assert get("/rage/config").json()["timeout_ms"] == 4321


def test_nothing_can_be_changed_and_nothing_else_is_there() -> None:
    """GET alone, below the prefix alone."""
    assert get("/health").status_code == 404
    assert get("/ops/health/live", prefix="/ops").status_code == 200

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app()), base_url="http://test") as http:
            return await http.post("/rage/config")

    assert asyncio.run(post()).status_code == 405


def through_request_ids(headers: dict[str, str]) -> tuple[str | None, dict[str, str]]:
    """The correlation id within a request, and the headers of its answer."""
    seen: list[str | None] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(correlation_id.get())
        await PlainTextResponse("done", headers={"X-Request-ID": "of the application"})(scope, receive, send)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(RequestIds(application, prefix="shop"))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.get("/", headers=headers)

    answer = asyncio.run(ask())
    return seen[0], dict(answer.headers)


def test_an_incoming_request_id_is_the_correlation_id() -> None:
    """It holds within the request, in any letter case, and goes back once; afterwards nothing is left of it."""
    assert through_request_ids({"x-REQUEST-id": "req-9"}) == (
        "req-9",
        {"content-length": "4", "content-type": "text/plain; charset=utf-8", "x-request-id": "req-9"},
    )
    assert correlation_id.get() is None


@pytest.mark.parametrize("headers", [{}, {"X-Request-ID": "two words"}, {"X-Request-ID": "x" * 500}])
def test_a_request_without_a_usable_id_gets_one(headers: dict[str, str]) -> None:
    """A stranger's header forges neither a header nor a line of a log."""
    seen, answered = through_request_ids(headers)
    assert seen == answered["x-request-id"]
    assert str(seen).startswith("shop-")


def test_what_is_no_request_passes() -> None:
    """The application's own start and end have no id."""
    seen: list[str | None] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(correlation_id.get())

    async def nothing(*_: Any) -> Any: ...

    asyncio.run(RequestIds(application)({"type": "lifespan"}, nothing, nothing))
    assert seen == [None]


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "rage"},
        {"prefix": None},
        {"probe_every": 0},
        {"probe_every": "10"},
        {"probe_timeout": float("inf")},
        {"client": "https://api.vectorize.io"},
        {"metrics": True},
        {"settings": "production"},
        {"states": []},
    ],
)
def test_what_could_answer_nothing_is_refused_when_it_is_mounted(options: dict[str, Any]) -> None:
    """And not at the first request of whoever watches the service."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        app(**options)
