"""Counts and latencies of calls, attempts and policy events: in process, and for Prometheus.

Names, units and buckets are OpenTelemetry's where it has them: `gen_ai.client.operation.duration` for logical calls,
`http.client.request.duration` for attempts. Prometheus reads the same numbers (extra `metrics`), so a call costs the
same whether it is scraped or not.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from .._checks import is_count, shown
from ..errors import ConfigurationError
from ..models import Target
from .events import (
    AttemptFailed,
    AttemptSucceeded,
    CacheHit,
    CallCompleted,
    CallStarted,
    CircuitChanged,
    Degraded,
    Event,
    Hedged,
    Rejected,
    RetryScheduled,
)
from .outcomes import outcome
from .redaction import DEFAULT_REDACTOR, Redactor, check_redactor

CALL_DURATION = "gen_ai.client.operation.duration"
CALL_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
ATTEMPT_DURATION = "http.client.request.duration"
ATTEMPT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
POLICY_EVENTS = "rage.policy.events"
DOCUMENTS = "rage.retrieval.documents"
ACTIVE_CALLS = "rage.calls.active"
CIRCUIT_STATE = "rage.circuit.state"

OTHER = "other"
STATES = ("closed", "half-open", "open")


class Histogram:
    """How many observations fell at or under each bound; the last count is of those above every bound."""

    __slots__ = ("bounds", "count", "counts", "largest", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.total = 0.0
        self.largest = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.total += value
        self.largest = max(self.largest, value)

    def quantile(self, share: float) -> float | None:
        """The value under which this share of the observations lies, interpolated in its bucket; None for none."""
        if not self.count:
            return None
        rank, below = share * self.count, 0
        for index, count in enumerate(self.counts):
            if count and below + count >= rank:
                low = self.bounds[index - 1] if index else 0.0
                high = self.bounds[index] if index < len(self.bounds) else self.largest
                return min(self.largest, low + (high - low) * max(0.0, rank - below) / count)
            below += count
        return self.largest


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds: how many observations, their mean, and what half, 95 % and 99 % of them stayed under."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    largest: float

    @classmethod
    def of(cls, histogram: Histogram) -> Latency:
        """A histogram in six numbers."""
        p50, p95, p99 = (round(histogram.quantile(share) or 0.0, 6) for share in (0.5, 0.95, 0.99))
        mean = histogram.total / histogram.count if histogram.count else 0.0
        return cls(histogram.count, round(mean, 6), p50, p95, p99, round(histogram.largest, 6))


@dataclass(frozen=True, slots=True)
class CallSeries:
    """Logical calls that ended alike. `outcome`: answered, stale, degraded, failed or cancelled."""

    pipeline: str
    operation: str
    outcome: str
    error_type: str | None
    latency: Latency


@dataclass(frozen=True, slots=True)
class AttemptSeries:
    """Requests that ended alike; `attempt` is `1`, `2`, … or `6+`."""

    pipeline: str
    attempt: str
    status: int | None
    error_type: str | None
    latency: Latency


@dataclass(frozen=True, slots=True)
class PolicyCount:
    """How often a policy did something: a retry was scheduled, a call rejected, a circuit opened."""

    pipeline: str
    event: str
    detail: str
    count: int


@dataclass(frozen=True, slots=True)
class CircuitSeries:
    """The last state that a circuit told of; there is one for each base URL, organization and pipeline."""

    base_url: str
    organization: str
    pipeline: str
    state: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All numbers at one instant. `active` counts calls under way."""

    calls: tuple[CallSeries, ...]
    attempts: tuple[AttemptSeries, ...]
    policies: tuple[PolicyCount, ...]
    documents: Mapping[str, int]
    active: Mapping[str, int]
    circuits: tuple[CircuitSeries, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


class CallKey(NamedTuple):
    """What the durations of logical calls are told apart by."""

    pipeline: str
    address: str
    operation: str
    outcome: str
    error_type: str | None


class AttemptKey(NamedTuple):
    """What the durations of requests are told apart by."""

    pipeline: str
    address: str
    method: str
    attempt: str
    status: int | None
    error_type: str | None


class CircuitKey(NamedTuple):
    """What circuits are told apart by, as the circuit breaker tells them apart."""

    base_url: str
    organization: str
    pipeline: str


@dataclass(slots=True)
class Numbers:
    """Everything counted, by what it is told apart by."""

    calls: dict[CallKey, Histogram] = field(default_factory=dict)
    attempts: dict[AttemptKey, Histogram] = field(default_factory=dict)
    policies: dict[tuple[str, str, str], int] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    active: dict[str, int] = field(default_factory=dict)
    circuits: dict[CircuitKey, str] = field(default_factory=dict)


# What each policy event is counted by, beside the pipeline and its name.
_DETAILS: Mapping[type[Event], Callable[[Any], str]] = {
    RetryScheduled: lambda event: type(event.error).__name__,
    CircuitChanged: lambda event: event.after,
    Rejected: lambda event: event.policy,
    Hedged: lambda event: "",
    CacheHit: lambda event: "stale" if event.stale else "fresh",
    Degraded: lambda event: event.fallback,
}


@dataclass(slots=True)
class Metrics:
    """Counts what the events tell. Safe to use from every thread.

    Pipelines beyond `max_pipelines` are counted together as `other`, so that a service with a pipeline for each of its
    customers does not grow without bound.
    """

    max_pipelines: int = 1_000
    redactor: Redactor = DEFAULT_REDACTOR
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _numbers: Numbers = field(default_factory=Numbers, init=False, repr=False)
    _pipelines: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not is_count(self.max_pipelines):
            raise ConfigurationError(
                f"Metrics' max_pipelines={shown(self.max_pipelines)} cannot be used; it is a whole number of 1 or more."
            )
        check_redactor("Metrics", self.redactor)

    def on_event(self, event: Event, /) -> None:
        """Count the event."""
        with self._lock:
            pipeline = self._pipeline(event.target.pipeline_id)
            if isinstance(event, CallCompleted):
                self._completed(pipeline, event)
            elif isinstance(event, AttemptSucceeded):
                self._attempt(pipeline, event, event.status, None)
            elif isinstance(event, AttemptFailed):
                self._attempt(pipeline, event, getattr(event.error, "status", None), type(event.error).__name__)
            elif isinstance(event, CallStarted):
                _add(self._numbers.active, pipeline, 1)
            elif type(event) in _DETAILS:
                _add(self._numbers.policies, (pipeline, event.name, _DETAILS[type(event)](event)), 1)
                if isinstance(event, CircuitChanged):
                    self._numbers.circuits[self._circuit(pipeline, event.target)] = event.after

    def _pipeline(self, pipeline: str) -> str:
        shown = self._pipelines.get(pipeline)
        if shown is None:
            if len(self._pipelines) >= self.max_pipelines:
                return OTHER
            shown = self._pipelines[pipeline] = self.redactor.identifier(pipeline)
        return shown

    def _circuit(self, pipeline: str, target: Target) -> CircuitKey:
        if pipeline == OTHER:
            return CircuitKey(OTHER, OTHER, OTHER)
        base_url, organization = self.redactor.identifiers((target.base_url, target.organization))
        return CircuitKey(base_url, organization, pipeline)

    def _completed(self, pipeline: str, event: CallCompleted) -> None:
        numbers = self._numbers
        numbers.active[pipeline] = max(0, numbers.active.get(pipeline, 0) - 1)
        error = None if event.error is None else type(event.error).__name__
        key = CallKey(pipeline, host(event.target.base_url), event.operation, outcome(event), error)
        histogram = numbers.calls.get(key)
        if histogram is None:
            histogram = numbers.calls[key] = Histogram(CALL_BUCKETS)
        histogram.observe(event.elapsed)
        if event.retrieval is not None:
            _add(numbers.documents, pipeline, len(event.retrieval.documents))

    def _attempt(
        self, pipeline: str, event: AttemptSucceeded | AttemptFailed, status: int | None, error: str | None
    ) -> None:
        number = str(event.attempt) if event.attempt < 6 else "6+"
        key = AttemptKey(pipeline, host(event.target.base_url), event.method, number, status, error)
        histogram = self._numbers.attempts.get(key)
        if histogram is None:
            histogram = self._numbers.attempts[key] = Histogram(ATTEMPT_BUCKETS)
        histogram.observe(event.elapsed)

    def numbers(self) -> Numbers:
        """A copy of everything counted, at one instant."""
        with self._lock:
            return deepcopy(self._numbers)

    def snapshot(self) -> Snapshot:
        """Everything counted, with latencies as quantiles."""
        numbers = self.numbers()
        return Snapshot(
            calls=tuple(
                CallSeries(key.pipeline, key.operation, key.outcome, key.error_type, Latency.of(histogram))
                for key, histogram in numbers.calls.items()
            ),
            attempts=tuple(
                AttemptSeries(key.pipeline, key.attempt, key.status, key.error_type, Latency.of(histogram))
                for key, histogram in numbers.attempts.items()
            ),
            policies=tuple(PolicyCount(*key, count=count) for key, count in numbers.policies.items()),
            documents=numbers.documents,
            active={pipeline: count for pipeline, count in numbers.active.items() if count},
            circuits=tuple(CircuitSeries(*key, state=state) for key, state in numbers.circuits.items()),
        )

    def reset(self) -> None:
        """Forget everything but the calls under way."""
        with self._lock:
            self._numbers = Numbers(active=self._numbers.active)


K = TypeVar("K")


def _add(counts: dict[K, int], key: K, amount: int) -> None:
    counts[key] = counts.get(key, 0) + amount


@lru_cache(maxsize=1_024)
def host(base_url: str) -> str:
    """The host of a URL, without credentials, port and path; empty where there is none."""
    try:
        return urlsplit(base_url).hostname or ""
    except ValueError:
        return ""
