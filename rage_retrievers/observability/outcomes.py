"""How a call ended, in one word."""

from __future__ import annotations

from .events import CallCompleted

OUTCOMES = ("answered", "stale", "degraded", "failed", "cancelled")


def outcome(event: CallCompleted) -> str:
    """One of `OUTCOMES`."""
    if event.error is not None:
        return "failed" if isinstance(event.error, Exception) else "cancelled"
    if event.retrieval is None:
        return "answered"
    facts = event.retrieval.facts
    if facts.degraded is not None:
        return "degraded"
    return "stale" if facts.stale else "answered"
