"""What keeps a call safe when the service is not: one file per policy, each written once for sync and async code."""

from __future__ import annotations

from .bulkhead import Bulkhead
from .circuit_breaker import CircuitBreaker
from .deadline import Deadline
from .pipeline import ORDER, Call, Home, Homes, Pipeline, Policy, Step
from .retry import Retry, RetryBudget

__all__ = [
    "ORDER",
    "Bulkhead",
    "Call",
    "CircuitBreaker",
    "Deadline",
    "Home",
    "Homes",
    "Pipeline",
    "Policy",
    "Retry",
    "RetryBudget",
    "Step",
    "default_pipeline",
]


def default_pipeline() -> Pipeline:
    """10 s in all, 3 attempts, 64 calls in flight, and a circuit breaker."""
    return _DEFAULT


_DEFAULT = Pipeline([Deadline(), Bulkhead(), Retry(), CircuitBreaker()])
