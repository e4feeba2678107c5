"""Requests and responses of the protocol, apart from any HTTP library."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import parse_qs, unquote

from pydantic_core import to_json

from rage_retrievers._frozen import frozen

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_JSON_DEPTH = 64


@frozen
class LocalResponse:
    """An answer: status, headers and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RefusedError(Exception):
    """A request gets an error answer: `status`, and a body with `error` and `details`."""

    def __init__(self, status: int, error: str, details: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {error}: {details}")
        self.status = status
        self.error = error
        self.details = details
        self.headers = dict(headers or {})

    def response(self) -> LocalResponse:
        body = {"error": self.error} | ({"details": self.details} if self.details else {})
        return reply(body, self.status, self.headers)


@frozen
class Call:
    """A request: upper-case method, decoded path segments, lower-case headers."""

    method: str
    segments: tuple[str, ...]
    headers: Mapping[str, str]
    body: bytes
    query: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call:
        """Take a request apart; split before it is decoded, so an encoded slash stays in its segment."""
        place, _, asked = path.partition("#")[0].partition("?")
        segments = tuple(unquote(part) for part in place.strip("/").split("/"))
        query = {name: values[-1] for name, values in parse_qs(asked, keep_blank_values=True).items()}
        return cls(method.upper(), segments, {k.lower(): v for k, v in headers.items()}, body, query)

    def token(self) -> str:
        """The credential sent, of either kind; empty when there is none."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and value.strip():
            return value.strip()
        if scheme and not value and scheme.lower() != "bearer":
            return scheme  # the older gateway's form: the token alone
        return self.headers.get("x-lambda-api-key", "").strip()

    def json(self) -> dict[str, Any]:
        """The body as an object; raises `RefusedError` with 400, or 413 when it is too large."""
        if len(self.body) > MAX_BODY_BYTES:
            raise RefusedError(413, "Payload too large", f"the body is larger than {MAX_BODY_BYTES} bytes")
        try:
            value = json.loads(self.body, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise RefusedError(400, "Invalid request", f"body: not valid JSON ({error})") from error
        if not isinstance(value, dict):
            raise RefusedError(400, "Invalid request", "body: expected an object")
        _check_text(value, 0)
        return value


def reply(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> LocalResponse:
    """A JSON answer."""
    data = to_json(body, inf_nan_mode="null")  # a fifth of the time that the standard library takes
    return LocalResponse(status, {"content-type": "application/json", **(headers or {})}, data)


def bad(at: str, problem: str) -> RefusedError:
    """The answer to a field that is wrong: 400 with the field's name first."""
    return RefusedError(400, "Invalid request", f"{at}: {problem}")


class Fields:
    """Typed access to a body; every method raises `RefusedError` naming the field."""

    def __init__(self, body: Mapping[str, Any], at: str = "") -> None:
        self._body = body
        self._at = at

    def name(self, key: str) -> str:
        return f"{self._at}.{key}" if self._at else key

    def has(self, key: str) -> bool:
        return key in self._body

    def only(self, *known: str) -> None:
        """Refuse any other key."""
        for key in self._body:
            if key not in known:
                raise bad(self.name(str(key)), f"unknown; known are {', '.join(known)}")

    def text(self, key: str, default: str | None = None, *, filled: bool = False) -> str:
        value = self._body.get(key, default)
        if value is None or not isinstance(value, str):
            raise bad(self.name(key), "is required" if key not in self._body else "expected a string")
        if filled and not value.strip():
            raise bad(self.name(key), "must not be empty")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self._body.get(key, default)
        if not isinstance(value, bool):
            raise bad(self.name(key), "expected true or false")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._body.get(key, default)
        if value is None and key not in self._body:
            raise bad(self.name(key), "is required")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise bad(self.name(key), "expected a number")
        try:
            number = float(value)
        except OverflowError as error:
            raise bad(self.name(key), "too large") from error
        if not math.isfinite(number):
            raise bad(self.name(key), "expected a finite number")
        return number

    def choice(self, key: str, known: tuple[str, ...], default: str | None = None) -> str:
        value = self._body.get(key, default)
        if key not in self._body and default is None:
            raise bad(self.name(key), "is required")
        if not isinstance(value, str) or value not in known:
            raise bad(self.name(key), f"expected one of {', '.join(known)}")
        return value

    def object(self, key: str, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        value = self._body.get(key, default)
        if value is None and key not in self._body:
            raise bad(self.name(key), "is required")
        if not isinstance(value, dict):
            raise bad(self.name(key), "expected an object")
        return value

    def array(self, key: str, default: list[Any] | None = None) -> list[Any]:
        value = self._body.get(key, default)
        if value is None and key not in self._body:
            raise bad(self.name(key), "is required")
        if not isinstance(value, list):
            raise bad(self.name(key), "expected an array")
        return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _check_text(value: Any, depth: int) -> None:
    """Refuse what JSON can write and nothing else can hold: half of a character pair, endless nesting."""
    if depth > MAX_JSON_DEPTH:
        raise RefusedError(400, "Invalid request", f"body: nested more than {MAX_JSON_DEPTH} deep")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RefusedError(400, "Invalid request", "body: a string that is not valid Unicode") from error
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key, depth + 1)
            _check_text(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_text(inner, depth + 1)
