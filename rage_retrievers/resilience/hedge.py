"""Hedging: when an answer is late, a second request is sent and the first answer wins. Opt-in."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

from .._checks import shown
from .._flow import Flow, Race
from ..errors import ConfigurationError
from ..observability.events import Hedged
from .bucket import Bucket
from .pipeline import Call, Step, above, at_least, at_least_one

_REMEMBERED = 500
_SAVED_UP = 10.0


class Latencies:
    """The seconds that the last 500 answers took. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_order: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Count one answer; the oldest is forgotten."""
        with self._lock:
            if len(self._in_order) == _REMEMBERED:
                del self._sorted[bisect_left(self._sorted, self._in_order.popleft())]
            self._in_order.append(seconds)
            insort(self._sorted, seconds)

    def percentile(self, share: float, minimum: int) -> float | None:
        """The seconds within which this share of the answers came; None while fewer than `minimum` are known."""
        with self._lock:
            known = len(self._sorted)
            return self._sorted[min(known - 1, int(share * known))] if known >= minimum else None


class Odds:
    """What the hedged calls of one pipeline share."""

    def __init__(self, options: Hedge) -> None:
        # It starts empty, so that the extra requests are never more than their share of the calls.
        self.budget = Bucket(options.budget, _SAVED_UP, 0.0)
        self.latencies = Latencies()


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second request when the first has no answer after `delay` seconds; whichever answers first wins.

    With `delay=None` it is the `percentile` of the last 500 answers' times, and nothing is hedged before
    `minimum_calls` are known. `budget` is the share of extra requests it never exceeds. The loser is cancelled and
    says nothing of the service. A failure of one leaves the decision to the other.

    Defaults: the 95th percentile after 20 calls, at most 5 % more requests.
    """

    kind: ClassVar[str] = "hedge"
    delay: float | None = None
    percentile: float = 0.95
    budget: float = 0.05
    minimum_calls: int = 20

    def __post_init__(self) -> None:
        if self.delay is not None:
            at_least("delay", self.delay, 0)
        for name in ("percentile", "budget"):
            value = getattr(self, name)
            above(name, value)
            if value > 1 or (name == "percentile" and value == 1):
                raise ConfigurationError(f"{name}={shown(value)} cannot be used; it is a share between 0 and 1.")
        at_least_one("minimum_calls", self.minimum_calls)

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Proceed; once it takes too long, proceed a second time beside it."""
        odds = call.home.state(self, self._make)
        odds.budget.put()
        delay = odds.latencies.percentile(self.percentile, self.minimum_calls) if self.delay is None else self.delay
        began = call.clock.monotonic()

        def second() -> Flow[Any] | None:
            if not odds.budget.take():
                return None
            call.emit(Hedged, delay)
            return proceed(call)

        if delay is None or delay >= call.remaining():
            answer = yield from proceed(call)
        else:
            _, answer = yield Race(proceed(call), second, delay)
        if self.delay is None:
            # The winner's time counts from the first request, or hedging would hide the slowness it measures.
            odds.latencies.add(call.clock.monotonic() - began)
        return answer

    def _make(self) -> Odds:
        return Odds(self)
