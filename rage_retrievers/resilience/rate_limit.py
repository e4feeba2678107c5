"""Rate limit: so many requests a second leave this process; the rest wait their turn, or are turned away. Opt-in."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

from .._flow import Flow, Sleep
from ..errors import RateLimitExceededError
from ..observability.events import Rejected
from .pipeline import Call, Step, above, at_least, at_least_one

_ROUNDING = 1e-9


class Schedule:
    """When the next request may leave: a token bucket written as the instant at which it will be full again."""

    def __init__(self, rate: float, burst: int) -> None:
        self._lock = threading.Lock()
        self._interval = 1.0 / rate
        self._span = burst * self._interval
        self._full_at = 0.0

    def take(self, now: float, patience: float) -> tuple[bool, float]:
        """(True, seconds to wait for the token taken), or (False, seconds the wait would have been)."""
        with self._lock:
            full_at = max(self._full_at, now) + self._interval
            wait = full_at - self._span - now
            wait = wait if wait > _ROUNDING else 0.0
            if wait > patience:
                return False, wait
            self._full_at = full_at
            return True, wait

    def put_back(self) -> None:
        """A token that was taken is not used."""
        with self._lock:
            self._full_at -= self._interval


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `rate` requests a second to a pipeline, and up to `burst` at once after a quiet time; retries count.

    A request waits its turn at most `max_wait` seconds (None: as long as the deadline allows), first come, first
    served; one that would wait longer is refused at once with `RateLimitExceededError`, whose `retry_after` says when.
    Defaults: 10 a second, bursts of 10, no bound but the deadline. The limit is this process's own.
    """

    kind: ClassVar[str] = "rate limit"
    rate: float = 10.0
    burst: int = 10
    max_wait: float | None = None

    def __post_init__(self) -> None:
        above("rate", self.rate)
        at_least_one("burst", self.burst)
        if self.max_wait is not None:
            at_least("max_wait", self.max_wait, 0)

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Take a token, wait until it is due, proceed."""
        schedule = call.home.state(self, self._make)
        remaining = call.remaining()
        patience = remaining if self.max_wait is None else min(self.max_wait, remaining)
        granted, wait = schedule.take(call.clock.monotonic(), patience)
        if not granted:
            raise self._refusal(call, wait)
        if wait:
            try:
                yield Sleep(wait)
            except BaseException:  # cancelled in line: the token serves a later call
                schedule.put_back()
                raise
        return (yield from proceed(call))

    def _make(self) -> Schedule:
        return Schedule(self.rate, self.burst)

    def _refusal(self, call: Call, wait: float) -> RateLimitExceededError:
        error = RateLimitExceededError(
            f"The client's own limit of {self.rate:g} requests a second has its next turn in {wait:.3g} s, which is "
            "longer than this call may wait; nothing was sent. Lower the concurrency or raise the rate limit.",
            retry_after=wait,
        )
        call.emit(Rejected, self.kind, error)
        return error
