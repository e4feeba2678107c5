"""Rows of metadata, filters over them, and what a filter means: written down a second time, as simply as possible."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from rage_retrievers.filters import F, Filter
from rage_retrievers.filters.expressions import Clause, Either, Every, Member, Negation, OneOf, Present, Within
from rage_retrievers.local.columns import Columns
from rage_retrievers.local.filters import read_metadata_filters, read_query_filters

FIELDS = ("year", "kind", "tags", "metadata.deep.a", "office.city")
_OPERATORS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}

scalars = st.one_of(
    st.integers(-3, 3), st.sampled_from([0.5, 1.0]), st.sampled_from(["", "a", "b", "1"]), st.booleans()
)
_held = st.one_of(scalars, st.none(), st.lists(scalars, max_size=3))
rows = st.fixed_dictionaries(
    {},
    optional={
        "year": _held,
        "kind": _held,
        "tags": _held,
        "deep": st.fixed_dictionaries({}, optional={"a": _held}),
        "office": st.fixed_dictionaries({}, optional={"city": _held}),
    },
)


def _bounds(draw: st.DrawFn) -> tuple[Any, Any]:
    numbers, texts = st.integers(-3, 3), st.sampled_from("ab1")
    found: tuple[Any, Any] = draw(st.one_of(st.tuples(numbers, numbers), st.tuples(texts, texts)))
    return found


@st.composite
def conditions(draw: st.DrawFn) -> Filter:
    """A comparison of one field."""
    field = F(draw(st.sampled_from(FIELDS)))
    low, high = _bounds(draw)
    several = draw(st.lists(scalars, min_size=1, max_size=3))
    one: Filter = draw(
        st.sampled_from(
            [
                field == several[0],
                field != several[0],
                field < low,
                field <= low,
                field > low,
                field >= low,
                field.between(low, high),
                field.in_(several),
                field.not_in(several),
                field.contains(several[0]),
            ]
        )
    )
    return one


filters: st.SearchStrategy[Filter] = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda both: both[0] & both[1]),
        st.tuples(inner, inner).map(lambda both: both[0] | both[1]),
        inner.map(lambda one: ~one),
    ),
    max_leaves=6,
)


def held(row: Mapping[str, Any], field: str) -> list[Any]:
    """The values that a field of a row holds; none when it is missing, null or an empty list."""
    value: Any = row
    for name in field.removeprefix("metadata.").split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return [one for one in (value if isinstance(value, list) else [value]) if one is not None]


def same(one: Any, other: Any) -> bool:
    """Equal as JSON sees it."""
    return bool(one == other) and _kind(one) == _kind(other)


def _kind(value: Any) -> str:
    return "boolean" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "text"


def holds(expression: Filter, row: Mapping[str, Any]) -> bool:
    """What the expression says of a row."""
    match expression:
        case OneOf(field, values):
            return any(same(one, value) for one in held(row, field) for value in values)
        case Member(field, value):
            return any(same(one, value) for one in held(row, field))
        case Within(field, bounds):
            return any(
                all(_kind(one) == _kind(bound) and _OPERATORS[name](one, bound) for name, bound in bounds)
                for one in held(row, field)
            )
        case Present(field):
            return bool(held(row, field))
        case Every(parts):
            return all(holds(part, row) for part in parts)
        case Either(parts):
            return any(holds(part, row) for part in parts)
        case Negation(part):
            return not holds(part, row)
        case Clause(body):
            return admitted([row], None, body) == [True]
    raise AssertionError(expression)


def admitted(
    table: Sequence[Mapping[str, Any]], metadata_filters: Any = None, advanced_filters: Any = None
) -> list[bool]:
    """Which rows the embedded pipeline lets through when it is sent these filters."""
    columns = Columns([({}, {}, row) for row in table])
    read = [read_metadata_filters(metadata_filters), read_query_filters(advanced_filters)]
    masks = [columns.mask(condition) for condition in read if condition is not None]
    return [all(bool(mask[index]) for mask in masks) for index in range(len(table))]
