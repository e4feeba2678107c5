"""Filters written once, such as `(F("year") >= 2024) & F("type").in_(["pdf", "html"])`, in the service's two languages.

=====================================  ============================  ================  ======================
expression                             means                         metadata-filters  advanced-query.filters
=====================================  ============================  ================  ======================
`F(f) == v`, `F(f).in_([v, w])`        the value is one of these     yes               `term`, `terms`
`F(f).contains(v)`                     a list has this member        no                `term`
`F(f) < v`, `<=`, `>`, `>=`            within the bound              no                `range`
`F(f).between(low, high)`              within both, bounds included  no                `range`
`a & b`                                both                          one object each   `bool.must`
`a | b`                                at least one                  on one field      `bool.should`
`~a`, `F(f) != v`, `F(f).not_in([v])`  a does not hold               no                `bool.must_not`
`F(f).exists()`                        the field is there            no                no: ConfigurationError
=====================================  ============================  ================  ======================

A field that is a **list** holds each of its members: `==`, `in_` and the comparisons ask for one that fits. A **missing
field** holds no value: `==`, `in_`, `contains` and comparisons are false for it, so `!=`, `not_in` and `~` are true.
To ask for "there and different", write `(F(f) < v) | (F(f) > v)`. Numbers are not texts: 2024 is not "2024".

Seen in the service's documents: that `metadata-filters` is an array of objects, and that `advanced-query.filters` is a
part of the Elasticsearch query DSL (term, terms, range, bool with must, should, must_not, nested), which works with the
built-in database and Elasticsearch only. *Inferred*: AND across the objects of `metadata-filters`, OR inside a list of
values, AND between the two languages, and for lists and missing fields what Elasticsearch does. What a field named in
two objects means is published nowhere, so none is named twice: the second condition goes to `advanced-query.filters`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeAlias

from .errors import ConfigurationError

__all__ = [
    "Condition",
    "F",
    "Filter",
    "Scalar",
    "Split",
    "conjoin",
    "split",
    "to_advanced_filters",
    "to_metadata_filters",
]

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
            raise ConfigurationError(f"field = {self.name!r} cannot be used: name a metadata field, such as F('year').")

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
        return tuple({_typed(value): value for value in ordered}.values())

    def _scalar(self, operator: str, value: object) -> Scalar:
        plain = _plain(value)
        if plain is None:
            raise self._wrong(operator, value, "use a text, a finite number or a boolean, as your metadata holds it")
        return plain

    def _within(self, operator: str, **bounds: str | float) -> Filter:
        found = tuple((name, self._scalar(operator, value)) for name, value in bounds.items())
        kinds = {_typed(value)[0] for _, value in found}
        if kinds not in ({"number"}, {"text"}):
            raise self._wrong(operator, tuple(bounds.values()), "compare with numbers, or with texts, not with both")
        return Within(self.name, found)

    def _wrong(self, operator: str, value: object, remedy: str) -> ConfigurationError:
        shown = value if isinstance(value, Scalar | None | tuple | list) else type(value).__name__
        return ConfigurationError(f"F({self.name!r}) {operator} {shown!r} cannot be asked: {remedy}.")


@dataclass(frozen=True, slots=True)
class OneOf(Filter):
    """The field holds one of the values."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Member(Filter):
    """The field, a list, holds the value."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Within(Filter):
    """The field lies within every bound: (gt, gte, lt or lte, value)."""

    field: str
    bounds: tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True, slots=True)
class Present(Filter):
    """The field is there."""

    field: str


@dataclass(frozen=True, slots=True)
class Every(Filter):
    """All of the parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Either(Filter):
    """At least one of the parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Negation(Filter):
    """Not the part."""

    part: Filter


@dataclass(frozen=True, slots=True)
class Clause(Filter):
    """A raw clause of the Elasticsearch query DSL, taken at its word."""

    body: dict[str, Any]


RawMetadata: TypeAlias = Sequence[Mapping[str, Any]]
RawClause: TypeAlias = Mapping[str, Any]
Condition: TypeAlias = Filter | RawMetadata | RawClause
"""What `filters=` takes: an expression, a raw `metadata-filters` list, or a raw `advanced-query.filters` clause."""


class Split(NamedTuple):
    """A condition in the service's two languages; both together mean it, and None asks nothing."""

    metadata_filters: list[dict[str, Any]] | None
    advanced_filters: dict[str, Any] | None


def to_metadata_filters(filters: Filter | RawMetadata) -> list[dict[str, Any]] | None:
    """The whole condition as `metadata-filters`, one field an object; None where that language cannot say it."""
    found = split(filters)
    return None if found.advanced_filters else found.metadata_filters


def to_advanced_filters(filters: Filter | RawClause) -> dict[str, Any]:
    """The whole condition as `advanced-query.filters`. ConfigurationError if it cannot say an operator."""
    if isinstance(filters, Filter):
        return _clause(filters)
    if isinstance(filters, Mapping):
        return dict(filters)
    raise ConfigurationError(f"filters of type {type(filters).__name__} is no expression and no clause; use F(...).")


def split(filters: Condition | None) -> Split:
    """The condition in both languages: what `metadata-filters` can say goes there, the rest to the other.

    A raw list is `metadata-filters` and a raw mapping a clause of `advanced-query.filters`; both pass as they are.
    """
    return conjoin([] if filters is None else [filters])


def conjoin(free: Iterable[Condition], locked: Iterable[Condition] = ()) -> Split:
    """All the conditions at once, whatever form each came in.

    With anything `locked`, raw filters are read strictly: a shape whose meaning is not certain (an operator such as
    `$or`, an empty list of values, a key that is no text) is a ConfigurationError. A free condition on a locked field
    can narrow it and nothing else. Where `advanced-query.filters` is needed anyway, the locked conditions are written
    in both languages, so that they hold even if a database heeds only one of the two.
    """
    fixed = [part for each in locked for part in _conjuncts(_read_strictly(each))]
    opaque: list[dict[str, Any]] = []
    loose: list[Filter] = []
    for each in free:
        if fixed:
            loose += _conjuncts(_read_strictly(each))
        elif isinstance(each, Filter):
            loose += _conjuncts(each)
        elif isinstance(each, Mapping):
            loose += [Clause(dict(each))] if each else []
        else:
            opaque += _entries(each)
    return _draft(fixed, loose, opaque)


def _draft(fixed: list[Filter], loose: list[Filter], opaque: list[dict[str, Any]]) -> Split:
    said: dict[str, OneOf | None] = {_bare(key): None for entry in opaque for key in entry}
    rest: list[Filter] = []
    for part in [*fixed, *loose]:
        field = _bare(part.field) if isinstance(part, OneOf) else ""
        if isinstance(part, OneOf) and field not in said:
            said[field] = part
        elif isinstance(part, OneOf) and (narrower := _narrower(said[field], part)) is not None:
            said[field] = narrower
        else:
            rest.append(part)
    metadata = opaque + [{one.field: list(one.values)} for one in said.values() if one is not None]
    twice = [part for part in fixed if not any(part is other for other in rest)] if rest else []
    advanced = [*twice, *rest]
    return Split(metadata or None, _clause(_every(advanced)) if advanced else None)


def _narrower(first: OneOf | None, second: OneOf) -> OneOf | None:
    """The one of two conditions on a field that implies the other, list fields included; None if neither does."""
    if first is None or first.field != second.field:
        return None
    held, asked = ({_typed(value) for value in one.values} for one in (first, second))
    return first if held <= asked else second if asked < held else None


def _conjuncts(filters: Filter) -> list[Filter]:
    """The conditions that must all hold, alternatives on one field drawn together."""
    if isinstance(filters, Every):
        return [inner for part in filters.parts for inner in _conjuncts(part)]
    return [_drawn_together(filters)]


def _drawn_together(filters: Filter) -> Filter:
    if not isinstance(filters, Either):
        return filters
    parts = [_drawn_together(part) for part in filters.parts]
    fields = {part.field if isinstance(part, OneOf) else None for part in parts}
    if len(fields) > 1 or None in fields:
        return filters
    values = {_typed(value): value for part in parts if isinstance(part, OneOf) for value in part.values}
    return OneOf(fields.pop() or "", tuple(values.values()))


def _operands(filters: Filter, kind: type[Every] | type[Either]) -> tuple[Filter, ...]:
    return filters.parts if isinstance(filters, kind) else (filters,)


def _every(parts: Sequence[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Every(tuple(parts))


# The clauses of the query DSL.


def _clause(filters: Filter) -> dict[str, Any]:
    match _drawn_together(filters):
        case OneOf(field, (value,)) | Member(field, value):
            return {"term": {_searchable(field): value}}
        case OneOf(field, values):
            return {"terms": {_searchable(field): list(values)}}
        case Within(field, bounds):
            return {"range": {_searchable(field): dict(bounds)}}
        case Every(parts):
            return {"bool": _occurrences(parts)}
        case Either(parts):
            # `should` stands alone: beside a `must` it would be optional.
            return {"bool": {"should": [_clause(part) for part in parts]}}
        case Negation(part):
            return {"bool": {"must_not": [_clause(part)]}}
        case Clause(body):
            return body
        case Present(field):
            raise ConfigurationError(
                f"F({field!r}).exists() cannot be asked: neither metadata-filters nor advanced-query.filters is known "
                'to have `exists`; if your database does, pass it raw: filters={"exists": {"field": …}}.'
            )
        case other:
            raise ConfigurationError(f"A filter of type {type(other).__name__} cannot be asked; build it with F(...).")


def _occurrences(parts: Sequence[Filter]) -> dict[str, Any]:
    must = [_clause(part) for part in parts if not isinstance(part, Negation)]
    must_not = [_clause(part.part) for part in parts if isinstance(part, Negation)]
    return {name: found for name, found in (("must", must), ("must_not", must_not)) if found}


def _searchable(field: str) -> str:
    if field in ("boost", "_name"):
        raise ConfigurationError(
            f"F({field!r}) cannot be asked in advanced-query.filters, where {field} is an option of the query DSL; "
            f"address the field as metadata.{field}."
        )
    return field


# Raw filters, read as a lock needs it: only what has one certain meaning.


def _read_strictly(given: Condition) -> Filter:
    if isinstance(given, Filter):
        return given
    if isinstance(given, Mapping):
        return _every([Clause(_plain_json(given))] if given else [])
    found: list[Filter] = [
        OneOf(_key(key), _values(key, value)) for entry in _entries(given) for key, value in entry.items()
    ]
    return _every(found)


def _entries(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        if all(isinstance(entry, Mapping) for entry in given):
            return [dict(entry) for entry in given]
        given = next(entry for entry in given if not isinstance(entry, Mapping))
    raise ConfigurationError(
        f'metadata_filters with a {type(given).__name__} cannot be used; use a list of mappings: [{{"year": [2024]}}].'
    )


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key.strip() or key.startswith("$"):
        raise ConfigurationError(f"metadata_filters key = {key!r} cannot join a locked filter; name a field.")
    return str.__str__(key)


def _values(key: str, value: Any) -> tuple[Any, ...]:
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    plain = tuple(None if each is None else _plain(each) for each in values)
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
    if value is None or (plain := _plain(value)) is not None:
        return None if value is None else plain
    raise ConfigurationError(
        f"advanced_query filters with a {type(value).__name__} cannot join a locked filter; use JSON values."
    )


def _plain(value: object) -> Scalar | None:
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


def _typed(value: Any) -> tuple[str, Any]:
    """A key that keeps apart what JSON keeps apart: True is not 1, though Python finds them equal."""
    if isinstance(value, bool):
        return ("boolean", value)
    return ("number", value) if isinstance(value, int | float) else ("text", value)


def _bare(field: str) -> str:
    """A field's name without what databases add or ignore: two names with one bare name may be one field."""
    bare = str(field).strip().casefold().removesuffix(".keyword")
    while bare.startswith(_PREFIXES):
        bare = bare.split(".", 1)[1]
    return bare


_PREFIXES = ("metadata.", "document_metadata.")


def _no_truth() -> TypeError:
    return TypeError(
        "A filter is neither true nor false: combine filters with &, | and ~ (each comparison in its own parentheses), "
        "not with `and`, `or`, `not` or `a < F(x) < b`; for a range use between()."
    )
