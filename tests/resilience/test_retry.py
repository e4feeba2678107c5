"""Retry: what is tried again, after how long, how often, and what all callers together may spend on it."""

from __future__ import annotations

import gc
import time
import weakref
from email.utils import formatdate
from typing import Any

import pytest
import tenacity

from rage_retrievers._flow import Flow, immediate
from rage_retrievers.errors import (
    CircuitOpenError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidResponseError,
    RageError,
    RateLimitedError,
    RetryBudgetExhaustedError,
    ServerError,
    StatusError,
    is_transient,
)
from rage_retrievers.resilience import Call, CircuitBreaker, Deadline, Pipeline, Retry, RetryBudget
from rage_retrievers.testing.world import REFUSED, Reply

from .conftest import Heard, Run

RETRY = Pipeline([Deadline(), Retry()])
TRANSIENT_4XX = (408, 425, 429)


def test_a_dropped_connection_is_tried_again(run: Run) -> None:
    """Two failures, two pauses, then the answer: 3 attempts by default."""
    world = run.world([REFUSED, 503], random=lambda: 0.5)
    run(world.call(RETRY), world)
    assert world.trace == ["send", 0.1, "send", 0.2, "send"]


def test_the_third_failure_is_raised(run: Run) -> None:
    """After the last attempt the caller gets the error itself."""
    world = run.world(then=503)
    with pytest.raises(ServerError):
        run(world.call(RETRY), world)
    assert len(world.sent) == 3


@pytest.mark.parametrize("status", range(400, 500))
def test_a_4xx_is_tried_again_only_where_that_can_help(run: Run, status: int) -> None:
    """408, 425 and 429 are; every other 4xx is sent once."""
    world = run.world(then=status)
    with pytest.raises(StatusError):
        run(world.call(RETRY), world)
    assert len(world.sent) == (3 if status in TRANSIENT_4XX else 1)


@pytest.mark.parametrize(("status", "sent"), [(500, 3), (502, 3), (503, 3), (504, 3), (520, 3), (501, 1), (505, 1)])
def test_a_5xx_is_tried_again_unless_it_is_for_ever(run: Run, status: int, sent: int) -> None:
    """501 and 505 say what the server will never do."""
    world = run.world(then=status)
    with pytest.raises(ServerError):
        run(world.call(RETRY), world)
    assert len(world.sent) == sent


def test_an_unusable_answer_is_not_tried_again(run: Run) -> None:
    """The same request would bring the same answer."""
    world = run.world(then=Reply(body=b"[1]"))
    with pytest.raises(InvalidResponseError):
        run(world.call(RETRY), world)
    assert len(world.sent) == 1


def test_the_jitter_is_full_and_the_backoff_doubles_up_to_the_cap(run: Run) -> None:
    """The pause is even between 0 and the ceiling, which is 0.2, 0.4, 0.8 … at most `cap` seconds."""
    for share in (0.0, 0.25, 0.999):
        world = run.world(then=503, random=lambda share=share: share)  # type: ignore[misc]
        with pytest.raises(ServerError):
            run(world.call(Pipeline([Deadline(100), Retry(attempts=6, cap=1, budget=None)])), world)
        ceilings = [0.2, 0.4, 0.8, 1, 1]
        assert world.trace[1::2] == pytest.approx([share * ceiling for ceiling in ceilings])


def test_the_wait_may_be_any_strategy_of_tenacity(run: Run) -> None:
    """`wait` sets the ceiling, and sees the attempt and the error as tenacity's strategies do."""
    seen: list[Any] = []

    def by_error(state: tenacity.RetryCallState) -> float:
        assert state.outcome is not None
        seen.append(type(state.outcome.exception()))
        return 2.0 * state.attempt_number

    world = run.world([503, REFUSED], random=lambda: 0.5)
    run(world.call(Pipeline([Retry(wait=by_error)])), world)
    assert world.trace == ["send", 1, "send", 2, "send"]
    assert seen == [ServerError, ConnectionFailedError]
    fixed = run.world([503], random=lambda: 0.5)
    run(fixed.call(Pipeline([Retry(wait=tenacity.wait_fixed(3) + tenacity.wait_fixed(1))])), fixed)
    assert fixed.trace == ["send", 2, "send"]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_a_lower_bound(run: Run, status: int) -> None:
    """The pause is never shorter than the service asked for."""
    world = run.world([Reply(status, headers={"retry-after": "4"})])
    run(world.call(RETRY), world)
    assert world.trace == ["send", 4, "send"]


def test_callers_told_to_come_back_at_once_do_not_come_back_together(run: Run) -> None:
    """`Retry-After: 0` is a lower bound like any other: the backoff's jitter still parts those who were turned away."""
    shares = iter([0.25, 0.5, 0.75])
    world = run.world([Reply(503, headers={"retry-after": "0"})] * 3, random=lambda: next(shares))
    run.all([world.call(RETRY) for _ in range(3)], world)
    assert [at for at in world.trace if at != "send"] == pytest.approx([0.05, 0.1, 0.15])


def test_retry_after_as_a_date_is_read(run: Run) -> None:
    """An HTTP date is as good as seconds."""
    world = run.world([Reply(429, headers={"retry-after": formatdate(time.time() + 6, usegmt=True)})])
    run(world.call(RETRY), world)
    assert 4 < float(world.trace[1]) <= 6


@pytest.mark.parametrize("value", ["11", "86400", "999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_an_absurd_retry_after_is_not_waited_for(run: Run, value: str) -> None:
    """A pause beyond the deadline is not begun: the caller gets the error at once, with `retry_after` on it."""
    world = run.world(then=Reply(429, headers={"retry-after": value}))
    with pytest.raises(RateLimitedError) as caught:
        run(world.call(RETRY), world)
    assert world.now == 0
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 10


@pytest.mark.parametrize("value", ["soon", "-3", "nan", "", "inf", "1e9"])
def test_an_unreadable_retry_after_is_no_retry_after(run: Run, value: str) -> None:
    """What cannot be read leaves the pause to the backoff."""
    world = run.world([Reply(429, headers={"retry-after": value})], random=lambda: 0.5)
    run(world.call(RETRY), world)
    assert world.trace == ["send", 0.1, "send"]


def test_no_pause_crosses_the_deadline(run: Run) -> None:
    """A retry that would begin after the deadline is not waited for."""
    world = run.world(then=Reply(503, after=0.9), random=lambda: 0.999)
    with pytest.raises(ServerError):
        run(world.call(RETRY, timeout=1.0), world)
    assert world.now == 0.9


def test_a_spent_deadline_is_not_tried_again(run: Run) -> None:
    """DeadlineExceededError is not transient."""
    world = run.world(then=Reply(after=99))
    with pytest.raises(DeadlineExceededError):
        run(world.call(RETRY), world)
    assert len(world.sent) == 1


def test_the_budget_bounds_the_retries_of_all_callers(run: Run) -> None:
    """In an outage retries are 10 more than 10 % of the calls; then the error says so and keeps its cause."""
    world = run.world(then=503)
    outcomes = []
    for _ in range(200):
        outcomes += run.all([world.call(RETRY)], world)
    assert len(world.sent) == 200 + 10 + 200 * 0.1 - 1  # the tokens of the first call fall on a full bucket
    assert isinstance(outcomes[-1], RetryBudgetExhaustedError)
    assert isinstance(outcomes[-1].__cause__, ServerError)


def test_the_budget_is_shared_whatever_else_the_retries_differ_in(run: Run) -> None:
    """Callers of one pipeline with different attempts draw on one budget."""
    world = run.world(then=503)
    budget = RetryBudget(ratio=0, reserve=2)
    run.all([world.call(Pipeline([Retry(attempts=3, budget=budget)]))], world)
    outcome = run.all([world.call(Pipeline([Retry(attempts=5, budget=RetryBudget(ratio=0, reserve=2))]))], world)[0]
    assert isinstance(outcome, RetryBudgetExhaustedError)


def test_answered_calls_fill_the_budget_again(run: Run) -> None:
    """Ten calls are worth one retry."""
    pipeline = Pipeline([Retry(budget=RetryBudget(ratio=0.1, reserve=1))])
    world = run.world([503, 200, *[200] * 9, 503, 200])
    for _ in range(11):
        run(world.call(pipeline), world)
    assert len(world.sent) == 13


def test_without_a_budget_every_call_retries(run: Run) -> None:
    """`budget=None` bounds nothing but the attempts."""
    world = run.world(then=503)
    for _ in range(30):
        run.all([world.call(Pipeline([Retry(budget=None)]))], world)
    assert len(world.sent) == 90


def test_what_a_policy_refused_is_not_tried_again(run: Run) -> None:
    """An open circuit ends the call at once, and the failure that came before is its cause."""
    world = run.world(then=503)
    with pytest.raises(CircuitOpenError) as caught:
        run(world.call(Pipeline([Retry(), CircuitBreaker(in_a_row=1)])), world)
    assert isinstance(caught.value.__cause__, ServerError)
    assert "No more was sent after attempt 1." in str(caught.value)
    assert len(world.sent) == 1
    with pytest.raises(CircuitOpenError, match=r"Nothing was sent\."):
        run(world.call(Pipeline([Retry(), CircuitBreaker(in_a_row=1)])), world)


def test_each_retry_is_told(run: Run, heard: Heard) -> None:
    """`retry.scheduled` names the attempt that failed, the pause and the error."""
    world = run.world([503], random=lambda: 0.5)
    run(world.call(RETRY, listeners=(heard,)), world)
    (event,) = heard.events
    assert (event.name, event.attempt, event.pause, event.error.status) == ("retry.scheduled", 1, 0.1, 503)


def test_an_error_that_is_not_ours_passes_through(run: Run) -> None:
    """A bug in the caller's own code is not hidden by repeating it."""

    def broken(call: Call) -> Flow[Any]:
        yield from immediate(None)
        raise ZeroDivisionError

    world = run.world()
    with pytest.raises(ZeroDivisionError):
        run(world.call(RETRY, attempt=broken), world)


def test_the_predicate_for_other_retry_mechanisms_agrees() -> None:
    """`is_transient` is true for what this policy tries again, and false for anything else."""
    assert is_transient(ConnectionFailedError("x"))
    assert is_transient(StatusError("x", status=429))
    assert not is_transient(StatusError("x", status=404))
    assert not is_transient(DeadlineExceededError("x"))
    assert not is_transient(ValueError())


def test_langchains_with_retry_takes_the_predicate() -> None:
    """What may pass is tried again by it, and a wrong token is not."""
    from langchain_core.runnables import RunnableLambda

    seen: list[int] = []

    def fail(code: int) -> None:
        seen.append(code)
        raise StatusError("x", status=code)

    asking = RunnableLambda(fail).with_retry(
        retry_if_exception_type=is_transient, wait_exponential_jitter=False, stop_after_attempt=3
    )
    for code in (503, 401):
        with pytest.raises(StatusError):
            asking.invoke(code)
    assert seen == [503, 503, 503, 401]


def test_a_retried_failure_is_let_go_at_once(run: Run) -> None:
    """No cycle keeps the failed attempt's answer in memory until the collector runs."""

    class MarkedError(ConnectionFailedError):
        """An error that can be watched."""

    kept: list[weakref.ref[RageError]] = []

    def attempt(call: Call) -> Flow[Any]:
        call.attempts += 1
        yield from immediate(None)
        if call.attempts == 1:
            error = MarkedError("x")
            kept.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error
        return 1

    world = run.world()
    gc.disable()
    try:
        run(world.call(RETRY, attempt=attempt), world)
        assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"base": 0},
        {"cap": 0.1},
        {"base": float("nan")},
        {"budget": 5},
        {"wait": 5},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Retry(**options)


def test_a_budget_needs_room_for_one_retry() -> None:
    """A reserve below one token would never allow any."""
    with pytest.raises(ConfigurationError, match="reserve"):
        RetryBudget(reserve=0.5)
