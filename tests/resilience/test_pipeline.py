"""The pipeline: one order, at most one policy of a kind, and state that lives where it belongs."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from rage_retrievers._flow import Flow
from rage_retrievers.errors import ConfigurationError, ServerError
from rage_retrievers.models import Retrieval, Target
from rage_retrievers.resilience import (
    ORDER,
    AdaptiveThrottle,
    Bulkhead,
    Cache,
    Call,
    CircuitBreaker,
    Deadline,
    Degrade,
    EmptyAnswer,
    Hedge,
    Home,
    Homes,
    Pipeline,
    Policy,
    RateLimit,
    Retry,
    Step,
    default_pipeline,
)
from rage_retrievers.resilience.pipeline import shared_homes
from rage_retrievers.testing.world import TARGET, VirtualWorld

from .conftest import Run

PROBING = CircuitBreaker(in_a_row=1)

ALL: tuple[Policy, ...] = (
    Degrade((EmptyAnswer(),)),
    Deadline(),
    Cache(),
    Bulkhead(),
    Hedge(),
    Retry(),
    RateLimit(),
    AdaptiveThrottle(),
    CircuitBreaker(),
)


def test_the_order_does_not_depend_on_who_writes_it_down() -> None:
    """However they are given, policies stand in the one order that is right."""
    for given in itertools.islice(itertools.permutations(ALL), 0, None, 997):
        assert Pipeline(given).policies == ALL
    assert tuple(policy.kind for policy in ALL) == ORDER


@dataclass(frozen=True)
class Spy:
    """A policy that notes when it is entered and left."""

    kind: ClassVar[str] = "retry"
    notes: tuple[list[str], ...]

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Note, proceed, note."""
        self.notes[0].append("in")
        answer = yield from proceed(call)
        self.notes[0].append("out")
        return answer


def test_a_policy_of_the_users_own_can_take_the_place_of_one() -> None:
    """Anything with a known kind that can be called with a call and a step is a policy."""
    from rage_retrievers._flow import drive
    from rage_retrievers.testing.world import VirtualWorld

    world, spy = VirtualWorld(), Spy(([],))
    drive(world.call(Pipeline([Deadline(), spy])), world)
    assert spy.notes[0] == ["in", "out"]


def test_two_of_a_kind_are_refused() -> None:
    """Which of the two would count?"""
    with pytest.raises(ConfigurationError, match="two policies of kind 'retry'"):
        Pipeline([Retry(), Retry(attempts=5)])


def test_a_policy_of_no_known_kind_is_refused() -> None:
    """Nobody could say where it belongs."""

    class Odd:
        """A policy of a kind of its own."""

        kind: ClassVar[str] = "odd"

        def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
            """Proceed."""
            return proceed(call)

    with pytest.raises(ConfigurationError, match="is no policy known here"):
        Pipeline([Odd()])


@pytest.mark.parametrize("given", [Retry, [Retry()], None, 5])
def test_what_is_no_policy_is_refused_at_once(given: Any) -> None:
    """A class or a list in the place of a policy would fail in the first call, with the question in its error."""
    with pytest.raises(ConfigurationError, match=r"is a class; give a policy, such as Retry\(\)|no policy known here"):
        default_pipeline().with_policies(given)


def test_a_policy_alone_is_no_list() -> None:
    """The error says what to write."""
    with pytest.raises(ConfigurationError, match=r"list of policies, such as \[Retry\(\)\], not a Retry"):
        Pipeline(Retry())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["retyr", Retry, ""])
def test_leaving_out_what_there_is_not_is_refused(kind: Any) -> None:
    """Passed over, what was to be left out would stay."""
    with pytest.raises(ConfigurationError, match="kinds are degradation, deadline"):
        default_pipeline().without(kind)


def test_a_changed_copy_leaves_the_pipeline_as_it_was() -> None:
    """`with_policies` replaces by kind, `without` leaves out; both give a new pipeline."""
    before = default_pipeline()
    assert before.with_policies(Retry(attempts=9)).get("retry") == Retry(attempts=9)
    assert before.without("retry", "bulkhead").policies == (Deadline(), CircuitBreaker())
    assert before == Pipeline([CircuitBreaker(), Retry(), Bulkhead(), Deadline()])
    assert hash(before) == hash(Pipeline(reversed(before.policies)))


def test_the_default_is_what_the_documentation_says() -> None:
    """10 s, 3 attempts, 64 calls in flight, a circuit that opens at 50 % of 10 calls in 30 s or 5 in a row."""
    assert default_pipeline().policies == (
        Deadline(timeout=10.0),
        Bulkhead(limit=64, max_wait=None),
        Retry(attempts=3, base=0.2, cap=5.0),
        CircuitBreaker(failure_rate=0.5, minimum_calls=10, window=30.0, in_a_row=5, reset_after=30.0),
    )


def test_the_breaker_sees_every_attempt(run: Run) -> None:
    """It stands inside the retry: two calls of three attempts open a circuit of five failures."""
    world = run.world(then=503)
    for _ in range(2):
        run.all([world.call(default_pipeline())], world)
    assert CircuitBreaker().circuit(world.home).state == "open"
    assert len(world.sent) == 5


def test_a_listener_that_raises_breaks_no_call(run: Run) -> None:
    """What listens cannot harm what it listens to, not even between a circuit's admission and its verdict."""

    class Broken:
        """Raises at every event."""

        def on_event(self, event: object, /) -> None:
            """Raise."""
            raise ZeroDivisionError

    world = run.world([503] * 9, then=200)
    for _ in range(9):
        outcome = run.all([world.call(Pipeline([CircuitBreaker()]), listeners=(Broken(),))], world)[0]
        assert not isinstance(outcome, ZeroDivisionError)
        world.pass_time(30)
    run(world.call(Pipeline([CircuitBreaker()]), listeners=(Broken(),)), world)
    assert CircuitBreaker().circuit(world.home).state == "closed"


def test_state_follows_the_options_and_not_the_object() -> None:
    """Equal options share their state, also after thousands of other objects came and went."""
    home = Home()
    first = CircuitBreaker().circuit(home)
    for number in range(1, 2000):
        CircuitBreaker(in_a_row=number).circuit(home)
    assert CircuitBreaker().circuit(home) is first
    assert CircuitBreaker(in_a_row=7).circuit(home) is CircuitBreaker(in_a_row=7).circuit(home)


def test_policies_made_anew_for_each_call_are_not_all_kept() -> None:
    """Ten thousand equal ones share one state, and only a bounded number of them outlives its call."""
    home, made = Home(), []

    def ask() -> object:
        spy = Spy(())
        made.append(weakref.ref(spy))
        return home.state(spy, list)

    assert len({id(ask()) for _ in range(10_000)}) == 1
    assert sum(spy() is not None for spy in made) <= 300


def test_threads_meet_in_one_home() -> None:
    """Fifty threads that ask for a home at the same moment get the same one."""
    homes, gate = Homes(), threading.Barrier(50)
    found: list[Home] = []

    def ask() -> None:
        gate.wait()
        found.append(homes.of(Target("https://a", "o", "p")))

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_an_empty_pipeline_is_a_value(run: Run) -> None:
    """No policies: the attempt itself, once."""
    world = run.world([503])
    with pytest.raises(ServerError):
        run(world.call(Pipeline()), world)
    assert world.trace == ["send"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_begins_afresh() -> None:
    """A permit, a probe and a shared request that the parent's threads hold at the fork bind nobody in the child."""
    world, pipeline = VirtualWorld([503]), Pipeline([Deadline(), Cache(), Bulkhead(1), PROBING])
    world.gather([world.call(pipeline, home=shared_homes.of(TARGET))])
    world.pass_time(60)
    probe = world.call(pipeline, home=shared_homes.of(TARGET))
    next(probe)
    child = os.fork()
    if child == 0:  # nothing of pytest's may run here
        (answer,) = world.gather([world.call(pipeline, home=shared_homes.of(TARGET))])
        os._exit(0 if isinstance(answer, Retrieval) else 1)
    probe.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
