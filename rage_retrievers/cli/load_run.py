"""Asking as the plan says, and measuring."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ..errors import CircuitOpenError, RageError, RetryBudgetExhaustedError, StatusError
from ..observability.events import AttemptFailed, Event
from .load_plan import LoadPlan, Measured

if TYPE_CHECKING:
    from ..models import Retrieval

Ask: TypeAlias = "Callable[[str], Awaitable[Retrieval]]"
Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FailureWatch:
    """A listener that notes how the service failed last, be it before the test or in an attempt that is repeated.

    The calls that an open circuit refuses do not know it.
    """

    measured: Measured

    def on_event(self, event: Event, /) -> None:
        """Note a failure that counts against the service."""
        from ..resilience import is_service_failure

        if isinstance(event, AttemptFailed) and is_service_failure(event.error):
            self.measured.last_failure = _kind(event.error)


async def run(
    ask: Ask,
    plan: LoadPlan,
    measured: Measured,
    *,
    heard: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Ask until the plan is done, adding to `measured`, which is right whenever this is interrupted.

    With a rate, a request that had to wait for a free asker is measured from when it was due: a slow service must not
    look fast because it was asked less.
    """
    started = clock()
    numbers = iter(range(plan.most))

    async def asker() -> None:
        for number in numbers:
            due = started + plan.due(number)
            if plan.seconds is not None and max(due, clock()) - started >= plan.seconds:
                return
            if due > clock():
                await sleep(due - clock())
            began = due if plan.rate else clock()
            answer = await _answer(ask, plan.questions[number % len(plan.questions)], measured)
            now = clock()
            if answer is not None:
                measured.answered(answer, now - began)
            measured.elapsed = now - started
            heard()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(plan.concurrency, plan.most)):
            group.create_task(asker())


async def _answer(ask: Ask, question: str, measured: Measured) -> Retrieval | None:
    try:
        return await ask(question)
    except RageError as error:
        measured.sent += error.attempts
        measured.errors[_kind(error, measured.last_failure)] += 1
        return None


def _kind(error: Exception, last_failure: str | None = None) -> str:
    """The error's type, with the status where there is one.

    Of a spent retry budget, what the retry was wanted for; of an open circuit, how the service failed before.
    """
    if isinstance(error, RetryBudgetExhaustedError) and isinstance(error.__cause__, RageError):
        return f"{type(error).__name__} after {_kind(error.__cause__)}"
    name = type(error).__name__
    if isinstance(error, CircuitOpenError) and last_failure is not None:
        return f"{name} after {last_failure}"
    return f"{name} {error.status}" if isinstance(error, StatusError) else name
