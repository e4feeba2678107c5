"""What may be metadata of a document: a JSON object that every part of the pipeline can hold and every client read.

Each passage of a document carries the whole of it, hence the bound on its size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 65_536
MAX_DEPTH = 32


class BadMetadataError(ValueError):
    """Metadata is refused; the message says why, without its values."""


def check(metadata: Mapping[str, Any]) -> None:
    """Raise `BadMetadataError` unless this is an object of strings, finite numbers, booleans, nulls and the like."""
    _check(metadata, 0)
    if len(json.dumps(metadata, ensure_ascii=False).encode()) > MAX_BYTES:
        raise BadMetadataError(f"metadata of more than {MAX_BYTES:,} bytes")


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadMetadataError(f"metadata nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check(key, depth + 1)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadMetadataError("metadata with a string that is not valid Unicode") from error
    elif isinstance(value, int | float):
        _check_number(value)


def _check_number(value: float) -> None:
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise BadMetadataError("metadata with a number that JSON cannot hold")
