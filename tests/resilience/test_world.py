"""Virtual time itself: what users' tests of their policies stand on."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

from rage_retrievers._flow import Ask, Flow, Race, Sleep, Wait, adrive
from rage_retrievers.errors import ConnectionFailedError, DeadlineExceededError, ServerError
from rage_retrievers.resilience import Deadline, Pipeline
from rage_retrievers.testing.world import REFUSED, SILENCE, AsyncVirtualWorld, Reply, VirtualWorld

from .conftest import Run


def pause(seconds: float, value: object = None) -> Flow[Any]:
    yield Sleep(seconds)
    return value


def fail(seconds: float) -> Flow[Any]:
    yield Sleep(seconds)
    raise ConnectionFailedError("broken")


def race(first: Flow[Any], second: Flow[Any] | None, delay: float) -> Flow[Any]:
    return (yield Race(first, lambda: second, delay))


def test_a_script_is_answered_in_turn_and_then_healthy(run: Run) -> None:
    """Each request gets the next outcome; once they are used up, each gets 200."""
    world = run.world([503, REFUSED])
    with pytest.raises(ServerError):
        run(world.call(Pipeline()), world)
    with pytest.raises(ConnectionFailedError):
        run(world.call(Pipeline()), world)
    assert run(world.call(Pipeline()), world).documents == ()


def test_an_answer_takes_its_time(run: Run) -> None:
    """`after` seconds pass until the answer is there."""
    world = run.world([Reply(after=0.7)])
    run(world.call(Pipeline()), world)
    assert world.now == 0.7


def test_silence_ends_at_the_deadline(run: Run) -> None:
    """A request that is never answered ends when the call's time is spent."""
    world = run.world([SILENCE])
    with pytest.raises(DeadlineExceededError):
        run(world.call(Pipeline([Deadline(2)])), world)
    assert world.now == 2


def test_a_wait_that_nothing_ends_is_an_error_and_not_a_hang() -> None:
    """Silence without a deadline would hang for ever; virtual time says so."""
    world = VirtualWorld([SILENCE])
    with pytest.raises(RuntimeError, match="waits for something"):
        VirtualWorld.finish(world, world.start(world.call(Pipeline())))


def test_flows_side_by_side_share_the_clock(run: Run) -> None:
    """Three pauses at once take as long as the longest."""
    world = run.world()
    assert run.all([pause(3, "a"), pause(1, "b"), pause(2, "c")], world) == ["a", "b", "c"]
    assert world.now == 3


def test_a_future_wakes_the_flow_that_waits(run: Run) -> None:
    """What one flow completes, another gets at the same instant."""
    world = run.world()
    future: Future[str] = Future()

    def give() -> Flow[None]:
        yield Sleep(1)
        future.set_result("here")

    def take() -> Flow[Any]:
        value = yield Wait(future, 5)
        return value, world.now

    assert run.all([take(), give()], world)[0] == ("here", 1)


def test_a_wait_times_out(run: Run) -> None:
    """Nobody completes the future, so TimeoutError comes back at the yield."""
    world = run.world()

    def take() -> Flow[str]:
        try:
            yield Wait(Future(), 2)
        except TimeoutError:
            return "gave up"
        return "?"

    assert run(take(), world) == "gave up"
    assert world.now == 2


@pytest.mark.parametrize(
    ("first", "second", "delay", "outcome", "end"),
    [
        (pause(1, "a"), pause(1, "b"), 2, (0, "a"), 1),
        (pause(9, "a"), pause(1, "b"), 2, (1, "b"), 3),
        (pause(9, "a"), None, 2, (0, "a"), 9),
        (fail(4), pause(3, "b"), 2, (1, "b"), 5),
        (pause(4, "a"), fail(1), 2, (0, "a"), 4),
    ],
    ids=["first in time", "second is faster", "second declines", "first fails", "second fails"],
)
def test_a_race_has_one_winner(first: Any, second: Any, delay: float, outcome: Any, end: float) -> None:
    """The first success wins and the loser takes no more time; a failure leaves the decision to the other."""
    world = VirtualWorld()
    assert world.finish(world.start(race(first, second, delay))) == outcome
    assert world.now == end


def test_a_race_that_both_lose_raises_the_first_error(run: Run) -> None:
    """If both fail, the first one's error is raised."""
    world = run.world()
    with pytest.raises(ConnectionFailedError):
        run(race(fail(4), fail(1), 2), world)


def test_a_loser_is_cancelled(run: Run) -> None:
    """The slower flow of a race sees its cancellation before the race is over."""
    world = run.world()
    seen: list[str] = []

    def slow() -> Flow[None]:
        try:
            yield Sleep(9)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    assert run(race(slow(), pause(1, "b"), 1), world) == (1, "b")
    assert seen == ["cancelled"]


@pytest.mark.parametrize("acall", [False, True], ids=["function", "coroutine"])
def test_a_users_function_is_called_in_either_world(run: Run, acall: bool) -> None:
    """A sync and an async function are answered alike; what they raise comes back at the yield."""
    world = run.world()

    async def later() -> str:
        return "async"

    def ask() -> Flow[str]:
        value: str = yield Ask(acall=later) if acall else Ask(call=lambda: "sync")
        return value

    assert run(ask(), world) == ("async" if acall else "sync")


def test_a_flow_can_be_cancelled_at_an_instant() -> None:
    """`at` and `cancel` end a flow in the middle of its wait."""
    world = VirtualWorld()
    running = world.start(pause(9))
    world.at(2, running.cancel)
    with pytest.raises(asyncio.CancelledError):
        world.finish(running)
    assert world.now == 2


async def test_a_cancelled_task_leaves_nothing_behind() -> None:
    """Cancelling the task ends its effect; the world goes on for others."""
    world = AsyncVirtualWorld()
    task = asyncio.create_task(adrive(pause(100), world))
    other = asyncio.create_task(adrive(pause(1, "done"), world))
    assert await other == "done"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.now == 1


def test_random_numbers_repeat() -> None:
    """Two worlds with one seed draw the same numbers."""
    assert [VirtualWorld(seed=7).random() for _ in range(2)] == [VirtualWorld(seed=7).random()] * 2
    assert VirtualWorld(seed=7).random() != VirtualWorld(seed=8).random()
