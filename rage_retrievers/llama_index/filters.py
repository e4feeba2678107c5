"""LlamaIndex's `MetadataFilters` as a filter of this package, and so in the service's own terms.

==========================================  =======================================================================
`==` `!=` `<` `<=` `>` `>=` `in` `nin`      as they are; `!=` and `nin` hold for a missing field, as in LlamaIndex
`contains` `any` `all`                      the field is a list with this member, one of them, all of them
`text_match` `text_match_insensitive`       refused: the service has no search for a part of a value
`is_empty`                                  refused: the service has no published way to ask for a missing field
conditions `and` `or` `not`, nested         as they are; `not` means that none of its parts holds
==========================================  =======================================================================

The meaning is LlamaIndex's own (`build_metadata_filter_fn`), for values of one type on fields of that type.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from .._checks import typed
from ..errors import ConfigurationError
from ..filters import F, Filter

__all__ = ["from_metadata_filters"]


def from_metadata_filters(filters: MetadataFilters) -> Filter | None:
    """The same condition; None for no filters at all, which hold for everything.

    Raises ConfigurationError naming the operator that the service cannot be asked.
    """
    if not isinstance(filters, MetadataFilters):
        raise ConfigurationError(f"filters is {typed(filters)}; give LlamaIndex's MetadataFilters, or write F(...).")
    return _combined(filters) if filters.filters else None


def _combined(filters: MetadataFilters) -> Filter:
    if not filters.filters:
        raise ConfigurationError("MetadataFilters with a nested, empty MetadataFilters cannot be asked; leave it out.")
    join = _CONDITIONS.get(filters.condition or FilterCondition.AND)
    if join is None:
        raise ConfigurationError(f"MetadataFilters(condition={filters.condition!r}) cannot be asked; use and, or, not.")
    return join([_combined(one) if isinstance(one, MetadataFilters) else _condition(one) for one in filters.filters])


def _condition(one: MetadataFilter) -> Filter:
    make = _ONE_VALUE.get(one.operator)
    if make is not None:
        if one.value is None or isinstance(one.value, list):
            raise _refused(one, "needs one text or number")
        return make(F(one.key), one.value)
    make = _MANY_VALUES.get(one.operator)
    if make is not None:
        if not isinstance(one.value, list) or not one.value:
            raise _refused(one, "needs a list of at least one text or number")
        return make(F(one.key), one.value)
    raise _refused(one, f"cannot be asked: the service has no {_MISSING.get(one.operator, 'such operator')}")


def _refused(one: MetadataFilter, why: str) -> ConfigurationError:
    return ConfigurationError(f"MetadataFilter(key={one.key!r}, operator={one.operator.value!r}) {why}.")


_MISSING = {
    FilterOperator.IS_EMPTY: "published way to ask for a missing field",
    FilterOperator.TEXT_MATCH: "search for a part of a value",
    FilterOperator.TEXT_MATCH_INSENSITIVE: "search for a part of a value",
}
_CONDITIONS: dict[FilterCondition, Callable[[list[Filter]], Filter]] = {
    FilterCondition.AND: lambda parts: reduce(and_, parts),
    FilterCondition.OR: lambda parts: reduce(or_, parts),
    FilterCondition.NOT: lambda parts: ~reduce(or_, parts),
}
_ONE_VALUE: dict[FilterOperator, Callable[[F, Any], Filter]] = {
    FilterOperator.EQ: lambda field, value: field == value,
    FilterOperator.NE: lambda field, value: field != value,
    FilterOperator.GT: lambda field, value: field > value,
    FilterOperator.GTE: lambda field, value: field >= value,
    FilterOperator.LT: lambda field, value: field < value,
    FilterOperator.LTE: lambda field, value: field <= value,
    FilterOperator.CONTAINS: F.contains,
}
_MANY_VALUES: dict[FilterOperator, Callable[[F, Any], Filter]] = {
    FilterOperator.IN: F.in_,
    FilterOperator.NIN: F.not_in,
    FilterOperator.ANY: lambda field, values: reduce(or_, [field.contains(value) for value in values]),
    FilterOperator.ALL: lambda field, values: reduce(and_, [field.contains(value) for value in values]),
}
