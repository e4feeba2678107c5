"""Rate limit: how fast requests leave, who waits, and who is turned away."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rage_retrievers.errors import ConfigurationError, RateLimitExceededError
from rage_retrievers.resilience import Deadline, Pipeline, RateLimit, Retry
from rage_retrievers.testing.world import VirtualWorld

from .conftest import Heard, Run


def test_a_burst_leaves_at_once_and_the_rest_at_the_rate(run: Run) -> None:
    """Three at once, then one every half second."""
    world = run.world()
    run.all([world.call(Pipeline([RateLimit(rate=2, burst=3)])) for _ in range(6)], world)
    assert world.sent == [0, 0, 0, 0.5, 1, 1.5]


def test_a_quiet_time_fills_the_bucket_and_no_further(run: Run) -> None:
    """However long nothing was asked, only `burst` requests leave at once."""
    world = run.world()
    pipeline = Pipeline([RateLimit(rate=1, burst=2)])
    run.all([world.call(pipeline) for _ in range(2)], world)
    world.pass_time(100)
    run.all([world.call(pipeline) for _ in range(4)], world)
    assert world.sent == [0, 0, 100, 100, 101, 102]


def test_over_a_minute_the_rate_is_exact(run: Run) -> None:
    """600 requests at 10 a second take 59 s after a burst of 10, without drift."""
    world = run.world()
    run.all([world.call(Pipeline([RateLimit()])) for _ in range(600)], world)
    assert world.now == pytest.approx(59, abs=1e-6)


def test_who_would_wait_too_long_is_refused_at_once(run: Run, heard: Heard) -> None:
    """No time passes and nothing is sent; `retry_after` says when, and the event names the policy."""
    world = run.world()
    pipeline = Pipeline([RateLimit(rate=1, burst=1, max_wait=2)])
    outcomes = run.all([world.call(pipeline, listeners=(heard,)) for _ in range(5)], world)
    assert [type(outcome) for outcome in outcomes[3:]] == [RateLimitExceededError] * 2
    assert [outcome.retry_after for outcome in outcomes[3:]] == [3, 3]
    assert world.sent == [0, 1, 2]
    assert [event.policy for event in heard.events] == ["rate limit"] * 2


def test_nobody_waits_beyond_the_deadline(run: Run) -> None:
    """A turn after the deadline is refused now, not waited for."""
    world = run.world()
    pipeline = Pipeline([Deadline(2.5), RateLimit(rate=1, burst=1)])
    outcomes = run.all([world.call(pipeline) for _ in range(5)], world)
    assert [isinstance(outcome, RateLimitExceededError) for outcome in outcomes] == [False] * 3 + [True] * 2
    assert world.now == 2


def test_retries_take_tokens_too(run: Run) -> None:
    """The limit is on requests, not on calls; a refused retry is not retried."""
    world = run.world(then=503, random=lambda: 0.0)
    pipeline = Pipeline([Retry(), RateLimit(rate=1, burst=2, max_wait=0)])
    with pytest.raises(RateLimitExceededError):
        run(world.call(pipeline), world)
    assert len(world.sent) == 2


def test_a_cancelled_wait_gives_its_turn_back() -> None:
    """The token of a call that gave up serves a later one."""
    world = VirtualWorld()
    pipeline = Pipeline([RateLimit(rate=1, burst=1)])
    flows = [world.start(world.call(pipeline)) for _ in range(2)]
    world.at(0.5, flows[1].cancel)
    world.pass_time(0.6)
    world.gather([world.call(pipeline)])
    assert world.sent == [0, 1]


@pytest.mark.parametrize("options", [{"rate": 0}, {"rate": math.inf}, {"burst": 0}, {"burst": 1.5}, {"max_wait": -1}])
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RateLimit(**options)
