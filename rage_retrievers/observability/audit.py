"""An audit trail: one record for each logical call, written to the logger `rage_retrievers.audit` or where you say.

A record holds who asked (whatever the scope says), when, which pipeline, the names of the fields that filtered, a keyed
hash of the question, the ids of the documents given, the outcome and the attempts. It never holds the question.
"""

from __future__ import annotations

import hmac
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .._flow import is_async
from ..errors import AuditError, ConfigurationError
from ..models import Query, Retrieval
from ..scope import current_scope
from .correlation import correlation_id
from .events import CallCompleted, Event
from .log_records import JSONFormatter, record_of, timestamp
from .outcomes import outcome
from .redaction import DEFAULT_REDACTOR, Redactor, check_redactor

AUDIT = "rage_retrievers.audit"
EVENT = "audit.call"
SHORTEST_KEY = 16
"""Bytes; a shorter key can be guessed, and with it the questions."""

Record: TypeAlias = dict[str, Any]
Sink: TypeAlias = Callable[[Record], None]
"""Keeps one record, or raises."""


def scope_labels() -> Mapping[str, object]:
    """Who asks, as the scope of the call says: user, tenant, whatever labels the application gave it."""
    return current_scope().labels


@dataclass(slots=True)
class Audit:
    """Writes one record for each logical call that ended.

    `who` is asked in the thread or task of the call; its mapping becomes the record's `who`, the labels of the scope
    unless you say otherwise. With `key` (bytes that only the auditors have, 16 or more) equal questions have equal
    hashes across processes; without one, a random key makes them comparable within this process alone.

    `required=True` fails closed: an answer whose record cannot be kept is not given, and the call raises `AuditError`.
    Otherwise the failure is logged as `audit.failed` and the call goes on; the first of a process is also told by a
    `ConfigurationWarning`, which is seen without logging. Where no handler would keep a record when the trail is made,
    such a warning says so at once; handlers may be added later.
    """

    sink: Sink | None = None
    """Where records go; None is the logger `rage_retrievers.audit`."""
    who: Callable[[], Mapping[str, object]] = scope_labels
    key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    required: bool = False
    redactor: Redactor = DEFAULT_REDACTOR
    clock: Callable[[], float] = time.time
    _told: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        if self.sink is None:
            self.sink = to_logger()
            if not any(_handlers(logging.getLogger(AUDIT))):
                _warn_of_no_handler(required=self.required)
                self._told = True

    def _check(self) -> None:
        """Only types are told: what is given in the wrong place may be the key."""
        if not (self.sink is None or callable(self.sink)):
            raise ConfigurationError(
                f"Audit's sink cannot be of type {type(self.sink).__name__}; give a function that takes one record, "
                "such as to_file('audit.jsonl'), or nothing for the logger."
            )
        if not callable(self.who):
            raise ConfigurationError(
                f"Audit's who cannot be of type {type(self.who).__name__}; give a function that returns a mapping, "
                "or nothing for the labels of the scope."
            )
        for name in ("sink", "who"):
            if is_async(getattr(self, name)):
                raise ConfigurationError(f"Audit's {name} is an async function, which nobody awaits; give a plain one.")
        check_redactor("Audit", self.redactor)
        if not isinstance(self.key, bytes) or len(self.key) < SHORTEST_KEY:
            wrong = "be so short" if isinstance(self.key, bytes) else f"be of type {type(self.key).__name__}"
            raise ConfigurationError(
                f"Audit's key cannot {wrong}; give at least {SHORTEST_KEY} bytes, or nothing for a random key."
            )

    def on_event(self, event: Event, /) -> None:
        """Record a call that ended. Raises AuditError when that fails and the record is required."""
        if not isinstance(event, CallCompleted):
            return
        assert self.sink is not None  # set above
        try:
            self.sink(self.record(event))
        except Exception as error:
            failure = type(error).__name__
            fields = {"event": "audit.failed", "call_id": event.call_id, "error_type": failure}
            # Without the traceback: a sink's own words may quote the record.
            logging.getLogger("rage_retrievers").error(  # noqa: TRY400
                "audit.failed call_id=%s error_type=%s", event.call_id, failure, extra=fields
            )
            if self.required:
                withheld = AuditError(
                    f"The audit record of this call could not be kept ({failure}), and it is required, so its answer "
                    "is withheld; check where audit records go."
                )
                withheld.attempts = event.attempts
                raise withheld from error
            if not self._told:
                self._told = True
                _warn_of_loss(failure)

    def record(self, event: CallCompleted) -> Record:
        """What is kept of this call."""
        redactor, query = self.redactor, event.query
        organization, pipeline = redactor.identifiers((event.target.organization, event.target.pipeline_id))
        return {
            "correlation_id": correlation_id.get() or event.call_id,
            "call_id": event.call_id,
            "at": timestamp(self.clock()),
            "who": redactor.value(dict(self.who())),
            "operation": event.operation,
            "organization": organization,
            "pipeline": pipeline,
            "filter_fields": redactor.identifiers(filter_fields(query)) if query is not None else [],
            "question_hash": self._hash(query),
            "document_ids": redactor.identifiers(_ids(event.retrieval)) if event.retrieval is not None else [],
            "outcome": outcome(event),
            "error_type": None if event.error is None else type(event.error).__name__,
            "attempts": event.attempts,
            "elapsed_ms": round(event.elapsed * 1000, 1),
        }

    def _hash(self, query: Query | None) -> str | None:
        if query is None:
            return None
        return "hmac-sha256:" + hmac.digest(self.key, query.question.encode("utf-8", "replace"), "sha256").hex()


def consequence(*, required: bool) -> str:
    """What follows where no record can be kept."""
    return "every call will raise AuditError" if required else "audit records are lost"


def _warn_of_no_handler(*, required: bool) -> None:
    _warn(
        f"No handler takes the records of the logger {AUDIT}, so {consequence(required=required)}; set "
        "RAGE_AUDIT_FILE, give Audit a sink, or add a handler to that logger."
    )


_first_loss = threading.Lock()
"""Taken by the first loss of the process and never given back, as every client has a trail of its own."""


def _warn_of_loss(failure: str) -> None:
    if _first_loss.acquire(blocking=False):
        _warn(
            f"The audit record of a call could not be kept ({failure}), and the call went on; check where audit "
            "records go (RAGE_AUDIT_FILE). Further losses are only logged, as audit.failed."
        )


def _warn(message: str) -> None:
    from ..settings import ConfigurationWarning

    warnings.warn(message, ConfigurationWarning, stacklevel=5)


def _ids(retrieval: Retrieval) -> Iterator[str]:
    return (document.id or "" for document in retrieval.documents)


def filter_fields(query: Query) -> list[str]:
    """The names of the metadata fields that a query filters by, sorted, each once."""
    if not query.metadata_filters and not query.advanced_query:
        return []
    found = {str(name) for item in query.metadata_filters or () for name in item}
    found.update(_clause_fields((query.advanced_query or {}).get("filters")))
    return sorted(found)


def _clause_fields(clause: Any, depth: int = 32) -> Iterator[str]:
    """The fields named in the `term`, `terms` and `range` of an advanced query's filters."""
    if depth == 0:
        return
    if isinstance(clause, list | tuple):
        for item in clause:
            yield from _clause_fields(item, depth - 1)
    elif isinstance(clause, Mapping):
        for name, inner in clause.items():
            if name in ("term", "terms", "range", "match", "prefix", "wildcard") and isinstance(inner, Mapping):
                yield from map(str, inner)
            else:
                yield from _clause_fields(inner, depth - 1)


class _AuditLogRecord(logging.LogRecord):
    failure: BaseException | None = None


def to_logger(name: str = AUDIT) -> Sink:
    """A sink that hands records to the handlers of a logger, whatever its level.

    Raises when no handler would keep the record, or when one failed: the standard handlers report a failed write to
    `handleError` only, which is watched for the audit's own records.
    """
    logger = logging.getLogger(name)

    def write(record: Record) -> None:
        entry = record_of(name, logging.INFO, EVENT, record, _AuditLogRecord)
        kept, failure = False, None
        for handler in _handlers(logger):
            if handler.level <= logging.INFO:
                _watch(handler)
                verdict: object = handler.handle(entry)  # False where a filter dropped it, or what one put in its place
                kept = kept or verdict is not False
                failure = failure or (verdict if isinstance(verdict, _AuditLogRecord) else entry).failure
        if failure is not None:
            raise failure
        if not kept:
            raise LookupError(f"the logger {name} has no handler that keeps records of level INFO")

    return write


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    while logger is not None:
        yield from (handler for handler in logger.handlers if not isinstance(handler, logging.NullHandler))
        logger = logger.parent if logger.propagate else None


def _watch(handler: logging.Handler) -> None:
    """Note in an audit record that its handler failed; every other record is treated as before."""
    if getattr(handler.handleError, "watches_audit", False):
        return
    report = handler.handleError

    def note(record: logging.LogRecord) -> None:
        if isinstance(record, _AuditLogRecord):
            record.failure = sys.exc_info()[1]
        else:
            report(record)

    note.watches_audit = True  # type: ignore[attr-defined]  # the mark asked for above
    handler.handleError = note  # type: ignore[method-assign]  # this handler only


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def to_file(path: str | os.PathLike[str]) -> Sink:
    """A sink that appends one JSON object a line to a file, each flushed before the answer is given.

    A file that is not there yet is made for its owner alone (mode 0600, where there are modes); one that is there keeps
    its mode.
    """
    lock = threading.Lock()
    formatter = JSONFormatter()

    def write(record: Record) -> None:
        line = formatter.format(record_of(AUDIT, logging.INFO, EVENT, record)) + "\n"
        with lock, open(path, "a", encoding="utf-8", opener=_for_its_owner) as file:
            file.write(line)

    return write
