"""Raw filters, read as a lock needs it: only what has one certain meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._checks import typed
from ..errors import ConfigurationError
from .expressions import Clause, Condition, Filter, OneOf, as_scalar, every


def read_strictly(given: Condition) -> Filter:
    """A condition as an expression; ConfigurationError where its meaning is not certain."""
    if isinstance(given, Filter):
        return given
    if isinstance(given, Mapping):
        return every([Clause(_plain_json(given))] if given else [])
    found: list[Filter] = [
        OneOf(_key(key), _values(key, value)) for entry in entries(given) for key, value in entry.items()
    ]
    return every(found)


def entries(given: Any) -> list[dict[str, Any]]:
    """The objects of a raw `metadata-filters` list, as they are; ConfigurationError where it is none."""
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        if all(isinstance(entry, Mapping) for entry in given):
            return [dict(entry) for entry in given]
        given = next(entry for entry in given if not isinstance(entry, Mapping))
    raise ConfigurationError(
        f'metadata_filters with {typed(given)} cannot be used; use a list of mappings: [{{"year": [2024]}}].'
    )


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key.strip() or key.startswith("$"):
        raise ConfigurationError(f"metadata_filters key = {key!r} cannot join a locked filter; name a field.")
    return str.__str__(key)


def _values(key: str, value: Any) -> tuple[Any, ...]:
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    plain = tuple(None if each is None else as_scalar(each) for each in values)
    if not plain or any(found is None and each is not None for found, each in zip(plain, values, strict=True)):
        raise ConfigurationError(
            f"metadata_filters {key!r} of type {type(value).__name__} cannot join a locked filter; "
            "use a list of at least one text, number or boolean."
        )
    return plain


def _plain_json(value: Any) -> Any:
    """A copy in plain JSON types, so that what is checked is what is sent."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str.__str__(key): _plain_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_json(inner) for inner in value]
    if value is None or (plain := as_scalar(value)) is not None:
        return None if value is None else plain
    raise ConfigurationError(
        f"advanced_query filters with {typed(value)} cannot join a locked filter; use JSON values."
    )
