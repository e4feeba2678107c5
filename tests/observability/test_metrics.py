"""Counts and latencies, in process and as Prometheus reads them."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rage_retrievers.errors import CircuitOpenError, ConfigurationError
from rage_retrievers.models import Target
from rage_retrievers.observability import CacheHit, CircuitChanged, Degraded, Hedged, Metrics, Rejected
from rage_retrievers.observability.metrics import ATTEMPT_BUCKETS, CALL_BUCKETS, CircuitSeries, Histogram
from rage_retrievers.observability.prometheus import exposition

from .conftest import ANSWER, TARGET, Story, unavailable


def told() -> Metrics:
    """Metrics that heard of a call of each kind."""
    metrics = Metrics()
    story = Story((metrics,))
    story.answered()
    story.answered_at_second()
    story.failed()
    story.failed(asyncio.CancelledError())
    story.start()
    story.end(ANSWER.with_facts(stale=True))
    story.tell(Rejected("call-1", TARGET, "circuit breaker", CircuitOpenError("open")))
    story.tell(Hedged("call-1", TARGET, 0.1))
    story.tell(CacheHit("call-1", TARGET, 3.0, False))
    story.tell(Degraded("call-1", TARGET, "local", unavailable()))
    return metrics


def test_calls_are_counted_by_outcome_and_attempts_by_number() -> None:
    """What ended how, how often, at which attempt."""
    snapshot = told().snapshot()
    assert {(series.outcome, series.error_type): series.latency.count for series in snapshot.calls} == {
        ("answered", None): 2,
        ("failed", "RateLimitedError"): 1,
        ("cancelled", "CancelledError"): 1,
        ("stale", None): 1,
    }
    assert {
        (series.attempt, series.status, series.error_type): series.latency.count for series in snapshot.attempts
    } == {
        ("1", 200, None): 2,
        ("1", 503, "ServerError"): 1,
        ("2", 200, None): 1,
        ("1", 429, "RateLimitedError"): 1,
    }
    assert snapshot.documents == {"aip-1": 6}


def test_policies_and_circuits_are_counted() -> None:
    """Every event of a policy, with what tells its kinds apart."""
    snapshot = told().snapshot()
    assert {(count.event, count.detail): count.count for count in snapshot.policies} == {
        ("circuit.changed", "open"): 1,
        ("retry.scheduled", "ServerError"): 1,
        ("call.rejected", "circuit breaker"): 1,
        ("call.hedged", ""): 1,
        ("cache.hit", "fresh"): 1,
        ("call.degraded", "local"): 1,
    }
    assert snapshot.circuits == (CircuitSeries(*TARGET, state="open"),)
    metrics = Metrics()
    metrics.on_event(CacheHit("call-1", TARGET, 3.0, True))
    assert [count.detail for count in metrics.snapshot().policies] == ["stale"]


def test_circuits_are_told_apart_as_the_breaker_does() -> None:
    """Pipelines of one id at two addresses or in two organizations have circuits of their own."""
    metrics = Metrics()
    elsewhere = TARGET._replace(base_url="https://user:pass@eu.vectorize.io/v1")
    for target, after in (
        (TARGET, "open"),
        (elsewhere, "closed"),
        (TARGET._replace(organization="org-2"), "half-open"),
    ):
        metrics.on_event(CircuitChanged("c", target, "closed", after))
    assert [(c.organization, c.state) for c in metrics.snapshot().circuits] == [
        ("org-1", "open"),
        ("org-1", "closed"),
        ("org-2", "half-open"),
    ]
    assert json.loads(json.dumps(metrics.snapshot().as_dict()))["circuits"][0]["pipeline"] == "aip-1"
    text = exposition(metrics)[0].decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    scraped = [s.labels for s in families["rage_circuit_state"].samples if s.value]
    assert [(labels["rage_organization"], labels["state"]) for labels in scraped] == [
        ("org-1", "open"),
        ("org-1", "closed"),
        ("org-2", "half-open"),
    ]
    assert "user:pass" not in text


@pytest.mark.parametrize("base_url", ["local:./docs", "http://[::1"])
def test_an_address_without_a_host_is_counted_without_one(base_url: str) -> None:
    """A folder of the user's own has none; nothing of it is told."""
    metrics = Metrics()
    Story((metrics,), target=TARGET._replace(base_url=base_url)).answered()
    assert 'server_address=""' in exposition(metrics)[0].decode()


def test_calls_under_way_are_seen_and_reset_forgets_the_rest() -> None:
    """Calls under way outlive a reset, so that their end is not counted below zero."""
    metrics = told()
    Story((metrics,)).start()
    Story((metrics,)).start()
    assert metrics.snapshot().active == {"aip-1": 2}
    metrics.reset()
    assert (metrics.snapshot().calls, metrics.snapshot().active) == ((), {"aip-1": 2})
    for active in ({"aip-1": 1}, {}, {}):
        Story((metrics,)).end()  # the last one began before anybody counted
        assert metrics.snapshot().active == active


def test_a_snapshot_is_plain_data_of_its_instant() -> None:
    """Ready for JSON, and not changed by what happens next."""
    metrics = told()
    snapshot = metrics.snapshot()
    before = json.dumps(snapshot.as_dict())
    Story((metrics,)).answered()
    assert json.dumps(snapshot.as_dict()) == before


def test_quantiles_lie_in_the_bucket_of_the_observation() -> None:
    """p50 and p95 are interpolated within a bucket and never above the largest observation."""
    histogram = Histogram(CALL_BUCKETS)
    assert histogram.quantile(0.5) is None
    for value in [0.03] * 90 + [3.0] * 9 + [500.0]:
        histogram.observe(value)
    median, high, top = (histogram.quantile(share) for share in (0.5, 0.95, 1.0))
    assert median is not None
    assert high is not None
    assert 0.02 < median <= 0.04
    assert 2.56 < high <= 5.12
    assert top == 500.0
    histogram.observe(0.03)
    assert histogram.quantile(1.0) == 500.0
    alone = Histogram(CALL_BUCKETS)
    alone.observe(0.021)
    assert alone.quantile(0.99) == 0.021
    halves = Histogram(CALL_BUCKETS)
    for value in (0.03, 3.0):
        halves.observe(value)
    assert halves.quantile(0.5) == pytest.approx(0.04)


@pytest.mark.parametrize("wrong", [0, -1, True, 2.5, "many"])
def test_a_limit_that_cannot_be_meant_is_refused(wrong: Any) -> None:
    """When the metrics are made, and not in the first call."""
    with pytest.raises(ConfigurationError, match=r"max_pipelines.*1 or more"):
        Metrics(max_pipelines=wrong)


def test_pipelines_beyond_the_limit_are_counted_together() -> None:
    """A pipeline for each customer does not grow the process without bound."""
    metrics = Metrics(max_pipelines=3)
    for number in range(10):
        Story((metrics,), target=Target("https://h", "o", f"aip-{number}")).answered()
    counts = {series.pipeline: series.latency.count for series in metrics.snapshot().calls}
    assert counts == {"aip-0": 1, "aip-1": 1, "aip-2": 1, "other": 7}
    for number in range(5, 8):
        metrics.on_event(CircuitChanged("c", Target("https://h", f"o-{number}", f"aip-{number}"), "closed", "open"))
    assert [(one.organization, one.pipeline) for one in metrics.snapshot().circuits] == [("other", "other")]


def test_counting_is_safe_from_many_threads() -> None:
    """No observation is lost."""
    metrics = Metrics()

    def work() -> None:
        for _ in range(300):
            Story((metrics,)).answered()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(series.latency.count for series in metrics.snapshot().calls) == 1_200
    assert metrics.snapshot().active == {}


NAMES = {
    "gen_ai_client_operation_duration_seconds": "histogram",
    "http_client_request_duration_seconds": "histogram",
    "rage_calls_active": "gauge",
    "rage_circuit_state": "gauge",
    "rage_policy_events": "counter",
    "rage_retrieval_documents": "counter",
}
LABELS = {
    "gen_ai_client_operation_duration_seconds": {
        "error_type", "gen_ai_data_source_id", "gen_ai_operation_name", "gen_ai_provider_name", "outcome",
        "server_address",
    },
    "http_client_request_duration_seconds": {
        "attempt", "error_type", "gen_ai_data_source_id", "http_request_method", "http_response_status_code",
        "server_address",
    },
    "rage_calls_active": {"gen_ai_data_source_id"},
    "rage_circuit_state": {"gen_ai_data_source_id", "rage_organization", "url_full", "state"},
    "rage_policy_events": {"detail", "event", "gen_ai_data_source_id"},
    "rage_retrieval_documents": {"gen_ai_data_source_id"},
}  # fmt: skip


def test_prometheus_reads_the_same_numbers_under_pinned_names() -> None:
    """Names, kinds, labels and buckets are what dashboards are built on, so a change here is a breaking one."""
    body, content_type = exposition(told())
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert content_type.startswith("text/plain")
    assert {name: family.type for name, family in families.items()} == NAMES
    labels = {name: {label for s in family.samples for label in s.labels} - {"le"} for name, family in families.items()}
    assert labels == LABELS
    calls = families["gen_ai_client_operation_duration_seconds"].samples
    answered = [s for s in calls if s.labels["outcome"] == "answered"]
    bounds = [float(s.labels["le"]) for s in answered if s.name.endswith("_bucket")]
    assert tuple(bounds) == (*CALL_BUCKETS, float("inf"))
    assert next(s.value for s in answered if s.name.endswith("_count")) == 2
    assert next(s.value for s in answered if s.name.endswith("_sum")) == pytest.approx(0.82)
    assert (answered[0].labels["gen_ai_operation_name"], answered[0].labels["error_type"]) == ("retrieval", "")
    states = {s.labels["state"]: s.value for s in families["rage_circuit_state"].samples}
    assert states == {"closed": 0, "half-open": 0, "open": 1}


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics are counted without prometheus-client; being scraped needs it."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"rage-retrievers\[metrics\]"):
        exposition(told())


def test_buckets_are_those_of_the_conventions() -> None:
    """OpenTelemetry's advice for GenAI operations and for HTTP clients, in seconds."""
    assert [round(bound * 100) for bound in CALL_BUCKETS] == [2**n for n in range(14)]
    assert ATTEMPT_BUCKETS == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
