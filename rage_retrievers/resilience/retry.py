"""Retry: transient errors are tried again, after a pause that never crosses the deadline, within a shared budget."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .._flow import Flow, Sleep
from ..errors import CircuitOpenError, ConfigurationError, RageError, RejectedError, RetryBudgetExhaustedError
from ..observability.events import RetryScheduled
from .pipeline import Call, Step, above, at_least

if TYPE_CHECKING:
    from tenacity import RetryCallState


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """A token bucket shared by every call to a pipeline: a call puts `ratio` tokens in, a retry takes one out.

    In an outage the extra load of retries stays under `ratio` of the calls. `reserve` is what a full bucket holds and
    what it starts with, so that a caller with little traffic may retry too.
    """

    ratio: float = 0.1
    reserve: float = 10.0

    def __post_init__(self) -> None:
        at_least("ratio", self.ratio, 0)
        at_least("reserve", self.reserve, 1)


class Bucket:
    """The state of a `RetryBudget`. Safe to use from every thread."""

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self.tokens = budget.reserve

    def put(self) -> None:
        """A call was made."""
        if self.tokens < self._budget.reserve:
            with self._lock:
                self.tokens = min(self._budget.reserve, self.tokens + self._budget.ratio)

    def take(self) -> bool:
        """Whether one retry may be made; it is then counted."""
        with self._lock:
            # Sums of 0.1 fall short of whole numbers by rounding alone.
            if self.tokens < 1.0 - 1e-9:
                return False
            self.tokens -= 1.0
            return True


@dataclass(frozen=True, slots=True)
class Retry:
    """Up to `attempts` requests for one call; 1 means none is repeated.

    Only transient errors are tried again (see `rage_retrievers.errors`). The pause is drawn evenly from 0 to
    min(`cap`, `base` * 2 ** (attempt - 1)) seconds, full jitter; a `Retry-After` of the service is a lower bound. A
    pause that would cross the deadline is not taken: the error is raised at once. `wait` replaces the upper limit
    by any of tenacity's wait strategies.
    """

    kind: ClassVar[str] = "retry"
    attempts: int = 3
    base: float = 0.2
    cap: float = 5.0
    budget: RetryBudget | None = field(default_factory=RetryBudget)
    wait: Callable[[RetryCallState], float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or isinstance(self.attempts, bool) or self.attempts < 1:
            raise ConfigurationError(
                f"attempts={self.attempts!r} cannot be used; it counts the requests of one call, so it is 1 or more."
            )
        above("base", self.base)
        at_least("cap", self.cap, self.base)

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Try, pause, try again."""
        bucket = None if self.budget is None else call.home.state(self, self._bucket)
        if bucket is not None:
            bucket.put()
        attempt = 1
        last: RageError | None = None
        while True:
            try:
                return (yield from proceed(call))
            except CircuitOpenError as error:
                raise error from last
            except RejectedError:
                raise
            except RageError as error:
                pause = self._pause(call, attempt, error, bucket)
                if pause is None:
                    raise
                last = error
            call.emit(RetryScheduled, attempt, pause, last)
            yield Sleep(pause)
            attempt += 1

    def _bucket(self) -> Bucket:
        assert self.budget is not None  # only asked for when there is one
        return Bucket(self.budget)

    def _pause(self, call: Call, attempt: int, error: RageError, bucket: Bucket | None) -> float | None:
        """Seconds to wait before the next attempt, or None when there is none."""
        if not error.transient or attempt >= self.attempts:
            return None
        pause = call.clock.random() * self._ceiling(attempt)
        if error.retry_after is not None:
            pause = max(pause, error.retry_after)
        if pause >= call.remaining():
            return None
        if bucket is not None and not bucket.take():
            raise RetryBudgetExhaustedError(
                f"Attempt {attempt} failed ({type(error).__name__}) and is not repeated: the retry budget of this "
                "pipeline is spent, so retries would only add load to a service in trouble."
            ) from error
        return pause

    def _ceiling(self, attempt: int) -> float:
        """The longest pause after this attempt, by tenacity's exponential wait unless the user brought another."""
        from tenacity import AsyncRetrying, RetryCallState, wait_exponential

        state = RetryCallState(AsyncRetrying(), None, (), {})
        state.attempt_number = attempt
        wait = self.wait or wait_exponential(multiplier=self.base, max=self.cap)
        return max(0.0, float(wait(state)))
