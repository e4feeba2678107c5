"""Events in the log: constant names, fields beside them, no text unless it was asked for."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import threading
import weakref
from typing import Any

import pytest
from pythonjsonlogger.json import JsonFormatter

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.models import Document, Retrieval, Target
from rage_retrievers.observability import EventLog, configure_logging, correlation, register_secret
from rage_retrievers.observability.log_records import RedactingFilter
from rage_retrievers.observability.redaction import Redactor

from .conftest import ANSWER, QUERY, Story


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def logged(level: str = "DEBUG", **options: Any) -> tuple[EventLog, io.StringIO]:
    stream = io.StringIO()
    configure_logging(json=True, level=level, stream=stream)
    return EventLog(**options), stream


def test_a_call_is_logged_as_constant_names_with_fields() -> None:
    """The sequence of a call that needed a second attempt, as JSON."""
    log, stream = logged()
    with correlation("request-7"):
        Story((log,)).answered_at_second()
    records = lines(stream)
    assert [(record["level"], record["event"]) for record in records] == [
        ("DEBUG", "retrieve.started"),
        ("DEBUG", "attempt.started"),
        ("WARNING", "attempt.failed"),
        ("WARNING", "circuit.changed"),
        ("INFO", "retry.scheduled"),
        ("DEBUG", "attempt.started"),
        ("DEBUG", "attempt.succeeded"),
        ("INFO", "retrieve.completed"),
    ]
    assert {record["correlation_id"] for record in records} == {"request-7"}
    timestamp = records[-1].pop("timestamp")
    assert timestamp.endswith("Z")
    assert len(timestamp) == len("2026-01-31T23:59:59.123Z")
    assert records[-1] == {
        "level": "INFO",
        "logger": "rage_retrievers.calls",
        "event": "retrieve.completed",
        "correlation_id": "request-7",
        "call_id": "call-1",
        "pipeline": "aip-1",
        "attempts": 2,
        "elapsed_ms": 410.0,
        "documents": 2,
    }
    assert records[2]["error_type"] == "ServerError"
    assert (records[2]["status"], records[2]["request_id"]) == (503, "req-9")


def test_as_text_a_line_is_the_name_and_the_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Any formatter of the application's shows them, in one line that can be searched."""
    with caplog.at_level("INFO"):
        Story((EventLog(),)).answered()
    assert caplog.messages == [
        "retrieve.completed correlation_id=call-1 call_id=call-1 pipeline=aip-1 attempts=1 elapsed_ms=410.0 documents=2"
    ]


def test_any_json_formatter_sees_the_fields() -> None:
    """Fields are attributes of the record, so an application's own JSON logging has them too."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(["levelname", "message"]))
    logger = logging.getLogger("rage_retrievers")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    Story((EventLog(),)).answered()
    (record,) = lines(stream)
    assert (record["event"], record["documents"], record["pipeline"]) == ("retrieve.completed", 2, "aip-1")


def test_a_failure_is_an_error_and_a_cancellation_is_not() -> None:
    """The log can be alarmed on by level alone."""
    log, stream = logged("INFO")
    Story((log,)).failed()
    Story((log,)).failed(asyncio.CancelledError())
    found = [(record["level"], record["event"], record["error_type"]) for record in lines(stream)]
    assert found == [
        ("WARNING", "attempt.failed", "RateLimitedError"),
        ("ERROR", "retrieve.failed", "RateLimitedError"),
        ("INFO", "retrieve.cancelled", "CancelledError"),
    ]


def test_stale_and_degraded_answers_say_so() -> None:
    """An answer that is not what was asked for is told from one that is."""
    log, stream = logged("INFO")
    Story((log,)).end(ANSWER.with_facts(stale=True))
    Story((log,)).end(ANSWER.with_facts(degraded="local"))
    stale, degraded = lines(stream)
    assert stale["stale"] is True
    assert degraded["degraded"] == "local"


def test_texts_are_logged_only_when_asked_for_and_redacted() -> None:
    """Off: neither question nor passage. On: a record of their own, without personal data."""
    log, stream = logged()
    Story((log,)).answered()
    assert "Ada" not in stream.getvalue()
    assert "Who is" not in stream.getvalue()
    log, stream = logged(show_texts=True)
    Story((log,)).answered()
    texts = lines(stream)[-1]
    assert texts["event"] == "retrieve.texts"
    assert texts["question"] == "Who is [email]?"
    assert texts["passages"] == ["Ada wrote programs.", "Her card is [card]."]


def test_detectors_never_run_in_the_thread_of_the_call() -> None:
    """Heavy detectors see the texts later, elsewhere; the call does not wait for them."""
    release = threading.Event()
    threads: set[str] = set()

    def slow(text: str) -> list[tuple[int, int, str]]:
        release.wait(10)
        threads.add(threading.current_thread().name)
        return [(0, 3, "name")] if text.startswith("Ada") else []

    log, stream = logged(show_texts=True, redactor=Redactor(detectors=(slow,)))
    Story((log,)).answered()
    assert "texts" not in stream.getvalue()
    release.set()
    log.close()
    assert threading.current_thread().name not in threads
    assert lines(stream)[-1]["passages"][0] == "[name] wrote programs."


def test_texts_are_dropped_rather_than_piled_up() -> None:
    """A detector that cannot keep up costs texts, and the log says how many calls lost theirs."""
    release = threading.Event()

    def stuck(text: str) -> list[tuple[int, int, str]]:
        release.wait(10)
        return []

    log, stream = logged("WARNING", show_texts=True, redactor=Redactor(detectors=(stuck,)))
    log.logger.setLevel("INFO")
    for _ in range(1_003):
        Story((log,)).end()
    release.set()
    log.close()
    log.logger.setLevel(logging.NOTSET)
    assert [record["event"] for record in lines(stream)].count("texts.dropped") == 3


def test_texts_go_on_being_logged_however_many_calls_there_were() -> None:
    """Room is for a thousand calls at once, not for a thousand in all; whoever is done makes room."""
    log, stream = logged("INFO", show_texts=True, redactor=Redactor(detectors=(lambda text: [],)))
    for _ in range(2):
        for _ in range(600):
            Story((log,)).end()
        log.close()
    events = [record["event"] for record in lines(stream)]
    assert (events.count("retrieve.texts"), events.count("texts.dropped")) == (1_200, 0)


def test_texts_that_a_detector_breaks_on_are_told_to_be_missing() -> None:
    """Its error costs the texts of one call, and the log says whose and why."""

    def broken(text: str) -> list[tuple[int, int, str]]:
        raise ZeroDivisionError(text)

    log, stream = logged("WARNING", show_texts=True, redactor=Redactor(detectors=(broken,)))
    log.logger.setLevel("INFO")
    Story((log,)).answered()
    log.close()
    log.logger.setLevel(logging.NOTSET)
    (dropped,) = [record for record in lines(stream) if record["event"] == "texts.dropped"]
    assert (dropped["call_id"], dropped["error_type"]) == ("call-1", "ZeroDivisionError")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_logs_its_texts() -> None:
    """The parent's worker is not in the child, which makes one of its own."""
    log, stream = logged(show_texts=True, redactor=Redactor(detectors=(lambda text: [],)))
    Story((log,)).answered()
    while "retrieve.texts" not in stream.getvalue():
        threading.Event().wait(0.001)
    read, write = os.pipe()
    if os.fork() == 0:
        Story((log,)).answered()
        log.close()
        os.write(write, stream.getvalue().encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as told:
        texts = [line for line in told if "retrieve.texts" in line]
    os.wait()
    log.close()
    assert len(texts) == 2


def test_a_token_in_the_place_of_an_id_is_hidden() -> None:
    """Settings mixed up put the token where the pipeline's id belongs; it is not logged there either."""
    log, stream = logged()
    target = Target("https://api.vectorize.io/v1", "org-1", "opaque-token-of-a-customer")
    Story((log,), target=target).end()
    register_secret("opaque-token-of-a-customer")
    stream.truncate(0)
    Story((log,), target=target).end()
    assert "opaque-token" not in stream.getvalue()
    assert lines(io.StringIO(stream.getvalue().lstrip("\0")))[0]["pipeline"] == "[redacted]"


def test_a_log_of_many_pipelines_remembers_a_bounded_number() -> None:
    """A pipeline for each customer does not fill the memory."""

    class Name(str):
        __slots__ = ("__weakref__",)

    log, stream = logged("INFO")
    names = []
    for number in range(12_000):
        name = Name(f"aip-{number}")
        names.append(weakref.ref(name))
        Story((log,), target=Target("https://api.vectorize.io/v1", "org-1", name)).end()
        del name
    assert stream.getvalue().count("retrieve.completed") == 12_000
    assert sum(name() is not None for name in names) <= 10_000


def test_configuring_again_replaces_and_touches_nobody_else() -> None:
    """One handler of ours, on our logger alone; records do not also go to the root's handlers."""
    root = logging.getLogger().handlers[:]
    first, second = io.StringIO(), io.StringIO()
    configure_logging(stream=first)
    configure_logging(stream=second, level="info")
    Story((EventLog(),)).answered()
    assert first.getvalue() == ""
    assert second.getvalue().count("retrieve.completed") == 1
    assert logging.getLogger().handlers == root


@pytest.mark.parametrize(
    ("environ", "level"),
    [({}, "INFO"), ({"RAGE_LOG_LEVEL": "error"}, "ERROR"), ({"RAGE_LOG_LEVEL": "ERROR", "RAGE_DEBUG": "1"}, "DEBUG")],
)
def test_the_level_is_that_of_the_settings_unless_given(
    environ: dict[str, str], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`configure_logging()` goes by RAGE_DEBUG and RAGE_LOG_LEVEL; an argument wins."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    configure_logging()
    assert logging.getLogger("rage_retrievers").level == getattr(logging, level)
    configure_logging(level="warning")
    assert logging.getLogger("rage_retrievers").level == logging.WARNING


def test_a_log_has_a_least_level_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the logger lets through, `EventLog(level="ERROR")` tells of failed calls alone."""
    caplog.set_level(logging.DEBUG, "rage_retrievers")
    story = Story((EventLog(level="ERROR"),))
    story.answered()
    story.failed()
    assert [(record.event, record.levelname) for record in caplog.records] == [("retrieve.failed", "ERROR")]  # type: ignore[attr-defined]  # a field of ours


@pytest.mark.parametrize("level", ["x", "", None, 2.5])
def test_a_level_that_is_none_is_refused_when_the_log_is_made(level: Any) -> None:
    """Not a KeyError, and not a log that stays empty."""
    with pytest.raises(ConfigurationError, match="cannot be used; give DEBUG, INFO, WARNING") as refused:
        EventLog(level=level)
    assert f"level={level!r}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "options", [{"max_text": 0}, {"max_text": "all"}, {"logger": "app"}, {"redactor": str.upper}, {"level": True}]
)
def test_what_no_log_could_use_is_refused_when_it_is_made(options: Any) -> None:
    """Not at the first event, where nobody but the log would hear of it."""
    with pytest.raises(ConfigurationError, match=f"EventLog's {next(iter(options))}"):
        EventLog(**options)


@pytest.mark.parametrize("wrong", [{"level": "x"}, {"level": 2.5}, {"stream": "app.log"}, {"redactor": str.upper}])
def test_a_refused_configuration_changes_nothing(wrong: Any) -> None:
    """The handler of the call before is still there, and none beside it; the same level, too."""
    handler = configure_logging(stream=io.StringIO(), level="error")
    logger = logging.getLogger("rage_retrievers")
    before = logger.handlers[:]
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))}.* cannot be .*give"):
        configure_logging(**wrong)
    assert (logger.handlers, logger.level) == (before, logging.ERROR)
    assert handler in logger.handlers


def test_the_filter_redacts_what_others_log() -> None:
    """Added to the application's handler, it covers every logger that writes there, tracebacks and extras included."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    logger = logging.getLogger("rage_retrievers.test")
    logger.addHandler(handler)
    try:
        raise ValueError("ada@example.org")
    except ValueError:
        logger.exception("sent %s", "Authorization: Bearer abc123def456", extra={"who": ["ada@example.org"]})
    logger.removeHandler(handler)
    assert "sent Authorization: [redacted]" in stream.getvalue()
    assert "ValueError: [email]" in stream.getvalue()
    assert "ada@" not in stream.getvalue()


def test_strange_texts_make_one_line_each() -> None:
    """A passage with line breaks, quotes and lone surrogates cannot forge a second record."""
    log, stream = logged(show_texts=True)
    strange = Retrieval(documents=(Document(text='a"\n{"event": "forged"}\r\u2028', id=None),))
    Story((log,), query=QUERY).end(strange)
    assert [record["event"] for record in lines(stream)] == ["retrieve.completed", "retrieve.texts"]
