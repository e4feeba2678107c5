"""What every call keeps, whichever client makes it."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import SecretStr

from core.conftest import ANSWER, OPTIONS, Side
from rage_retrievers import (
    AdvancedQuery,
    AsyncVectorizeClient,
    BadRequestError,
    ConfigurationError,
    DeadlineExceededError,
    F,
    InvalidResponseError,
    Pipeline,
    ResearchEvent,
    ResearchFailedError,
    Retry,
    RetryBudget,
    RetryBudgetExhaustedError,
    ServerError,
    UnauthorizedError,
    VectorizeClient,
    VectorizeSettings,
)
from rage_retrievers._calls import Calls
from rage_retrievers._flow import Flow, Send, Sleep, WireRequest, WireResponse
from rage_retrievers._secrets import secrets_in_use
from rage_retrievers.engines import Engines
from rage_retrievers.errors import AuditError, CircuitOpenError
from rage_retrievers.observability import Metrics
from rage_retrievers.observability.correlation import correlation
from rage_retrievers.observability.events import AttemptStarted, CallCompleted, Event
from rage_retrievers.observability.secrets import register_secret
from rage_retrievers.resilience import Cache, Call, CircuitBreaker, Deadline, Step
from rage_retrievers.testing.world import SILENCE, Reply

GATEWAY = "https://client.app.vectorize.io/api/gateways/service/org-9/aip-9/retrieve"


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event, /) -> None:
        self.events.append(event)


def body(side: Side) -> dict[str, Any]:
    """The body of the last request."""
    read = json.loads(side.requests[-1].body)
    assert isinstance(read, dict)
    return read


class Watched:
    """Something that a weak reference can watch."""


class Body(bytes):
    """An answer that can be watched; bytes themselves cannot."""

    watched: Watched


@pytest.mark.parametrize("heard", [[], [Heard()]], ids=["unheard", "heard"])
@pytest.mark.parametrize("world", ["sync", "async"])
def test_an_error_that_is_kept_keeps_no_answer(world: str, heard: Any) -> None:
    """Bodies of many MiB end with their calls, not with the next run of the garbage collector."""
    answers: list[weakref.ref[Watched]] = []

    class Memory:
        def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
            body = Body(b'{"documents": 3}')
            body.watched = Watched()
            answers.append(weakref.ref(body.watched))
            return WireResponse(200, {"content-type": "application/json"}, body)

        def close(self) -> None: ...

    class AsyncMemory:
        async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
            return Memory().send(request, timeout, max_bytes)

        async def aclose(self) -> None: ...

    options: Any = {**OPTIONS, "engine": Engines("memory", Memory, AsyncMemory), "listeners": heard}

    def ask() -> object:
        if world == "sync":
            return VectorizeClient(**options).retrieve("What?")
        return asyncio.run(AsyncVectorizeClient(**options).retrieve("What?"))

    gc.disable()
    try:
        with pytest.raises(InvalidResponseError) as kept:
            ask()
        assert answers
        assert all(answer() is None for answer in answers), kept.value
    finally:
        gc.enable()


def test_a_question_becomes_one_request_of_the_protocol(side: Side) -> None:
    """A retrieval posts the question, always says whether to rerank, and sends nothing that is empty."""
    answer = side.retrieve(side.calls(), "What?", metadata_filters=[], context={"messages": []})
    (request,) = side.requests
    assert (request.method, request.url) == (
        "POST",
        "https://api.vectorize.io/v1/org/org-1/pipelines/aip-1/retrieval",
    )
    assert dict(request.headers)["authorization"] == "Bearer planted-token"
    assert body(side) == {"question": "What?", "numResults": 5, "rerank": False}
    assert [document.id for document in answer.documents] == ["d-1"]
    assert (answer.attempts, answer.ordered_by) == (1, "similarity")


@pytest.mark.parametrize(
    ("client", "call", "sent"),
    [
        ({"rerank": True}, {"rerank": False}, {"rerank": False}),
        ({"num_results": 9}, {"num_results": 1}, {"numResults": 1}),
        ({"metadata_filters": [{"year": [1]}]}, {"metadata_filters": []}, {}),
        ({"metadata_filters": [{"year": [1]}]}, {"metadata_filters": None}, {}),
        ({"metadata_filters": {"year": [1], "b": [2]}}, {}, {"metadata-filters": [{"year": [1]}, {"b": [2]}]}),
        ({"advanced_query": {"mode": "text"}}, {"advanced_query": None}, {}),
        ({}, {"advanced_query": {"mode": "hybrid", "text_fields": ["a"]}},
         {"advanced-query": {"mode": "hybrid", "text-fields": ["a"]}}),
        ({}, {"advanced_query": AdvancedQuery(mode=None, text_boost=0)}, {"advanced-query": {"text-boost": 0}}),
        ({}, {"num_results": np.int64(3)}, {"numResults": 3}),
        ({}, {"context": [{"role": "user", "content": "Hi"}]},
         {"context": {"messages": [{"role": "user", "content": "Hi"}]}}),
    ],
)  # fmt: skip
def test_what_a_call_says_wins_whatever_its_value(
    side: Side, client: dict[str, Any], call: dict[str, Any], sent: dict[str, Any]
) -> None:
    """False, [], None and 1 of a call take the place of the client's values."""
    side.retrieve(side.calls(**client), **call)
    expected = {"question": "What?", "numResults": 5, "rerank": False, **sent}
    if "num_results" in client and "numResults" not in sent:
        expected["numResults"] = client["num_results"]
    assert body(side) == expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_results": 0}, "num_results = 0"),
        ({"num_results": 1.5}, "num_results = 1.5"),
        ({"num_results": True}, "num_results = True"),
        ({"rerank": "yes"}, "rerank = 'yes'"),
        ({"metadata_filters": "year"}, "metadata_filters = 'year'"),
        ({"metadata_filters": [1]}, "metadata_filters = [1]"),
        ({"metadata_filters": [{"year": [float("nan")]}]}, "metadata_filters cannot be written as JSON"),
        ({"metadata_filters": [{"price": [Decimal("1.5")]}]}, "Object of type Decimal"),
        ({"context": {"messages": [{"role": "user"}]}}, "context of type dict"),
        ({"context": {"message": [{"role": "user", "content": "Hi"}]}}, "context of type dict"),
        ({"advanced_query": {"filter": {"term": {"tenant": "a"}}}}, "did you mean 'filters'"),
        ({"advanced_query": {"textFields": ["title"]}}, "did you mean 'text_fields'"),
        ({"advanced_query": {"text_boost": 1, "text-boost": 2}}, "did you mean 'text_boost'"),
        ({"advanced_query": {"filters": F("tenant") == "a"}}, "advanced_query cannot be written as JSON"),
        ({"advanced_query": {"mode": "magic"}}, "mode = 'magic' cannot be used"),
        ({"advanced_query": {"text_boost": "x"}}, "text_boost = 'x' cannot be used"),
        ({"advanced_query": {"text-fields": [5]}}, "text_fields.0 = 5 cannot be used"),
        ({"advanced_query": {"text_boost": -1}}, "text_boost = -1 cannot be used"),
        ({"min_score": float("nan")}, "min_score = nan"),
        ({"timeout": 0}, "timeout = 0"),
        ({"timeout": float("inf")}, "timeout = inf"),
        ({"pipeline_id": ""}, "pipeline_id = ''"),
        ({"pipeline_id": "a b"}, "pipeline_id = 'a b'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(side: Side, options: dict[str, Any], named: str) -> None:
    """A wrong option is a ConfigurationError that names the field and the value, and no request is made."""
    with pytest.raises(ConfigurationError) as caught:
        side.retrieve(side.calls(), **options)
    assert named in str(caught.value)
    assert side.requests == []


def test_what_this_version_does_not_know_is_sent_all_the_same(side: Side) -> None:
    """Beside the messages of a conversation, and among the options of a search."""
    context = {"messages": [{"role": "user", "content": "Hi"}], "locale": "de"}
    side.retrieve(side.calls(), context=context, advanced_query=AdvancedQuery.model_validate({"new-option": 1}))
    assert body(side)["context"] == context
    assert body(side)["advanced-query"] == {"new-option": 1}


@pytest.mark.parametrize("question", ["", "  \n", None, 7])
def test_a_question_must_ask_something(side: Side, question: Any) -> None:
    """An empty question, or none, is refused; the message does not repeat it."""
    with pytest.raises(ConfigurationError, match="question of type"):
        side.retrieve(side.calls(), question)
    assert side.requests == []


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("metadataFilters", "metadata_filters"),
        ("numResults", "num_results"),
        ("reranking", "rerank"),
        ("filters", "metadata_filters"),  # not listeners
        ("top_k", "num_results"),  # not api_key
        ("mode", "advanced_query"),
    ],
)
def test_an_unknown_keyword_is_an_error_with_the_nearest_name(side: Side, given: str, near: str) -> None:
    """A mistyped option never vanishes: in the call and in the client it is a TypeError."""
    with pytest.raises(TypeError, match=f"{given}.*{near}"):
        side.retrieve(side.calls(), "What?", **{given: 1})
    with pytest.raises(TypeError, match=f"{given}.*{near}"):
        side.calls(**{given: 1})
    assert side.requests == []


@pytest.mark.parametrize(
    ("environment", "base"),
    [
        ("prod", "https://api.vectorize.io/v1"),
        ("staging", "https://api-staging.vectorize.io/v1"),
        ("dev", "https://api-dev.vectorize.io/v1"),
        ("local", "http://localhost:3000/api"),
    ],
)
def test_environments_have_the_vendors_addresses(side: Side, environment: str, base: str) -> None:
    """`environment` chooses the address; on local the token is sent as x-lambda-api-key too."""
    side.retrieve(side.calls(environment=environment))
    assert side.requests[0].url.startswith(f"{base}/org/org-1/")
    lambda_key = dict(side.requests[0].headers).get("x-lambda-api-key")
    assert lambda_key == ("planted-token" if environment == "local" else None)


def test_an_address_of_your_own_gets_the_token_in_no_second_header(side: Side) -> None:
    """Whatever `environment` says beside it: the address decides."""
    side.retrieve(side.calls(environment="local", base_url="https://gateway.example.com/v1"))
    assert side.requests[0].url.startswith("https://gateway.example.com/v1/org/org-1/")
    assert "x-lambda-api-key" not in dict(side.requests[0].headers)


def test_the_older_gateway_takes_a_bare_token_and_may_wrap_its_answer(side: Side) -> None:
    """A full retrieval URL is posted to as it is, without Bearer, and a wrapped answer is unwrapped."""
    wrapped = json.dumps({"record": {"value": ANSWER.body.decode()}}).encode()
    side.answers(Reply(body=wrapped))
    calls = Calls.make({"api_key": "planted-token", "retrieval_url": GATEWAY})
    answer = side.retrieve(calls)
    assert side.requests[0].url == GATEWAY
    assert dict(side.requests[0].headers)["authorization"] == "planted-token"
    assert answer.documents[0].text == "A passage."
    for operation in (calls.pipeline, lambda clock: calls.deep_research(clock, "Why?", {})):
        with pytest.raises(ConfigurationError, match="retrieval_url"):
            side.run(operation)


@pytest.mark.parametrize(
    "url",
    ["http://example.com/v1", "ftp://example.com", "example.com/v1", "https://", "https://user:hunter2@example.com/v1",
     "https://example.com/v1?x=hunter2", "https://exa mple.com", "local:", "https://example.com:port/v1",
     "https://example.com/v1?", "https://example.com/v1#", "http://127.0.0.1.example.com/v1", "https://example..com",
     "https://" + "a" * 64 + ".com", "https://./v1", "https://☃☃/v1", "https://٣.example/v1", "https://999.1.1.1/v1",
     "https://[v1.a]/v1"],
)  # fmt: skip
def test_an_address_that_would_expose_the_token_is_refused(side: Side, url: str) -> None:
    """Only https, or http on this machine, carries a token; the message holds no password of the address."""
    with pytest.raises(ConfigurationError) as caught:
        side.calls(base_url=url)
    assert "hunter2" not in str(caught.value)


def test_an_address_nearer_at_hand_wins_whichever_form_it_has(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """base_url, retrieval_url and environment name one thing, so one that is given puts aside the others' variables."""
    monkeypatch.setenv("VECTORIZE_RETRIEVAL_URL", GATEWAY)
    monkeypatch.setenv("VECTORIZE_BASE_URL", "https://far.example/v1")
    for settings in (None, VectorizeSettings.load()):
        side.retrieve(side.calls(base_url="https://near.example/v1", settings=settings))
        side.retrieve(side.calls(environment="staging", settings=settings))
        side.retrieve(Calls.make({"api_key": "t", "retrieval_url": GATEWAY + "/", "settings": settings}))
        assert [request.url.partition("/org/")[0] for request in side.requests] == [
            "https://near.example/v1",
            "https://api-staging.vectorize.io/v1",
            GATEWAY + "/",
        ]
        side.requests.clear()


def test_two_addresses_at_once_are_refused() -> None:
    """Nobody has to guess where a question and a token went."""
    with pytest.raises(ConfigurationError, match="base_url and retrieval_url"):
        Calls.make({**OPTIONS, "base_url": "https://example.com/v1", "retrieval_url": GATEWAY})


def test_a_pipeline_that_the_retrieval_url_does_not_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id given beside a retrieval URL of another pipeline is never passed over in silence."""
    monkeypatch.setenv("VECTORIZE_RETRIEVAL_URL", GATEWAY)
    assert Calls.make({"api_key": "t", "pipeline_id": "aip-9"}).connection.address.target.pipeline_id == "aip-9"
    with pytest.raises(ConfigurationError, match=r"pipeline_id = 'aip-2'.*retrieval_url names 'aip-9'"):
        Calls.make({"api_key": "t", "pipeline_id": "aip-2"})


@pytest.mark.parametrize(
    "options",
    [{"environment": "moon"}, {"max_response_mib": "x"}, {"max_response_mib": 1e308}, {"user_agent": "a\r\nx-evil: y"},
     {"user_agent": "tök"}, {"listeners": 5}],
)  # fmt: skip
def test_a_wrong_option_is_named_whether_settings_are_given_or_not(options: dict[str, Any]) -> None:
    """Every wrong value is a ConfigurationError that names its field, however the client is made."""
    for settings in (None, VectorizeSettings.load()):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            Calls.make({**OPTIONS, **options, "settings": settings})
    with pytest.raises(ConfigurationError, match="settings is a dict"):
        Calls.make({**OPTIONS, "settings": {}})


@pytest.mark.parametrize(
    "options", [{"resilience": Retry()}, {"num_results": 0}, {"min_score": "high"}, {"metadata_filters": "year"}]
)
def test_what_every_call_would_be_refused_for_is_refused_with_the_client(options: dict[str, Any]) -> None:
    """When it is made, and when a copy of it is, not when the first question is asked."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Calls.make({**OPTIONS, **options})
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Calls.make(OPTIONS).with_options(options)


@pytest.mark.parametrize("pipeline_id", ["aip\x00", "aip 1", "aip\u200b", "..", "."])
def test_an_id_that_would_break_the_path_is_refused(pipeline_id: str) -> None:
    """With the client and with a call alike, and shown as it is."""
    with pytest.raises(ConfigurationError, match=r"pipeline_id = .* cannot be used"):
        Calls.make({**OPTIONS, "pipeline_id": pipeline_id})
    with pytest.raises(ConfigurationError, match=r"pipeline_id = .* cannot be used"):
        Calls.make(OPTIONS).with_options({"pipeline_id": pipeline_id})


@pytest.mark.parametrize(
    ("path", "organization", "pipeline_id"),
    [("/service/org%201/aip%2F9/retrieve", "org 1", "aip/9"), ("/another/gateway", "", "/another/gateway")],
)
def test_what_a_gateways_address_names_is_a_target_of_its_own(path: str, organization: str, pipeline_id: str) -> None:
    """By its ids, or where it tells none by its path: a circuit that opens there leaves others closed."""
    target = Calls.make(
        {"api_key": "t", "retrieval_url": f"https://gateway.example.com{path}"}
    ).connection.address.target
    assert target == ("https://gateway.example.com", organization, pipeline_id)


def test_an_engine_of_your_own_goes_where_the_address_says_unless_it_is_a_pipeline_itself() -> None:
    """One that tells its identity is one; it has an address of its own, and is shown the token where one is given."""
    nobody: Any = None
    connection = Calls.make({**OPTIONS, "engine": Engines("own", nobody, nobody)}).connection
    assert connection.address.target.base_url == "https://api.vectorize.io/v1"
    connection = Calls.make({**OPTIONS, "engine": Engines("own", nobody, nobody, "here")}).connection
    assert connection.address.target.base_url == "http://here.embedded.localhost/v1"
    token = connection.credential.current()
    assert token is not None
    assert token.get_secret_value() == OPTIONS["api_key"]


def test_the_bound_on_an_answer_may_be_a_part_of_a_mib() -> None:
    """Half a MiB is not none at all."""
    assert Calls.make({**OPTIONS, "max_response_mib": 0.5}).connection.max_bytes == 512 * 1024


def test_white_space_around_an_address_is_no_part_of_it(side: Side) -> None:
    """A line's end that a file or a variable brought along does no harm."""
    side.retrieve(side.calls(base_url=" https://example.com/v1/\n"))
    assert side.requests[0].url.startswith("https://example.com/v1/org/")


def test_plain_http_to_another_machine_needs_the_users_word(side: Side) -> None:
    """allow_insecure=True is the way to say so."""
    side.retrieve(side.calls(base_url="http://example.com/v1", allow_insecure=True))
    assert side.requests[0].url.startswith("http://example.com/v1/org/")


@pytest.mark.parametrize("missing", ["api_key", "organization", "pipeline_id"])
def test_what_is_missing_is_named_with_its_variable(missing: str) -> None:
    """A client without token, organization or pipeline is refused, and told which variable would give it."""
    options = {name: value for name, value in OPTIONS.items() if name != missing}
    variable = {"organization": "VECTORIZE_ORGANIZATION_ID"}.get(missing, f"VECTORIZE_{missing.upper()}")
    with pytest.raises(ConfigurationError, match=f"{missing} is missing.*{variable}"):
        Calls.make(options)


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nb", "tök"])
def test_a_malformed_token_is_refused_without_being_shown(token: str) -> None:
    """A token with spaces or control characters cannot forge a header, and is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        Calls.make({**OPTIONS, "api_key": token})
    assert not token.strip() or token not in str(caught.value)


def test_a_token_may_come_in_every_form(side: Side) -> None:
    """A text with a trailing newline, a SecretStr, a function and an async function all give the header."""

    async def asked() -> str:
        return "planted-token"

    for key in ("planted-token\n", SecretStr("planted-token"), lambda: "planted-token", asked):
        side.retrieve(side.calls(api_key=key))
        assert dict(side.requests[-1].headers)["authorization"] == "Bearer planted-token"


def test_a_refused_token_is_asked_for_once_more(side: Side) -> None:
    """After a 401 a function is asked again and the call goes on; a second 401 is the error."""
    tokens = iter(["old", "new", "newer"])
    calls = side.calls(api_key=lambda: next(tokens))
    side.answers(401)
    assert side.retrieve(calls).attempts == 2
    assert [dict(request.headers)["authorization"] for request in side.requests] == ["Bearer old", "Bearer new"]
    side.answers(401, 401)
    with pytest.raises(UnauthorizedError):
        side.retrieve(calls)
    assert len(side.requests) == 4


def test_a_fixed_token_that_is_refused_is_not_sent_again(side: Side) -> None:
    """A 401 for a token that cannot change is final."""
    side.answers(401)
    with pytest.raises(UnauthorizedError):
        side.retrieve(side.calls())
    assert len(side.requests) == 1


def test_a_token_function_that_fails_is_a_typed_error(side: Side) -> None:
    """It names the class and the place of what the function raised, shows none of its words, and nothing is sent."""

    def broken() -> str:
        try:
            raise KeyError("planted-token")
        except KeyError as error:
            raise OSError("vault sealed against planted-token") from error

    with pytest.raises(ConfigurationError, match=r"raised OSError at test_calls\.py:\d+") as caught:
        side.retrieve(side.calls(api_key=broken))
    assert "planted-token" not in "".join(traceback.format_exception(caught.value))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert side.requests == []


def test_the_token_is_in_no_text(side: Side) -> None:
    """No repr of what a client is made of, and no error, holds the token."""
    calls = side.calls()
    side.answers(503, 503, 503)
    with pytest.raises(ServerError) as caught:
        side.retrieve(calls)
    texts = [repr(calls), repr(calls.connection), repr(side.requests[0]), repr(caught.value), str(caught.value)]
    assert not [text for text in texts if "planted-token" in text]


def test_attempts_and_elapsed_are_told(side: Side) -> None:
    """A retried answer says how many requests and how many seconds it took."""
    side.answers(503, Reply(body=ANSWER.body, after=0.4))
    answer = side.retrieve(side.calls())
    assert answer.attempts == 2
    assert answer.elapsed == pytest.approx(0.1 + 0.4)
    assert side.world.trace == ["send", 0.1, "send"]


def test_a_failure_tells_its_attempts(side: Side) -> None:
    """An error says how many requests were sent: all of them, none before the first, and a pickle keeps the number."""
    side.answers(503, 503, 503)
    with pytest.raises(ServerError) as caught:
        side.retrieve(side.calls())
    assert caught.value.attempts == len(side.requests) == 3
    assert pickle.loads(pickle.dumps(caught.value)).attempts == 3
    side.answers(503, 503)
    with pytest.raises(RetryBudgetExhaustedError) as spent:
        side.retrieve(side.calls(resilience=Pipeline([Retry(budget=RetryBudget(ratio=0, reserve=1))])))
    assert spent.value.attempts == 2
    with pytest.raises(ConfigurationError) as unsent:
        side.retrieve(side.calls(), "")
    assert unsent.value.attempts == 0


def test_the_deadline_of_a_call_wins_over_the_clients(side: Side) -> None:
    """A silent service costs exactly the call's own timeout."""
    side.answers(SILENCE)
    with pytest.raises(DeadlineExceededError):
        side.retrieve(side.calls(timeout=30), timeout=0.25)
    assert side.world.now == pytest.approx(0.25)


def test_a_timeout_holds_without_a_deadline_policy(side: Side) -> None:
    """A pipeline without a Deadline still honours the timeout of a call."""
    side.answers(SILENCE)
    with pytest.raises(DeadlineExceededError):
        side.retrieve(side.calls(resilience=Pipeline()), timeout=0.25)
    assert side.world.now == pytest.approx(0.25)


@dataclass(frozen=True)
class Pausing:
    """A policy of the caller's own that takes twenty seconds."""

    kind: ClassVar[str] = "rate limit"

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        yield Sleep(20)
        return (yield from proceed(call))


def test_nothing_is_sent_once_the_time_of_the_call_is_spent(side: Side) -> None:
    """Whatever has spent it."""
    with pytest.raises(DeadlineExceededError, match="spent after 0 attempts"):
        side.retrieve(side.calls(resilience=Pipeline([Deadline(10.0), Pausing()])))
    assert side.requests == []


def test_a_request_without_any_deadline_is_given_a_time_that_clocks_can_count(side: Side) -> None:
    """No socket waits for ever and no loop sets an alarm at infinity: a day it is."""
    send = next(side.calls(resilience=Pipeline()).retrieve(side.world, "What?", {}))
    assert isinstance(send, Send)
    assert send.timeout == 86_400.0


def test_an_answer_is_kept_for_whose_token_it_was_given(side: Side) -> None:
    """With a cache the second question costs nothing, and another customer's is asked."""
    calls = side.calls(resilience=Pipeline([Cache()]))
    for _ in range(2):
        side.retrieve(calls)
    assert len(side.requests) == 1
    side.retrieve(calls.with_options({"api_key": "another-token"}))
    assert len(side.requests) == 2


def test_a_call_to_another_pipeline_meets_the_circuit_of_that_pipeline(side: Side) -> None:
    """One that fails opens its own, and the pipeline of the client goes on being asked."""
    calls = side.calls(resilience=Pipeline([CircuitBreaker(in_a_row=1)]))
    side.answers(503)
    with pytest.raises(ServerError):
        side.retrieve(calls, pipeline_id="aip-2")
    with pytest.raises(CircuitOpenError):
        side.retrieve(calls, pipeline_id="aip-2")
    assert len(side.retrieve(calls)) == 1


def test_least_scores_follow_the_scale_that_orders_the_list(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A least similarity never judges relevancies, nor the other way round; a call's 0.0 and None win."""
    monkeypatch.setenv("RAGE_MIN_SIMILARITY_SCORE", "0.6")
    monkeypatch.setenv("RAGE_MIN_RELEVANCE_SCORE", "0.2")
    calls = side.calls()
    assert len(side.retrieve(calls)) == 0
    assert len(side.retrieve(calls, rerank=True)) == 1
    assert len(side.retrieve(calls, min_score=0.0)) == 1
    assert len(side.retrieve(calls, min_score=None)) == 1


def test_switched_off_retrieval_says_so(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """RAGE_ENABLED=false sends nothing and answers an empty list that says it was disabled."""
    monkeypatch.setenv("RAGE_ENABLED", "false")
    answer = side.retrieve(side.calls())
    assert (len(answer), answer.degraded, answer.attempts, side.requests) == (0, "disabled", 0, [])


def test_a_call_can_go_to_another_pipeline(side: Side) -> None:
    """pipeline_id and organization of a call change the address of that call alone."""
    calls = side.calls()
    side.retrieve(calls, pipeline_id="aip/2", organization="org-2")
    side.retrieve(calls)
    assert [request.url.split("/v1/")[1] for request in side.requests] == [
        "org/org-2/pipelines/aip%2F2/retrieval",
        "org/org-1/pipelines/aip-1/retrieval",
    ]


def test_options_make_a_changed_copy(side: Side) -> None:
    """with_options changes the copy and leaves the original; what is fixed at the start is refused."""
    calls = side.calls()
    changed = calls.with_options({"num_results": 2, "timeout": 3.0, "api_token": "other"})
    side.retrieve(changed)
    assert body(side)["numResults"] == 2
    assert dict(side.requests[-1].headers)["authorization"] == "Bearer other"
    side.retrieve(calls)
    assert body(side)["numResults"] == 5
    with pytest.raises(ConfigurationError, match="base_url is fixed"):
        calls.with_options({"base_url": "https://example.com"})


def test_events_tell_the_story_of_a_call(side: Side) -> None:
    """A listener hears each attempt, the pause between them and one completion, all with one call id."""
    heard = Heard()
    side.answers(503)
    side.retrieve(side.calls(listeners=[heard]))
    assert [event.name for event in heard.events] == [
        "call.started",
        "attempt.started",
        "attempt.failed",
        "retry.scheduled",
        "attempt.started",
        "attempt.succeeded",
        "call.completed",
    ]
    assert len({event.call_id for event in heard.events}) == 1


def test_a_call_that_is_cancelled_is_told_of_to_its_end(side: Side) -> None:
    """Whoever counts the calls under way counts it out, and an audit trail has it."""
    told: list[Event] = []

    class Hearing:
        def on_event(self, event: Event, /) -> None:
            told.append(event)

    flow = side.calls(listeners=[Hearing()]).retrieve(side.world, "What?", {})
    next(flow)
    with pytest.raises(asyncio.CancelledError):
        flow.throw(asyncio.CancelledError())
    assert isinstance(told[-1], CallCompleted)
    assert isinstance(told[-1].error, asyncio.CancelledError)


def research_script(*answers: dict[str, Any] | int) -> list[Reply | int]:
    """Replies to the start of a research and to its polls."""
    return [a if isinstance(a, int) else Reply(body=json.dumps(a).encode()) for a in answers]


READY = {"ready": True, "data": {"success": True, "markdown": "# Report"}}


def test_deep_research_polls_until_it_is_ready(side: Side) -> None:
    """The report comes back after as many polls as it takes; progress tells of each."""
    side.answers(*research_script({"researchId": "r-1"}, {"ready": False}, 503, READY))
    told: list[ResearchEvent] = []
    n8n = {"account": "a", "webhookPath": "/w"}
    options = {"poll_every": 5.0, "web_search": True, "n8n": n8n, "on_progress": told.append}
    research = side.run(lambda clock: side.calls().deep_research(clock, "Why?", options))  # type: ignore[arg-type]
    assert (research.markdown, research.research_id) == ("# Report", "r-1")
    assert [(event.polls, event.ready) for event in told] == [(1, False), (2, True)]
    assert side.world.trace == ["send", "send", 5.0, "send", 0.1, "send"]
    assert json.loads(side.requests[0].body) == {"query": "Why?", "webSearch": True, "n8n": n8n}
    assert side.requests[1].method == "GET"
    assert side.requests[1].url.endswith("/pipelines/aip-1/deep-research/r-1")


def test_an_answer_that_a_listener_withholds_has_the_call_s_id(side: Side) -> None:
    """As an audit record that is required and cannot be kept: its error names the call like any other."""

    class Strict:
        required = True

        def on_event(self, event: Event, /) -> None:
            if isinstance(event, CallCompleted):
                raise AuditError("withheld")

    with pytest.raises(AuditError) as raised:
        side.retrieve(side.calls(listeners=[Strict()]))
    assert raised.value.attempts == 1
    assert raised.value.correlation_id == dict(side.requests[0].headers)["x-request-id"]


def test_progress_that_nobody_would_await_is_refused(side: Side) -> None:
    """An async function is told so before anything is sent."""

    async def on_progress(event: ResearchEvent) -> None:
        raise AssertionError(event)

    with pytest.raises(ConfigurationError, match="on_progress is an async function"):
        side.run(lambda clock: side.calls().deep_research(clock, "Why?", {"on_progress": on_progress}))
    assert side.requests == []


def test_a_research_is_started_once(side: Side) -> None:
    """A failed start is not repeated: it may have begun a research that is paid for."""
    side.answers(503)
    with pytest.raises(ServerError):
        side.run(lambda clock: side.calls().deep_research(clock, "Why?", {}))
    assert len(side.requests) == 1


def test_a_failed_research_is_a_typed_error(side: Side) -> None:
    """The service's reason and the research's id are on the error."""
    side.answers(
        *research_script({"researchId": "r-1"}, {"ready": True, "data": {"success": False, "error": "no sources"}})
    )
    with pytest.raises(ResearchFailedError, match="no sources") as caught:
        side.run(lambda clock: side.calls().deep_research(clock, "Why?", {}))
    assert caught.value.research_id == "r-1"


def test_a_poll_that_is_never_answered_has_the_time_of_any_call(side: Side) -> None:
    """The research may take minutes; that each question about it does so would hide a service that hangs."""
    side.answers(Reply(body=b'{"researchId":"r-1"}'), SILENCE)
    with pytest.raises(DeadlineExceededError):
        side.run(lambda clock: side.calls().deep_research(clock, "Why?", {"timeout": 300.0}))
    assert side.world.now == pytest.approx(10.0)


@dataclass(frozen=True)
class ForQuestions:
    """A policy of the caller's own that nothing but a question may pass."""

    kind: str

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        assert call.operation == "retrieve"
        return (yield from proceed(call))


@pytest.mark.parametrize("kind", ["cache", "hedge", "degradation"])
def test_what_is_meant_for_questions_is_kept_from_everything_else(side: Side, kind: Any) -> None:
    """A status out of a cache, a second start of a research or an empty report would help nobody."""
    policy: Any = ForQuestions(kind)
    calls = side.calls(resilience=Pipeline([policy]))
    side.answers(*research_script({"id": "aip-1"}, {"researchId": "r-1"}, READY))
    assert side.run(calls.pipeline).id == "aip-1"
    assert side.run(lambda clock: calls.deep_research(clock, "Why?", {})).markdown == "# Report"
    assert len(side.retrieve(calls)) == 1


def test_deep_research_ends_at_its_deadline(side: Side) -> None:
    """A research that never gets ready ends after `timeout` seconds, not later."""
    side.answers(*research_script({"researchId": "r-1"}, *[{"ready": False}] * 50))
    with pytest.raises(DeadlineExceededError, match="r-1") as late:
        side.run(lambda clock: side.calls().deep_research(clock, "Why?", {"timeout": 7.0, "poll_every": 2.0}))
    assert side.world.now == pytest.approx(7.0)
    assert late.value.attempts == 1
    assert late.value.correlation_id == dict(side.requests[-1].headers)["x-request-id"]


@pytest.mark.parametrize("options", [
        {"timeout": 0}, {"poll_every": -1}, {"timeout": float("inf")}, {"timeout": 10**400}, {"n8n": "acme"},
        {"n8n": {"account": "a"}}, {"on_progress": 5}, {"web_search": "yes"}, {"schema": {"type": "object"}},
    ])  # fmt: skip
def test_research_options_are_checked(side: Side, options: dict[str, Any]) -> None:
    """A time that is no positive number of seconds, a webhook without a path or what could hear of no progress is
    refused before anything is sent: a research is paid for."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        side.run(lambda clock: side.calls().deep_research(clock, "Why?", options))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="query is empty"):
        side.run(lambda clock: side.calls().deep_research(clock, " ", {}))
    assert side.requests == []


def test_the_start_of_a_research_has_no_more_time_than_all_of_it(side: Side) -> None:
    """Nor less: a service that takes longer than a question may take is still waited for."""
    side.answers(SILENCE)
    with pytest.raises(DeadlineExceededError):
        side.run(lambda clock: side.calls().deep_research(clock, "Why?", {"timeout": 3.0}))
    assert side.world.now == pytest.approx(3.0)
    side.answers(Reply(body=b'{"researchId":"r-1"}', after=20.0), *research_script(READY))
    side.run(lambda clock: side.calls().deep_research(clock, "Why?", {"timeout": 60.0}))
    assert side.world.now == pytest.approx(23.0)


def test_pipeline_status_is_a_probe(side: Side) -> None:
    """The status is asked with GET, and an unknown status reaches the caller."""
    side.answers(Reply(body=b'{"message":"ok","data":{"id":"aip-1","status":"IDLE","documentCount":3}}'))
    status = side.run(side.calls().pipeline)
    assert (status.id, status.status, status.document_count, status.answers) == ("aip-1", "IDLE", 3, True)
    assert (side.requests[0].method, side.requests[0].body) == ("GET", b"")


def test_a_correlation_id_goes_to_the_service(side: Side) -> None:
    """The id of the context is sent as x-request-id; without one, the id of the call is, which listeners are told."""
    with correlation("order-17"):
        side.retrieve(side.calls())
    heard = Heard()
    side.retrieve(side.calls(listeners=[heard]))
    side.answers(503, 200)
    side.retrieve(side.calls())
    ids = [dict(request.headers)["x-request-id"] for request in side.requests]
    assert ids[:2] == ["order-17", heard.events[0].call_id]
    assert ids[2] == ids[3] != ids[1]
    assert all(made.startswith("rage-") for made in ids[1:])


def test_ids_begin_as_the_settings_say(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that calls of one service are told from those of another in a log that both write."""
    monkeypatch.setenv("RAGE_CORRELATION_ID_PREFIX", "billing")
    side.retrieve(side.calls())
    assert dict(side.requests[0].headers)["x-request-id"].startswith("billing-")


def test_a_failure_tells_the_id_that_its_requests_bore(side: Side) -> None:
    """Whoever reports a failure has the id to name, whether or not anybody listened; a pickle keeps it."""
    side.answers(401, 401)
    with correlation("order-17"), pytest.raises(UnauthorizedError) as known:
        side.retrieve(side.calls())
    with pytest.raises(UnauthorizedError) as made:
        side.retrieve(side.calls())
    sent = [dict(request.headers)["x-request-id"] for request in side.requests]
    assert [known.value.correlation_id, made.value.correlation_id] == sent
    assert pickle.loads(pickle.dumps(made.value)).correlation_id == sent[1]
    with pytest.raises(ConfigurationError) as unsent:
        side.retrieve(side.calls(), "")
    assert unsent.value.correlation_id is None


def test_a_listener_may_stand_around_each_request(side: Side) -> None:
    """Tracing's headers go out with the request, and its context is open while the request is under way."""
    order: list[str] = []

    class Around(Heard):
        @contextmanager
        def sending(self, event: AttemptStarted, /) -> Iterator[tuple[tuple[str, str], ...]]:
            order.append("open")
            yield (("traceparent", f"00-{event.attempt}"),)
            order.append("closed")

    side.answers(503)
    side.retrieve(side.calls(listeners=[Around()]))
    assert [dict(request.headers)["traceparent"] for request in side.requests] == ["00-1", "00-2"]
    assert order == ["open", "closed", "open", "closed"]


class Unawaited:
    """A listener whose coroutines nobody would await."""

    async def on_event(self, event: Any, /) -> None: ...


@pytest.mark.parametrize("listener", [object(), Metrics, Unawaited()], ids=["deaf", "class", "async"])
def test_what_would_never_hear_is_no_listener(listener: Any) -> None:
    """It is refused where it is given, not noticed at the first outage."""
    with pytest.raises(ConfigurationError, match="listeners holds"):
        Calls.make({**OPTIONS, "listeners": [listener]})


def test_settings_choose_the_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics, audit and log listen where the settings say so, beside the listeners given; else nobody does."""
    assert Calls.make(OPTIONS).listeners == ()
    for name in ("RAGE_ENABLE_METRICS", "RAGE_ENABLE_AUDIT_LOG", "RAGE_DEBUG"):
        monkeypatch.setenv(name, "true")
    listeners = Calls.make({**OPTIONS, "listeners": [Heard()]}).listeners
    assert [type(listener).__name__ for listener in listeners] == ["EventLog", "Metrics", "Audit", "Heard"]


def test_a_listener_must_listen() -> None:
    """What has no on_event is refused when the client is made."""
    with pytest.raises(ConfigurationError, match="on_event"):
        Calls.make({**OPTIONS, "listeners": [print]})


def test_the_token_in_use_is_known_to_redaction(side: Side) -> None:
    """Whatever is redacted from now on hides the token that a client was given."""
    side.calls(api_key="planted-in-use-0451")
    assert "planted-in-use-0451" not in secrets_in_use.hide("key planted-in-use-0451 leaked")


def test_an_error_repeats_no_secret_that_the_service_echoes(side: Side) -> None:
    """A gateway that quotes the request in its error page does not put the token into ours."""
    echo = json.dumps({"error": "bad header: Bearer planted-token", "details": "planted-token"}).encode()
    for listeners in ((), (Heard(),)):
        calls = side.calls(listeners=listeners)
        for number in range(100):  # other clients' tokens have come since
            register_secret(f"token-of-customer-{number}")
        side.answers(Reply(status=400, body=echo))
        with pytest.raises(BadRequestError) as caught:
            side.retrieve(calls)
        assert "planted-token" not in f"{caught.value} {caught.value.error} {caught.value.details} {caught.value!r}"
