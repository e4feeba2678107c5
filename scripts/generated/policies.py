"""The tables on the policies' pages: options with their defaults, and what is logged."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from rage_retrievers import resilience
from rage_retrievers.observability import events
from rage_retrievers.observability.logs import FIELDS

from .observability import fields_of
from .tables import code, table

OPTIONS: dict[str, dict[str, str]] = {
    "Deadline": {"timeout": "seconds for the whole call; above 0"},
    "Retry": {
        "attempts": "requests for one call, the first included; 1 repeats none",
        "base": "seconds: the longest first pause, doubled for each further one",
        "cap": "seconds: no pause is longer, unless `Retry-After` asks for it",
        "budget": "the bucket that all calls to the pipeline share; `None` for no budget",
        "wait": "one of tenacity's wait strategies, in place of `base` and `cap`; it gives the longest pause",
    },
    "RetryBudget": {
        "ratio": "what each call puts in; a retry takes 1 out",
        "reserve": "what a full bucket holds, and what it starts with; at least 1",
    },
    "CircuitBreaker": {
        "failure_rate": "the share of failures that opens the circuit; above 0, up to 1",
        "minimum_calls": "attempts that the window must have seen before the rate counts",
        "window": "seconds that the rate looks back",
        "in_a_row": "failures in a row that open it, whatever the rate",
        "reset_after": "seconds until an open circuit lets one probe through",
    },
    "Bulkhead": {
        "limit": "calls in flight",
        "max_wait": "seconds in line at most; `None`: as long as the deadline allows, 0: not at all",
    },
    "Hedge": {
        "delay": "seconds before the second request; `None`: the percentile below, measured as it runs",
        "percentile": "which share of the last 500 answers came sooner than the delay",
        "budget": "extra requests as a share of the calls, at most; above 0, up to 1",
        "minimum_calls": "answers that must be known before a measured delay is used",
    },
    "RateLimit": {
        "rate": "requests a second",
        "burst": "requests at once after a quiet time",
        "max_wait": "seconds a request waits for its turn; `None`: as long as the deadline allows",
    },
    "AdaptiveThrottle": {
        "k": "how many requests are sent for each that the service accepts, before any is refused here; at least 1",
        "window": "seconds that are counted",
    },
    "Cache": {
        "ttl": "seconds an answer is fresh",
        "max_entries": "answers kept for one pipeline; the least recently used goes first",
        "stale_for": "seconds after `ttl` during which an old answer is served in an outage; 0 for never",
    },
    "Degrade": {
        "to": "the fallbacks, asked in turn until one has an answer",
        "when": "which failures are covered; never a wrong token or a wrong query, unless you say so",
    },
}
"""What each option is. An option that is not here, or no longer exists, is an error."""

RECORDS: dict[str, list[tuple[type[events.Event], str, str]]] = {
    "Deadline": [(events.CallCompleted, "retrieve.failed", "the time is spent: `error_type=DeadlineExceededError`")],
    "Retry": [
        (events.AttemptFailed, "", "a request failed, whether or not another follows"),
        (events.RetryScheduled, "", "another request follows after `pause_ms`"),
        (events.Rejected, "", "the budget is spent: `policy=retry`, `error_type=RetryBudgetExhaustedError`"),
    ],
    "CircuitBreaker": [
        (events.CircuitChanged, "", "the circuit opens, lets a probe through (`half-open`), or closes"),
        (events.Rejected, "", 'a call is refused: `policy="circuit breaker"`, `error_type=CircuitOpenError`'),
    ],
    "Bulkhead": [
        (events.Rejected, "", "no permit came free: `policy=bulkhead`, `error_type=BulkheadFullError`"),
    ],
    "Hedge": [(events.Hedged, "", "a second request was started")],
    "RateLimit": [
        (events.Rejected, "", 'a request would wait too long: `policy="rate limit"`'),
    ],
    "AdaptiveThrottle": [
        (events.Rejected, "", "a request is refused: `policy=throttle`, `error_type=ThrottledError`"),
    ],
    "Cache": [(events.CacheHit, "", "the answer came from memory; `stale=True` when it is an old one")],
    "Degrade": [(events.Degraded, "", "a fallback answered in place of `error`")],
}
"""The record of each event, under its own name unless another is given, and when it is written."""
_OF_ANSWERS = ("documents", "stale", "degraded")


def defaults(policy: str) -> str:
    """The options of a policy with their defaults."""
    fields = dataclasses.fields(getattr(resilience, policy))
    said = OPTIONS[policy]
    if [field.name for field in fields] != list(said):
        raise KeyError(f"{policy} has the options {[field.name for field in fields]}, and described are {list(said)}.")
    return table(
        ["option", "default", "what it is"],
        ([code(field.name), _shown(field), said[field.name]] for field in fields),
    )


def _shown(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return code(f"{field.default_factory.__name__}()")  # type: ignore[attr-defined]  # factories here are classes
    if field.default is dataclasses.MISSING:
        return "you say"
    return code(getattr(field.default, "__name__", repr(field.default)))


def records(policy: str) -> str:
    """What is logged of a policy."""
    rows = []
    for event, name, when in RECORDS[policy]:
        level, fields = FIELDS[event][0], fields_of(event)
        if name:  # a call that failed
            level, fields = logging.ERROR, [field for field in fields if field not in _OF_ANSWERS]
        rows.append([code(name or event.name), logging.getLevelName(level), ", ".join(map(code, fields)), when])
    return table(["record", "level", "fields", "when"], rows)
