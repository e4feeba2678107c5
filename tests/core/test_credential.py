"""A token that is asked for is asked for once, however many calls need it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from pydantic import SecretStr

from rage_retrievers._connection import Credential
from rage_retrievers._flow import Ask, Wait
from rage_retrievers.errors import ConfigurationError, DeadlineExceededError


def asking() -> Credential:
    return Credential(lambda: "never called here: these tests answer in its place")


def begun(credential: Credential, effect: type[Any], remaining: float = 5.0) -> Generator[Any, Any, SecretStr]:
    """A call that needs the token, at its first effect."""
    flow = credential.token(lambda: remaining)
    assert type(next(flow)) is effect
    return flow


def ended(flow: Generator[Any, Any, SecretStr], answer: Any) -> str:
    with pytest.raises(StopIteration) as stop:
        flow.send(answer)
    assert isinstance(stop.value.value, SecretStr)
    token: SecretStr = stop.value.value
    return token.get_secret_value()


def test_calls_that_need_the_token_together_ask_once() -> None:
    """The first one asks, the others wait for its answer."""
    credential = asking()
    first, others = begun(credential, Ask), [begun(credential, Wait) for _ in range(3)]
    assert ended(first, "t-1") == "t-1"
    assert [ended(other, None) for other in others] == ["t-1"] * 3


def test_calls_refused_together_ask_once_more() -> None:
    """Whoever hears of the 401 later takes the token that is there, and whoever hears of it now waits."""
    credential = asking()
    ended(begun(credential, Ask), "t-1")
    refused = credential.current()
    assert refused is not None
    credential.expire(refused)
    first = begun(credential, Ask)
    credential.expire(refused)
    second = begun(credential, Wait)
    assert (ended(first, "t-2"), ended(second, None)) == ("t-2", "t-2")
    credential.expire(refused)
    kept = credential.current()
    assert kept is not None
    assert kept.get_secret_value() == "t-2"


def test_a_failure_is_everyones_and_not_kept() -> None:
    """Those who waited raise their own copy of the error; the next call asks again."""
    credential = asking()
    first, second = begun(credential, Ask), begun(credential, Wait)
    with pytest.raises(ConfigurationError, match="OSError") as raised:
        first.throw(OSError("vault sealed"))
    with pytest.raises(ConfigurationError, match="OSError") as followed:
        second.send(raised.value)
    assert followed.value is not raised.value
    assert ended(begun(credential, Ask), "t-1") == "t-1"


@pytest.mark.parametrize("end", [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()])
def test_when_the_call_that_asks_is_cancelled_another_asks(end: BaseException) -> None:
    """A cancelled call takes nobody with it."""
    credential = asking()
    first, second = begun(credential, Ask), begun(credential, Wait)
    with pytest.raises(type(end)):
        first.throw(end)
    assert type(second.send(None)) is Ask
    assert ended(second, "t-1") == "t-1"


def test_waiting_for_the_token_heeds_the_deadline() -> None:
    """A function that hangs costs those who wait their own time and no more."""
    credential = asking()
    begun_by_another = begun(credential, Ask)
    flow = credential.token(lambda: 0.25)
    wait = next(flow)
    assert isinstance(wait, Wait)
    assert wait.timeout == 0.25
    with pytest.raises(DeadlineExceededError, match="api_key"):
        flow.throw(TimeoutError())
    assert ended(begun_by_another, "t-1") == "t-1"


def test_a_forked_child_asks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent asked is answered in the parent alone."""
    credential = asking()
    in_the_parent = begun(credential, Ask)
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert ended(begun(credential, Ask), "t-1") == "t-1"
    in_the_parent.close()
