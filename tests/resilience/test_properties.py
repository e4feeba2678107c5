"""Random faults through random pipelines: what holds whatever happens.

Hypothesis draws a script of faults, a pipeline, and calls that begin, overlap and are cancelled at any instant; virtual
time runs them. Each test states one invariant over all of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rage_retrievers._flow import Flow, Sleep, adrive, drive
from rage_retrievers.errors import ConnectionFailedError, DeadlineExceededError, RageError
from rage_retrievers.models import Retrieval
from rage_retrievers.resilience import (
    AdaptiveThrottle,
    Bulkhead,
    Cache,
    Call,
    CircuitBreaker,
    Deadline,
    Degrade,
    EmptyAnswer,
    Hedge,
    Pipeline,
    Policy,
    RateLimit,
    Retry,
    RetryBudget,
)
from rage_retrievers.resilience.circuit_breaker import Admission, Change, Circuit
from rage_retrievers.testing.world import AsyncVirtualWorld, Reply, VirtualWorld, send_once

from .conftest import Heard

NEVER = math.inf
durations = st.sampled_from([0.0, 0.001, 0.2, 0.5, 1.0, 3.0, 9.9, 10.0, NEVER])
bodies = st.sampled_from([b'{"documents":[]}', b'{"documents":[{"text":"x"}]}', b"<html>", b"", b'{"documents":[{}]}'])
retry_afters = st.sampled_from(["0", "1", "30", "86400", "soon", "Fri, 31 Dec 9999 23:59:59 GMT"])
statuses = st.sampled_from([200, 200, 200, 204, 301, 400, 401, 404, 408, 429, 500, 501, 503, 504])


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """One fault, or an answer."""
    if draw(st.integers(0, 5)) == 0:
        return Reply(error=ConnectionFailedError("The connection was reset."), after=draw(durations))
    headers = {"retry-after": draw(retry_afters)} if draw(st.booleans()) else {}
    return Reply(draw(statuses), draw(bodies), headers, draw(durations))


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """A deadline and any others, with options that make them meet."""
    patience = st.sampled_from([None, 0, 0.5, 5])
    optional: list[st.SearchStrategy[Policy]] = [
        st.builds(Degrade, st.just((EmptyAnswer(),))),
        st.builds(Cache, ttl=st.sampled_from([1.0, 60.0]), stale_for=st.sampled_from([0.0, 60.0])),
        st.builds(Bulkhead, limit=st.integers(1, 3), max_wait=patience),
        st.builds(Hedge, delay=st.sampled_from([0.0, 0.2, 1.0]), budget=st.sampled_from([0.05, 1.0])),
        st.builds(
            Retry,
            attempts=st.integers(1, 4),
            budget=st.sampled_from([None, RetryBudget(), RetryBudget(ratio=0.1, reserve=1)]),
        ),
        st.builds(RateLimit, rate=st.sampled_from([0.5, 10.0]), burst=st.integers(1, 3), max_wait=patience),
        st.builds(AdaptiveThrottle),
        st.builds(
            CircuitBreaker,
            in_a_row=st.integers(1, 3),
            minimum_calls=st.integers(1, 5),
            reset_after=st.sampled_from([0.5, 5.0]),
        ),
    ]
    chosen = [draw(one) for one in optional if draw(st.booleans())]
    return Pipeline([Deadline(draw(st.sampled_from([0.5, 5.0, 10.0]))), *chosen])


@dataclass
class Plan:
    """One call: when it begins, what it asks, how long it may take, and when it is cancelled."""

    begins: float
    question: str
    timeout: float | None
    cancelled: float | None


plans = st.builds(
    Plan,
    begins=st.sampled_from([0.0, 0.0, 0.2, 1.0, 6.0, 20.0]),
    question=st.sampled_from(["A", "B"]),
    timeout=st.sampled_from([None, None, 0.2, 2.0]),
    cancelled=st.sampled_from([None, None, None, 0.0, 0.1, 1.0]),
)


class CountedCircuit(Circuit):
    """Counts who was let through and what was said of each."""

    def __init__(self, options: CircuitBreaker) -> None:
        super().__init__(options)
        self.admitted = self.verdicts = self.probes = 0

    def admit(self, now: float) -> Admission | None:
        """Count the admission."""
        admission = super().admit(now)
        self.admitted += admission is not None
        if admission is not None and admission.probe:
            self.probes += 1
            assert self.probes == 1, "two probes at once"
        return admission

    def succeeded(self, admission: Admission, now: float) -> Change | None:
        """Count the verdict."""
        self._judged(admission)
        return super().succeeded(admission, now)

    def failed(self, admission: Admission, now: float) -> Change | None:
        """Count the verdict."""
        self._judged(admission)
        return super().failed(admission, now)

    def abandoned(self, admission: Admission, next_probe: float = 0.0) -> Change | None:
        """Count the verdict."""
        self._judged(admission)
        return super().abandoned(admission, next_probe)

    def _judged(self, admission: Admission) -> None:
        self.verdicts += 1
        self.probes -= admission.probe


@dataclass
class Story:
    """What happened when the plans were carried out."""

    pipeline: Pipeline
    world: VirtualWorld
    plans: list[Plan]
    heard: Heard = field(default_factory=Heard)
    outcomes: list[Any] = field(default_factory=list)
    ended: dict[int, float] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)

    def run(self) -> Story:
        """Carry them out side by side."""
        breaker = self.policy(CircuitBreaker)
        if breaker is not None:
            self.world.home.state(breaker, lambda: CountedCircuit(breaker))
        flows = []
        for number, plan in enumerate(self.plans):
            flows.append(self.world.start(self._one(number, plan)))
            if plan.cancelled is not None:
                self.world.at(plan.begins + plan.cancelled, flows[-1].cancel)
        self.world.pass_time(1000)
        assert all(flow.done for flow in flows), "a call never ended"
        self.outcomes = [flow.error if flow.error is not None else flow.result() for flow in flows]
        return self

    def _one(self, number: int, plan: Plan) -> Flow[Any]:
        yield Sleep(plan.begins)
        options = {"timeout": plan.timeout, "listeners": (self.heard,), "attempt": self._attempt(number)}
        try:
            return (yield from self.world.call(self.pipeline, plan.question, **options))
        finally:
            self.ended[number] = self.world.now

    def _attempt(self, number: int) -> Any:
        def attempt(call: Call) -> Flow[Any]:
            self.attempts[number] = self.attempts.get(number, 0) + 1
            return (yield from send_once(call))

        return attempt

    def policy(self, kind: Any) -> Any:
        """The pipeline's policy of this kind, or None."""
        return self.pipeline.get(kind.kind)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Everything drawn, and carried out."""
    script = draw(st.lists(replies(), max_size=20))
    world = VirtualWorld(script, then=draw(replies()), seed=draw(st.integers(0, 99)))
    return Story(draw(pipelines()), world, draw(st.lists(plans, min_size=1, max_size=12))).run()


often = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@often
@given(stories())
def test_every_call_ends_in_an_answer_or_a_typed_error(story: Story) -> None:
    """Never a hang, never an exception of a library or of Python."""
    for outcome, plan in zip(story.outcomes, story.plans, strict=True):
        cancelled = plan.cancelled is not None and isinstance(outcome, asyncio.CancelledError)
        assert cancelled or isinstance(outcome, Retrieval | RageError)


@often
@given(stories())
def test_no_call_outlives_its_deadline(story: Story) -> None:
    """Whatever the service does and however many calls are in the way."""
    for number, ended in story.ended.items():
        plan = story.plans[number]
        budget = story.policy(Deadline).timeout if plan.timeout is None else plan.timeout
        assert ended <= plan.begins + budget + 1e-9


@often
@given(stories())
def test_no_call_sends_more_than_its_attempts(story: Story) -> None:
    """The limit of the retry policy, twice that with a hedge."""
    retry = story.policy(Retry)
    most = (retry.attempts if retry else 1) * (2 if story.policy(Hedge) else 1)
    assert all(attempts <= most for attempts in story.attempts.values())


@often
@given(stories())
def test_every_permit_comes_back(story: Story) -> None:
    """After the last call all permits are free and nobody stands in line."""
    bulkhead = story.policy(Bulkhead)
    if bulkhead is not None:
        permits = story.world.home.state(bulkhead, bulkhead._permits)
        assert (permits.free, permits.waiting) == (bulkhead.limit, 0)


@often
@given(stories())
def test_every_admitted_call_has_one_verdict(story: Story) -> None:
    """Answered, failed or abandoned, exactly once; never two probes at once, and none left behind."""
    breaker = story.policy(CircuitBreaker)
    if breaker is not None:
        circuit = story.world.home.state(breaker, lambda: CountedCircuit(breaker))
        assert circuit.verdicts == circuit.admitted
        assert circuit.state != "half-open"


@often
@given(stories())
def test_the_changes_of_a_circuit_follow_each_other(story: Story) -> None:
    """Each change told begins where the one before ended."""
    changes = [(event.before, event.after) for event in story.heard.events if event.name == "circuit.changed"]
    state = "closed"
    for before, after in changes:
        assert before == state != after
        state = after


@often
@given(stories())
def test_retries_and_hedges_stay_within_their_budgets(story: Story) -> None:
    """Extra requests are bounded by the calls made."""
    calls = len(story.plans)
    retry, hedge = story.policy(Retry), story.policy(Hedge)
    if retry is not None and retry.budget is not None:
        # A hedge runs its own retries, and so puts its own share in.
        most = retry.budget.reserve + retry.budget.ratio * 2 * calls
        assert story.heard.names.count("retry.scheduled") <= most
    if hedge is not None:
        assert story.heard.names.count("call.hedged") <= hedge.budget * calls


@often
@given(stories())
def test_nothing_stays_in_flight_in_the_cache(story: Story) -> None:
    """Every shared request lands, so no later call waits for one that nobody makes."""
    cache = story.policy(Cache)
    if cache is not None:
        call = Call("retrieve", ("", "", ""), story.world, story.world.home)  # type: ignore[arg-type]
        assert cache._answers(call)._flights == {}


@often
@given(script=st.lists(replies(), max_size=12), pipeline=pipelines(), seed=st.integers(0, 99), number=st.integers(1, 6))
def test_blocking_and_async_code_leave_the_same_trace(
    script: list[Reply], pipeline: Pipeline, seed: int, number: int
) -> None:
    """One after the other, the same calls ask for the same effects at the same instants, with the same ends."""

    def questions() -> Iterator[str]:
        return iter("ABABAB"[:number])

    blocking, tasks = VirtualWorld(script, seed=seed), AsyncVirtualWorld(script, seed=seed)
    ends: list[type] = []
    for question in questions():
        try:
            ends.append(type(drive(blocking.call(pipeline, question), blocking)))
        except RageError as error:
            ends.append(type(error))

    async def main() -> list[type]:
        ends: list[type] = []
        for question in questions():
            try:
                ends.append(type(await adrive(tasks.call(pipeline, question), tasks)))
            except RageError as error:
                ends.append(type(error))
        return ends

    assert asyncio.run(main()) == ends
    assert tasks.trace == blocking.trace
    assert tasks.sent == blocking.sent
    assert tasks.now == blocking.now


@often
@given(
    script=st.lists(replies(), max_size=12),
    pipeline=pipelines(),
    seed=st.integers(0, 99),
    begins=st.lists(st.sampled_from([0.0, 0.1, 0.7, 3.1]), min_size=2, max_size=6),
)
def test_side_by_side_too(script: list[Reply], pipeline: Pipeline, seed: int, begins: list[float]) -> None:
    """Tasks of asyncio send at the same instants, and end alike, as flows side by side in blocking virtual time."""

    def one(world: Any, begin: float) -> Flow[Any]:
        yield Sleep(begin)
        return (yield from world.call(pipeline, timeout=4.0))

    blocking, tasks = VirtualWorld(script, seed=seed), AsyncVirtualWorld(script, seed=seed)
    first = blocking.gather([one(blocking, begin) for begin in begins])

    async def main() -> list[Any]:
        return await asyncio.gather(*(adrive(one(tasks, begin), tasks) for begin in begins), return_exceptions=True)

    second = asyncio.run(main())
    assert tasks.sent == blocking.sent
    assert list(map(type, first)) == list(map(type, second))


def test_the_deadline_bounds_even_a_call_that_nobody_answers() -> None:
    """The story machine itself would notice a hang."""
    world = VirtualWorld(then=Reply(after=NEVER))
    with pytest.raises(DeadlineExceededError):
        drive(world.call(Pipeline([Deadline(1)])), world)
    story = Story(Pipeline([]), VirtualWorld(then=Reply(after=NEVER)), [Plan(0, "A", None, None)])
    with pytest.raises(AssertionError, match="never ended"):
        story.run()
