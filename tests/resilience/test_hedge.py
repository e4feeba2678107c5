"""Hedging: when a second request is sent, who wins, and what it may cost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rage_retrievers.errors import ConfigurationError, ConnectionFailedError, DeadlineExceededError
from rage_retrievers.resilience import CircuitBreaker, Deadline, Hedge, Pipeline
from rage_retrievers.testing.world import REFUSED, SILENCE, Reply

from .conftest import Heard, Run, World

FIXED = Pipeline([Deadline(), Hedge(delay=0.1, budget=1)])


def test_a_quick_answer_is_not_hedged(run: Run) -> None:
    """An answer within the delay costs one request."""
    world = run.world(then=Reply(after=0.05))
    run(world.call(FIXED), world)
    assert world.sent == [0]


def test_a_late_answer_is_overtaken(run: Run, heard: Heard) -> None:
    """After the delay a second request goes out; its answer ends the call, and the event tells of it."""
    world = run.world([Reply(after=4), Reply(after=0.05)])
    run(world.call(FIXED, listeners=(heard,)), world)
    assert world.sent == [0, 0.1]
    assert world.now == pytest.approx(0.15)
    assert [(event.name, event.delay) for event in heard.events] == [("call.hedged", 0.1)]


def test_the_first_may_still_win(run: Run) -> None:
    """The second request is no replacement: whichever answers first."""
    world = run.world([Reply(after=0.3), Reply(after=4)])
    run(world.call(FIXED), world)
    assert world.now == 0.3


def test_a_failed_hedge_harms_nobody(run: Run) -> None:
    """If one of the two fails, the other decides."""
    world = run.world([Reply(after=0.3), REFUSED])
    run(world.call(FIXED), world)
    assert world.now == 0.3


def test_when_both_fail_the_first_error_is_raised(run: Run) -> None:
    """The caller sees what happened to the request it made."""
    world = run.world([Reply(after=0.3, error=ConnectionFailedError("x")), 400])
    with pytest.raises(ConnectionFailedError):
        run(world.call(FIXED), world)


def test_both_share_the_deadline(run: Run) -> None:
    """Two silent requests end together, when the call's time is spent."""
    world = run.world(then=SILENCE)
    with pytest.raises(DeadlineExceededError):
        run(world.call(FIXED, timeout=2), world)
    assert world.now == 2


def test_the_loser_gives_the_circuit_no_verdict(run: Run) -> None:
    """A request that was cancelled because the other won says nothing of the service."""
    breaker = CircuitBreaker(in_a_row=1)
    world = run.world([SILENCE, 200])
    run(world.call(Pipeline([Deadline(), Hedge(delay=0.1, budget=1), breaker])), world)
    assert breaker.circuit(world.home).state == "closed"


def test_the_budget_bounds_the_extra_load(run: Run) -> None:
    """However slow the service is, hedges stay within their share of the calls, from the first call on."""
    world = run.world(then=Reply(after=1))
    pipeline = Pipeline([Hedge(delay=0.1, budget=0.05)])
    for number in range(1, 201):
        run(world.call(pipeline), world)
        assert len(world.sent) - number <= 0.05 * number
    assert len(world.sent) == 210


def test_nothing_is_hedged_before_the_percentile_is_known(run: Run) -> None:
    """Without a fixed delay the first 20 calls are only measured."""
    world = run.world([Reply(after=1)] * 20 + [Reply(after=9), Reply(after=1)])
    pipeline = Pipeline([Hedge(budget=1)])
    for _ in range(20):
        run(world.call(pipeline), world)
    assert len(world.sent) == 20
    run(world.call(pipeline), world)
    assert world.now == pytest.approx(20 + 2)


def test_the_percentile_follows_a_service_that_slows_down(run: Run) -> None:
    """When all answers become slower, so does the delay, and hedging does not double the load."""
    world = run.world([Reply(after=0.1)] * 100, then=Reply(after=1))
    pipeline = Pipeline([Hedge(budget=1, percentile=0.9)])
    for _ in range(300):
        run(world.call(pipeline), world)
    assert len(world.sent) < 300 + 100


def test_the_percentile_follows_a_service_that_speeds_up(run: Run) -> None:
    """Answers older than the last 500 are forgotten."""
    world = run.world([Reply(after=1)] * 100 + [Reply(after=0.1)] * 500 + [Reply(after=9)], then=Reply(after=0.1))
    pipeline = Pipeline([Hedge(budget=1, percentile=0.9)])
    for _ in range(601):
        run(world.call(pipeline), world)
    assert world.now == pytest.approx(100 + 50 + 0.2)


def test_a_call_too_short_for_a_hedge_is_not_raced(run: Run) -> None:
    """Where the deadline comes before the delay there is nothing to prepare."""
    world = run.world()
    run(world.call(FIXED, timeout=0.1), world)
    assert world.trace == ["send"]


def test_the_slowest_answers_become_quick(run: Run) -> None:
    """1 request in 50 is 40 times slower: the 99th percentile falls at least 5 times, for at most 5 % more requests."""
    calls = 2000

    def served(pipeline: Pipeline) -> tuple[float, World]:
        chance = random.Random(3)
        world = run.world(
            lambda _: Reply(after=(0.4 if chance.random() < 0.02 else 0.01) * (0.8 + 0.4 * chance.random()))
        )
        took = []
        for _ in range(calls):
            began = world.now
            run(world.call(pipeline), world)
            took.append(world.now - began)
        return sorted(took)[int(0.99 * calls)], world

    plain, _ = served(Pipeline([Deadline()]))
    hedged, world = served(Pipeline([Deadline(), Hedge()]))
    assert plain / hedged >= 5
    assert len(world.sent) <= 1.05 * calls


@pytest.mark.parametrize(
    "options", [{"delay": -1}, {"percentile": 1}, {"percentile": 0}, {"budget": 0}, {"budget": 2}, {"minimum_calls": 0}]
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Hedge(**options)
