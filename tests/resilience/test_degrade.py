"""Degradation: what is answered when no answer can be had, and that it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rage_retrievers.errors import ConfigurationError, DeadlineExceededError, QuotaExceededError, RageError, ServerError
from rage_retrievers.models import Document, Query, Retrieval
from rage_retrievers.resilience import (
    Cache,
    CircuitBreaker,
    Deadline,
    Degrade,
    EmptyAnswer,
    OtherRetriever,
    Pipeline,
    Retry,
    StaleAnswer,
)
from rage_retrievers.testing.world import SILENCE, Reply

from .conftest import Heard, Run

EMPTY = Pipeline([Degrade((EmptyAnswer(),)), Deadline(), Retry(), CircuitBreaker()])


def own_search(query: Query) -> list[Document]:
    return [Document(text=f"Own answer to {query.question}")]


async def own_async_search(query: Query) -> Retrieval:
    return Retrieval(documents=tuple(own_search(query)))


def broken(query: Query) -> Retrieval:
    raise ZeroDivisionError


def test_a_healthy_answer_is_left_alone(run: Run, heard: Heard) -> None:
    """Nothing is degraded while the service answers."""
    world = run.world()
    answer = run(world.call(EMPTY, listeners=(heard,)), world)
    assert answer.degraded is None
    assert heard.events == []


@pytest.mark.parametrize("outcome", [500, 503, 429, SILENCE, Reply(body=b"?")], ids=str)
def test_an_empty_list_on_failure_says_what_it_is(run: Run, heard: Heard, outcome: Any) -> None:
    """The answer is empty, `degraded` names the fallback, and the event holds the error it hides."""
    world = run.world(then=outcome)
    answer = run(world.call(EMPTY, listeners=(heard,)), world)
    assert (answer.documents, answer.degraded) == ((), "empty")
    event = heard.events[-1]
    assert (event.name, event.fallback) == ("call.degraded", "empty")
    assert isinstance(event.error, RageError)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
def test_a_mistake_is_never_papered_over(run: Run, status: int) -> None:
    """A wrong token or query is raised, whatever fallbacks there are."""
    world = run.world(then=status)
    with pytest.raises(RageError):
        run(world.call(EMPTY), world)


def test_an_open_circuit_is_an_outage(run: Run) -> None:
    """While nothing is sent the fallback answers."""
    world = run.world(then=503)
    for _ in range(20):
        assert run(world.call(EMPTY), world).degraded == "empty"
    assert len(world.sent) == 5


@pytest.mark.parametrize("search", [own_search, own_async_search], ids=["sync", "async"])
def test_another_retriever_answers(run: Run, search: Any) -> None:
    """A function of the user's, sync or async in either world, gets the query and gives the documents."""
    world = run.world(then=500)
    answer = run(world.call(Pipeline([Degrade((OtherRetriever(search, name="own"),))]), "Why?"), world)
    assert [document.text for document in answer.documents] == ["Own answer to Why?"]
    assert answer.degraded == "own"


def test_the_next_fallback_has_its_turn_when_one_fails(run: Run) -> None:
    """The first of the fallbacks that has an answer gives it."""
    world = run.world(then=500)
    none = OtherRetriever(lambda _: None)
    pipeline = Pipeline([Degrade((OtherRetriever(broken), none, OtherRetriever(own_search, name="third")))])
    assert run(world.call(pipeline), world).degraded == "third"


def test_when_every_fallback_fails_the_failure_is_raised(run: Run) -> None:
    """The caller gets the service's error, with a note on each fallback that failed too."""
    world = run.world(then=500)
    with pytest.raises(ServerError) as caught:
        run(world.call(Pipeline([Degrade((OtherRetriever(broken, name="own"),))])), world)
    assert caught.value.__notes__ == ["The fallback 'own' failed too: ZeroDivisionError."]


def test_a_stale_answer_covers_what_the_user_names(run: Run) -> None:
    """`when` widens what is covered: here a spent quota is answered from what the cache keeps."""
    cache = Cache(ttl=60, stale_for=600)
    degrade = Degrade((StaleAnswer(cache),), when=lambda error: isinstance(error, QuotaExceededError))
    world = run.world([Reply(body=b'{"documents":[{"text":"Kept."}]}')], then=402)
    pipeline = Pipeline([degrade, cache])
    run(world.call(pipeline), world)
    world.pass_time(100)
    answer = run(world.call(pipeline), world)
    assert [document.text for document in answer.documents] == ["Kept."]
    assert (answer.stale, answer.degraded) == (True, "stale")
    with pytest.raises(QuotaExceededError):
        run(world.call(pipeline, "Never asked?"), world)


def test_the_deadlines_failure_is_covered_too(run: Run) -> None:
    """Degradation stands outside the deadline."""
    world = run.world(then=SILENCE)
    assert run(world.call(EMPTY, timeout=1), world).degraded == "empty"
    assert world.now == 1


def test_only_our_errors_are_covered(run: Run) -> None:
    """A bug is raised, not answered with an empty list."""

    def attempt(call: Any) -> Any:
        raise ZeroDivisionError

    world = run.world()
    with pytest.raises(ZeroDivisionError):
        run(world.call(EMPTY, attempt=attempt), world)


def test_an_outage_is_what_can_pass() -> None:
    """The default covers transient errors, refusals and failures of the service."""
    degrade = Degrade((EmptyAnswer(),))
    assert degrade.when(DeadlineExceededError("x"))
    assert not degrade.when(ConfigurationError("x"))
    assert not degrade.when(ValueError("x"))


@pytest.mark.parametrize("to", [(), EmptyAnswer(), ("empty",), None, (EmptyAnswer,), (len,)], ids=str)
def test_a_fallback_is_named_explicitly(to: Any) -> None:
    """Without a fallback there is nothing to degrade to."""
    with pytest.raises(ConfigurationError, match="to="):
        Degrade(to)
    with pytest.raises(ConfigurationError, match="when="):
        Degrade((EmptyAnswer(),), when=5)  # type: ignore[arg-type]


async def always(error: Exception) -> bool:
    """Whether it is covered; its coroutine would be true, whatever it answers."""
    return False


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: StaleAnswer(300), "cache is an int; give the Cache"),  # type: ignore[arg-type]
        (lambda: StaleAnswer(Cache), "cache is the class Cache; give the Cache"),  # type: ignore[arg-type]
        (lambda: OtherRetriever("local:./docs"), "retrieve is a str; give a function"),  # type: ignore[arg-type]
        (lambda: Degrade((EmptyAnswer(),), when=always), "when=.* plain function"),  # type: ignore[arg-type]
    ],
)
def test_a_fallback_that_could_not_answer_is_refused_when_it_is_made(make: Callable[[], object], said: str) -> None:
    """And not in the first outage."""
    with pytest.raises(ConfigurationError, match=said):
        make()
