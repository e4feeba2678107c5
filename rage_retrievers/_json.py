"""Reading JSON that strangers sent: whatever it is, the result is plain data or an `InvalidResponseError`."""

from __future__ import annotations

import json
from typing import Any

from .errors import InvalidResponseError


def read_json(body: bytes) -> Any:
    """The JSON value in `body`; lone surrogates become U+FFFD, so that every text can be encoded again."""
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_int=_whole)
        return _mended(value) if b"\\u" in body else value
    except UnicodeDecodeError:
        problem = "it is not valid UTF-8"
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError:
        problem = "it is not JSON, or it was cut short" if body.strip() else "it is empty"
    raise InvalidResponseError(f"The answer cannot be used: {problem}.")


def _whole(digits: str) -> int | str:
    """A whole number, or its digits where it has more than Python turns into a number (4,300 by default)."""
    try:
        return int(digits)
    except ValueError:
        return digits


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return mend_text(value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def mend_text(text: str) -> str:
    """The same text with lone surrogates replaced, as text cut in the middle of a character holds them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
