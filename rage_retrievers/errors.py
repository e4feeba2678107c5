"""Every error this package raises is a `RageError`; its class says whether trying again can help.

RageError
├── ConfigurationError          a setting or a query is wrong; nothing was sent (also a ValueError)
├── ConnectionFailedError       no whole answer arrived: refused, dropped, reset, cut short     transient
├── StatusError                 the service answered with an error status
│   ├── BadRequestError             400, 422
│   ├── UnauthorizedError           401
│   ├── ForbiddenError              403
│   ├── NotFoundError               404
│   ├── QuotaExceededError          402
│   ├── RateLimitedError            429                                                          transient
│   └── ServerError                 5xx                                                          transient but 501, 505
├── InvalidResponseError        an answer arrived and cannot be used
│   └── ResponseTooLargeError       it passed the bound on bytes, headers or documents
├── DeadlineExceededError       the time of the call is spent (also a TimeoutError)
├── AuditError                  an answer is withheld: its audit record is required and could not be kept
├── ResearchFailedError         the service says that a deep research did not succeed
└── RejectedError               the library refused; nothing was sent
    ├── CircuitOpenError            `retry_after`: seconds until the next probe
    ├── BulkheadFullError           no permit became free in time
    ├── RateLimitExceededError      the caller's own rate limit has no token left in time
    ├── ThrottledError              adaptive throttling: the service has been rejecting most calls
    └── RetryBudgetExhaustedError   a retry would have helped, but the pipeline's retry budget is spent

408 and 425 arrive as plain `StatusError`, transient. `transient`, `retry_after` (seconds, or None), `attempts` (the
requests sent) and `correlation_id` are on every error. No message, repr or pickle of these errors holds a credential
or the question.
"""

from __future__ import annotations

from typing import Any

from ._secrets import secrets_in_use

__all__ = [
    "AuditError",
    "BadRequestError",
    "BulkheadFullError",
    "CircuitOpenError",
    "ConfigurationError",
    "ConnectionFailedError",
    "DeadlineExceededError",
    "ForbiddenError",
    "InvalidResponseError",
    "NotFoundError",
    "QuotaExceededError",
    "RageError",
    "RateLimitExceededError",
    "RateLimitedError",
    "RejectedError",
    "ResearchFailedError",
    "ResponseTooLargeError",
    "RetryBudgetExhaustedError",
    "ServerError",
    "StatusError",
    "ThrottledError",
    "UnauthorizedError",
    "is_transient",
]


class RageError(Exception):
    """Base of every error of this package."""

    transient: bool = False
    """Whether the same call may succeed if it is made again."""
    retry_after: float | None = None
    """Seconds the service, or the policy that refused, asks to wait; None when neither said."""
    attempts: int = 0
    """How many requests the failed call had sent, that of a hedge too; in a deep research, the step that failed."""
    correlation_id: str | None = None
    """The id that logs, spans and the requests of the failed call bear; None where no call was begun."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retry_after is not None:
            self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(kind: type[RageError], args: tuple[Any, ...], state: dict[str, Any]) -> RageError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(RageError, ValueError):
    """A setting or a query is wrong; the message names the field, the value and the remedy. Nothing was sent."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        # The value that cannot be used may be the token, given in the wrong place.
        super().__init__(secrets_in_use.hide(message), retry_after=retry_after)


class ConnectionFailedError(RageError):
    """No whole answer arrived: the connection was refused, dropped, reset, or the answer was cut short."""

    transient = True


class StatusError(RageError):
    """The service answered with an error status.

    `status` is the HTTP status; `error` and `details` are the service's own words where it gave any; `request_id` is
    the id it gave the request, for its support desk.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        error: str | None = None,
        details: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status
        self.error = error
        self.details = details
        self.request_id = request_id
        self.transient = status in _TRANSIENT_4XX or (status >= 500 and status not in _PERMANENT_5XX)


_TRANSIENT_4XX = frozenset({408, 425, 429})
_PERMANENT_5XX = frozenset({501, 505})


class BadRequestError(StatusError):
    """400 or 422: the service does not accept the request; sending it again changes nothing."""


class UnauthorizedError(StatusError):
    """401: the token is missing, wrong or expired."""


class QuotaExceededError(StatusError):
    """402: the plan's quota is spent, or the plan does not include the feature."""


class ForbiddenError(StatusError):
    """403: the token is valid and may not do this."""


class NotFoundError(StatusError):
    """404: no such organization or pipeline."""


class RateLimitedError(StatusError):
    """429: too many requests; `retry_after` holds the service's own wish, where it gave one."""


class ServerError(StatusError):
    """5xx: the service failed, or a new pipeline is not ready yet (503)."""


class InvalidResponseError(RageError):
    """An answer arrived that cannot be used: not JSON, no documents, a document without text."""


class ResponseTooLargeError(InvalidResponseError):
    """The answer passed the bound on bytes, header bytes or documents; reading stopped there."""


class DeadlineExceededError(RageError, TimeoutError):
    """The time of the call is spent: waiting, attempts, pauses and reading the body together."""


class AuditError(RageError):
    """The call was made, its audit record is required and could not be kept, so its answer is withheld."""


class ResearchFailedError(RageError):
    """The service says that a deep research did not succeed; `research_id` names it."""

    def __init__(self, message: str, *, research_id: str) -> None:
        super().__init__(message)
        self.research_id = research_id


class RejectedError(RageError):
    """The library refused the call to protect the service or the caller; this attempt sent nothing."""


class CircuitOpenError(RejectedError):
    """The circuit of this pipeline is open; `retry_after` is the seconds until the next probe is admitted."""


class BulkheadFullError(RejectedError):
    """As many calls as the bulkhead allows are in flight, and no permit became free in time."""


class RateLimitExceededError(RejectedError):
    """The caller's own rate limit has no token left within the time allowed."""


class ThrottledError(RejectedError):
    """The service has been rejecting most calls, so a share of them is now refused here (adaptive throttling)."""


class RetryBudgetExhaustedError(RejectedError):
    """The attempt failed with a transient error, and the retry budget of the pipeline is spent; the cause is kept."""


def is_transient(error: BaseException) -> bool:
    """Whether trying the same call again can help; a predicate for any retry mechanism of the user's own."""
    return isinstance(error, RageError) and error.transient
