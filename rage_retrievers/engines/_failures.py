"""What the errors of the HTTP libraries mean to the caller."""

from __future__ import annotations

import httpcore
import httpx
import idna

from .._flow import WireRequest
from ..errors import ConfigurationError, RageError
from ._answer import bare, connection_failed, deadline_passed, head_too_large, host_of


def failure_of(error: BaseException, request: WireRequest, timeout: float) -> RageError | None:
    """The typed error; None for cancellation and for what is no failure of the wire."""
    if isinstance(error, RageError):
        bare(error)  # the frames it passed through hold what was read so far
        return error
    if isinstance(error, httpx.TimeoutException | httpcore.TimeoutException | TimeoutError):
        failure: RageError = deadline_passed(request, timeout)
        failure.__cause__ = bare(error)
        return failure
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.LocalProtocolError | idna.IDNAError):
        # No cause is kept: the library's words quote the header that it refuses.
        return ConfigurationError(f"The request to {host_of(request.url)} cannot be written: {type(error).__name__}.")
    if isinstance(error, httpx.RemoteProtocolError):
        if "too long" in str(error):  # h11's word for a head beyond its bound of 100 KB
            return head_too_large()
        return connection_failed(request, "the answer was cut short or is not valid HTTP", None)
    if isinstance(error, httpx.RequestError | httpcore.NetworkError | OSError):
        return connection_failed(request, str(error) or type(error).__name__, error)
    return None
