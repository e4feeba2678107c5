"""The policies that the settings describe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .resilience import Bulkhead, CircuitBreaker, Deadline, Pipeline, Policy, Retry, RetryBudget

if TYPE_CHECKING:
    from .settings import VectorizeSettings


def policies_of(settings: VectorizeSettings) -> Pipeline:
    """The policies these settings ask for; what they switch off is not there."""
    base, wait = settings.retry_delay_ms / 1000, settings.max_wait_ms
    policies: list[Policy] = [
        Deadline(settings.timeout_ms / 1000),
        Bulkhead(settings.max_in_flight, max_wait=None if wait is None else wait / 1000),
        CircuitBreaker(
            failure_rate=settings.circuit_failure_rate,
            minimum_calls=settings.circuit_minimum_calls,
            window=settings.circuit_window_ms / 1000,
            in_a_row=settings.circuit_failures,
            reset_after=settings.circuit_reset_ms / 1000,
        ),
    ]
    if settings.retry_attempts:
        cap, budget = max(settings.retry_max_delay_ms / 1000, base), RetryBudget(settings.retry_budget)
        policies.append(Retry(attempts=settings.retry_attempts + 1, base=base, cap=cap, budget=budget))
    return Pipeline([*policies, *_asked_for(settings)])


def _asked_for(settings: VectorizeSettings) -> Iterator[Policy]:
    if settings.enable_caching:
        from .resilience import Cache

        yield Cache(settings.cache_ttl, settings.cache_max_entries, settings.cache_stale_for)
    if settings.enable_hedging:
        from .resilience import Hedge

        delay = settings.hedge_delay_ms
        yield Hedge(None if delay is None else delay / 1000)
    if settings.rate_limit is not None:
        from .resilience import RateLimit

        yield RateLimit(settings.rate_limit, max(1, round(settings.rate_limit)))
