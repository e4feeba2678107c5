"""What a log record of ours is: a constant name with fields, as a line of text or of JSON, redacted.

The records hold every field as an attribute, so any JSON formatter shows it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, TypeAlias, TypeVar, overload

from .redaction import DEFAULT_REDACTOR, Redactor, check_redactor

Fields: TypeAlias = dict[str, Any]


class Line:
    """A record's message: the event's name, and its fields when somebody reads it as text."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: Fields) -> None:
        self.name = name
        self.fields = fields

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{name}={_shown(value)}" for name, value in self.fields.items())])


def _shown(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text and '"' not in text else json.dumps(text)


R = TypeVar("R", bound=logging.LogRecord)


@overload
def record_of(logger: str, level: int, event: str, fields: Fields) -> logging.LogRecord: ...
@overload
def record_of(logger: str, level: int, event: str, fields: Fields, kind: type[R]) -> R: ...
def record_of(
    logger: str, level: int, event: str, fields: Fields, kind: type[logging.LogRecord] = logging.LogRecord
) -> logging.LogRecord:
    """A record without a caller, which would always be a line of this file; half the cost of LogRecord's own."""
    record = kind.__new__(kind)
    attributes, now = record.__dict__, time.time()
    attributes.update(_alike(logger, level, os.getpid()))
    attributes.update(fields)
    attributes["event"] = event
    attributes["msg"] = Line(event, fields)
    attributes["relativeCreated"] += (now - attributes["created"]) * 1000
    attributes["created"] = now
    attributes["msecs"] = float(int((now - int(now)) * 1000))
    attributes["thread"] = threading.get_ident()
    attributes["threadName"] = threading.current_thread().name
    if "taskName" in attributes:
        attributes["taskName"] = _task_name()
    return record


@lru_cache(maxsize=64)
def _alike(logger: str, level: int, process: int) -> Fields:
    """The attributes of a first record, most of which those of this logger, level and process have in common."""
    return vars(logging.LogRecord(logger, level, "", 0, None, None, None))


def _task_name() -> str | None:
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio.current_task() if asyncio is not None else None
    except RuntimeError:
        return None
    return None if task is None else task.get_name()


class RedactingFilter(logging.Filter):
    """Redacts whatever record passes, from any logger; add it to a handler of the application's own."""

    def __init__(self, redactor: Redactor = DEFAULT_REDACTOR) -> None:
        super().__init__()
        check_redactor("RedactingFilter", redactor)
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; the record's message, extra fields and traceback are redacted in place."""
        if isinstance(record.msg, Line):  # made of redacted fields
            return True
        record.msg = self._redactor.text(_message(record))
        record.args = None
        if record.exc_info:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.exc_info = None
        for name, value in record.__dict__.items():
            if name not in _WORDLESS and value is not None and not isinstance(value, bool | int | float):
                record.__dict__[name] = self._shown(value)
        return True

    def _shown(self, value: object) -> object:
        if isinstance(value, str | bytes | bytearray | Mapping | list | tuple | set | frozenset):
            return self._redactor.value(value)
        # A formatter may need the object itself, so it stays unless its words hold something.
        text = str(value)
        shown = self._redactor.text(text)
        return value if shown == text else shown


def _message(record: logging.LogRecord) -> str:
    """The record's message; where its arguments do not fit, both: logging itself would print them on stderr."""
    try:
        return record.getMessage()
    except Exception:  # whatever an argument raises
        return f"{record.msg} {record.args}"


_PLAIN_RECORD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "event", "taskName"}
_WORDLESS = _PLAIN_RECORD - {"event", "exc_text", "stack_info"}
"""What the application did not write."""


def timestamp(seconds: float) -> str:
    """UTC in ISO 8601 with milliseconds: `2026-01-31T23:59:59.123Z`."""
    whole = int(seconds)
    return f"{_date(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _date(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class JSONFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, event, then the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        message = record.msg
        if isinstance(message, Line):
            fields = message.fields
            head = _head(record.levelname, record.name, message.name, tuple(fields))
            return head % (
                _date(int(record.created)),
                record.msecs,
                *[_WRITERS.get(type(v), _encode)(v) for v in fields.values()],
            )
        data: Fields = {"timestamp": timestamp(record.created), "level": record.levelname, "logger": record.name}
        data["event"] = record.__dict__.get("event") or record.getMessage()
        extra = record.__dict__.items()
        data.update({name: value for name, value in extra if name not in _PLAIN_RECORD})
        if record.exc_info or record.exc_text:
            data["exception"] = record.exc_text or self.formatException(record.exc_info or (None, None, None))
        return _encode(data)


_encode = json.JSONEncoder(default=str, check_circular=False, separators=(", ", ": ")).encode


def _number(value: float) -> str:
    return float.__repr__(value) if math.isfinite(value) else _encode(value)


# What fields nearly always are is written without an encoder, which costs more than all the rest of a line.
_WRITERS: Mapping[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: _number,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): lambda _: "null",
    list: lambda values: "[" + ", ".join([_WRITERS.get(type(v), _encode)(v) for v in values]) + "]",
}


@lru_cache(maxsize=256)
def _head(level: str, logger: str, event: str, names: tuple[str, ...]) -> str:
    """A line with a place for the timestamp and for the value of each field."""
    constant = _encode({"level": level, "logger": logger, "event": event})[1:-1]
    fields = [_encode(name).replace("%", "%%") + ": %s" for name in names]
    return "{" + ", ".join(['"timestamp": "%s.%03dZ"', constant.replace("%", "%%"), *fields]) + "}"
