"""`MetadataFilters` mean to the service what they mean to LlamaIndex."""

from __future__ import annotations

from typing import Any

import pytest
from filters.rows import admitted
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from llama_index_face.conftest import Scripted
from rage_retrievers import ConfigurationError
from rage_retrievers.filters import split
from rage_retrievers.llama_index import VectorizeQuery, from_metadata_filters

_NUMBERS, _WORDS = st.integers(-3, 3), st.sampled_from(["a", "b", "c"])
_VALUES: dict[str, st.SearchStrategy[Any]] = {"year": _NUMBERS, "kind": _WORDS, "tags": _WORDS}
_COMPARED = ("==", "!=", "<", "<=", ">", ">=", "in", "nin")
_MEMBERS = ("contains", "any", "all")
_WITH_LISTS = {"in", "nin", "any", "all"}

rows = st.fixed_dictionaries(
    {}, optional={"year": _NUMBERS | st.none(), "kind": _WORDS | st.none(), "tags": st.lists(_WORDS, max_size=3)}
)


@st.composite
def leaves(draw: st.DrawFn) -> MetadataFilter:
    """A filter on one field, of a type that the field has."""
    key = draw(st.sampled_from(sorted(_VALUES)))
    operator = draw(st.sampled_from(_MEMBERS if key == "tags" else _COMPARED))
    values = st.lists(_VALUES[key], min_size=1, max_size=3) if operator in _WITH_LISTS else _VALUES[key]
    return MetadataFilter(key=key, value=draw(values), operator=FilterOperator(operator))


conditions = st.sampled_from([*FilterCondition, None])


def grouped(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[MetadataFilters]:
    """Filters of one level."""
    return st.builds(MetadataFilters, filters=st.lists(parts, min_size=1, max_size=3), condition=conditions)


nested = grouped(st.recursive(leaves(), grouped, max_leaves=6))


def evaluated(filters: MetadataFilters, row: dict[str, Any]) -> bool:
    """LlamaIndex's own evaluator, which knows one level: a nested one is evaluated first, and put there as a truth."""
    known, flat = dict(row), []
    for place, one in enumerate(filters.filters):
        if isinstance(one, MetadataFilters):
            known[f"nested-{place}"] = int(evaluated(one, row))
            flat.append(MetadataFilter(key=f"nested-{place}", value=1))
        else:
            flat.append(one)
    return build_metadata_filter_fn(lambda _: known, MetadataFilters(filters=flat, condition=filters.condition))("id")


def knows_not() -> bool:
    """Whether the installed evaluator is of the versions that define `not`, and `!=` for a missing field."""
    absent = MetadataFilters(filters=[MetadataFilter(key="k", value=1)], condition=FilterCondition.NOT)
    try:
        return build_metadata_filter_fn(lambda _: {}, absent)("id")
    except ValueError:
        return False


@pytest.mark.skipif(not knows_not(), reason="this llama-index-core defines less than what is promised")
@given(nested, st.lists(rows, min_size=1, max_size=6))
def test_the_service_is_asked_what_llama_index_means(filters: MetadataFilters, table: list[dict[str, Any]]) -> None:
    """Every operator and condition, nested: the rows that the wire filters admit are those the evaluator does."""
    asked = split(from_metadata_filters(filters))
    assert admitted(table, asked.metadata_filters, asked.advanced_filters) == [evaluated(filters, row) for row in table]


@pytest.mark.parametrize("operator", ["text_match", "text_match_insensitive", "is_empty"])
def test_what_the_service_cannot_be_asked_is_named(operator: str) -> None:
    """An operator without a translation is an error that names operator and field."""
    one = MetadataFilter(key="title", value="a", operator=FilterOperator(operator))
    with pytest.raises(ConfigurationError, match=f"(?s)'title'.*'{operator}'"):
        from_metadata_filters(MetadataFilters(filters=[one]))


@pytest.mark.parametrize(
    "one",
    [
        MetadataFilter(key="k", value=None),
        MetadataFilter(key="k", value=["a"]),
        MetadataFilter(key="k", value="a", operator=FilterOperator.IN),
        MetadataFilter(key="k", value=[], operator=FilterOperator.NIN),
        MetadataFilters(filters=[]),
    ],
)
def test_a_value_that_does_not_fit_is_refused(one: Any) -> None:
    """No filter is sent that would mean something else than it says."""
    with pytest.raises(ConfigurationError, match="MetadataFilter"):
        from_metadata_filters(MetadataFilters(filters=[one]))


def test_a_condition_of_a_later_version_is_refused() -> None:
    """A condition that is not known is an error, never unfiltered data."""
    filters = MetadataFilters.model_construct(filters=[MetadataFilter(key="k", value=1)], condition="xor")  # type: ignore[arg-type]  # not one of today
    with pytest.raises(ConfigurationError, match="xor"):
        from_metadata_filters(filters)


def test_no_filters_at_all_ask_nothing(scripted: Scripted) -> None:
    """An empty MetadataFilters holds for everything, as in LlamaIndex."""
    scripted.retriever(filters=MetadataFilters(filters=[])).retrieve("What?")
    assert scripted.bodies[0].keys() == {"question", "numResults", "rerank"}


def test_the_retriever_and_a_query_take_metadata_filters(scripted: Scripted) -> None:
    """`filters=` of the constructor, and of one query, which wins."""
    year = [MetadataFilters(filters=[MetadataFilter(key="year", value=value)]) for value in (2023, 2024)]
    retriever = scripted.retriever(filters=year[0])
    retriever.retrieve("What?")
    retriever.retrieve(VectorizeQuery("What?", filters=year[1]))
    assert [body["metadata-filters"] for body in scripted.bodies] == [[{"year": [2023]}], [{"year": [2024]}]]


@pytest.mark.parametrize("given", [5, None, "year", [], {"year": 2024}, MetadataFilter(key="k", value=1)])
def test_what_are_no_metadata_filters_is_refused(given: Any) -> None:
    """One filter alone is none of LlamaIndex's `MetadataFilters` either."""
    with pytest.raises(ConfigurationError, match="filters is "):
        from_metadata_filters(given)
