"""Circuit breaker: when it opens, whom it lets through, and whose verdict counts."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from rage_retrievers._flow import Flow, Sleep, immediate
from rage_retrievers.errors import (
    BadRequestError,
    CircuitOpenError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidResponseError,
    RateLimitedError,
    ResponseTooLargeError,
    ServerError,
)
from rage_retrievers.models import Target
from rage_retrievers.resilience import Bulkhead, Call, CircuitBreaker, Deadline, Home, Homes, Pipeline
from rage_retrievers.resilience.circuit_breaker import Circuit
from rage_retrievers.testing.world import REFUSED, SILENCE, Outcome, Reply, VirtualWorld

from .conftest import Heard, Run, World

BREAKER = CircuitBreaker()
PIPELINE = Pipeline([Deadline(), BREAKER])


def state(world: World, breaker: CircuitBreaker = BREAKER) -> str:
    return breaker.circuit(world.home).state


def calls(run: Run, world: World, number: int, pipeline: Pipeline = PIPELINE, **options: Any) -> list[Any]:
    """Calls one after the other; what each returned or raised."""
    return [run.all([world.call(pipeline, **options)], world)[0] for _ in range(number)]


def opened(run: Run, script: list[Outcome] | None = None, then: Outcome = 200) -> World:
    """A world whose circuit has just opened."""
    world = run.world([503] * 5 + (script or []), then=then)
    calls(run, world, 5)
    assert state(world) == "open"
    return world


def test_five_failures_in_a_row_open_the_circuit(run: Run) -> None:
    """The fifth does, the fourth does not; then nothing is sent."""
    world = run.world(then=503)
    calls(run, world, 4)
    assert state(world) == "closed"
    outcomes = calls(run, world, 2)
    assert [type(outcome) for outcome in outcomes] == [ServerError, CircuitOpenError]
    assert len(world.sent) == 5


def test_an_answer_in_between_breaks_the_row(run: Run) -> None:
    """Failures in a row means in a row."""
    world = run.world([503, 503, 503, 503, 200, 503, 503, 503, 503])
    calls(run, world, 9, Pipeline([CircuitBreaker(minimum_calls=100)]))
    assert state(world, CircuitBreaker(minimum_calls=100)) == "closed"


def test_half_of_at_least_ten_calls_failing_opens_the_circuit(run: Run) -> None:
    """Every second call fails: the tenth opens the circuit, the ninth cannot."""
    world = run.world([200, 503] * 5)
    calls(run, world, 9)
    assert state(world) == "closed"
    calls(run, world, 1)
    assert state(world) == "open"


def test_the_rate_counts_only_the_window(run: Run) -> None:
    """Failures older than the window are forgotten."""
    world = run.world([200, 503] * 5)
    calls(run, world, 9)
    world.pass_time(34)
    calls(run, world, 1)
    assert state(world) == "closed"


@pytest.mark.parametrize(
    "outcome",
    [500, 502, 503, 504, REFUSED, SILENCE, Reply(body=b"<html>"), Reply(body=b'{"documents":null}')],
    ids=["500", "502", "503", "504", "refused", "silent", "html", "no documents"],
)
def test_what_the_service_gets_wrong_is_a_failure(run: Run, outcome: Outcome) -> None:
    """5xx, broken connections, silence and unusable answers count."""
    world = run.world(then=outcome)
    calls(run, world, 5)
    assert state(world) == "open"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 422, 425, 429])
def test_a_4xx_is_no_failure_of_the_service(run: Run, status: int) -> None:
    """However many the callers provoke, the circuit stays closed."""
    world = run.world(then=status)
    calls(run, world, 40)
    assert state(world) == "closed"
    assert len(world.sent) == 40


def test_an_answer_too_large_for_the_caller_is_no_failure_of_the_service(run: Run) -> None:
    """One caller's huge question does not take the pipeline away from the others."""
    world = run.world(then=Reply(error=ResponseTooLargeError("x")))
    calls(run, world, 40)
    assert state(world) == "closed"


def test_a_call_that_sent_nothing_says_nothing_of_the_service(run: Run) -> None:
    """As when the function that gives the token takes all of the call's time."""

    def slow_token(call: Call) -> Flow[Any]:
        yield Sleep(60)
        raise DeadlineExceededError("x")

    world = run.world()
    pipeline = Pipeline([Deadline(30), CircuitBreaker()])
    run.all([world.call(pipeline, attempt=slow_token) for _ in range(10)], world)
    assert state(world) == "closed"


def test_an_open_circuit_says_when_to_come_back(run: Run) -> None:
    """`retry_after` counts down to the probe."""
    world = opened(run)
    world.pass_time(12)
    (refused,) = calls(run, world, 1)
    assert isinstance(refused, CircuitOpenError)
    assert refused.retry_after == 18


def test_a_successful_probe_closes_the_circuit(run: Run) -> None:
    """After 30 s one call is let through; its answer opens the way for all."""
    world = opened(run)
    world.pass_time(30)
    calls(run, world, 3)
    assert state(world) == "closed"
    assert len(world.sent) == 8


def test_a_closed_circuit_starts_afresh(run: Run) -> None:
    """The failures that opened it are not counted a second time."""
    breaker = CircuitBreaker(in_a_row=100, minimum_calls=4, window=1000, reset_after=1)
    world = run.world([503] * 4 + [200], then=503)
    calls(run, world, 4, Pipeline([breaker]))
    assert state(world, breaker) == "open"
    world.pass_time(1)
    calls(run, world, 3, Pipeline([breaker]))
    assert state(world, breaker) == "closed"


def test_a_failed_probe_opens_it_again_for_as_long(run: Run) -> None:
    """The next probe is due 30 s after the last one failed."""
    world = opened(run, [503])
    world.pass_time(30)
    probe, refused = calls(run, world, 2)
    assert isinstance(probe, ServerError)
    assert isinstance(refused, CircuitOpenError)
    assert refused.retry_after == 30


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_declined_probe_shows_that_the_service_is_up(run: Run, status: int) -> None:
    """A wrong query during the outage must not keep the circuit open for everybody."""
    world = opened(run, [status])
    world.pass_time(30)
    calls(run, world, 1)
    assert state(world) == "closed"


@pytest.mark.parametrize(("headers", "wait"), [({}, 30), ({"retry-after": "7"}, 7), ({"retry-after": "999999"}, 30)])
def test_a_429_on_the_probe_leaves_the_circuit_open(run: Run, headers: dict[str, str], wait: float) -> None:
    """The service answered, and has no room: the next probe waits as asked, but no longer than usual."""
    world = opened(run, [Reply(429, headers=headers)])
    world.pass_time(30)
    probe, refused = calls(run, world, 2)
    assert isinstance(probe, RateLimitedError)
    assert isinstance(refused, CircuitOpenError)
    assert refused.retry_after == wait


@pytest.mark.parametrize("then", [200, 503])
def test_exactly_one_probe_under_100_concurrent_calls(run: Run, then: int) -> None:
    """While the probe is under way the other 99 are refused."""
    world = opened(run, then=Reply(then, after=0.5))
    world.pass_time(30)
    outcomes = run.all([world.call(PIPELINE) for _ in range(100)], world)
    assert len(world.sent) == 6
    assert sum(isinstance(outcome, CircuitOpenError) for outcome in outcomes) == 99
    assert state(world) == ("closed" if then == 200 else "open")


def test_a_late_success_does_not_close_the_circuit(run: Run) -> None:
    """A call admitted before the trip ends after it: its verdict changes nothing."""
    world = run.world([Reply(after=2), *[Reply(503, after=1)] * 5])
    run.all([world.call(PIPELINE) for _ in range(6)], world)
    assert state(world) == "open"


def test_a_late_failure_does_not_postpone_the_probe(run: Run) -> None:
    """Stragglers of the time before the trip do not keep the circuit open longer."""
    world = run.world([Reply(503, after=9), *[Reply(503, after=1)] * 5])
    run.all([world.call(PIPELINE) for _ in range(6)], world)
    (refused,) = calls(run, world, 1)
    assert refused.retry_after == 1 + 30 - 9


def test_a_late_failure_is_not_held_against_the_next_period(run: Run) -> None:
    """After the circuit has closed again, failures of calls from before the trip do not count."""
    straggler = Reply(503, after=60)
    world = run.world([*[straggler] * 5, *[Reply(503, after=1)] * 5])
    long = Pipeline([Deadline(100), BREAKER])
    stragglers = [world.start(world.call(long)) for _ in range(5)]
    world.gather([world.call(long) for _ in range(5)])
    world.pass_time(30)
    world.gather([world.call(long)])
    assert state(world) == "closed"
    world.gather([pause_until_done(stragglers)])
    assert state(world) == "closed"


def test_a_late_success_does_not_break_the_row_of_the_next_period() -> None:
    """An answer to a call from before the trip says nothing of the failures since."""
    breaker = CircuitBreaker(minimum_calls=100)
    pipeline = Pipeline([Deadline(100), breaker])
    world = VirtualWorld([Reply(after=60), *[503] * 5, 200], then=503)
    straggler = world.start(world.call(pipeline))
    world.gather([world.call(pipeline) for _ in range(5)])
    world.pass_time(30)
    world.gather([world.call(pipeline)])
    world.gather([world.call(pipeline) for _ in range(4)])
    assert state(world, breaker) == "closed"
    world.finish(straggler)
    world.gather([world.call(pipeline)])
    assert state(world, breaker) == "open"


def pause_until_done(others: list[Any]) -> Flow[None]:
    while not all(other.done for other in others):
        yield Sleep(1)


def test_a_cancelled_call_leaves_no_verdict() -> None:
    """Ten calls cancelled in flight: the circuit is as it was."""
    world = VirtualWorld(then=SILENCE)
    flows = [world.start(world.call(PIPELINE)) for _ in range(10)]
    for flow in flows:
        world.at(1, flow.cancel)
    world.pass_time(2)
    assert all(isinstance(flow.error, asyncio.CancelledError) for flow in flows)
    assert state(world) == "closed"


def test_a_cancelled_probe_makes_room_for_the_next(run: Run) -> None:
    """A probe that is given up neither closes nor blocks the circuit: the next call is the probe."""
    world = opened(run, [SILENCE])
    world.pass_time(30)
    probe = world.start(world.call(PIPELINE))
    world.at(31, probe.cancel)
    world.pass_time(2)
    assert probe.done
    assert state(world) == "open"
    calls(run, world, 1)
    assert state(world) == "closed"


def test_a_flow_that_is_dropped_counts_as_cancelled(run: Run) -> None:
    """A generator that nobody drives any more gives its probe back."""
    world = opened(run)
    world.pass_time(30)
    flow = world.call(PIPELINE)
    next(flow)
    assert state(world) == "half-open"
    flow.close()
    assert state(world) == "open"


def test_a_probe_that_fails_for_a_reason_of_ours_gives_no_verdict(run: Run) -> None:
    """A bug in the caller's own code says nothing of the service."""

    def broken(call: Call) -> Flow[Any]:
        yield from immediate(None)
        raise ZeroDivisionError

    world = opened(run)
    world.pass_time(30)
    calls(run, world, 1, attempt=broken)
    assert state(world) == "open"
    calls(run, world, 1)
    assert state(world) == "closed"


def test_a_deadline_spent_in_a_queue_is_not_the_services_failure(run: Run) -> None:
    """Calls that got their permit with little time left do not open the circuit of a slow but healthy service."""
    breaker = CircuitBreaker(minimum_calls=2, window=1000)
    pipeline = Pipeline([Deadline(10), Bulkhead(limit=1), breaker])
    world = run.world(then=Reply(after=6))
    for _ in range(4):
        outcomes = run.all([world.call(pipeline) for _ in range(2)], world)
        assert isinstance(outcomes[1], DeadlineExceededError)
    assert state(world, breaker) == "closed"


def test_each_change_is_told_once(run: Run, heard: Heard) -> None:
    """closed, open, half-open, closed: one event each, however many calls were under way."""
    world = run.world([Reply(503, after=1)] * 40)
    listen: Any = {"listeners": (heard,)}
    run.all([world.call(PIPELINE, **listen) for _ in range(40)], world)
    world.pass_time(30)
    run.all([world.call(PIPELINE, **listen)], world)
    changes = [(event.before, event.after) for event in heard.events if event.name == "circuit.changed"]
    assert changes == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]


def test_a_refusal_is_told(run: Run, heard: Heard) -> None:
    """`call.rejected` names the policy."""
    world = opened(run)
    calls(run, world, 1, listeners=(heard,))
    assert [(event.name, event.policy) for event in heard.events] == [("call.rejected", "circuit breaker")]


def test_pipelines_have_circuits_of_their_own(run: Run) -> None:
    """Base URL, organization and pipeline each tell circuits apart; equal ones share theirs."""
    homes = Homes()
    target = Target("https://a", "org", "pipe")
    others = [Target("https://b", "org", "pipe"), Target("https://a", "b", "pipe"), Target("https://a", "org", "b")]
    circuits = [CircuitBreaker().circuit(homes.of(one)) for one in [target, *others]]
    assert len(set(map(id, circuits))) == 4
    assert CircuitBreaker().circuit(homes.of(Target("https://a", "org", "pipe"))) is circuits[0]


def test_admission_takes_no_lock_while_calls_run(run: Run) -> None:
    """Four calls of 0.3 s take 0.3 s together, not 1.2 s."""
    world = run.world(then=Reply(after=0.3))
    run.all([world.call(PIPELINE) for _ in range(4)], world)
    assert world.now == 0.3


def test_threads_agree_on_one_probe() -> None:
    """100 threads ask at the same moment: one is the probe."""
    circuit = Circuit(CircuitBreaker(in_a_row=1))
    admission = circuit.admit(0.0)
    assert admission is not None
    circuit.failed(admission, 0.0)
    gate = threading.Barrier(100)
    probes: list[Any] = []

    def ask() -> None:
        gate.wait()
        probes.append(circuit.admit(30.0))

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(probe is not None for probe in probes) == 1


def test_the_errors_that_count_are_the_ones_promised(run: Run) -> None:
    """A world of each failure raises the class the breaker looks at."""
    kinds = [ServerError, ConnectionFailedError, DeadlineExceededError, InvalidResponseError, BadRequestError]
    script: list[Outcome] = [503, REFUSED, SILENCE, Reply(body=b"?"), 400]
    world = run.world(script)
    assert [type(outcome) for outcome in calls(run, world, 5)] == kinds


@pytest.mark.parametrize(
    "options",
    [
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"failure_rate": "half"},
        {"minimum_calls": 0},
        {"in_a_row": 0},
        {"in_a_row": 2.0},
        {"window": 0},
        {"reset_after": -1},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        CircuitBreaker(**options)


def test_equal_options_share_one_circuit_in_a_home() -> None:
    """Two clients made apart with the same options stand before the same circuit."""
    home = Home()
    assert CircuitBreaker().circuit(home) is CircuitBreaker().circuit(home)
    assert CircuitBreaker(in_a_row=7).circuit(home) is not CircuitBreaker().circuit(home)
