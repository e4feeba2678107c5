"""Calls as the client tells of them, without a client; and logging as it was before each test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rage_retrievers.errors import RateLimitedError, ServerError
from rage_retrievers.models import Document, Query, Retrieval, Target
from rage_retrievers.observability import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CallCompleted,
    CallStarted,
    CircuitChanged,
    Event,
    Listener,
    RetryScheduled,
)
from rage_retrievers.observability.events import sending, tell

TARGET = Target("https://api.vectorize.io/v1", "org-1", "aip-1")
URL = "https://api.vectorize.io/v1/org/org-1/pipelines/aip-1/retrieval"
QUERY = Query(question="Who is ada@example.org?", num_results=3)
ANSWER = Retrieval(
    documents=(
        Document(text="Ada wrote programs.", id="doc-1", similarity=0.9, relevancy=0.4),
        Document(text="Her card is 4111 1111 1111 1111.", id="doc-2", similarity=0.8),
    )
)


@dataclass
class Story:
    """Tells listeners of calls, event by event."""

    listeners: tuple[Listener, ...]
    call_id: str = "call-1"
    target: Target = TARGET
    query: Query | None = QUERY

    def tell(self, event: Event) -> None:
        tell(self.listeners, event)

    def start(self) -> None:
        self.tell(CallStarted(self.call_id, self.target, "retrieve", self.query))

    def attempt(self, number: int, error: Exception | None = None) -> tuple[tuple[str, str], ...]:
        """One request; gives the headers that were added to it."""
        started = AttemptStarted(self.call_id, self.target, number, "POST", URL)
        self.tell(started)
        with sending(self.listeners, started) as headers:
            pass
        if error is None:
            self.tell(AttemptSucceeded(self.call_id, self.target, number, 0.04))
        else:
            self.tell(AttemptFailed(self.call_id, self.target, number, 0.03, error))
        return headers

    def end(self, answer: Retrieval | None = ANSWER, error: BaseException | None = None, attempts: int = 1) -> None:
        answer = None if error is not None else answer
        self.tell(CallCompleted(self.call_id, self.target, "retrieve", self.query, attempts, 0.41, answer, error))

    def answered(self) -> None:
        """A call with one attempt."""
        self.start()
        self.attempt(1)
        self.end()

    def answered_at_second(self) -> None:
        """A call whose first attempt met a 503, on which the circuit opened."""
        self.start()
        failure = unavailable()
        self.attempt(1, failure)
        self.tell(CircuitChanged(self.call_id, self.target, "closed", "open"))
        self.tell(RetryScheduled(self.call_id, self.target, 1, 0.2, failure))
        self.attempt(2)
        self.end(attempts=2)

    def failed(self, error: BaseException | None = None) -> None:
        """A call whose one attempt failed."""
        error = error or limited()
        self.start()
        self.attempt(1, error if isinstance(error, Exception) else None)
        self.end(error=error)


def unavailable() -> ServerError:
    return ServerError("HTTP 503; the service is unavailable.", status=503, request_id="req-9")


def limited() -> RateLimitedError:
    return RateLimitedError("HTTP 429; too many requests.", status=429, retry_after=2.0)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    loggers = [
        logging.getLogger(name) for name in ("rage_retrievers", "rage_retrievers.audit", "rage_retrievers.calls")
    ]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate
        logger.setLevel(level)  # also forgets what isEnabledFor remembered
