"""What a filter is: expressions over fields, immutable and combined with `&`, `|` and `~`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from .._checks import shown
from .._frozen import frozen
from ..errors import ConfigurationError

Scalar: TypeAlias = str | int | float | bool


class Filter:
    """A condition on a document's metadata. Immutable; combine with `&`, `|` and `~`, never with `and`, `or`, `not`."""

    __slots__ = ()

    def __and__(self, other: Filter) -> Filter:
        if not isinstance(other, Filter):
            return NotImplemented
        return Every((*_operands(self, Every), *_operands(other, Every)))

    def __or__(self, other: Filter) -> Filter:
        if not isinstance(other, Filter):
            return NotImplemented
        return Either((*_operands(self, Either), *_operands(other, Either)))

    def __invert__(self) -> Filter:
        return self.part if isinstance(self, Negation) else Negation(self)

    def __bool__(self) -> NoReturn:
        raise _no_truth()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class F:  # noqa: PLW1641  # == makes a filter, so a field is no key
    """A field of a document's metadata, by name: `F("year")`, `F("document_metadata.type")`.

    Comparing it makes a `Filter`. Values are texts, finite numbers and booleans; anything else is a ConfigurationError,
    and so is an empty list of values: it would admit nothing, and some databases would read it as everything.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigurationError(
                f"field = {shown(self.name)} cannot be used: name a metadata field, such as F('year')."
            )

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return OneOf(self.name, (self._scalar("==", value),))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return ~OneOf(self.name, (self._scalar("!=", value),))

    def __lt__(self, value: str | float) -> Filter:
        return self._within("<", lt=value)

    def __le__(self, value: str | float) -> Filter:
        return self._within("<=", lte=value)

    def __gt__(self, value: str | float) -> Filter:
        return self._within(">", gt=value)

    def __ge__(self, value: str | float) -> Filter:
        return self._within(">=", gte=value)

    def __bool__(self) -> NoReturn:
        raise _no_truth()

    def __repr__(self) -> str:
        return f"F({self.name!r})"

    def between(self, low: str | float, high: str | float) -> Filter:
        """From `low` to `high`, both included; of a list field, one and the same member lies there."""
        return self._within("between", gte=low, lte=high)

    def in_(self, values: Iterable[Scalar]) -> Filter:
        """The field is one of `values`."""
        return OneOf(self.name, self._several("in_", values))

    def not_in(self, values: Iterable[Scalar]) -> Filter:
        """The field is none of `values`, or is missing."""
        return ~OneOf(self.name, self._several("not_in", values))

    def contains(self, value: Scalar) -> Filter:
        """The field is a list with this member."""
        return Member(self.name, self._scalar("contains", value))

    def exists(self) -> Filter:
        """The field is there. The service has no published way to ask this: translating it is a ConfigurationError."""
        return Present(self.name)

    def _several(self, operator: str, values: Iterable[Scalar]) -> tuple[Scalar, ...]:
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise self._wrong(operator, values, "give a list of values")
        found = tuple(self._scalar(operator, value) for value in values)
        if not found:
            raise self._wrong(operator, values, "an empty list admits nothing; do not ask, or leave the filter out")
        # A set has no order of its own, and the same filter must always be the same bytes.
        ordered = sorted(found, key=repr) if isinstance(values, set | frozenset) else found
        return tuple({typed(value): value for value in ordered}.values())

    def _scalar(self, operator: str, value: object) -> Scalar:
        plain = as_scalar(value)
        if plain is None:
            raise self._wrong(operator, value, "use a text, a finite number or a boolean, as your metadata holds it")
        return plain

    def _within(self, operator: str, **bounds: str | float) -> Filter:
        found = tuple((name, self._scalar(operator, value)) for name, value in bounds.items())
        kinds = {typed(value)[0] for _, value in found}
        if kinds not in ({"number"}, {"text"}):
            raise self._wrong(operator, tuple(bounds.values()), "compare with numbers, or with texts, not with both")
        return Within(self.name, found)

    def _wrong(self, operator: str, value: object, remedy: str) -> ConfigurationError:
        told = shown(value) if isinstance(value, Scalar | None | tuple | list) else repr(type(value).__name__)
        return ConfigurationError(f"F({self.name!r}) {operator} {told} cannot be asked: {remedy}.")


@frozen
class OneOf(Filter):
    """The field holds one of the values."""

    field: str
    values: tuple[Scalar, ...]


@frozen
class Member(Filter):
    """The field, a list, holds the value."""

    field: str
    value: Scalar


@frozen
class Within(Filter):
    """The field lies within every bound: (gt, gte, lt or lte, value)."""

    field: str
    bounds: tuple[tuple[str, Scalar], ...]


@frozen
class Present(Filter):
    """The field is there."""

    field: str


@frozen
class Every(Filter):
    """All of the parts."""

    parts: tuple[Filter, ...]


@frozen
class Either(Filter):
    """At least one of the parts."""

    parts: tuple[Filter, ...]


@frozen
class Negation(Filter):
    """Not the part."""

    part: Filter


@frozen
class Clause(Filter):
    """A raw clause of the Elasticsearch query DSL, taken at its word."""

    body: dict[str, Any]


RawMetadata: TypeAlias = Sequence[Mapping[str, Any]]
RawClause: TypeAlias = Mapping[str, Any]
Condition: TypeAlias = Filter | RawMetadata | RawClause
"""What `filters=` takes: an expression, a raw `metadata-filters` list, or a raw `advanced-query.filters` clause."""


def every(parts: Sequence[Filter]) -> Filter:
    """All of the parts; the part itself where there is one."""
    return parts[0] if len(parts) == 1 else Every(tuple(parts))


def _operands(filters: Filter, kind: type[Every] | type[Either]) -> tuple[Filter, ...]:
    return filters.parts if isinstance(filters, kind) else (filters,)


def as_scalar(value: object) -> Scalar | None:
    """The value in an exact built-in type (enum members and subclasses give what they hold); None if it has none."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value) if math.isfinite(value) else None
    return None


def typed(value: Any) -> tuple[str, Any]:
    """A key that keeps apart what JSON keeps apart: True is not 1, though Python finds them equal."""
    if isinstance(value, bool):
        return ("boolean", value)
    return ("number", value) if isinstance(value, int | float) else ("text", value)


def _no_truth() -> TypeError:
    return TypeError(
        "A filter is neither true nor false: combine filters with &, | and ~ (each comparison in its own parentheses), "
        "not with `and`, `or`, `not` or `a < F(x) < b`; for a range use between()."
    )
