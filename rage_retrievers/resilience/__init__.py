"""What keeps a call safe when the service is not: one file per policy, each written once for sync and async code."""

from __future__ import annotations

from .adaptive_throttle import AdaptiveThrottle
from .bulkhead import Bulkhead
from .cache import Cache
from .circuit_breaker import CircuitBreaker
from .deadline import Deadline
from .degrade import Degrade, EmptyAnswer, Fallback, OtherRetriever, StaleAnswer
from .failures import is_outage, is_overload, is_service_failure
from .hedge import Hedge
from .pipeline import ORDER, Call, Home, Homes, Pipeline, Policy, Step
from .rate_limit import RateLimit
from .retry import Retry, RetryBudget

__all__ = [
    "ORDER",
    "AdaptiveThrottle",
    "Bulkhead",
    "Cache",
    "Call",
    "CircuitBreaker",
    "Deadline",
    "Degrade",
    "EmptyAnswer",
    "Fallback",
    "Hedge",
    "Home",
    "Homes",
    "OtherRetriever",
    "Pipeline",
    "Policy",
    "RateLimit",
    "Retry",
    "RetryBudget",
    "StaleAnswer",
    "Step",
    "default_pipeline",
    "is_outage",
    "is_overload",
    "is_service_failure",
]


def default_pipeline() -> Pipeline:
    """10 s in all, 3 attempts, 64 calls in flight, and a circuit breaker."""
    return _DEFAULT


_DEFAULT = Pipeline([Deadline(), Bulkhead(), Retry(), CircuitBreaker()])
