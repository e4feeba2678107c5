"""Filters: what an expression means, in both of the service's languages, and what is refused."""

from __future__ import annotations

import copy
import enum
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.filters import F, Filter, Split, conjoin, split, to_advanced_filters, to_metadata_filters

from .rows import admitted, filters, holds, rows

NAN = float("nan")
tables = st.lists(rows, min_size=1, max_size=4)


@given(filters, tables)
def test_the_two_languages_together_mean_the_expression(expression: Filter, table: list[dict[str, Any]]) -> None:
    """What is sent admits exactly the rows that the expression holds for: nothing is dropped, nothing is added."""
    sent = split(expression)
    assert admitted(table, *sent) == [holds(expression, row) for row in table]


@given(filters, tables)
def test_advanced_filters_mean_the_expression(expression: Filter, table: list[dict[str, Any]]) -> None:
    """The query DSL alone can say everything that can be built without `exists`."""
    assert admitted(table, None, to_advanced_filters(expression)) == [holds(expression, row) for row in table]


@given(filters, tables)
def test_metadata_filters_say_all_of_it_or_nothing(expression: Filter, table: list[dict[str, Any]]) -> None:
    """Where `to_metadata_filters` gives a list, that list is the whole meaning."""
    sent = to_metadata_filters(expression)
    if sent is not None:
        assert admitted(table, sent) == [holds(expression, row) for row in table]


@given(filters)
def test_metadata_filters_have_one_field_an_object_and_no_field_twice(expression: Filter) -> None:
    """The one shape of `metadata-filters` that the vendor's own code sends."""
    sent = split(expression).metadata_filters or []
    assert all(len(entry) == 1 and isinstance(values, list) for entry in sent for values in entry.values())
    fields = [field for entry in sent for field in entry]
    assert len(fields) == len(set(fields))


@given(filters)
def test_advanced_filters_are_json_in_the_documented_part_of_the_dsl(expression: Filter) -> None:
    """Only term, terms, range and bool with must, should and must_not, and no `should` beside anything."""

    def check(clause: dict[str, Any]) -> None:
        ((name, body),) = clause.items()
        assert name in {"term", "terms", "range", "bool"}
        if name == "bool":
            assert set(body) <= {"must", "must_not"} or set(body) == {"should"}
            for part in [part for parts in body.values() for part in parts]:
                check(part)

    check(json.loads(json.dumps(to_advanced_filters(expression))))


@given(filters, filters, tables)
def test_operators_are_boolean_algebra(a: Filter, b: Filter, table: list[dict[str, Any]]) -> None:
    """De Morgan holds on the wire, missing fields included."""
    for left, right in ((~(a & b), ~a | ~b), (~(a | b), ~a & ~b), (~~a, a)):
        assert admitted(table, *split(left)) == admitted(table, *split(right))


@pytest.mark.parametrize(
    ("expression", "metadata_filters", "advanced_filters"),
    [
        (F("year") == 2024, [{"year": [2024]}], None),
        (F("type").in_(["pdf", "html", "pdf"]), [{"type": ["pdf", "html"]}], None),
        ((F("a") == 1) & (F("b") == "x"), [{"a": [1]}, {"b": ["x"]}], None),
        ((F("a") == 1) | F("a").in_([2, 3]), [{"a": [1, 2, 3]}], None),
        ((F("a") == 1) | (F("b") == 2), None, {"bool": {"should": [{"term": {"a": 1}}, {"term": {"b": 2}}]}}),
        (F("year") >= 2024, None, {"range": {"year": {"gte": 2024}}}),
        (F("year").between(1, 2), None, {"range": {"year": {"gte": 1, "lte": 2}}}),
        (F("tags").contains("x"), None, {"term": {"tags": "x"}}),
        (~(F("a") != 1), [{"a": [1]}], None),
        (F("type") != "pdf", None, {"bool": {"must_not": [{"term": {"type": "pdf"}}]}}),
        (F("type").not_in(["a", "b"]), None, {"bool": {"must_not": [{"terms": {"type": ["a", "b"]}}]}}),
        (~((F("a") == 1) | (F("a") == 2)), None, {"bool": {"must_not": [{"terms": {"a": [1, 2]}}]}}),
        ((F("a") == 1) & (F("year") < 9), [{"a": [1]}], {"range": {"year": {"lt": 9}}}),
        ((F("tags") == "x") & (F("tags") == "y"), [{"tags": ["x"]}], {"term": {"tags": "y"}}),
        (F("a").in_([1, 2]) & (F("a") == 2), [{"a": [2]}], None),
        (F("a").in_([True, 1, 1.0]), [{"a": [True, 1]}], None),
        (F("a").in_([1]) | F("a").in_([True]), [{"a": [1, True]}], None),
        (F("a").in_({"z", "b", "c"}), [{"a": ["b", "c", "z"]}], None),
    ],
)
def test_what_an_expression_is_on_the_wire(
    expression: Filter, metadata_filters: list[dict[str, Any]] | None, advanced_filters: dict[str, Any] | None
) -> None:
    """`metadata-filters` where it can say it, `advanced-query.filters` for the rest, always the same bytes."""
    assert split(expression) == Split(metadata_filters, advanced_filters)


@pytest.mark.parametrize(
    "ask", [lambda f: f.exists(), lambda f: (f > 1) & ~f.exists(), lambda f: (f == 1) | f.exists()]
)
def test_what_no_language_can_say_is_an_error_naming_the_operator(ask: Callable[[F], Filter]) -> None:
    """`exists` is neither dropped nor guessed, wherever it stands."""
    for translate in (split, to_advanced_filters, to_metadata_filters):
        with pytest.raises(ConfigurationError, match=r"F\('year'\)\.exists\(\)"):
            translate(ask(F("year")))


@pytest.mark.parametrize(
    "ask",
    [
        lambda f: f == None,  # noqa: E711
        lambda f: f == F("other"),
        lambda f: f == [1],
        lambda f: f != NAN,
        lambda f: f < float("inf"),
        lambda f: f < True,
        lambda f: f >= None,
        lambda f: f.between(1, "b"),
        lambda f: f.in_([]),
        lambda f: f.not_in([]),
        lambda f: f.in_("pdf"),
        lambda f: f.in_({"pdf": 1}),
        lambda f: f.in_([["pdf"]]),
        lambda f: f.in_(5),
        lambda f: f.contains(None),
    ],
)
def test_a_value_that_cannot_be_asked_for_is_an_error_naming_the_field(ask: Callable[[F], Filter]) -> None:
    """Wrong values are refused where they are written, with the field and a remedy."""
    with pytest.raises(ConfigurationError, match=r"F\('year'\) .* cannot be asked: "):
        ask(F("year"))


@pytest.mark.parametrize("name", ["", " ", None, 3])
def test_a_field_has_a_name(name: Any) -> None:
    """An empty name would be a filter on nothing."""
    with pytest.raises(ConfigurationError, match="field = "):
        F(name)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: (F("a") == 1) and (F("b") == 2),
        lambda: (F("a") == 1) or (F("b") == 2),
        lambda: not (F("a") == 1),  # noqa: SIM201
        lambda: 1 < F("a") < 3,
        lambda: F("a") or F("b"),  # type: ignore[unreachable]
        lambda: (F("a") == 1) & True,  # type: ignore[operator]
        lambda: F("a") == 1 & F("b"),  # type: ignore[operator]
        lambda: {F("a"): 1},
    ],
)
def test_python_words_that_would_lose_half_of_a_filter_raise(ask: Callable[[], Any]) -> None:
    """`a and b` would be b alone; it is a TypeError instead."""
    with pytest.raises(TypeError):
        ask()


def test_reflected_comparisons_mean_the_same() -> None:
    """`2024 <= F("year")` is `F("year") >= 2024`."""
    assert to_advanced_filters(2024 <= F("year")) == to_advanced_filters(F("year") >= 2024)  # noqa: SIM300


def test_expressions_are_immutable_and_can_be_copied_and_pickled() -> None:
    """They travel in a retriever's fields, between threads and processes."""
    expression = ~((F("a") == 1) | (F("b") > 2)) & F("c").in_(["x"])
    assert pickle.loads(pickle.dumps(expression)) == copy.deepcopy(expression) == expression
    with pytest.raises(AttributeError):
        expression.parts = ()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        F("a").name = "b"  # type: ignore[misc]


def test_enum_members_are_their_values() -> None:
    """A StrEnum is sent as the text it holds."""

    class Kind(enum.StrEnum):
        PDF = "pdf"

    ((value,),) = (entry["type"] for entry in to_metadata_filters(F("type") == Kind.PDF) or [])
    assert type(value) is str
    assert value == "pdf"
    (locked,) = conjoin([], [[{Kind.PDF: [Kind.PDF]}]]).metadata_filters or []
    assert {(type(key), type(value)) for key, (value,) in locked.items()} == {(str, str)}


@pytest.mark.parametrize("field", ["boost", "_name"])
def test_a_field_named_like_an_option_of_the_dsl_is_refused_there(field: str) -> None:
    """`{"range": {"boost": …}}` would be read as an option, so as no filter at all."""
    assert to_metadata_filters(F(field) == 1) == [{field: [1]}]
    with pytest.raises(ConfigurationError, match=f"metadata.{field}"):
        split(F(field) > 1)


RAW_LIST: list[dict[str, Any]] = [{"a": 1, "b": [None, {"odd": []}]}, {"a": []}]
RAW_CLAUSE: dict[str, Any] = {"bool": {"should": [{"wildcard": {"a": "x*"}}], "minimum_should_match": 0}}


def test_raw_filters_pass_through_untouched() -> None:
    """A list is `metadata-filters`, a mapping is `advanced-query.filters`, whatever they hold."""
    assert split(RAW_LIST) == Split(RAW_LIST, None)
    assert split(RAW_CLAUSE) == Split(None, RAW_CLAUSE)
    assert to_metadata_filters(RAW_LIST) == RAW_LIST
    assert to_advanced_filters(RAW_CLAUSE) == RAW_CLAUSE
    assert split(None) == split([]) == split({}) == Split(None, None)
    assert conjoin([{}, []], [F("a") == 1]) == Split([{"a": [1]}], None)


@pytest.mark.parametrize(
    "name", ["Tenant", " tenant", "tenant.keyword", "metadata.tenant", "metadata.document_metadata.tenant"]
)
def test_a_locked_field_is_not_asked_a_second_time_under_another_name(name: str) -> None:
    """A database may take the two for one field, and the second list of values for the one that counts."""
    sent = conjoin([F(name) == "t-2"], [F("tenant") == "t-1"])
    assert sent.metadata_filters == [{"tenant": ["t-1"]}]
    assert sent.advanced_filters == {"bool": {"must": [{"term": {"tenant": "t-1"}}, {"term": {name: "t-2"}}]}}


def test_what_is_sent_is_not_the_users_own_object() -> None:
    """Whoever changes the one does not change the other."""
    given: list[dict[str, Any]] = [{"a": [1]}]
    sent = split(given).metadata_filters
    clauses = [to_advanced_filters(RAW_CLAUSE), split(RAW_CLAUSE).advanced_filters]
    assert sent is not None
    for one in (sent[0], *clauses):
        assert one is not None
        one["more"] = 1
    assert (given, "more" in RAW_CLAUSE) == ([{"a": [1]}], False)


def test_raw_filters_beside_an_expression_stay_as_they_are() -> None:
    """Joined by AND; a field that the raw list already names is not named there again."""
    sent = conjoin([RAW_LIST, F("a") == 1, F("c") == 2, RAW_CLAUSE])
    assert sent.metadata_filters == [*RAW_LIST, {"c": [2]}]
    assert sent.advanced_filters == {"bool": {"must": [{"term": {"a": 1}}, RAW_CLAUSE]}}


@pytest.mark.parametrize("given", ["year", "", b"", [["year"]], [{"year": [1]}, 5], 5])
def test_what_is_no_filter_at_all_is_an_error(given: Any) -> None:
    """A text or a number where filters belong is named, not ignored."""
    with pytest.raises(ConfigurationError, match="metadata_filters"):
        split(given)


@given(st.lists(filters, max_size=2), st.lists(filters, min_size=1, max_size=2), tables)
def test_conjoined_filters_all_hold(free: list[Filter], locked: list[Filter], table: list[dict[str, Any]]) -> None:
    """However many expressions come together, locked or not, the rows admitted are those that all admit."""
    sent = conjoin(free, locked)
    assert admitted(table, *sent) == [all(holds(each, row) for each in [*free, *locked]) for row in table]
