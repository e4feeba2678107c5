"""Adaptive throttling: how much of the load is held back when the service turns calls away."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rage_retrievers.errors import ConfigurationError, ServerError, ThrottledError
from rage_retrievers.resilience import AdaptiveThrottle, CircuitBreaker, Pipeline, Retry
from rage_retrievers.testing.world import REFUSED, Outcome

from .conftest import Heard, Run

THROTTLE = Pipeline([AdaptiveThrottle()])


def outcomes(run: Run, world: Any, number: int, pipeline: Pipeline = THROTTLE, **options: Any) -> list[Any]:
    return [run.all([world.call(pipeline, **options)], world)[0] for _ in range(number)]


@pytest.mark.parametrize("outcome", [200, 400, 404, 500, REFUSED], ids=["200", "400", "404", "500", "refused"])
def test_only_a_service_that_turns_calls_away_is_spared(run: Run, outcome: Outcome) -> None:
    """Answers, the caller's own mistakes and failures of another kind are never throttled."""
    world = run.world(then=outcome, random=lambda: 0.0)
    outcomes(run, world, 100)
    assert len(world.sent) == 100


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_takes_nothing_is_hardly_asked(run: Run, status: int) -> None:
    """Of 2,000 calls only a few are sent, and never none at all."""
    world = run.world(then=status)
    refused = [outcome for outcome in outcomes(run, world, 2_000) if isinstance(outcome, ThrottledError)]
    assert 1 <= len(world.sent) < 50
    assert len(refused) == 2_000 - len(world.sent)


def test_the_service_gets_about_twice_what_it_accepts(run: Run) -> None:
    """With k = 2 a service that accepts 1 in 10 of the load offered is sent about 2 in 10."""
    chance = random.Random(1)
    calls = 4_000
    accepted = 0

    def capacity(_: object) -> int:
        nonlocal accepted
        # It accepts as many as it can, whatever is sent: one for every ten calls made.
        if accepted < made[0] / 10:
            accepted += 1
            return 200
        return 503

    made = [0]
    world = run.world(capacity, random=chance.random)
    for _ in range(calls):
        made[0] += 1
        world.now += 0.001
        run.all([world.call(THROTTLE)], world)
    assert 0.15 * calls < len(world.sent) < 0.25 * calls
    assert accepted == pytest.approx(calls / 10, rel=0.05)


def test_half_accepted_is_not_throttled(run: Run) -> None:
    """Up to one rejection for each answer, k = 2 lets everything through."""
    world = run.world([200, 503] * 50, random=lambda: 0.0)
    outcomes(run, world, 100)
    assert len(world.sent) == 100


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [(200, True), (404, True), (500, False), (REFUSED, False)],
    ids=["200", "404", "500", "refused"],
)
def test_only_what_tells_of_the_load_counts_as_accepted(run: Run, outcome: Outcome, counts: bool) -> None:
    """Twenty answers outweigh a 503; twenty failures that say nothing of the load do not."""
    world = run.world([outcome] * 20, then=503, random=lambda: 0.0)
    found = outcomes(run, world, 22)
    assert isinstance(found[-1], ThrottledError) == (not counts)


def test_what_an_open_circuit_refused_was_accepted_by_nobody(run: Run) -> None:
    """Twenty calls that were never sent do not outweigh the 503 that the probe meets."""
    world = run.world([REFUSED], then=503, random=lambda: 0.0)
    pipeline = Pipeline([AdaptiveThrottle(), CircuitBreaker(in_a_row=1)])
    outcomes(run, world, 20, pipeline)
    world.pass_time(60)
    found = outcomes(run, world, 2, pipeline)
    assert [type(one) for one in found] == [ServerError, ThrottledError]
    assert len(world.sent) == 2


def test_two_minutes_later_all_is_forgotten(run: Run) -> None:
    """The counts cover 120 s."""
    world = run.world([503] * 20, random=lambda: 0.999)
    outcomes(run, world, 20)
    world.random = lambda: 0.5
    assert isinstance(outcomes(run, world, 1)[0], ThrottledError)
    world.pass_time(133)
    outcomes(run, world, 50)
    assert len(world.sent) == 70


def test_what_was_refused_here_is_not_retried(run: Run, heard: Heard) -> None:
    """A retry would defeat the purpose; the event names the policy."""
    world = run.world([503] * 20, random=lambda: 0.999)
    outcomes(run, world, 20)
    world.random = lambda: 0.0
    (refused,) = outcomes(run, world, 1, Pipeline([Retry(), AdaptiveThrottle()]), listeners=(heard,))
    assert isinstance(refused, ThrottledError)
    assert [event.policy for event in heard.events] == ["throttle"]
    assert len(world.sent) == 20


@pytest.mark.parametrize("options", [{"k": 0.5}, {"window": 0}])
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        AdaptiveThrottle(**options)
