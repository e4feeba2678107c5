"""Events as log records: a constant name and fields beside it, `retrieve.completed attempts=2 elapsed_ms=410`.

The records go to the standard library's logger `rage_retrievers.calls`, and nothing is configured until
`configure_logging` is called. Every field is also an attribute of the record, so any JSON formatter shows it. Question
and passage text is logged only with `show_texts=True`, redacted, in records of their own (`retrieve.texts`).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from threading import BoundedSemaphore
from typing import Any, TextIO

from .._checks import is_count, shown
from ..errors import ConfigurationError
from ..models import Target
from .correlation import correlation_id
from .events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CacheHit,
    CallCompleted,
    CallStarted,
    CircuitChanged,
    Degraded,
    Event,
    Hedged,
    Rejected,
    RetryScheduled,
)
from .log_records import Fields, JSONFormatter, RedactingFilter, record_of
from .redaction import DEFAULT_REDACTOR, Redactor, check_redactor

CALLS = "rage_retrievers.calls"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _call_started(event: CallStarted, redactor: Redactor) -> Fields:
    query = event.query
    return {} if query is None else {"num_results": query.num_results, "rerank": query.rerank}


def _attempt_started(event: AttemptStarted, redactor: Redactor) -> Fields:
    return {"attempt": event.attempt}


def _attempt_succeeded(event: AttemptSucceeded, redactor: Redactor) -> Fields:
    return {"attempt": event.attempt, "elapsed_ms": _ms(event.elapsed), "status": event.status}


def _attempt_failed(event: AttemptFailed, redactor: Redactor) -> Fields:
    return {"attempt": event.attempt, "elapsed_ms": _ms(event.elapsed), **_failure(event.error, redactor)}


def _retry_scheduled(event: RetryScheduled, redactor: Redactor) -> Fields:
    return {"attempt": event.attempt, "pause_ms": _ms(event.pause), "error_type": type(event.error).__name__}


def _circuit_changed(event: CircuitChanged, redactor: Redactor) -> Fields:
    return {"before": event.before, "after": event.after}


def _rejected(event: Rejected, redactor: Redactor) -> Fields:
    return {"policy": event.policy, **_failure(event.error, redactor)}


def _hedged(event: Hedged, redactor: Redactor) -> Fields:
    return {"delay_ms": _ms(event.delay)}


def _cache_hit(event: CacheHit, redactor: Redactor) -> Fields:
    return {"age_ms": _ms(event.age), "stale": event.stale}


def _degraded(event: Degraded, redactor: Redactor) -> Fields:
    return {"fallback": event.fallback, **_failure(event.error, redactor)}


def _completed(event: CallCompleted, redactor: Redactor) -> Fields:
    fields: Fields = {"attempts": event.attempts, "elapsed_ms": round(event.elapsed * 1000, 1)}
    retrieval = event.retrieval
    if retrieval is not None:
        fields["documents"] = len(retrieval.documents)
        stale, degraded = retrieval.facts.stale, retrieval.facts.degraded
        if stale:
            fields["stale"] = True
        if degraded is not None:
            fields["degraded"] = degraded
    if event.error is not None:
        fields.update(_failure(event.error, redactor))
    return fields


def _failure(error: BaseException, redactor: Redactor) -> Fields:
    fields: Fields = {"error_type": type(error).__name__, "error": redactor.text(str(error))}
    status = getattr(error, "status", None)
    request_id = getattr(error, "request_id", None)
    if status is not None:
        fields["status"] = status
    if request_id is not None:
        fields["request_id"] = redactor.identifier(str(request_id))
    return fields


FIELDS: Mapping[type[Event], tuple[int, Callable[[Any, Redactor], Fields]]] = {
    CallStarted: (logging.DEBUG, _call_started),
    AttemptStarted: (logging.DEBUG, _attempt_started),
    AttemptSucceeded: (logging.DEBUG, _attempt_succeeded),
    AttemptFailed: (logging.WARNING, _attempt_failed),
    RetryScheduled: (logging.INFO, _retry_scheduled),
    CircuitChanged: (logging.WARNING, _circuit_changed),
    Rejected: (logging.WARNING, _rejected),
    Hedged: (logging.INFO, _hedged),
    CacheHit: (logging.DEBUG, _cache_hit),
    Degraded: (logging.WARNING, _degraded),
    CallCompleted: (logging.INFO, _completed),
}
"""What is logged of each event, and at which level. A call that failed is an ERROR, a cancelled one INFO."""


def _room() -> BoundedSemaphore:
    return BoundedSemaphore(1_000)


@dataclass(slots=True)
class EventLog:
    """Logs every event of at least `level`. `show_texts=True` also logs questions and passages, redacted.

    With detectors in the redactor the texts are logged from a thread of their own; when it falls behind by more than
    1,000 calls, or a detector raises, texts are left out and `texts.dropped` says so.
    """

    redactor: Redactor = DEFAULT_REDACTOR
    show_texts: bool = False
    max_text: int = 2_000
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger(CALLS))
    level: int | str = logging.NOTSET
    """A number or a name; what the logger and its handlers leave out stays out all the same."""
    _least: int = field(default=0, init=False, repr=False)
    _pipelines: dict[Target, tuple[int, str]] = field(default_factory=dict, init=False, repr=False)
    _worker: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)
    _room: BoundedSemaphore = field(default_factory=_room, init=False, repr=False)
    _process: int = field(default_factory=os.getpid, init=False, repr=False)

    def __post_init__(self) -> None:
        self._least = _level("EventLog", self.level)
        check_redactor("EventLog", self.redactor)
        if not is_count(self.max_text):
            raise ConfigurationError(
                f"EventLog's max_text={shown(self.max_text)} cannot be used; give a whole number of characters."
            )
        if not callable(getattr(self.logger, "handle", None)):
            raise ConfigurationError(
                f"EventLog's logger cannot be of type {type(self.logger).__name__}; give logging.getLogger(NAME)."
            )

    def on_event(self, event: Event, /) -> None:
        """Log the event, if its level is on."""
        known = FIELDS.get(type(event))
        if known is None:
            return
        level, fields_of = known
        name = event.name
        if isinstance(event, CallCompleted):
            level, name = _outcome(event)
        logger = self.logger
        if level >= self._least and logger.isEnabledFor(level):
            if isinstance(event, CallStarted):
                name = f"{event.operation}.started"
            fields = self._identity(event)
            fields.update(fields_of(event, self.redactor))
            self._emit(level, name, fields)
        if self.show_texts and isinstance(event, CallCompleted) and logger.isEnabledFor(logging.INFO):
            self._log_texts(event)

    def _identity(self, event: Event) -> Fields:
        return {
            "correlation_id": correlation_id.get() or event.call_id,
            "call_id": event.call_id,
            "pipeline": self._pipeline(event.target),
        }

    def _emit(self, level: int, name: str, fields: Fields) -> None:
        logger = self.logger
        logger.handle(record_of(logger.name, level, name, fields))

    def _pipeline(self, target: Target) -> str:
        """The pipeline's id, checked once: settings mixed up may have put the token there."""
        version, shown = self._pipelines.get(target, (-1, ""))
        if version != self.redactor.secrets.version:
            version, shown = self.redactor.secrets.version, self.redactor.identifier(target.pipeline_id)
            if len(self._pipelines) >= 10_000:
                self._pipelines.clear()
            self._pipelines[target] = version, shown
        return shown

    def _log_texts(self, event: CallCompleted) -> None:
        fields = self._identity(event)
        if not self.redactor.detectors:
            self._write_texts(event, fields)
            return
        if self._process != os.getpid():  # the parent's worker does not live in the child of a fork
            self._worker, self._room, self._process = None, _room(), os.getpid()
        room = self._room
        if not room.acquire(blocking=False):
            self._emit(logging.WARNING, "texts.dropped", fields)
            return
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="rage-texts")

        def done(written: Future[None]) -> None:
            room.release()
            if (error := written.exception()) is not None:  # a detector's
                self._emit(logging.WARNING, "texts.dropped", {**identity, "error_type": type(error).__name__})

        identity = dict(fields)
        self._worker.submit(self._write_texts, event, fields).add_done_callback(done)

    def _write_texts(self, event: CallCompleted, fields: Fields) -> None:
        if event.query is not None:
            fields["question"] = self.redactor.passage(event.query.question, self.max_text)
        if event.retrieval is not None:
            fields["passages"] = [self.redactor.passage(d.text, self.max_text) for d in event.retrieval.documents]
        self._emit(logging.INFO, _named(event.operation, "texts"), fields)

    def close(self) -> None:
        """Wait until the texts seen so far are logged."""
        if self._worker is not None:
            self._worker.shutdown()
            self._worker = None


@lru_cache(maxsize=64)
def _named(operation: str, ending: str) -> str:
    return f"{operation}.{ending}"


def _outcome(event: CallCompleted) -> tuple[int, str]:
    if event.error is None:
        return logging.INFO, _named(event.operation, "completed")
    if isinstance(event.error, Exception):
        return logging.ERROR, _named(event.operation, "failed")
    return logging.INFO, _named(event.operation, "cancelled")


def _level(owner: str, given: object) -> int:
    level = logging.getLevelNamesMapping().get(given.upper()) if isinstance(given, str) else given
    if not isinstance(level, int) or isinstance(level, bool):
        raise ConfigurationError(
            f"{owner}'s level={shown(given)} cannot be used; give DEBUG, INFO, WARNING, ERROR or CRITICAL, or a whole "
            "number."
        )
    return level


def configure_logging(
    *,
    json: bool = False,
    level: int | str | None = None,
    stream: TextIO | None = None,
    redactor: Redactor = DEFAULT_REDACTOR,
) -> logging.Handler:
    """Send this library's records, and no others, to `stream` (standard error); for applications without logging.

    `level` is DEBUG with RAGE_DEBUG, else RAGE_LOG_LEVEL where that is set, else INFO. Calling it again replaces what
    the call before set up. The records then go to this handler alone and no longer to the handlers of the root logger.
    Raises ConfigurationError for what cannot be used, and then changes nothing.
    """
    chosen = _level("configure_logging", _level_of_settings() if level is None else level)
    if stream is not None and not callable(getattr(stream, "write", None)):
        raise ConfigurationError(
            f"configure_logging's stream cannot be of type {type(stream).__name__}; give an open file, or nothing for "
            "standard error."
        )
    redacting = RedactingFilter(redactor)
    logger = logging.getLogger("rage_retrievers")
    for previous in [handler for handler in logger.handlers if isinstance(handler, _Configured)]:
        logger.removeHandler(previous)
        previous.close()
    handler = _Configured(stream if stream is not None else sys.stderr)
    handler.addFilter(redacting)
    handler.setFormatter(
        JSONFormatter() if json else logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    )
    logger.addHandler(handler)
    logger.setLevel(chosen)
    logger.propagate = False
    return handler


def _level_of_settings() -> str:
    from ..settings import VectorizeSettings

    settings = VectorizeSettings.load()
    if settings.debug:
        return "DEBUG"
    return settings.log_level if "log_level" in settings.model_fields_set else "INFO"


class _Configured(logging.StreamHandler[TextIO]):
    """The handler that `configure_logging` added, so that it can be told from the application's own."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line and flush; `handle` holds the lock, so it is not taken a second time."""
        try:
            self.stream.write(self.format(record) + self.terminator)
            self.stream.flush()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)
