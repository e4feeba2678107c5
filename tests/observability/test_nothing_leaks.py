"""With every feature on at DEBUG, no output holds a planted token, e-mail address or card number."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rage_retrievers.client import AsyncVectorizeClient, VectorizeClient
from rage_retrievers.errors import RageError
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndexRetriever
from rage_retrievers.observability import (
    Audit,
    EventLog,
    Listener,
    Metrics,
    Redactor,
    Tracing,
    configure_logging,
    correlation,
    register_secret,
)
from rage_retrievers.observability.log_records import RedactingFilter
from rage_retrievers.observability.prometheus import exposition
from rage_retrievers.resilience import Pipeline, Retry
from rage_retrievers.scope import scope
from rage_retrievers.testing import FAULTS, FaultServer, ReceivedRequest
from rage_retrievers.testing.faults import Fault, Write, answer_body, http

OPAQUE = "plain/token+that=is;no&JWT-4711"
CLAIMS = base64.urlsafe_b64encode(json.dumps({"aud": "org-1", "sub": "planted"}).encode()).decode().rstrip("=")
TOKEN = f"eyJhbGciOiJIUzI1NiJ9.{CLAIMS}.cGxhbnRlZC1zaWduYXR1cmU"
EMAIL, CARD = "ada.lovelace@example.org", "4111 1111 1111 1111"
PHONE, IBAN = "+44 20 7946 0958", "DE89 3704 0044 0532 0130 00"
QUESTION = f"What did {EMAIL} pay with {CARD}, {PHONE} or {IBAN}?"
PLANTED = (TOKEN, TOKEN[:40], CLAIMS, "cGxhbnRlZC1zaWduYXR1cmU", EMAIL, "ada.lovelace", CARD, "1111 1111", quote(EMAIL),
           "1111%201111", "1111+1111", PHONE, "7946%20", "7946+", IBAN, "3704%20", "3704+")  # fmt: skip


class Everything:
    """All listeners, with all they can show switched on, and every place they write to."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.metrics = Metrics()
        self.spans = InMemorySpanExporter()
        self.errors: list[str] = []
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.listeners: tuple[Listener, ...] = (
            EventLog(show_texts=True),
            Audit(who=lambda: {"user": EMAIL, "api_token": TOKEN, "paid": [CARD]}, required=True),
            self.metrics,
            Tracing(provider, documents=True, question=True),
        )

    def failed(self, error: RageError) -> None:
        """Keep all that an error shows."""
        Redactor().error(error)
        self.errors += [*traceback.format_exception(error), repr(error), repr(vars(error))]

    def shown(self) -> dict[str, str]:
        """Everything that was written, by where."""
        return {
            "log and audit": self.stream.getvalue(),
            "metrics": exposition(self.metrics)[0].decode() + json.dumps(self.metrics.snapshot().as_dict()),
            "spans": "".join(span.to_json() for span in self.spans.get_finished_spans()),
            "errors": "".join(self.errors),
        }


@pytest.fixture
def everything() -> Iterator[Everything]:
    """Logging at DEBUG for every library, through our filter."""
    found = Everything()
    configure_logging(json=True, level="DEBUG", stream=found.stream)
    handler = logging.StreamHandler(found.stream)
    handler.addFilter(RedactingFilter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)


def ask(everything: Everything, url: str, timeout: float, pipeline_id: str = "aip-1") -> None:
    """One call of the real client, over a real socket."""
    with VectorizeClient(
        api_key=TOKEN,
        organization="org-1",
        pipeline_id=pipeline_id,
        base_url=url,
        timeout=timeout,
        resilience=Pipeline([Retry(attempts=2, base=0.001, cap=0.001)]),
        listeners=everything.listeners,
    ) as client:
        try:
            client.retrieve(
                QUESTION,
                metadata_filters=[{EMAIL: [TOKEN]}],
                context={"messages": [{"role": "user", "content": f"I am {EMAIL}, {TOKEN}"}]},
                advanced_query={"mode": "text", "filters": {"term": {"card": CARD}}},
            )
        except RageError as error:
            everything.failed(error)


def check(everything: Everything, capfd: pytest.CaptureFixture[str]) -> None:
    out, err = capfd.readouterr()
    for place, text in {**everything.shown(), "stdout": out, "stderr": err}.items():
        leaked = [planted for planted in PLANTED if planted in text]
        assert not leaked, f"{place} shows {leaked[0]}: …{text[max(0, text.find(leaked[0]) - 200) :][:400]}…"


def test_no_fault_makes_anything_leak(everything: Everything, capfd: pytest.CaptureFixture[str]) -> None:
    """Every fault of the fault server, one after the other."""
    slow = ("DeadlineExceededError",)
    with FaultServer(next(iter(FAULTS.values())).script) as server:
        for case in FAULTS.values():
            if case.group in {"size", "coding"}:  # megabytes of nothing; they echo no more than the others
                continue
            server.play(case.script)
            ask(everything, server.url, 0.05 if case.outcomes == slow else 2.0)
    check(everything, capfd)
    assert everything.stream.getvalue().count('"event": "retrieve.texts"') > 200
    assert len(everything.spans.get_finished_spans()) > 400


def echo(code: int) -> Fault:
    """A service that repeats in its answer all it was told, as error pages and proxies do."""

    def body(request: ReceivedRequest) -> bytes:
        told = f"{request.headers} {request.body.decode()} {quote(TOKEN)} {TOKEN[:50]}"
        told += f" {quote(QUESTION)} {quote_plus(QUESTION)}"
        if code == 200:
            data = json.loads(answer_body())
            data["documents"][0].update(text=told, id=TOKEN, source=EMAIL)
            return http(200, json.dumps(data).encode())
        return http(code, json.dumps({"error": told, "details": told}).encode(), ("x-request-id", TOKEN))

    return Fault((Write(body),))


@pytest.mark.parametrize("code", [200, 400, 401, 402, 403, 404, 405, 418, 422, 429, 500, 503])
def test_a_service_that_echoes_is_not_repeated(
    everything: Everything, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    """Our own request, sent back to us in an answer or an error, is not shown either."""
    with FaultServer(echo(code)) as server:
        ask(everything, server.url, 2.0)
    check(everything, capfd)


@pytest.mark.parametrize("code", [200, 500])
def test_no_face_repeats_an_echo(everything: Everything, capfd: pytest.CaptureFixture[str], code: int) -> None:
    """In tasks and through both frameworks, with an id and a scope that hold what must not be shown."""

    async def in_tasks(**options: Any) -> None:
        async with AsyncVectorizeClient(**options) as client:
            await client.retrieve(QUESTION)

    faces: list[Callable[..., object]] = [
        lambda **options: asyncio.run(in_tasks(**options)),
        lambda **options: LangChainRetriever(**options).invoke(QUESTION),
        lambda **options: asyncio.run(LangChainRetriever(**options).ainvoke(QUESTION)),
        lambda **options: LlamaIndexRetriever(**options).retrieve(QUESTION),
        lambda **options: asyncio.run(LlamaIndexRetriever(**options).aretrieve(QUESTION)),
    ]
    with FaultServer(echo(code)) as server, correlation(EMAIL), scope(labels={"user": EMAIL, "phone": PHONE}):
        where = {"base_url": server.url, "organization": "org-1", "pipeline_id": EMAIL, "api_key": TOKEN}
        for face in faces:
            try:
                face(**where, user_agent=f"search ({EMAIL})", listeners=everything.listeners)
            except RageError as error:
                everything.failed(error)
                assert code == 500
    check(everything, capfd)
    assert everything.stream.getvalue().count('"event": "retrieve.texts"') == len(faces)


def test_a_token_that_looks_like_nothing_is_known_by_its_value(
    everything: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    """An opaque token, registered, is hidden wherever it turns up: as a pipeline's id, in an echo, in base64."""
    register_secret(OPAQUE)
    forms = (OPAQUE, quote(OPAQUE, safe=""), base64.b64encode(OPAQUE.encode()).decode())
    with FaultServer(Fault((Write(http(400, json.dumps({"error": " ".join(forms)}).encode())),))) as server:
        ask(everything, server.url, 2.0, pipeline_id=OPAQUE)
    check(everything, capfd)
    shown = "".join(everything.shown().values())
    assert not [form for form in forms if form in shown]
