"""A token that is asked for is asked for once, however many calls need it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from rage_retrievers._credential import Credential
from rage_retrievers._flow import Ask, LateError, Wait
from rage_retrievers.errors import ConfigurationError, DeadlineExceededError


class Vault:
    """A function that gives the token, or raises in its place."""

    def __init__(self, *answers: str | BaseException) -> None:
        self.answers = list(answers)

    def __call__(self) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Begun:
    """A call that needs the token, at its first effect, which is of this kind."""

    def __init__(self, credential: Credential, effect: type[Any], remaining: float = 5.0, now: float = 0.0) -> None:
        self.effect: Any
        self.flow = credential.token(_At(now), lambda: remaining)
        self.effect = next(self.flow)
        assert type(self.effect) is effect

    def performed(self) -> str:
        """Perform the effect as the world would; gives the token that the call goes on with."""
        if isinstance(self.effect, Ask):
            assert self.effect.call is not None
            answer = self.effect.call()
        else:
            answer = self.effect.promise.result(0)
        with pytest.raises(StopIteration) as stop:
            self.flow.send(answer)
        token = stop.value.value
        assert isinstance(token, SecretStr)
        return token.get_secret_value()


class _At:
    def __init__(self, now: float) -> None:
        self._now = now

    def monotonic(self) -> float:
        return self._now

    time = random = monotonic


@pytest.mark.parametrize("given", ["to ken", "tok\nen", "tok\x7fen", "tök", "", " ", 5, None, b"token"])
def test_what_is_no_token_is_refused(given: Any) -> None:
    """Written down or asked for; white space around a token is none of it."""
    with pytest.raises(ConfigurationError, match=r"^api_key"):
        Credential(given)
    credential = Credential(Vault(given, " t-1\n"))
    with pytest.raises(ConfigurationError, match=r"^api_key"):
        Begun(credential, Ask).performed()
    assert Begun(credential, Ask).performed() == "t-1"


def test_calls_that_need_the_token_together_ask_once() -> None:
    """The first one asks, the others wait for its answer."""
    credential = Credential(Vault("t-1"))
    first, others = Begun(credential, Ask), [Begun(credential, Wait) for _ in range(3)]
    assert first.performed() == "t-1"
    assert [other.performed() for other in others] == ["t-1"] * 3


def test_calls_refused_together_ask_once_more() -> None:
    """Whoever hears of the 401 later takes the token that is there, and whoever hears of it now waits."""
    credential = Credential(Vault("t-1", "t-2"))
    Begun(credential, Ask).performed()
    refused = credential.current()
    assert refused is not None
    credential.expire(refused)
    first = Begun(credential, Ask)
    credential.expire(refused)
    second = Begun(credential, Wait)
    assert (first.performed(), second.performed()) == ("t-2", "t-2")
    credential.expire(refused)
    kept = credential.current()
    assert kept is not None
    assert kept.get_secret_value() == "t-2"


def test_an_error_of_ours_is_told_as_it_is() -> None:
    """Its words are chosen with care, and hold no token."""
    told = ConfigurationError("there is no such vault")
    with pytest.raises(ConfigurationError) as raised:
        Begun(Credential(Vault(told)), Ask).performed()
    assert raised.value is told


def test_a_digest_tells_one_token_from_the_next() -> None:
    """What was answered to the one is not told to the other."""
    credential = Credential(Vault("t-1", "t-2"))
    assert credential.digest == ""
    for token in ("t-1", "t-2"):
        Begun(credential, Ask).performed()
        assert credential.digest == Credential(token).digest != ""
        credential.expire(credential.current() or SecretStr(""))
    assert Credential("t-1").digest != Credential("t-2").digest


def test_a_failure_is_everyones_and_not_kept() -> None:
    """Those who waited raise their own copy of the error; the next call asks again."""
    credential = Credential(Vault(OSError("vault sealed"), "t-1"))
    first, second = Begun(credential, Ask), Begun(credential, Wait)
    with pytest.raises(ConfigurationError, match="OSError") as raised:
        first.performed()
    with pytest.raises(ConfigurationError, match="OSError") as followed:
        second.performed()
    assert raised.value.__context__ is None
    assert "sealed" not in str(raised.value)
    assert "at test_credential.py:" in str(raised.value)
    assert followed.value is not raised.value
    assert Begun(credential, Ask).performed() == "t-1"


@pytest.mark.parametrize("end", [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()])
def test_when_the_call_that_asks_is_cancelled_another_asks(end: BaseException) -> None:
    """A cancelled call takes nobody with it: neither before its function is called, nor when that is what ends."""
    credential = Credential(Vault(end, "t-1"))
    never, first, second = Begun(credential, Ask), Begun(credential, Wait), Begun(credential, Wait)
    with pytest.raises(type(end)):
        never.flow.throw(end)
    never.effect.call()  # a thread that was about to
    first.effect = first.flow.send(None)
    with pytest.raises(type(end)):
        first.performed()
    second.effect = second.flow.send(None)
    assert second.performed() == "t-1"


def test_the_async_function_of_a_call_that_has_ended_is_not_called() -> None:
    """A task that was about to call it leaves it to the next call."""
    asked: list[str] = []

    async def vault() -> str:
        asked.append("vault")
        return "t-1"

    credential = Credential(vault)
    ended = Begun(credential, Ask)
    ended.flow.close()
    asyncio.run(ended.effect.acall())
    assert (asked, credential.current()) == ([], None)
    following = Begun(credential, Ask)
    asyncio.run(following.effect.acall())
    assert asked == ["vault"]
    assert credential.current() == SecretStr("t-1")


def test_asking_for_the_token_heeds_the_deadline() -> None:
    """A function that hangs costs each call its own time and no more, the one that asks among them."""
    credential = Credential(Vault("t-1"))
    first, second = Begun(credential, Ask, 0.5), Begun(credential, Wait, 0.25)
    assert (first.effect.timeout, second.effect.timeout) == (0.5, 0.25)
    for call, late in ((first, LateError()), (second, TimeoutError())):
        with pytest.raises(DeadlineExceededError, match="api_key"):
            call.flow.throw(late)


def test_what_a_late_function_gives_serves_later_calls() -> None:
    """A function slower than every call would be asked in vain for ever."""
    credential = Credential(Vault("t-1"))
    first = Begun(credential, Ask)
    assert first.effect.call is not None
    second = Begun(credential, Wait)
    with pytest.raises(DeadlineExceededError):
        first.flow.throw(LateError())
    first.effect.call()
    assert second.performed() == "t-1"
    kept = credential.current()
    assert kept is not None
    assert kept.get_secret_value() == "t-1"


def test_a_function_that_never_returns_is_given_up() -> None:
    """After a minute the next call asks once more; until then calls start no second thread that hangs."""
    credential = Credential(Vault("t-1", "t-2", "t-3"))
    lost = Begun(credential, Ask)
    Begun(credential, Wait, now=60.0)
    assert Begun(credential, Ask, now=60.1).performed() == "t-1"
    refused = credential.current()
    assert refused is not None
    credential.expire(refused)
    another = Begun(credential, Ask, now=61.0)
    assert lost.effect.call is not None
    lost.effect.call()
    late = credential.current()
    assert late is not None
    credential.expire(late)
    Begun(credential, Wait, now=61.0)  # the end of the one was not the end of the other
    assert another.performed() == "t-3"


def test_a_forked_child_asks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent asked is answered in the parent alone."""
    credential = Credential(Vault("t-1"))
    in_the_parent = Begun(credential, Ask)
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert Begun(credential, Ask).performed() == "t-1"
    in_the_parent.flow.close()
