"""What keeps a call safe when the service is not: one file per policy, each written once for sync and async code."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from .._lazy import loader
from .bulkhead import Bulkhead
from .circuit_breaker import CircuitBreaker
from .deadline import Deadline
from .failures import is_outage, is_overload, is_service_failure
from .pipeline import ORDER, Call, Home, Homes, Pipeline, Policy, Step
from .retry import Retry, RetryBudget

if TYPE_CHECKING:
    from .adaptive_throttle import AdaptiveThrottle
    from .cache import Cache
    from .degrade import Degrade, EmptyAnswer, Fallback, OtherRetriever, StaleAnswer
    from .hedge import Hedge
    from .rate_limit import RateLimit

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


@cache
def default_pipeline() -> Pipeline:
    """10 s in all, 3 attempts, 64 calls in flight, and a circuit breaker."""
    return Pipeline([Deadline(), Bulkhead(), Retry(), CircuitBreaker()])


# The policies that have to be asked for are loaded when they are.
_HOMES = {
    "AdaptiveThrottle": "adaptive_throttle",
    "Cache": "cache",
    "Degrade": "degrade",
    "EmptyAnswer": "degrade",
    "Fallback": "degrade",
    "Hedge": "hedge",
    "OtherRetriever": "degrade",
    "RateLimit": "rate_limit",
    "StaleAnswer": "degrade",
}

__getattr__ = loader(__name__, _HOMES)
