"""Cache: what is answered from memory, for whom, how stale, and how identical calls share one request."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from rage_retrievers._flow import Flow, Sleep
from rage_retrievers.errors import (
    BulkheadFullError,
    CircuitOpenError,
    ConfigurationError,
    DeadlineExceededError,
    ServerError,
    UnauthorizedError,
)
from rage_retrievers.models import Query, Retrieval, Target
from rage_retrievers.resilience import Bulkhead, Cache, Call, CircuitBreaker, Deadline, Home, Pipeline
from rage_retrievers.resilience.cache import Answers, Lead
from rage_retrievers.testing.world import SILENCE, TARGET, Reply, VirtualWorld, send_once

from .conftest import Heard, Run, World

ANSWER = Reply(body=b'{"documents":[{"text":"One.","metadata":{"tags":["a"]},"extra":{"x":[1]}}],"question":"What?"}')
SLOW = Reply(body=ANSWER.body, after=1)
CACHED = Pipeline([Deadline(), Cache()])
STALE = Pipeline([Deadline(), Cache(stale_for=600)])


def ask(world: World, query: Query | None = None, pipeline: Pipeline = CACHED, **changes: Any) -> Flow[Any]:
    """One call in every particular of which the cache takes notice."""
    call = Call("retrieve", TARGET, world, world.home, query=query or Query(question="What?"), credential="somebody")
    call.started = world.now
    for name, value in changes.items():
        setattr(call, name, value)
    return pipeline.around(send_once)(call)


def test_the_same_question_is_asked_once(run: Run, heard: Heard) -> None:
    """The second answer comes from memory: no request, equal documents, `attempts` 0, and the event tells its age."""
    world = run.world(then=SLOW)
    first = run(world.call(CACHED), world)
    world.pass_time(5)
    second = run(world.call(CACHED, listeners=(heard,)), world)
    assert world.sent == [0]
    assert second.documents == first.documents
    assert (second.attempts, second.stale) == (0, False)
    assert [(event.name, event.age, event.stale) for event in heard.events] == [("cache.hit", 5, False)]


def test_an_answer_lives_for_its_time(run: Run) -> None:
    """After `ttl` seconds the service is asked again."""
    world = run.world(then=ANSWER)
    pipeline = Pipeline([Cache(ttl=30)])
    run(world.call(pipeline), world)
    world.pass_time(29.9)
    run(world.call(pipeline), world)
    assert len(world.sent) == 1
    world.pass_time(0.1)
    run(world.call(pipeline), world)
    assert len(world.sent) == 2


def test_the_least_recently_used_answer_goes_first(run: Run) -> None:
    """With room for two, asking A again keeps A and lets B go."""
    world = run.world(then=ANSWER)
    pipeline = Pipeline([Cache(max_entries=2)])
    for question in ("A", "B", "A", "C"):
        run(world.call(pipeline, question), world)
    assert len(world.sent) == 3
    run(world.call(pipeline, "A"), world)
    assert len(world.sent) == 3
    run(world.call(pipeline, "B"), world)
    assert len(world.sent) == 4


@pytest.mark.parametrize(
    "difference",
    [
        {"question": "What ?"},
        {"num_results": 6},
        {"rerank": True},
        {"metadata_filters": [{"tenant": ["a"]}]},
        {"metadata_filters": [{"tenant": ["b"]}]},
        {"metadata_filters": [{"year": [1]}]},
        {"metadata_filters": [{"year": ["1"]}]},
        {"metadata_filters": [{"year": [True]}]},
        {"metadata_filters": []},
        {"context": {"messages": [{"role": "user", "content": "Hello"}]}},
        {"advanced_query": {"mode": "hybrid"}},
        {"min_score": 0.0},
    ],
    ids=str,
)
def test_whatever_shapes_the_answer_tells_answers_apart(run: Run, difference: dict[str, Any]) -> None:
    """A query that differs in anything but its timeout is another query, tenant filters above all."""
    world = run.world(then=ANSWER)
    for values in ({}, {"metadata_filters": [{"tenant": ["c"]}, {"year": [1.0]}]}, difference):
        run(ask(world, Query.make({"question": "What?", **values})), world)
    assert len(world.sent) == 3


def test_every_field_of_a_query_but_its_timeout_is_told_apart() -> None:
    """A field added to Query is part of the key by itself; this list only says which we looked at."""
    assert set(Query.model_fields) == {
        "question", "num_results", "rerank", "metadata_filters", "context", "advanced_query", "min_score", "timeout",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"credential": "somebody else"},
        {"operation": "other"},
        {"target": Target("https://b", "o", "p")},
        {"target": TARGET._replace(organization="b")},
        {"target": TARGET._replace(pipeline_id="b")},
    ],
    ids=str,
)
def test_who_asks_whom_tells_answers_apart(run: Run, change: dict[str, Any]) -> None:
    """Another credential, operation, service, organization or pipeline never gets this one's answer."""
    world = run.world(then=ANSWER)
    run(ask(world), world)
    run(ask(world, **change), world)
    assert len(world.sent) == 2


def test_the_timeout_does_not_tell_answers_apart(run: Run) -> None:
    """How long somebody would have waited changes nothing of the answer."""
    world = run.world(then=ANSWER)
    run(ask(world), world)
    run(ask(world, Query(question="What?", timeout=3.0)), world)
    assert len(world.sent) == 1


def test_with_an_unknown_credential_nothing_is_cached(run: Run) -> None:
    """Before a token was asked for, nobody can tell whose answer it would be."""
    world = run.world(then=SLOW)
    run.all([world.call(CACHED, credential="") for _ in range(2)], world)
    run(world.call(CACHED, credential=""), world)
    assert len(world.sent) == 3


def test_a_filter_that_is_no_json_is_left_to_the_attempt(run: Run) -> None:
    """What cannot be told apart is not cached."""
    world = run.world(then=ANSWER)
    odd = Query(question="What?", metadata_filters=[{"when": [object()]}])
    for _ in range(2):
        run(ask(world, odd), world)
    assert len(world.sent) == 2


def test_a_lone_surrogate_in_the_question_is_no_obstacle(run: Run) -> None:
    """Any text can be a key."""
    world = run.world(then=ANSWER)
    for _ in range(2):
        run(world.call(CACHED, "broken \ud83d emoji"), world)
    assert len(world.sent) == 1


def test_changing_an_answer_changes_no_other(run: Run) -> None:
    """What one caller does to the metadata of its documents is not seen by the next, nor by a follower."""
    world = run.world(then=SLOW)
    answers: list[Retrieval] = run.all([world.call(CACHED) for _ in range(2)], world)
    answers.append(run(world.call(CACHED), world))
    for answer in answers:
        assert answer.documents[0].metadata == {"tags": ["a"]}
        answer.documents[0].metadata["tags"].append("changed")
        answer.documents[0].fields()["extra"]["x"].append("changed")
    assert run(world.call(CACHED), world).documents[0].fields()["extra"] == {"x": [1]}


def test_failures_are_not_cached(run: Run) -> None:
    """The next call asks again."""
    world = run.world([503])
    outcome = run.all([world.call(CACHED)], world)[0]
    assert isinstance(outcome, ServerError)
    run(world.call(CACHED), world)
    assert len(world.sent) == 2


def test_identical_calls_in_flight_share_one_request(run: Run) -> None:
    """A hundred callers, one request, and each gets its answer when it comes."""
    world = run.world(then=SLOW)
    answers = run.all([world.call(CACHED) for _ in range(100)], world)
    assert world.sent == [0]
    assert world.now == 1
    assert all(answer.documents[0].text == "One." for answer in answers)
    assert sorted(answer.attempts for answer in answers) == [0] * 99 + [1]


def test_waiting_for_anothers_request_takes_no_permit(run: Run) -> None:
    """A hundred identical calls pass a bulkhead of one that turns away at once."""
    world = run.world(then=SLOW)
    pipeline = Pipeline([Cache(), Bulkhead(limit=1, max_wait=0)])
    answers = run.all([world.call(pipeline) for _ in range(100)], world)
    assert not any(isinstance(answer, Exception) for answer in answers)


def test_the_leaders_failure_is_everyones(run: Run) -> None:
    """One request failed, so all who waited for it fail alike, each with an error of its own."""
    world = run.world([Reply(503, after=1)])
    outcomes = run.all([world.call(CACHED) for _ in range(5)], world)
    assert world.sent == [0]
    assert [(type(outcome), outcome.status) for outcome in outcomes] == [(ServerError, 503)] * 5
    assert len(set(map(id, outcomes))) == 5
    assert all(outcome.__cause__ is outcomes[0] for outcome in outcomes[1:])


def test_a_followers_deadline_is_its_own(run: Run) -> None:
    """A follower with less time gives up by itself; the others get the answer."""
    world = run.world(then=SLOW)
    outcomes = run.all([world.call(CACHED), world.call(CACHED, timeout=0.4), world.call(CACHED)], world)
    assert isinstance(outcomes[1], DeadlineExceededError)
    assert [isinstance(outcome, Retrieval) for outcome in outcomes] == [True, False, True]


def test_a_leader_that_runs_out_of_time_is_succeeded(run: Run) -> None:
    """Its deadline is its own too: a follower with time left makes the request."""
    world = run.world([SILENCE], then=SLOW)
    outcomes = run.all([world.call(CACHED, timeout=2), *[world.call(CACHED) for _ in range(3)]], world)
    assert isinstance(outcomes[0], DeadlineExceededError)
    assert all(isinstance(outcome, Retrieval) for outcome in outcomes[1:])
    assert world.sent == [0, 2]


def test_so_is_one_whose_time_ended_in_line(run: Run) -> None:
    """A full bulkhead turned the leader away because its own time was up; a follower stands in line for longer."""
    pipeline = Pipeline([Deadline(), Cache(), Bulkhead(limit=1)])
    world = run.world([Reply(body=ANSWER.body, after=3)], then=SLOW)
    first = [world.call(pipeline, "Another?"), world.call(pipeline, timeout=2), world.call(pipeline)]
    outcomes = run.all(first, world)
    assert isinstance(outcomes[1], BulkheadFullError)
    assert isinstance(outcomes[2], Retrieval)


def test_a_cancelled_leader_is_succeeded() -> None:
    """A follower takes over, and one request serves the rest."""
    world = VirtualWorld([SILENCE], then=SLOW)
    flows = [world.start(world.call(CACHED)) for _ in range(4)]
    world.at(0.5, flows[0].cancel)
    world.pass_time(3)
    assert isinstance(flows[0].error, asyncio.CancelledError)
    assert all(flow.result().documents for flow in flows[1:])
    assert world.sent == [0, 0.5]


def test_a_cancelled_follower_harms_nobody() -> None:
    """The leader and the other followers go on."""
    world = VirtualWorld(then=SLOW)
    flows = [world.start(world.call(CACHED)) for _ in range(3)]
    world.at(0.5, flows[1].cancel)
    world.pass_time(2)
    assert flows[0].result().documents == flows[2].result().documents
    assert world.sent == [0]


@pytest.mark.parametrize("outcome", [500, 503, 429, 408, SILENCE, Reply(body=b"<html>")], ids=str)
def test_in_an_outage_a_stale_answer_is_served_and_says_so(run: Run, heard: Heard, outcome: Any) -> None:
    """Past its time an answer is still better than none, for `stale_for` seconds; `stale` and the event tell."""
    world = run.world([ANSWER, outcome])
    run(world.call(STALE), world)
    world.pass_time(100)
    answer = run(world.call(STALE, listeners=(heard,)), world)
    assert answer.documents[0].text == "One."
    assert answer.stale
    assert len(world.sent) == 2
    assert [(event.name, event.stale) for event in heard.events] == [("cache.hit", True)]


def test_a_stale_answer_is_served_while_the_circuit_is_open(run: Run) -> None:
    """Nothing is sent, and the callers still have an answer."""
    breaker = CircuitBreaker(in_a_row=1)
    pipeline = STALE.with_policies(breaker)
    world = run.world([ANSWER, 503])
    run(world.call(pipeline), world)
    world.pass_time(100)
    for _ in range(3):
        assert run(world.call(pipeline), world).stale
    assert len(world.sent) == 2
    outcome = run.all([world.call(pipeline, "Another?")], world)[0]
    assert isinstance(outcome, CircuitOpenError)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
def test_a_withdrawn_right_is_no_outage(run: Run, status: int) -> None:
    """A 4xx is raised although a stale answer is at hand."""
    world = run.world([ANSWER, status])
    run(world.call(STALE), world)
    world.pass_time(100)
    outcome = run.all([world.call(STALE)], world)[0]
    assert outcome.status == status


def test_too_stale_is_no_answer(run: Run) -> None:
    """After `ttl` + `stale_for` seconds the failure is raised."""
    world = run.world([ANSWER], then=503)
    run(world.call(STALE), world)
    world.pass_time(661)
    assert isinstance(run.all([world.call(STALE)], world)[0], ServerError)


def test_by_default_nothing_stale_is_served(run: Run) -> None:
    """An answer past its time is not an answer unless the user says so."""
    world = run.world([ANSWER], then=503)
    run(world.call(CACHED), world)
    world.pass_time(61)
    assert isinstance(run.all([world.call(CACHED)], world)[0], ServerError)


def test_followers_are_served_stale_answers_too(run: Run) -> None:
    """The shared request failed; each who waited falls back on what is kept."""
    world = run.world([ANSWER], then=Reply(503, after=1))
    run(world.call(STALE), world)
    world.pass_time(100)
    assert [answer.stale for answer in run.all([world.call(STALE) for _ in range(3)], world)] == [True] * 3
    assert len(world.sent) == 2


def test_nothing_is_left_in_flight(run: Run) -> None:
    """Answers, failures, deadlines and give-ups all land: the next call starts afresh."""
    world = run.world([SILENCE, 503, 401], then=ANSWER)
    kinds = [type(run.all([world.call(CACHED)], world)[0]) for _ in range(4)]
    assert kinds == [DeadlineExceededError, ServerError, UnauthorizedError, Retrieval]


def test_questions_are_not_kept_readable() -> None:
    """The keys are digests: neither question, filter nor credential can be read from them."""
    world = VirtualWorld(then=ANSWER)
    home = Home()
    world.finish(world.start(world.call(CACHED, "A private question", credential="digest-of-token", home=home)))
    shown = repr(vars(home))
    assert "private" not in shown
    assert "digest-of-token" not in shown


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cachetools is missing, making the policy says what to install."""
    monkeypatch.setitem(sys.modules, "cachetools", None)
    with pytest.raises(ConfigurationError, match=r"rage-retrievers\[cache\]"):
        Cache()


@pytest.mark.parametrize("options", [{"ttl": 0}, {"max_entries": 0}, {"stale_for": -1}])
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Cache(**options)


def test_an_answer_that_took_long_is_as_old_as_its_arrival(run: Run) -> None:
    """Age counts from the answer, not from the question."""
    world = run.world(then=Reply(body=ANSWER.body, after=9))
    pipeline = Pipeline([Cache(ttl=5)])

    def twice() -> Flow[int]:
        yield from world.call(pipeline)
        yield Sleep(4)
        yield from world.call(pipeline)
        return len(world.sent)

    assert run(twice(), world) == 1


def test_a_call_thrown_away_may_land_amid_another_s_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector ends flows wherever something is made, also where the answers are locked."""
    answers = Answers(Cache(), VirtualWorld())
    led = answers.look(b"a")
    assert isinstance(led, Lead)
    plain: Any = Future

    def collecting() -> Any:
        monkeypatch.setattr("rage_retrievers.resilience.cache.Future", plain)
        answers.land(b"a", led.flight, None)
        return plain()

    monkeypatch.setattr("rage_retrievers.resilience.cache.Future", collecting)
    looking = threading.Thread(target=answers.look, args=(b"b",), daemon=True)
    looking.start()
    looking.join(5)
    assert not looking.is_alive()
    assert isinstance(answers.look(b"a"), Lead)
