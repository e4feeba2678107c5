"""The events of a call. Frozen; durations in seconds; no event holds a credential.

`call_id` is the same in every event of one logical call.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from ..models import Query, Retrieval, Target


@dataclass(frozen=True, slots=True)
class Event:
    """Base of every event: which call, and which pipeline it goes to."""

    name: ClassVar[str] = "event"
    call_id: str
    target: Target


@dataclass(frozen=True, slots=True)
class CallStarted(Event):
    """A logical call begins. `query` is None for operations that ask no question."""

    name: ClassVar[str] = "call.started"
    operation: str
    query: Query | None


@dataclass(frozen=True, slots=True)
class AttemptStarted(Event):
    """A request is about to be sent; `attempt` counts from 1."""

    name: ClassVar[str] = "attempt.started"
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptSucceeded(Event):
    """A request brought a usable answer after `elapsed` seconds."""

    name: ClassVar[str] = "attempt.succeeded"
    attempt: int
    elapsed: float


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    """A request failed; `error` says how."""

    name: ClassVar[str] = "attempt.failed"
    attempt: int
    elapsed: float
    error: Exception


@dataclass(frozen=True, slots=True)
class RetryScheduled(Event):
    """Another attempt follows after `pause` seconds."""

    name: ClassVar[str] = "retry.scheduled"
    attempt: int
    pause: float
    error: Exception


@dataclass(frozen=True, slots=True)
class CircuitChanged(Event):
    """The circuit of the pipeline went from `before` to `after` (closed, open, half-open)."""

    name: ClassVar[str] = "circuit.changed"
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """A policy refused to send; `policy` names it."""

    name: ClassVar[str] = "call.rejected"
    policy: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Hedged(Event):
    """A second request was started after `delay` seconds."""

    name: ClassVar[str] = "call.hedged"
    delay: float


@dataclass(frozen=True, slots=True)
class CacheHit(Event):
    """The answer came from the cache; `stale` when it is past its time and the service is down."""

    name: ClassVar[str] = "cache.hit"
    age: float
    stale: bool


@dataclass(frozen=True, slots=True)
class Degraded(Event):
    """The call failed with `error`, and the fallback the user chose gave the answer."""

    name: ClassVar[str] = "call.degraded"
    fallback: str
    error: Exception


@dataclass(frozen=True, slots=True)
class CallCompleted(Event):
    """A logical call ended: with an answer (`error` is None) or with `error`."""

    name: ClassVar[str] = "call.completed"
    operation: str
    query: Query | None
    attempts: int
    elapsed: float
    retrieval: Retrieval | None
    error: BaseException | None


class Listener(Protocol):
    """Anything that wants to hear of events."""

    def on_event(self, event: Event, /) -> None:
        """Called in the thread or task of the call, so be brief."""
        ...


_log = logging.getLogger("rage_retrievers")


def tell(listeners: tuple[Listener, ...], event: Event) -> None:
    """Give the event to every listener; one that raises is logged and never breaks the call."""
    for listener in listeners:
        try:
            listener.on_event(event)
        except Exception as error:
            _log.warning(
                "listener.failed",
                extra={"listener": type(listener).__name__, "error_type": type(error).__name__},
            )
