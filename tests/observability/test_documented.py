"""What can be observed stands in the docs: every event, metric, label, attribute, audit field and route."""

from __future__ import annotations

import re
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from rage_retrievers import observability
from rage_retrievers.asgi import routes
from rage_retrievers.models import Document, Retrieval
from rage_retrievers.observability import (
    CacheHit,
    Degraded,
    Event,
    Hedged,
    Listener,
    Metrics,
    Rejected,
    Tracing,
    correlation,
    events,
)
from rage_retrievers.observability.logs import FIELDS
from rage_retrievers.observability.prometheus import exposition

from .conftest import TARGET, Story, limited

DOCS = Path(__file__).parents[2] / "docs"
STALE = Retrieval(documents=(Document(text="t", id="d"),)).with_facts(stale=True, degraded="stale")


def rows(page: str) -> list[set[str]]:
    """The names in each row of the page's tables."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [set(re.findall(r"`([^`]+)`", line)) for line in lines if line.startswith("|")]


def names(page: str) -> set[str]:
    return set().union(*rows(page))


def everything(listener: Listener) -> None:
    """Every event there is, told to the listener."""
    with correlation("request-7"):
        Story((listener,), "call-1").answered_at_second()
        Story((listener,), "call-2").failed()
        story = Story((listener,), "call-3")
        story.start()
        story.tell(Hedged("call-3", TARGET, 0.1))
        story.tell(CacheHit("call-3", TARGET, 1.0, stale=True))
        story.tell(Rejected("call-3", TARGET, "retry", limited()))
        story.tell(Degraded("call-3", TARGET, "stale", limited()))
        story.end(STALE)


def test_every_event_has_a_record_and_can_be_imported() -> None:
    """The table of records is made of `FIELDS`; an event without a place there would be told to nobody."""
    found = vars(events).values()
    kinds = {kind for kind in found if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event}
    assert kinds == set(FIELDS)
    assert {kind.__name__ for kind in kinds} <= set(observability.__all__)
    documented = names("logging.md")
    assert [kind.name for kind in kinds if not {kind.name, kind.name.replace("call.", "retrieve.")} & documented] == []


def test_every_metric_and_label_is_documented() -> None:
    """What a scrape reads has its row, and its labels stand in it."""
    counted = Metrics()
    everything(counted)
    told = rows("metrics.md")
    for family in text_string_to_metric_families(exposition(counted)[0].decode()):
        shown = {family.name, f"{family.name}_total"}
        assert any(shown & row for row in told), family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert any(labels <= row for row in told if shown & row or row == {"gen_ai_data_source_id"}), family.name


def test_every_attribute_of_spans_and_their_events_is_documented() -> None:
    """With everything that can be asked for."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    everything(Tracing(provider, documents=True, question=True))
    told = names("tracing.md")
    points = [event for span in exporter.get_finished_spans() for event in span.events]
    assert {event.name for event in points} <= told
    assert {name for event in points for name in event.attributes or {}} <= told
    assert {name for span in exporter.get_finished_spans() for name in span.attributes or {}} <= told


def test_every_route_is_documented() -> None:
    """What operators can ask for stands on the page about it."""
    told = names("http.md")
    assert [route.path for route in routes() if isinstance(route, Route) and f"GET {route.path}" not in told] == []
