"""The documents' fields turned on their side, so that a filter over 100,000 documents is a few array operations.

A field is addressed by its path with dots: `source`, `metadata.year` or just `year`, nested `metadata.a.b`,
`document_metadata.title` for what a document tells of itself. Values keep their JSON types: the number 2024 is not the
string "2024", and true is not 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from rage_retrievers.local.filters import AnyOf, Between, Bool, Exists, Filter, Scalar

Mask = NDArray[np.bool_]
_Key = tuple[str, Scalar]


class Columns:
    """For each field and value, the positions of the documents that hold it."""

    def __init__(self, documents: Iterable[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]]) -> None:
        """`documents`: (own fields, facts, metadata) of each, in the order of their positions."""
        postings: dict[str, dict[_Key, list[int]]] = defaultdict(lambda: defaultdict(list))
        position = -1
        for position, (fields, facts, metadata) in enumerate(documents):
            # A name that the user gave wins over a fact of the same name.
            document_metadata = {**facts, **_mapping(metadata.get("document_metadata"))}
            tree = {**facts, **metadata, **fields, "metadata": {**facts, **metadata}}
            tree["document_metadata"] = document_metadata
            for path, value in _leaves(tree):
                places = postings[path][_key(value)]
                if not places or places[-1] != position:
                    places.append(position)
        self.count = position + 1
        self._postings = {
            path: {key: np.asarray(places, dtype=np.int32) for key, places in values.items()}
            for path, values in postings.items()
        }

    def mask(self, condition: Filter) -> Mask:
        """True for each document that the condition admits."""
        match condition:
            case AnyOf(field, values):
                return self._any_of(field, values)
            case Between(field, bounds):
                return self._between(field, bounds)
            case Exists(field):
                return self._union(self._field(field).values())
            case Bool():
                return self._bool(condition)
        assert_never(condition)

    def _any_of(self, field: str, values: Iterable[Scalar]) -> Mask:
        held = self._field(field)
        mask = self._union(held[key] for value in values if (key := _key(value)) in held)
        if None in values:
            mask |= ~self._union(held.values())
        return mask

    def _between(self, field: str, bounds: tuple[tuple[str, str | int | float], ...]) -> Mask:
        numeric = {isinstance(bound, int | float) for _, bound in bounds}
        kind = "n" if numeric == {True} else "s" if numeric == {False} else ""
        held = self._field(field)
        return self._union(
            places
            for (own, value), places in held.items()
            if own == kind and all(_COMPARE[name](value, bound) for name, bound in bounds)
        )

    def _bool(self, condition: Bool) -> Mask:
        mask = np.ones(self.count, dtype=np.bool_)
        for part in condition.must:
            mask &= self.mask(part)
        for part in condition.must_not:
            mask &= ~self.mask(part)
        if condition.should and condition.at_least > 0:
            votes = reduce(np.add, (self.mask(part).astype(np.int32) for part in condition.should))
            mask &= votes >= condition.at_least
        return mask

    def _field(self, field: str) -> dict[_Key, NDArray[np.int32]]:
        return self._postings.get(field, {})

    def _union(self, places: Iterable[NDArray[np.int32]]) -> Mask:
        mask = np.zeros(self.count, dtype=np.bool_)
        for some in places:
            mask[some] = True
        return mask


_COMPARE: dict[str, Any] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def _key(value: Scalar) -> _Key:
    if isinstance(value, bool):
        return ("b", value)
    if isinstance(value, int | float):
        return ("n", value)
    return ("s", value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    elif value is not None and path:
        yield path, value
