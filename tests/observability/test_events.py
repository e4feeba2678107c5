"""Telling listeners: what one of them does never reaches the call, unless the user said so."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager, nullcontext

import pytest

from rage_retrievers.observability import AttemptStarted, Event
from rage_retrievers.observability.events import Headers, sending

from .conftest import TARGET, Story

REQUEST = AttemptStarted("call-1", TARGET, 1)


class Recorder:
    def __init__(self) -> None:
        self.names: list[str] = []

    def on_event(self, event: Event, /) -> None:
        self.names.append(event.name)


class Broken:
    def on_event(self, event: Event, /) -> None:
        raise ValueError("secret words of a listener")


class Required(Broken):
    required = True


def test_a_listener_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The call goes on, the others hear everything, and a warning names the broken one but not its words."""
    recorder = Recorder()
    Story((Broken(), recorder)).answered()
    assert recorder.names == ["call.started", "attempt.started", "attempt.succeeded", "call.completed"]
    assert caplog.messages[0] == "listener.failed listener=Broken error_type=ValueError"
    assert "secret words" not in caplog.text


def test_a_required_listener_fails_the_call_after_all_have_heard() -> None:
    """`required = True` is the user's word that no call may go on without this listener."""
    recorder = Recorder()
    with pytest.raises(ValueError, match="secret words"):
        Story((Required(), recorder)).start()
    assert recorder.names == ["call.started"]


def test_a_cancelled_call_stays_cancelled() -> None:
    """A required listener's error never takes the place of a cancellation."""
    Story((Required(),)).end(error=asyncio.CancelledError())


class Adds:
    def __init__(self, *headers: tuple[str, str]) -> None:
        self.headers = headers

    def on_event(self, event: Event, /) -> None:
        pass

    def sending(self, event: AttemptStarted) -> AbstractContextManager[Headers]:
        return nullcontext(self.headers)


class CannotSend(Recorder):
    def sending(self, event: AttemptStarted) -> AbstractContextManager[Headers]:
        raise ValueError


def test_listeners_may_add_headers_to_a_request(caplog: pytest.LogCaptureFixture) -> None:
    """Headers of all listeners are added, in their order; one that cannot give any is passed over."""
    with sending((Adds(("a", "1")), Recorder(), CannotSend(), Adds(("b", "2"))), REQUEST) as headers:
        assert headers == (("a", "1"), ("b", "2"))
    with sending((Recorder(),), REQUEST) as headers:
        assert headers == ()
    assert "listener.failed" in caplog.text


def test_importing_configures_no_logging() -> None:
    """The library's logger has a NullHandler and nothing else, and no level."""
    logger = logging.getLogger("rage_retrievers")
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert logger.level == logging.NOTSET
