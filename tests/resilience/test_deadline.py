"""Deadline: one budget for waiting, all attempts and all pauses."""

from __future__ import annotations

import math

import pytest

from rage_retrievers.errors import BulkheadFullError, ConfigurationError, DeadlineExceededError, ServerError
from rage_retrievers.resilience import Bulkhead, Deadline, Pipeline, Retry, default_pipeline
from rage_retrievers.testing.world import SILENCE, Reply

from .conftest import Run


def test_a_silent_service_costs_the_deadline_and_no_more(run: Run) -> None:
    """A request that is never answered ends with DeadlineExceededError, after 10 s by default."""
    world = run.world(then=SILENCE)
    with pytest.raises(DeadlineExceededError):
        run(world.call(default_pipeline()), world)
    assert world.now == 10


def test_the_attempts_share_one_budget(run: Run) -> None:
    """Each attempt gets what is left, not a budget of its own."""
    world = run.world(then=Reply(503, after=3), random=lambda: 0.5)
    with pytest.raises((DeadlineExceededError, ServerError)):
        run(world.call(Pipeline([Deadline(4), Retry()])), world)
    assert world.sent == [0, 3.1]
    assert world.now == 4


def test_waiting_in_line_spends_the_same_budget(run: Run) -> None:
    """A call that waited for its permit has that much less time for its answer."""
    world = run.world([Reply(after=3), SILENCE])
    outcomes = run.all([world.call(Pipeline([Deadline(5), Bulkhead(limit=1)])) for _ in range(2)], world)
    assert isinstance(outcomes[1], DeadlineExceededError)
    assert world.now == 5


def test_a_call_in_line_leaves_it_at_its_deadline(run: Run) -> None:
    """Waiting for a permit ends when the time is spent, and then nothing was sent."""
    world = run.world([SILENCE])
    pipeline = Pipeline([Deadline(9), Bulkhead(limit=1)])
    outcomes = run.all([world.call(pipeline), world.call(pipeline, timeout=2)], world)
    assert isinstance(outcomes[1], BulkheadFullError)
    assert world.sent == [0]


def test_the_timeout_of_the_call_wins(run: Run) -> None:
    """`timeout=` of one call takes the place of the pipeline's, shorter or longer."""
    for timeout in (0.5, 60):
        world = run.world(then=SILENCE)
        with pytest.raises(DeadlineExceededError):
            run(world.call(default_pipeline(), timeout=timeout), world)
        assert world.now == timeout


# Larger than every float, and longer than Python writes a number.
HUGE = [pytest.param(10**400, id="huge"), pytest.param(10**5_000, id="too huge to be shown")]


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, True, "3", *HUGE])
def test_a_deadline_is_a_finite_number_of_seconds(timeout: float) -> None:
    """Anything else is refused when the policy is made, with a message that names it."""
    with pytest.raises(ConfigurationError, match=r"timeout=.*finite number above 0"):
        Deadline(timeout)
