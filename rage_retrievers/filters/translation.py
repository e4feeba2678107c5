"""From a condition to the service's two languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from .expressions import (
    Clause,
    Condition,
    Either,
    Every,
    Filter,
    Member,
    Negation,
    OneOf,
    Present,
    RawClause,
    RawMetadata,
    Within,
    every,
    typed,
)
from .raw import entries, read_strictly


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
    fixed = [part for each in locked for part in _conjuncts(read_strictly(each))]
    opaque: list[dict[str, Any]] = []
    loose: list[Filter] = []
    for each in free:
        if fixed:
            loose += _conjuncts(read_strictly(each))
        elif isinstance(each, Filter):
            loose += _conjuncts(each)
        elif isinstance(each, Mapping):
            loose += [Clause(dict(each))] if each else []
        else:
            opaque += entries(each)
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
    return Split(metadata or None, _clause(every(advanced)) if advanced else None)


def _narrower(first: OneOf | None, second: OneOf) -> OneOf | None:
    """The one of two conditions on a field that implies the other, list fields included; None if neither does."""
    if first is None or first.field != second.field:
        return None
    held, asked = ({typed(value) for value in one.values} for one in (first, second))
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
    values = {typed(value): value for part in parts if isinstance(part, OneOf) for value in part.values}
    return OneOf(fields.pop() or "", tuple(values.values()))


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


def _bare(field: str) -> str:
    """A field's name without what databases add or ignore: two names with one bare name may be one field."""
    bare = str(field).strip().casefold().removesuffix(".keyword")
    while bare.startswith(_PREFIXES):
        bare = bare.split(".", 1)[1]
    return bare


_PREFIXES = ("metadata.", "document_metadata.")
