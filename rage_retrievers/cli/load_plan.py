"""What a load test is to do, and what it found."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..models import Retrieval

MOST_CONCURRENCY = 512
MOST_REQUESTS = 100_000
MOST_SECONDS = 3_600.0
MOST_RATE = 5_000.0
QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """`requests` questions, or as many as `seconds` allow, by `concurrency` askers; with `rate`, so many a second.

    Bounded, so that a typing error is no attack on the service. Raises ConfigurationError for what is out of bounds.
    """

    questions: tuple[str, ...]
    concurrency: int = 4
    requests: int | None = None
    seconds: float | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        if not self.questions or not all(question.strip() for question in self.questions):
            raise ConfigurationError("question is missing or empty; give one, or a file of them with --questions.")
        if self.requests is None and self.seconds is None:
            raise ConfigurationError("requests and duration are both missing; give at least one, so that it ends.")
        _within("--concurrency", self.concurrency, 1, MOST_CONCURRENCY)
        _within("--requests", self.requests, 1, MOST_REQUESTS)
        _within("--duration", self.seconds, 0, MOST_SECONDS)
        _within("--rate", self.rate, 0, MOST_RATE)

    @property
    def most(self) -> int:
        """The number of requests at which the test ends, whatever its duration."""
        return MOST_REQUESTS if self.requests is None else self.requests

    def due(self, number: int) -> float:
        """Seconds after the start at which request `number` (from 0) is to be sent; 0 when no rate is given."""
        return number / self.rate if self.rate else 0.0

    def described(self) -> str:
        """The plan in a few words."""
        parts = [f"{self.concurrency} at once"]
        parts += [f"{self.rate:g} requests/s"] if self.rate else ["each as soon as the one before has ended"]
        parts += [f"{self.requests:,} requests"] if self.requests is not None else []
        parts += [f"at most {self.seconds:g} s"] if self.seconds is not None else []
        return ", ".join(parts)


def _within(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (least <= value <= most and value > 0):
        allowed = f"from {least:g} to {most:g}" if least else f"above 0 and up to {most:g}"
        raise ConfigurationError(f"{name} = {value!r} cannot be used; use a number {allowed}.")


@dataclass(slots=True)
class Measured:
    """What was measured so far; seconds."""

    latencies: list[float] = field(default_factory=list)
    """Of the answers; with a rate, from the moment the request was due, so that a queue counts."""
    errors: Counter[str] = field(default_factory=Counter)
    last_failure: str | None = None
    """How the service failed last, in whatever attempt: what opened a circuit."""
    sent: int = 0
    """Requests on the wire: retries are counted, and those of failed calls too."""
    empty: int = 0
    elapsed: float = 0.0
    interrupted: bool = False

    @property
    def ended(self) -> int:
        """Calls that ended, well or badly."""
        return len(self.latencies) + self.failed

    @property
    def failed(self) -> int:
        """Calls that ended badly."""
        return self.errors.total()

    def answered(self, answer: Retrieval, latency: float) -> None:
        """Count an answer."""
        self.latencies.append(latency)
        self.sent += answer.attempts
        self.empty += not answer.documents

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; latencies in milliseconds."""
        ordered = sorted(self.latencies)
        return {
            "calls": self.ended,
            "answered": len(ordered),
            "failed": self.failed,
            "empty_answers": self.empty,
            "requests_sent": self.sent,
            "elapsed_s": round(self.elapsed, 3),
            "answers_per_s": round(len(ordered) / self.elapsed, 2) if self.elapsed else None,
            "latency_ms": {name: round(value * 1000, 3) for name, value in summary(ordered).items()},
            "histogram_ms": [
                {"from": round(low * 1000, 3), "to": round(high * 1000, 3), "count": count}
                for low, high, count in histogram(ordered)
            ],
            "errors": dict(self.errors.most_common()),
            "interrupted": self.interrupted,
        }


def summary(ordered: Sequence[float]) -> dict[str, float]:
    """Least, mean, percentiles and most of sorted values; empty for none."""
    if not ordered:
        return {}
    found = {"min": ordered[0], "mean": math.fsum(ordered) / len(ordered)}
    found |= {f"p{share * 100:g}": quantile(ordered, share) for share in QUANTILES}
    return {**found, "max": ordered[-1]}


def quantile(ordered: Sequence[float], share: float) -> float:
    """The least of the sorted values that at least this share of them does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def histogram(ordered: Sequence[float], most: int = 16) -> list[tuple[float, float, int]]:
    """(from, to, count) of sorted values, in at most `most` rows of equal ratio: latencies spread over decades."""
    if not ordered:
        return []
    low, high = max(ordered[0], 1e-6), max(ordered[-1], 1e-6)
    rows = 1 if high <= low else min(most, max(1, math.ceil(2 * math.sqrt(len(ordered)))))
    edges = [low * (high / low) ** (row / rows) for row in range(rows + 1)]
    edges[-1] = high
    below = [0, *(bisect_right(ordered, edge) for edge in edges[1:-1]), len(ordered)]
    return [(edges[row], edges[row + 1], below[row + 1] - below[row]) for row in range(rows)]
