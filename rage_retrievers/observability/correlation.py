"""Correlation ids: one id that ties together every log line, audit record and request of what one user asked for.

The id lives in a ContextVar, so it reaches the calls made by threads and tasks that copy their context, as both
frameworks' do. It goes to the service in the header `HEADER`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from os import urandom

HEADER = "x-request-id"
DEFAULT_PREFIX = "rage"

correlation_id: ContextVar[str | None] = ContextVar("rage_correlation_id", default=None)

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
    """Within this context every call has this id: `value` where it is a usable id, else a new one."""
    chosen = safe_id(value) or new_id(prefix)
    token = correlation_id.set(chosen)
    try:
        yield chosen
    finally:
        correlation_id.reset(token)
