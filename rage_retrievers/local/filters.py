"""Which documents a request may see: both filter languages of the protocol, read into one small tree.

`metadata-filters`: a list of objects; AND across objects and across the keys of one, OR inside a list of values.
`advanced-query.filters`: a part of the Elasticsearch query DSL: term, terms, range, exists, bool with must, filter,
should and must_not, nested at most `MAX_DEPTH` deep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rage_retrievers._frozen import frozen

MAX_DEPTH = 16
MAX_CLAUSES = 1024
Scalar = str | int | float | bool | None


class BadFilterError(ValueError):
    """A filter is not understood; the message names the place and what would be."""


@frozen
class AnyOf:
    """The field holds one of the values (a field that is a list: one of its members does)."""

    field: str
    values: tuple[Scalar, ...]


@frozen
class Between:
    """The field lies within every bound given: (operator, value) with gt, gte, lt, lte."""

    field: str
    bounds: tuple[tuple[str, str | int | float], ...]


@frozen
class Exists:
    """The field is there and not null."""

    field: str


@frozen
class Bool:
    """All of `must`, none of `must_not`, and at least `at_least` of `should`."""

    must: tuple[Filter, ...] = ()
    should: tuple[Filter, ...] = ()
    must_not: tuple[Filter, ...] = ()
    at_least: int = 0


Filter = AnyOf | Between | Exists | Bool


def read_metadata_filters(given: Any, at: str = "metadata-filters") -> Filter | None:
    """The filter that `metadata-filters` means; None when it asks nothing. Raises `BadFilterError`."""
    if given is None:
        return None
    if not isinstance(given, list):
        raise BadFilterError(f"{at}: expected an array of objects, got {_kind(given)}")
    clauses: list[Filter] = []
    for index, entry in enumerate(given):
        if not isinstance(entry, Mapping):
            raise BadFilterError(f"{at}[{index}]: expected an object, got {_kind(entry)}")
        for key, value in entry.items():
            values = value if isinstance(value, list) else [value]
            clauses.append(AnyOf(_field(key, at), _scalars(values, f"{at}[{index}].{key}")))
    if len(clauses) > MAX_CLAUSES:
        raise BadFilterError(f"{at}: more than {MAX_CLAUSES} conditions")
    return Bool(must=tuple(clauses)) if clauses else None


def read_query_filters(given: Any, at: str = "advanced-query.filters") -> Filter | None:
    """The filter that `advanced-query.filters` means; None when it asks nothing. Raises `BadFilterError`."""
    if given is None or given in ({}, []):
        return None
    return _Reader().read(given, at, 1)


class _Reader:
    """Reads the query DSL, counting clauses so that a small body cannot ask for endless work."""

    def __init__(self) -> None:
        self._clauses = 0

    def read(self, given: Any, at: str, depth: int) -> Filter:
        self._clauses += 1
        if depth > MAX_DEPTH:
            raise BadFilterError(f"{at}: nested more than {MAX_DEPTH} deep")
        if self._clauses > MAX_CLAUSES:
            raise BadFilterError(f"{at}: more than {MAX_CLAUSES} conditions")
        if isinstance(given, list):
            return Bool(must=tuple(self.read(each, f"{at}[{i}]", depth + 1) for i, each in enumerate(given)))
        if not isinstance(given, Mapping):
            raise BadFilterError(f"{at}: expected an object, got {_kind(given)}")
        parts = tuple(self._clause(str(name), body, f"{at}.{name}", depth) for name, body in given.items())
        return parts[0] if len(parts) == 1 else Bool(must=parts)

    def _clause(self, name: str, body: Any, at: str, depth: int) -> Filter:
        if name in ("term", "match", "match_phrase"):
            return self._every(body, at, lambda key, value: AnyOf(key, _scalars([_unwrap(value)], f"{at}.{key}")))
        if name == "terms":
            return self._every(body, at, lambda key, value: AnyOf(key, _scalars(_listed(value, at, key), at)))
        if name == "range":
            return self._every(body, at, lambda key, value: Between(key, _bounds(value, f"{at}.{key}")))
        if name == "exists":
            return Exists(_field(_object(body, at).get("field"), at))
        if name == "match_all":
            return Bool()
        if name == "bool":
            return self._bool(_object(body, at), at, depth)
        raise BadFilterError(f"{at}: unknown; known are term, terms, range, exists, match_all and bool")

    def _every(self, body: Any, at: str, make: Any) -> Filter:
        made = [make(_field(key, at), value) for key, value in _object(body, at).items() if key != "boost"]
        if not made:
            raise BadFilterError(f"{at}: names no field")
        return made[0] if len(made) == 1 else Bool(must=tuple(made))

    def _bool(self, body: Mapping[str, Any], at: str, depth: int) -> Filter:
        unknown = set(body) - {"must", "filter", "should", "must_not", "minimum_should_match", "boost"}
        if unknown:
            raise BadFilterError(f"{at}.{min(unknown)}: unknown; known are must, filter, should and must_not")
        parts = {name: self._list(body.get(name), f"{at}.{name}", depth) for name in _OCCURRENCES}
        must = parts["must"] + parts["filter"]
        least = body.get("minimum_should_match", 1 if parts["should"] and not must else 0)
        if isinstance(least, bool) or not isinstance(least, int):
            raise BadFilterError(f"{at}.minimum_should_match: expected an integer, got {_kind(least)}")
        return Bool(must, parts["should"], parts["must_not"], least)

    def _list(self, body: Any, at: str, depth: int) -> tuple[Filter, ...]:
        if body is None:
            return ()
        entries = body if isinstance(body, list) else [body]
        return tuple(self.read(entry, f"{at}[{i}]", depth + 1) for i, entry in enumerate(entries))


_OCCURRENCES = ("must", "filter", "should", "must_not")


def _object(body: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise BadFilterError(f"{at}: expected an object, got {_kind(body)}")
    return body


def _field(key: Any, at: str) -> str:
    if not isinstance(key, str) or not key:
        raise BadFilterError(f"{at}: a field name must be a non-empty string")
    return key.removesuffix(".keyword")


def _unwrap(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get("value", value.get("query"))
    return value


def _listed(value: Any, at: str, key: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise BadFilterError(f"{at}.{key}: expected an array of values, got {_kind(value)}")
    return value


def _scalars(values: Sequence[Any], at: str) -> tuple[Scalar, ...]:
    if len(values) > MAX_CLAUSES:
        raise BadFilterError(f"{at}: more than {MAX_CLAUSES} values")
    for value in values:
        if not isinstance(value, str | int | float | bool | None):
            raise BadFilterError(f"{at}: expected a string, number, boolean or null, got {_kind(value)}")
    return tuple(values)


def _bounds(value: Any, at: str) -> tuple[tuple[str, str | int | float], ...]:
    bounds = {name: bound for name, bound in _object(value, at).items() if name not in ("boost", "format", "time_zone")}
    if not bounds:
        raise BadFilterError(f"{at}: expected at least one of gt, gte, lt, lte")
    for name, bound in bounds.items():
        if name not in ("gt", "gte", "lt", "lte"):
            raise BadFilterError(f"{at}.{name}: unknown; known are gt, gte, lt and lte")
        if isinstance(bound, bool) or not isinstance(bound, str | int | float):
            raise BadFilterError(f"{at}.{name}: expected a number or a string, got {_kind(bound)}")
        if isinstance(bound, float) and math.isnan(bound):
            raise BadFilterError(f"{at}.{name}: not a number")
    return tuple(bounds.items())


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {
        bool: "a boolean",
        dict: "an object",
        list: "an array",
        str: "a string",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)
