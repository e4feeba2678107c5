"""Bulkhead: at most so many calls to a pipeline at once; the rest wait in line, or are turned away."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from .._flow import Flow, Wait
from ..errors import BulkheadFullError
from ..observability.events import Rejected
from .pipeline import Call, Step, at_least, at_least_one


class Place:
    """A place in a line that one call stands at: done once a permit is handed over.

    A `concurrent.futures.Future` would do, and take twice as long. No lock: whoever comes second, the permit or the
    callback, sees the other one; when they come together the callback may be told twice.
    """

    __slots__ = ("_done", "_told")

    def __init__(self) -> None:
        self._done = False
        self._told: Callable[[Place], object] | None = None

    def done(self) -> bool:
        """Whether the permit has come."""
        return self._done

    def keep(self) -> None:
        """Hand the permit over."""
        self._done = True
        if self._told is not None:
            self._told(self)

    def add_done_callback(self, told: Callable[[Place], object], /) -> None:
        """Call `told` once the permit has come; the last one given takes the place of the one before."""
        self._told = told
        if self._done:
            told(self)

    def result(self, timeout: float | None = None, /) -> None:
        """Wait for the permit in blocking code; TimeoutError after `timeout` seconds."""
        if not self._done:
            come = threading.Event()
            self.add_done_callback(lambda _: come.set())
            if not come.wait(timeout):
                raise TimeoutError


class Permits:
    """The permits of one pipeline, first come first served across threads, tasks and event loops."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._line: deque[Place] = deque()
        self.free = limit

    def take(self) -> Place | None:
        """None when a permit was taken; else the place in line, done once a permit is handed over."""
        with self._lock:
            if self.free:
                self.free -= 1
                return None
            place = Place()
            self._line.append(place)
            return place

    def leave(self, place: Place) -> bool:
        """Leave the line. True when a permit had been handed over meanwhile: it is the caller's now."""
        with self._lock:
            if place.done():
                return True
            self._line.remove(place)
            return False

    def give_back(self) -> None:
        """Hand the permit to the first in line, or put it back."""
        with self._lock:
            if not self._line:
                self.free += 1
                return
            place = self._line.popleft()
            place.keep()

    @property
    def waiting(self) -> int:
        """How many calls stand in line."""
        return len(self._line)


@dataclass(frozen=True, slots=True)
class Bulkhead:
    """At most `limit` calls in flight; another waits in line for `max_wait` seconds, then `BulkheadFullError`.

    First come, first served, across threads and tasks. Defaults: 64 calls, and a wait (None) as long as the deadline
    allows; 0 turns away at once.
    """

    kind: ClassVar[str] = "bulkhead"
    limit: int = 64
    max_wait: float | None = None

    def __post_init__(self) -> None:
        at_least_one("limit", self.limit)
        if self.max_wait is not None:
            at_least("max_wait", self.max_wait, 0)

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Take a permit, proceed, give it back."""
        permits = call.home.state(self, self._permits)
        place = permits.take()
        if place is not None:
            yield from self._stand_in_line(call, permits, place)
        try:
            return (yield from proceed(call))
        finally:
            permits.give_back()

    def _permits(self) -> Permits:
        return Permits(self.limit)

    def _stand_in_line(self, call: Call, permits: Permits, place: Place) -> Flow[None]:
        remaining = call.remaining()
        patience = remaining if self.max_wait is None else min(self.max_wait, remaining)
        try:
            if patience > 0:
                yield Wait(place, patience)
        except TimeoutError:
            pass  # the permit may still have come in the same instant: leaving the line tells
        except BaseException:  # cancelled in line: the permit, if it came, goes to the next
            if permits.leave(place):
                permits.give_back()
            raise
        if permits.leave(place):
            return
        error = BulkheadFullError(
            f"{self.limit} calls to this pipeline are in flight and none ended within {max(patience, 0):.3g} s; "
            "nothing was sent. Raise the bulkhead's limit or lower the concurrency."
        )
        call.emit(Rejected, self.kind, error)
        raise error
