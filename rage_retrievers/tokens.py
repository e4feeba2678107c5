"""What a Vectorize access token says of itself, read on this machine. Nothing is sent, and no signature is verified.

    verdict = judge(token, organization=organization, now=time.time())
    if verdict.problem == "expired":
        print(verdict.message)

Tokens are JWTs whose `aud` is the organization's id; `exp` is missing from those that are valid for ever. A verdict
never holds the token or any part of it.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from ._checks import typed
from .errors import ConfigurationError

__all__ = ["Claims", "Problem", "Verdict", "judge", "read_claims"]

Problem: TypeAlias = Literal["not a JWT", "expired", "not valid yet", "another organization"]

_LONGEST = 65_536


@dataclass(frozen=True, slots=True)
class Claims:
    """What the token says: for whom it is, and from when to when it is valid, in seconds since 1970; None is absent."""

    audience: tuple[str, ...] = ()
    expires: float | None = None
    not_before: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a token (`problem`, None when nothing is) and what to do about it, in one line."""

    problem: Problem | None
    message: str
    claims: Claims | None = None


def judge(token: str, *, organization: str | None = None, now: float) -> Verdict:
    """Whether a token can be used at `now` (seconds since 1970) by this organization, as far as can be told locally."""
    try:
        claims = read_claims(token)
    except ConfigurationError as error:
        return Verdict("not a JWT", error.message)
    if claims.expires is not None and claims.expires <= now:
        return Verdict("expired", f"The token expired on {_day(claims.expires)}; make a new one.", claims)
    if claims.not_before is not None and claims.not_before > now:
        message = f"The token is valid from {_day(claims.not_before)} on; check this machine's clock."
        return Verdict("not valid yet", message, claims)
    if organization and claims.audience and organization not in claims.audience:
        message = (
            f"The token belongs to organization {', '.join(claims.audience)}, and organization is {organization}; "
            "use the token of the one that is meant."
        )
        return Verdict("another organization", message, claims)
    until = "has no end" if claims.expires is None else f"is valid until {_day(claims.expires)}"
    return Verdict(None, f"The token is a JWT and {until}.", claims)


def read_claims(token: str) -> Claims:
    """The claims of a JWT. Raises ConfigurationError saying why a text is none; the signature is not looked at."""
    if not isinstance(token, str):
        raise ConfigurationError(f"The token is {typed(token)}; give its text.")
    text = token.strip()
    if text.lower().startswith("bearer"):
        raise ConfigurationError("The token begins with Bearer; leave that word out, it is added when it is sent.")
    parts = text.split(".")
    if len(parts) != 3 or not all(parts) or len(text) > _LONGEST:
        raise ConfigurationError("The token is not a JWT, which has three parts with dots between; copy it whole.")
    header, payload = (_object(part) for part in parts[:2])
    if "alg" not in header:
        raise ConfigurationError("The token is not a JWT: its first part names no alg; copy it whole.")
    return Claims(_texts(payload.get("aud")), _instant(payload.get("exp")), _instant(payload.get("nbf")))


def _object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConfigurationError("The token is not a JWT: a part is not base64url of a JSON object; copy it whole.")
    return value


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(item for item in values if isinstance(item, str) and item)


def _instant(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _day(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "a day beyond the calendar"
