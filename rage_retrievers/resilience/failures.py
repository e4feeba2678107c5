"""What an error says of the service: whether it failed, whether it turned the call away, whether it is out of reach."""

from __future__ import annotations

from ..errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidResponseError,
    RageError,
    RateLimitedError,
    RejectedError,
    ResponseTooLargeError,
    ServerError,
)

_FAILURES = (ServerError, ConnectionFailedError, DeadlineExceededError, InvalidResponseError)


def is_service_failure(error: BaseException) -> bool:
    """Whether the service failed. A 4xx is none: it understood and declined; nor is an answer too large for us."""
    return isinstance(error, _FAILURES) and not isinstance(error, ResponseTooLargeError)


def is_overload(error: BaseException) -> bool:
    """Whether the service turned the call away because it has too many: 429 and 503."""
    return isinstance(error, RateLimitedError) or (isinstance(error, ServerError) and error.status == 503)


def is_outage(error: BaseException) -> bool:
    """Whether no answer could be had for now: the service failed, pushed back, or a policy refused to ask it.

    A wrong token, a wrong query or a pipeline that does not exist is no outage; it must not be papered over.
    """
    if not isinstance(error, RageError):
        return False
    return error.transient or isinstance(error, RejectedError) or is_service_failure(error)
