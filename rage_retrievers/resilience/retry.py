"""Retry: transient errors are tried again, after a pause that never crosses the deadline, within a shared budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .._checks import shown
from .._flow import Flow, Sleep
from ..errors import ConfigurationError, RageError, RejectedError, RetryBudgetExhaustedError
from ..observability.events import Rejected, RetryScheduled
from .bucket import Bucket
from .pipeline import Call, Step, above, at_least, at_least_one

if TYPE_CHECKING:
    from tenacity import RetryCallState


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """A token bucket shared by every call to a pipeline: a call puts `ratio` tokens in, a retry takes one out.

    In an outage the extra load of retries stays under `ratio` of the calls. `reserve` is what a full bucket holds and
    what it starts with, so that a caller with little traffic may retry too. Defaults: 0.1 and 10.
    """

    kind: ClassVar[str] = "retry budget"
    ratio: float = 0.1
    reserve: float = 10.0

    def __post_init__(self) -> None:
        at_least("ratio", self.ratio, 0)
        at_least("reserve", self.reserve, 1)

    def bucket(self) -> Bucket:
        """A full bucket of this size."""
        return Bucket(self.ratio, self.reserve, self.reserve)


@dataclass(frozen=True, slots=True)
class Retry:
    """Up to `attempts` requests for one call; 1 means none is repeated.

    Only transient errors are tried again (see `rage_retrievers.errors`). The pause is drawn evenly from 0 to
    min(`cap`, `base` * 2 ** (attempt - 1)) seconds, full jitter; a `Retry-After` of the service is a lower bound. A
    pause that would cross the deadline is not taken: the error is raised at once. `wait` replaces the upper limit
    by any of tenacity's wait strategies. What another policy refused is not tried again.

    Defaults: 3 attempts, base 0.2 s, cap 5 s, a budget of 10 % shared by the pipeline's callers; None means no budget.
    """

    kind: ClassVar[str] = "retry"
    attempts: int = 3
    base: float = 0.2
    cap: float = 5.0
    budget: RetryBudget | None = field(default_factory=RetryBudget)
    wait: Callable[[RetryCallState], float] | None = None

    def __post_init__(self) -> None:
        at_least_one("attempts", self.attempts)
        above("base", self.base)
        at_least("cap", self.cap, self.base)
        if self.budget is not None and not isinstance(self.budget, RetryBudget):
            raise ConfigurationError(
                f"budget={shown(self.budget)} cannot be used; give a RetryBudget, or None for none."
            )
        if self.wait is not None and not callable(self.wait):
            raise ConfigurationError(f"wait={shown(self.wait)} cannot be used; give a wait strategy of tenacity's.")

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Try, pause, try again."""
        budget = self.budget
        bucket = None if budget is None else call.home.state(budget, budget.bucket)
        if bucket is not None:
            bucket.put()
        attempt = 1
        last: RageError | None = None
        try:
            while True:
                try:
                    return (yield from proceed(call))
                except RejectedError as error:
                    if last is None:
                        raise
                    raise error from last
                except RageError as error:
                    pause = self._pause_after(call, attempt, error, bucket)
                    if pause is None:
                        raise
                    last = error
                call.emit(RetryScheduled, attempt, pause, last)
                yield Sleep(pause)
                attempt += 1
        finally:
            # Its traceback holds this frame, and the frames below hold whole answers: a cycle would keep them.
            last = None

    def _pause_after(self, call: Call, attempt: int, error: RageError, bucket: Bucket | None) -> float | None:
        """Seconds to wait before the next attempt, or None when there is none. Raises RetryBudgetExhaustedError."""
        if not error.transient or attempt >= self.attempts:
            return None
        pause = call.clock.random() * self._ceiling(attempt, error)
        if error.retry_after is not None:
            pause = max(pause, error.retry_after)
        if pause >= call.remaining():
            return None
        if bucket is not None and not bucket.take():
            raise self._spent(call, attempt, error) from error
        return pause

    def _ceiling(self, attempt: int, error: RageError) -> float:
        """The longest pause after this attempt, by tenacity's exponential wait unless the user brought another."""
        from tenacity import RetryCallState, Retrying, wait_exponential

        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = attempt
        if self.wait is None:
            return wait_exponential(multiplier=self.base, max=self.cap)(state)
        state.set_exception((type(error), error, error.__traceback__))
        return max(0.0, float(self.wait(state)))

    def _spent(self, call: Call, attempt: int, error: RageError) -> RetryBudgetExhaustedError:
        refusal = RetryBudgetExhaustedError(
            f"Attempt {attempt} failed ({type(error).__name__}) and is not repeated: the retry budget of this pipeline "
            "is spent, so retries would only add load to a service in trouble.",
            retry_after=error.retry_after,
        )
        call.emit(Rejected, self.kind, refusal)
        return refusal
