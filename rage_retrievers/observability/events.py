"""The events of a call. Frozen; durations in seconds; no event holds a credential.

`call_id` is the same in every event of one logical call. `tell` gives an event to the listeners; `sending` is what the
client puts around each request, for listeners that add headers or must know that the request is under way.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

from .._frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..models import Query, Retrieval, Target


@frozen
class Event:
    """Base of every event: which call, and which pipeline it goes to."""

    name: ClassVar[str] = "event"
    call_id: str
    target: Target


@frozen
class CallStarted(Event):
    """A logical call begins. `query` is None for operations that ask no question."""

    name: ClassVar[str] = "call.started"
    operation: str
    query: Query | None


@frozen
class AttemptStarted(Event):
    """A request is about to be sent; `attempt` counts from 1. `url` holds no query string and no credential."""

    name: ClassVar[str] = "attempt.started"
    attempt: int
    method: str = "POST"
    url: str = ""


@frozen
class AttemptSucceeded(Event):
    """A request brought a usable answer after `elapsed` seconds."""

    name: ClassVar[str] = "attempt.succeeded"
    attempt: int
    elapsed: float
    status: int = 200
    method: str = "POST"


@frozen
class AttemptFailed(Event):
    """A request failed; `error` says how."""

    name: ClassVar[str] = "attempt.failed"
    attempt: int
    elapsed: float
    error: Exception
    method: str = "POST"


@frozen
class RetryScheduled(Event):
    """Another attempt follows after `pause` seconds."""

    name: ClassVar[str] = "retry.scheduled"
    attempt: int
    pause: float
    error: Exception


@frozen
class CircuitChanged(Event):
    """The circuit of the pipeline went from `before` to `after` (closed, open, half-open)."""

    name: ClassVar[str] = "circuit.changed"
    before: str
    after: str


@frozen
class Rejected(Event):
    """A policy refused to send; `policy` names it."""

    name: ClassVar[str] = "call.rejected"
    policy: str
    error: Exception


@frozen
class Hedged(Event):
    """A second request was started after `delay` seconds."""

    name: ClassVar[str] = "call.hedged"
    delay: float


@frozen
class CacheHit(Event):
    """The answer came from the cache; `stale` when it is past its time and the service is down."""

    name: ClassVar[str] = "cache.hit"
    age: float
    stale: bool


@frozen
class Degraded(Event):
    """The call failed with `error`, and the fallback the user chose gave the answer."""

    name: ClassVar[str] = "call.degraded"
    fallback: str
    error: Exception


@frozen
class CallCompleted(Event):
    """A logical call ended: with an answer (`error` is None) or with `error`."""

    name: ClassVar[str] = "call.completed"
    operation: str
    query: Query | None
    attempts: int
    elapsed: float
    retrieval: Retrieval | None
    error: BaseException | None


Headers: TypeAlias = tuple[tuple[str, str], ...]


class Listener(Protocol):
    """Anything that wants to hear of events.

    A listener may also have
    - `required = True`: what it raises fails the call, for records without which no answer may be given;
    - `sending(event)`: gives a context manager around one request, whose value is headers to add to it; entering and
      leaving it must not raise.
    """

    def on_event(self, event: Event, /) -> None:
        """Called in the thread or task of the call, so be brief."""
        ...


_log = logging.getLogger("rage_retrievers")


def tell(listeners: tuple[Listener, ...], event: Event) -> None:
    """Give the event to every listener; one that raises is logged and never breaks the call.

    The exception is a listener with `required = True`: once all have heard, its error is raised. A cancelled call stays
    a cancelled call all the same.
    """
    failure: Exception | None = None
    for listener in listeners:
        try:
            listener.on_event(event)
        except Exception as error:
            if getattr(listener, "required", False):
                failure = failure or error
            else:
                _report(listener, error)
    if failure is not None and not _cancelled(event):
        raise failure


def _cancelled(event: Event) -> bool:
    return isinstance(event, CallCompleted) and event.error is not None and not isinstance(event.error, Exception)


def _report(listener: Listener, error: Exception) -> None:
    fields = {"event": "listener.failed", "listener": type(listener).__name__, "error_type": type(error).__name__}
    _log.warning("listener.failed listener=%s error_type=%s", fields["listener"], fields["error_type"], extra=fields)


_NOTHING: AbstractContextManager[Headers] = nullcontext(())


def sending(listeners: tuple[Listener, ...], event: AttemptStarted) -> AbstractContextManager[Headers]:
    """The context in which the request of `event` is sent; its value is headers to add, such as `traceparent`.

    Enter it once `event` has been told, and leave it before the attempt's outcome is.
    """
    contexts: list[AbstractContextManager[Headers]] = []
    for listener in listeners:
        context_of = getattr(listener, "sending", None)
        if context_of is not None:
            try:
                contexts.append(context_of(event))
            except Exception as error:
                _report(listener, error)
    if not contexts:
        return _NOTHING
    return contexts[0] if len(contexts) == 1 else _all(contexts)


@contextmanager
def _all(contexts: list[AbstractContextManager[Headers]]) -> Iterator[Headers]:
    with ExitStack() as stack:
        yield tuple(header for context in contexts for header in stack.enter_context(context))
