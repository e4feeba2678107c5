"""What an answer's status says: nothing where the service answered, else the error that its own words explain."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from ._flow import WireResponse
from ._json import read_json
from .errors import (
    BadRequestError,
    ForbiddenError,
    InvalidResponseError,
    NotFoundError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    StatusError,
    UnauthorizedError,
)

_CLASSES: dict[int, type[StatusError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    402: QuotaExceededError,
    403: ForbiddenError,
    404: NotFoundError,
    422: BadRequestError,
    429: RateLimitedError,
}
_HINTS = {
    400: "the service does not accept this request; its words say what it misses",
    401: "check the token: it may be missing, mistyped, expired, or of another environment",
    402: "the quota is spent or the plan lacks this; reranking, rewriting and filters use the advanced quota",
    403: "the token is valid but may not use this pipeline; check that it belongs to this organization",
    404: "check the organization and pipeline ids, and the environment",
    405: "this address does not take this operation; check base_url",
    429: "too many requests; slow down or raise the plan's limit",
    503: "the service is unavailable, or a new pipeline is still deploying",
}


def raise_for_status(response: WireResponse) -> None:
    """Nothing for 200 and 201; the error of the status for every other. Redirects are never followed."""
    status = response.status
    if status in (200, 201):
        return
    if 200 <= status < 300:
        raise InvalidResponseError(f"HTTP {status} brings no answer; check that base_url is a Vectorize API.")
    kind = _CLASSES.get(status) or (ServerError if status >= 500 else StatusError)
    error, details = _own_words(response)
    hint = _HINTS.get(status)
    if 300 <= status < 400:
        hint = "redirects are not followed, so that the token goes nowhere else; set base_url to the final address"
    said = f": {error}" if error else ""
    more = f" ({details})" if details else ""
    raise kind(
        f"HTTP {status}{said}{more}" + (f"; {hint}." if hint else "."),
        status=status,
        error=error,
        details=details,
        request_id=_request_id(response.headers),
        retry_after=retry_after(response.headers.get("retry-after")),
    )


def _own_words(response: WireResponse) -> tuple[str | None, str | None]:
    """What the service says went wrong: its own form, RFC 7807, or the title of a gateway's HTML page."""
    body = response.body[:65_536]
    try:
        data = read_json(body)
    except InvalidResponseError:
        title = re.search(rb"<title>([^<]{1,200})</title>", body, re.IGNORECASE)
        return (_line(title.group(1).decode("utf-8", "replace")) if title else None), None
    if not isinstance(data, dict):
        return None, None
    error = next((data[key] for key in ("error", "title", "message") if isinstance(data.get(key), str)), None)
    details = next((data[key] for key in ("details", "detail") if isinstance(data.get(key), str)), None)
    return (_line(error) if error else None), (_line(details) if details else None)


def _line(text: str, most: int = 300) -> str:
    """One line of at most `most` characters that cannot forge a log line or steer a terminal."""
    shown = "".join(c if c.isprintable() else " " for c in text).strip()
    if len(shown) <= most:
        return shown
    from .observability.redaction import DEFAULT_REDACTOR

    return DEFAULT_REDACTOR.passage(shown, most - 1)  # half of a card number would be taken for none afterwards


def _request_id(headers: dict[str, str]) -> str | None:
    for name in ("x-request-id", "x-amzn-requestid", "x-correlation-id", "cf-ray"):
        if headers.get(name):
            return _line(headers[name], 100)
    return None


def retry_after(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds to wait from a `Retry-After` header (RFC 9110 §10.2.3: seconds or an HTTP date); None if unreadable."""
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"\d{1,18}(\.\d{1,9})?", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        instant = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return max(0.0, instant - now())
