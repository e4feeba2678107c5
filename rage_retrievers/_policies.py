"""The policies that the settings describe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .resilience import Bulkhead, CircuitBreaker, Deadline, Pipeline, Policy, Retry, RetryBudget

if TYPE_CHECKING:
    from .resilience import Cache
    from .settings import VectorizeSettings


def policies_of(settings: VectorizeSettings) -> Pipeline:
    """The policies these settings ask for; what they switch off is not there."""
    base = settings.retry_delay_ms / 1000
    policies: list[Policy] = [
        Deadline(settings.timeout_ms / 1000),
        Bulkhead(settings.max_in_flight, max_wait=_seconds(settings.max_wait_ms)),
        CircuitBreaker(
            failure_rate=settings.circuit_failure_rate,
            minimum_calls=settings.circuit_minimum_calls,
            window=settings.circuit_window_ms / 1000,
            in_a_row=settings.circuit_failures,
            reset_after=settings.circuit_reset_ms / 1000,
        ),
    ]
    if settings.retry_attempts:
        cap, budget = (
            max(settings.retry_max_delay_ms / 1000, base),
            RetryBudget(settings.retry_budget, settings.retry_reserve),
        )
        policies.append(Retry(attempts=settings.retry_attempts + 1, base=base, cap=cap, budget=budget))
    return Pipeline([*policies, *_asked_for(settings)])


def _asked_for(settings: VectorizeSettings) -> Iterator[Policy]:
    if settings.enable_caching:
        yield _cache(settings)
    if settings.enable_hedging:
        from .resilience import Hedge

        delay = _seconds(settings.hedge_delay_ms)
        yield Hedge(delay, settings.hedge_percentile, settings.hedge_budget, settings.hedge_minimum_calls)
    if settings.rate_limit is not None:
        from .resilience import RateLimit

        burst = settings.rate_limit_burst or max(1, round(settings.rate_limit))
        yield RateLimit(settings.rate_limit, burst, _seconds(settings.rate_limit_wait_ms))
    if settings.enable_throttling:
        from .resilience import AdaptiveThrottle

        yield AdaptiveThrottle(settings.throttle_k, settings.throttle_window_ms / 1000)
    if settings.degrade is not None:
        from .resilience import Degrade, EmptyAnswer, StaleAnswer

        stale = (StaleAnswer(_cache(settings)),) if settings.degrade != "empty" else ()
        empty = (EmptyAnswer(),) if settings.degrade != "stale" else ()
        yield Degrade((*stale, *empty))


def _cache(settings: VectorizeSettings) -> Cache:
    from .resilience import Cache

    return Cache(settings.cache_ttl, settings.cache_max_entries, settings.cache_stale_for)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
