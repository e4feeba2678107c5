"""The numbers of `Metrics` in Prometheus's form, by prometheus-client (extra `metrics`).

OpenTelemetry's names become Prometheus's as its specification says: dots to underscores, the unit as a suffix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .metrics import (
    ACTIVE_CALLS,
    ATTEMPT_DURATION,
    CALL_DURATION,
    CIRCUIT_STATE,
    DOCUMENTS,
    POLICY_EVENTS,
    STATES,
    Histogram,
    Metrics,
    Numbers,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import HistogramMetricFamily, Metric

SOURCE = "gen_ai_data_source_id"
CALL_LABELS = (
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    SOURCE,
    "server_address",
    "error_type",
    "outcome",
)
ATTEMPT_LABELS = (
    "http_request_method",
    SOURCE,
    "server_address",
    "http_response_status_code",
    "error_type",
    "attempt",
)
CIRCUIT_LABELS = (SOURCE, "rage_organization", "url_full", "state")
PROVIDER = "vectorize.io"


def registry(metrics: Metrics) -> CollectorRegistry:
    """A registry of its own with these numbers; `other.register(Collector(metrics))` adds them to another one."""
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        raise ConfigurationError("Prometheus needs the extra: pip install 'rage-retrievers[metrics]'.") from None
    made = CollectorRegistry()
    made.register(Collector(metrics))
    return made


def exposition(metrics: Metrics) -> tuple[bytes, str]:
    """What a scrape reads: the body and its content type."""
    made = registry(metrics)
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return generate_latest(made), CONTENT_TYPE_LATEST


def prometheus_name(name: str, unit: str = "") -> str:
    """OpenTelemetry's name as Prometheus writes it."""
    return name.replace(".", "_") + (f"_{unit}" if unit else "")


class Collector:
    """A prometheus-client collector over `Metrics`; it holds no numbers of its own."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Every metric with its values of this instant."""
        numbers = self._metrics.numbers()
        return [*_durations(numbers), *_counts(numbers)]


def _durations(numbers: Numbers) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    calls = HistogramMetricFamily(
        prometheus_name(CALL_DURATION, "seconds"), "Duration of logical calls.", labels=CALL_LABELS
    )
    for call, histogram in numbers.calls.items():
        operation = "retrieval" if call.operation == "retrieve" else call.operation
        labels = [operation, PROVIDER, call.pipeline, call.address, call.error_type or "", call.outcome]
        _add(calls, labels, histogram)
    yield calls
    attempts = HistogramMetricFamily(
        prometheus_name(ATTEMPT_DURATION, "seconds"), "Duration of HTTP requests.", labels=ATTEMPT_LABELS
    )
    for key, histogram in numbers.attempts.items():
        status = "" if key.status is None else str(key.status)
        labels = [key.method, key.pipeline, key.address, status, key.error_type or "", key.attempt]
        _add(attempts, labels, histogram)
    yield attempts


def _counts(numbers: Numbers) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    policies = CounterMetricFamily(
        prometheus_name(POLICY_EVENTS), "What the resilience policies did.", labels=[SOURCE, "event", "detail"]
    )
    for (pipeline, event, detail), count in numbers.policies.items():
        policies.add_metric([pipeline, event, detail], count)
    documents = CounterMetricFamily(prometheus_name(DOCUMENTS), "Documents returned.", labels=[SOURCE])
    for pipeline, count in numbers.documents.items():
        documents.add_metric([pipeline], count)
    active = GaugeMetricFamily(prometheus_name(ACTIVE_CALLS), "Logical calls under way.", labels=[SOURCE])
    for pipeline, count in numbers.active.items():
        active.add_metric([pipeline], count)
    circuits = GaugeMetricFamily(
        prometheus_name(CIRCUIT_STATE), "1 for the state the circuit is in, else 0.", labels=CIRCUIT_LABELS
    )
    for key, current in numbers.circuits.items():
        for state in STATES:
            circuits.add_metric([key.pipeline, key.organization, key.base_url, state], float(state == current))
    yield from (policies, documents, active, circuits)


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    buckets, running = [], 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        running += count
        buckets.append((str(bound), float(running)))
    buckets.append(("+Inf", float(histogram.count)))
    family.add_metric(labels, buckets, histogram.total)
