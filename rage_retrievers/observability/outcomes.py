"""How a call ended, in one word."""

from __future__ import annotations

from ..models import Retrieval
from .events import CallCompleted

OUTCOMES = ("answered", "stale", "degraded", "failed", "cancelled")


def marks(retrieval: Retrieval) -> tuple[bool, str | None]:
    """Whether the answer is stale, and the fallback that gave it."""
    # The public properties cost a microsecond each, as pydantic looks private attributes up by name.
    private = retrieval.__pydantic_private__ or {}
    return private.get("_stale", False), private.get("_degraded")


def outcome(event: CallCompleted) -> str:
    """One of `OUTCOMES`."""
    if event.error is not None:
        return "failed" if isinstance(event.error, Exception) else "cancelled"
    stale, degraded = (False, None) if event.retrieval is None else marks(event.retrieval)
    if degraded is not None:
        return "degraded"
    return "stale" if stale else "answered"
