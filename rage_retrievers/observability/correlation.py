"""Correlation ids: one id that ties together every log line, audit record and request of what one user asked for.

The id lives in a ContextVar, so it reaches the calls made by threads and tasks that copy their context, as both
frameworks' do. It goes to the service in the header `HEADER`. Where nobody has set one, the retrievers take the id of
the framework's run (`within_run`), and else each call makes its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from os import urandom

HEADER = "x-request-id"
DEFAULT_PREFIX = "rage"

correlation_id: ContextVar[str | None] = ContextVar("rage_correlation_id", default=None)
framework_span: ContextVar[object] = ContextVar("rage_framework_span", default=None)
"""The OpenTelemetry span that a framework's instrumentation has opened for the run under way, where it says so."""

# What other systems use for ids, and nothing that could forge a header or a line of a log.
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+=@/~-]{0,127}").fullmatch


def new_id(prefix: str = DEFAULT_PREFIX) -> str:
    """An id nobody else has: the prefix, a dash and 64 random bits in hex; no dash when the prefix is empty."""
    return f"{prefix}-{urandom(8).hex()}" if prefix else urandom(8).hex()


def current_or_new(prefix: str = DEFAULT_PREFIX) -> str:
    """The correlation id of this context, or a new one that is not set here."""
    return correlation_id.get() or new_id(prefix)


def safe_id(value: object) -> str | None:
    """An id that came from outside (an `X-Request-ID`, a framework's run id), or None where it cannot be trusted."""
    text = str(value) if value is not None else ""
    return text if _SAFE(text) else None


@contextmanager
def correlation(value: object = None, *, prefix: str = DEFAULT_PREFIX) -> Iterator[str]:
    """Within this context every call has this id: `value` where it is a usable id, else a new one.

    An id that holds a credential or an e-mail address is none: it would stand in every log.
    """
    from .redaction import DEFAULT_REDACTOR

    given = safe_id(value)
    chosen = given if given is not None and DEFAULT_REDACTOR.identifier(given) == given else new_id(prefix)
    token = correlation_id.set(chosen)
    try:
        yield chosen
    finally:
        correlation_id.reset(token)


class within_run:  # noqa: N801 # reads as the context manager it is; a generator's costs thrice as much a call
    """Within this context calls belong to a framework's run: they have its id, unless an id was set before.

    `span` is what the framework's instrumentation keeps for the run, where it is not in OpenTelemetry's own context.
    """

    __slots__ = ("_ids", "_run_id", "_span", "_spans")

    def __init__(self, run_id: object, span: object = None) -> None:
        self._run_id = run_id
        self._span = span
        self._ids: Token[str | None] | None = None
        self._spans: Token[object] | None = None

    def __enter__(self) -> None:
        if correlation_id.get() is None and (taken := safe_id(self._run_id)) is not None:
            self._ids = correlation_id.set(taken)
        if self._span is not None:
            self._spans = framework_span.set(self._span)

    def __exit__(self, *_: object) -> None:
        if self._spans is not None:
            framework_span.reset(self._spans)
        if self._ids is not None:
            correlation_id.reset(self._ids)
