"""Bulkhead: how many calls run at once, who comes next, and that no permit is ever lost."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rage_retrievers._flow import Flow, Sleep, adrive, drive
from rage_retrievers._world import AsyncioWorld, BlockingWorld
from rage_retrievers.errors import BulkheadFullError, ConfigurationError, ServerError
from rage_retrievers.resilience import Bulkhead, Call, Home, Pipeline
from rage_retrievers.resilience.bulkhead import Permits, Place
from rage_retrievers.testing.world import TARGET, Reply, VirtualWorld

from .conftest import Heard, Run, World


def permits(world: World, bulkhead: Bulkhead) -> Permits:
    return world.home.state(bulkhead, bulkhead._permits)


def test_no_more_than_the_limit_run_at_once(run: Run) -> None:
    """Ten calls of 1 s through 3 permits leave in waves of three."""
    world = run.world(then=Reply(after=1))
    run.all([world.call(Pipeline([Bulkhead(limit=3)])) for _ in range(10)], world)
    assert world.sent == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


def test_first_come_first_served(run: Run) -> None:
    """The line is fair: answers come in the order of the questions, whoever arrives meanwhile."""
    world = run.world(then=Reply(after=1))
    pipeline = Pipeline([Bulkhead(limit=1)])
    order: list[int] = []

    def ask(number: int) -> Flow[None]:
        yield Sleep(number * 0.3)
        yield from world.call(pipeline)
        order.append(number)

    run.all([ask(number) for number in range(12)], world)
    assert order == list(range(12))


def test_without_patience_a_full_bulkhead_turns_away_at_once(run: Run, heard: Heard) -> None:
    """`max_wait=0`: nothing is sent, no time passes, and the event names the policy."""
    world = run.world(then=Reply(after=1))
    pipeline = Pipeline([Bulkhead(limit=1, max_wait=0)])
    outcomes = run.all([world.call(pipeline, listeners=(heard,)) for _ in range(3)], world)
    assert [type(outcome) for outcome in outcomes[1:]] == [BulkheadFullError] * 2
    assert world.sent == [0]
    assert [event.policy for event in heard.events] == ["bulkhead", "bulkhead"]


def test_patience_is_bounded(run: Run) -> None:
    """A call in line for `max_wait` seconds gives up; one whose turn comes before that does not."""
    world = run.world([Reply(after=1), Reply(after=5)])
    outcomes = run.all([world.call(Pipeline([Bulkhead(limit=1, max_wait=2)])) for _ in range(3)], world)
    assert [isinstance(outcome, BulkheadFullError) for outcome in outcomes] == [False, False, True]


def test_a_failed_call_gives_its_permit_back(run: Run) -> None:
    """Failures do not use the permits up."""
    bulkhead = Bulkhead(limit=2)
    world = run.world(then=503)
    outcomes = [run.all([world.call(Pipeline([bulkhead]))], world)[0] for _ in range(5)]
    assert all(isinstance(outcome, ServerError) for outcome in outcomes)
    assert permits(world, bulkhead).free == 2


@pytest.mark.parametrize("when", [0.5, 1.0, 1.5], ids=["in line", "when the permit comes", "in flight"])
def test_a_cancelled_call_gives_its_permit_back(when: float) -> None:
    """Wherever the cancellation falls, the next in line gets its turn and all permits are free in the end."""
    bulkhead = Bulkhead(limit=1)
    world = VirtualWorld(then=Reply(after=1))
    flows = [world.start(world.call(Pipeline([bulkhead]))) for _ in range(3)]
    world.at(when, flows[1].cancel)
    world.pass_time(9)
    assert isinstance(flows[1].error, asyncio.CancelledError)
    assert flows[2].result() is not None
    assert permits(world, bulkhead).free == 1
    assert permits(world, bulkhead).waiting == 0


def test_a_permit_handed_over_to_one_who_leaves_goes_on(run: Run) -> None:
    """A generator closed after it was given its permit, but before it could use it, passes it on."""
    bulkhead = Bulkhead(limit=1)
    world = run.world(then=Reply(after=1))
    flow: Generator[Any, Any, Any] = world.call(Pipeline([bulkhead]))
    next(flow)
    waiting: Generator[Any, Any, Any] = world.call(Pipeline([bulkhead]))
    next(waiting)
    assert permits(world, bulkhead).waiting == 1
    flow.close()
    waiting.close()
    assert permits(world, bulkhead).free == 1


def test_threads_and_tasks_share_the_permits() -> None:
    """A permit goes from a thread to a task and back; in the end all are free. Without a deadline nobody times out."""
    bulkhead = Bulkhead(limit=2)
    home = Home()
    blocking = BlockingWorld(None)  # type: ignore[arg-type]  # nothing is sent
    pipeline = Pipeline([bulkhead])

    def ask(world: Any) -> Flow[Any]:
        return pipeline.around(_pause)(Call("retrieve", TARGET, world, home))

    def from_threads() -> None:
        for _ in range(50):
            drive(ask(blocking), blocking)

    async def from_tasks() -> None:
        world = AsyncioWorld(None)  # type: ignore[arg-type]  # nothing is sent
        await asyncio.gather(*(adrive(ask(world), world) for _ in range(200)))

    threads = [threading.Thread(target=from_threads) for _ in range(4)]
    for thread in threads:
        thread.start()
    asyncio.run(from_tasks())
    for thread in threads:
        thread.join()
    assert home.state(bulkhead, bulkhead._permits).free == 2


@pytest.mark.parametrize("giver", ["this thread", "another thread"])
def test_a_caller_whose_loop_has_ended_breaks_no_other_call(giver: str) -> None:
    """It stands in line for good, its loop closed; the permit that comes to it fails nobody, and goes on from there."""
    home, bulkhead = Home(), Bulkhead(limit=1)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: None)  # a task was destroyed

    def ask(world: Any) -> Flow[Any]:
        return Pipeline([bulkhead]).around(_pause)(Call("retrieve", TARGET, world, home))

    line = home.state(bulkhead, bulkhead._permits)
    holder = ask(world := BlockingWorld(None))  # type: ignore[arg-type]  # nothing is sent
    assert next(holder) == Sleep(0)
    task = loop.create_task(adrive(ask(elsewhere := AsyncioWorld(None)), elsewhere))  # type: ignore[arg-type]
    loop.run_until_complete(asyncio.sleep(0.01))
    assert line.waiting == 1
    loop.close()
    if giver == "this thread":
        holder.close()
    else:
        with ThreadPoolExecutor(1) as other:
            other.submit(holder.close).result(10)
    del task
    gc.collect()
    assert drive(ask(world), world) == 1
    assert line.free == 1


def _pause(call: Call) -> Flow[int]:
    yield Sleep(0)
    return 1


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 1.0}, {"limit": True}, {"max_wait": -1}])
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Bulkhead(**options)


def test_a_permit_that_comes_as_its_caller_begins_to_wait_is_not_missed() -> None:
    """Handed over by one thread while another sits down to wait, again and again: each of them is woken."""
    turn = threading.Barrier(2)
    places = [Place() for _ in range(2_000)]

    def hand_over() -> None:
        for place in places:
            turn.wait(10)
            place.keep()

    with ThreadPoolExecutor(1) as other:
        handing = other.submit(hand_over)
        for place in places:
            turn.wait(10)
            place.result(10)
        handing.result(10)
    assert all(place.done() for place in places)


def test_a_place_told_of_late_tells_at_once() -> None:
    """A callback is called when the permit comes, and at once where it has come before."""
    told: list[Place] = []
    early, late = Place(), Place()
    early.add_done_callback(told.append)
    assert told == []
    early.keep()
    late.keep()
    late.add_done_callback(told.append)
    assert told == [early, late]
    with pytest.raises(TimeoutError):
        Place().result(0)
