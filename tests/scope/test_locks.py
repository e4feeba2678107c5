"""Locked filters under attack: no caller, inner scope or model widens them, whatever shape its filters have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from filters.rows import admitted, conditions, filters, holds, rows
from hypothesis import given
from hypothesis import strategies as st

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.filters import F, Filter
from rage_retrievers.scope import Scope, current_scope, effective, scope

LOCK = F("tenant") == "a"
TABLE: list[dict[str, Any]] = [
    {"tenant": tenant, "year": year, "tags": tags, "deep": {"a": 1}}
    for tenant in ("a", "b", ["a", "b"], None)
    for year in (2023, 2024)
    for tags in (["x"], ["x", "y"], [])
]


def sent(values: Mapping[str, Any]) -> tuple[Any, Any]:
    """Both filters of a request, as `effective` leaves them."""
    return values.get("metadata_filters"), (values.get("advanced_query") or {}).get("filters")


def bare(key: str) -> str:
    """A field as a database that ignores prefixes would see it."""
    return key.lower().removeprefix("metadata.").removeprefix("document_metadata.").removesuffix(".keyword")


def readings(entries: Sequence[Mapping[str, Any]] | None) -> list[list[dict[str, Any]] | None]:
    """Ways in which a service could read `metadata-filters`: in the documented way, or keyed by field, carelessly."""
    if not entries:
        return [None]
    listed = [(key, value if isinstance(value, list) else [value]) for entry in entries for key, value in entry.items()]
    last, first, union = {}, {}, {}  # type: ignore[var-annotated]
    for key, values in listed:
        last[bare(key)] = values
        first.setdefault(bare(key), values)
        union[bare(key)] = union.get(bare(key), []) + values
    return [[{key: value} for key, value in listed], *([dict(merged)] for merged in (last, first, union))]


def assert_locked(values: Mapping[str, Any], locked: Sequence[Filter], table: Sequence[Mapping[str, Any]]) -> None:
    """No row gets through that a locked filter does not admit, in any reading of the request."""
    metadata, advanced = sent(values)
    for reading in readings(metadata):
        for row, through in zip(table, admitted(table, reading, advanced), strict=True):
            assert not through or all(holds(lock, row) for lock in locked), (values, row)


keys = st.sampled_from(
    [
        "tenant",
        "metadata.tenant",
        "document_metadata.tenant",
        "tenant.keyword",
        "Tenant",
        " tenant",
        "year",
        "tags",
        "$or",
    ]
)
values = st.one_of(st.none(), st.booleans(), st.integers(2022, 2025), st.sampled_from(["a", "b", "x", ""]))
odd_values = st.one_of(values, st.lists(values, max_size=3), st.dictionaries(keys, values, max_size=2))
entries = st.dictionaries(keys, odd_values, max_size=3)
leaves = st.one_of(
    st.builds(lambda key, value: {"term": {key: value}}, keys, odd_values),
    st.builds(lambda key, value: {"terms": {key: value}}, keys, odd_values),
    st.builds(lambda key, value: {"range": {key: {"gte": value}}}, keys, values),
    st.builds(lambda key: {"exists": {"field": key}}, keys),
    st.just({"match_all": {}}),
)
clauses: st.SearchStrategy[dict[str, Any]] = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda parts, least: {"bool": {**parts, **least}},
        st.dictionaries(st.sampled_from(["must", "filter", "should", "must_not"]), st.one_of(inner, st.lists(inner))),
        st.sampled_from([{}, {"minimum_should_match": 0}, {"minimum_should_match": 1}]),
    ),
    max_leaves=5,
)
metadata_slots = st.one_of(st.none(), entries, st.lists(entries, max_size=3), values)
clause_slots = st.one_of(st.none(), clauses, st.lists(clauses, max_size=2), entries, values)
advanced_slots = st.one_of(
    st.none(),
    st.fixed_dictionaries({"filters": clause_slots}, optional={"mode": st.sampled_from(["text", "hybrid"])}),
    st.fixed_dictionaries({"Filters": clause_slots}),
)
hostile = st.fixed_dictionaries(
    {},
    optional={
        "filters": st.one_of(metadata_slots, clause_slots, conditions(), filters),
        "metadata_filters": metadata_slots,
        "advanced_query": advanced_slots,
        "num_results": st.just(10_000),
        "pipeline_id": st.just("another"),
    },
)


@given(
    hostile, hostile, st.sampled_from([LOCK, LOCK & (F("year") == 2024), F("tenant").in_(["a", "c"]), F("year") > 2023])
)
def test_no_caller_gets_past_a_lock(call: dict[str, Any], built: dict[str, Any], lock: Filter) -> None:
    """Whatever call and constructor say: an error before anything is sent, or a request within the lock."""
    with scope(filters=lock, pipeline_id="p", k=3, locked=True):
        try:
            asked = effective(call, built)
        except ConfigurationError:
            return
    assert asked["pipeline_id"] == "p"
    assert asked["num_results"] == 3
    assert "filters" not in asked
    assert set(asked.get("advanced_query") or {}) <= {"filters", "mode"}
    try:
        assert_locked(asked, [lock], TABLE)
    except ValueError:
        return  # the service refuses the caller's own clause


@given(hostile)
def test_no_inner_scope_gets_past_a_lock(inner: dict[str, Any]) -> None:
    """Nor does a scope entered later, locked or not."""
    for locked in (False, True):
        with scope(filters=LOCK, pipeline_id="p", k=3, locked=True):
            try:
                with scope(**inner, locked=locked):
                    asked = effective({}, {})
            except ConfigurationError:
                continue
        assert (asked["pipeline_id"], asked["num_results"]) == ("p", 3)
        try:
            assert_locked(asked, [LOCK], TABLE)
        except ValueError:
            continue


@given(filters, filters, filters, filters, st.lists(rows, min_size=1, max_size=3))
def test_locked_filters_and_the_callers_all_hold(
    outer: Filter, inner: Filter, called: Filter, built: Filter, table: list[dict[str, Any]]
) -> None:
    """With expressions the result is exactly the AND of all the locked ones and the one that goes first by name."""
    with scope(filters=outer, locked=True), scope(filters=inner, locked=True):
        for call, constructor, free in (({"filters": called}, built, [called]), ({}, built, [built]), ({}, None, [])):
            asked = effective(call, {} if constructor is None else {"filters": constructor})
            expected = [all(holds(each, row) for each in [outer, inner, *free]) for row in table]
            assert admitted(table, *sent(asked)) == expected


@given(conditions(), st.lists(st.dictionaries(st.sampled_from(["year", "kind"]), values, min_size=1), max_size=3))
def test_raw_lists_beside_a_lock_keep_their_meaning(lock: Filter, raw: list[dict[str, Any]]) -> None:
    """Plain `metadata-filters` of a caller are ANDed with the lock, exactly, a repeated key included."""
    table = [
        {"year": year, "kind": kind} for year in (2023, [2023, 2024], None) for kind in ("a", "b", ["a", "b"], True)
    ]
    with scope(filters=lock, locked=True):
        asked = effective({"metadata_filters": raw}, {})
    alone = admitted(table, raw)
    assert admitted(table, *sent(asked)) == [holds(lock, row) and own for row, own in zip(table, alone, strict=True)]


@pytest.mark.parametrize(
    ("call", "metadata", "advanced"),
    [
        ({}, [{"tenant": ["a"]}], None),
        ({"metadata_filters": [{"tenant": ["a", "b"]}]}, [{"tenant": ["a"]}], None),
        (
            {"metadata_filters": [{"tenant": "b"}]},
            [{"tenant": ["a"]}],
            {"bool": {"must": [{"term": {"tenant": "a"}}, {"term": {"tenant": "b"}}]}},
        ),
        (
            {"metadata_filters": [{"metadata.tenant": "a"}]},
            [{"tenant": ["a"]}],
            {"bool": {"must": [{"term": {"tenant": "a"}}, {"term": {"metadata.tenant": "a"}}]}},
        ),
        ({"metadata_filters": [{"year": 1, "kind": [2]}]}, [{"tenant": ["a"]}, {"year": [1]}, {"kind": [2]}], None),
        (
            {"filters": {"bool": {"should": [{"match_all": {}}], "minimum_should_match": 0}}},
            [{"tenant": ["a"]}],
            {
                "bool": {
                    "must": [
                        {"term": {"tenant": "a"}},
                        {"bool": {"should": [{"match_all": {}}], "minimum_should_match": 0}},
                    ]
                }
            },
        ),
    ],
)
def test_what_a_lock_and_a_caller_are_on_the_wire(call: dict[str, Any], metadata: Any, advanced: Any) -> None:
    """No field twice in `metadata-filters`; where the DSL is needed, the lock is there, too."""
    with scope(filters=LOCK, locked=True):
        assert sent(effective(call, {})) == (metadata, advanced)


@pytest.mark.parametrize(
    "call",
    [
        {"metadata_filters": [{"tenant": []}]},
        {"metadata_filters": [{"year": []}]},
        {"metadata_filters": [{"$or": [{"tenant": "b"}]}]},
        {"metadata_filters": [{"$or": ["b"]}]},
        {"metadata_filters": [{"tenant": {"$ne": "a"}}]},
        {"metadata_filters": [{3: ["b"]}]},
        {"metadata_filters": "tenant=b"},
        {"metadata_filters": [["tenant", "b"]]},
        {"filters": {"tenant": ["b"]}},
        {"filters": "tenant=b"},
        {"filters": {"term": {3: "b"}}},
        {"filters": {"terms": {"tenant": {"a", "b"}}}},
        {"advanced_query": {"Filters": {"match_all": {}}}},
        {"advanced_query": {"filter": {"match_all": {}}}},
        {"advanced_query": {"filters": "tenant:b"}},
        {"advanced_query": "filters"},
    ],
)
def test_a_shape_without_one_certain_meaning_cannot_join_a_lock(call: dict[str, Any]) -> None:
    """It is refused before anything is sent, and without showing what is locked."""
    with scope(filters=F("tenant") == "locked-tenant", locked=True), pytest.raises(ConfigurationError) as refused:
        effective(call, {})
    assert "locked-tenant" not in str(refused.value)


def test_nobody_can_bring_options_nobody_knows_to_a_lock() -> None:
    """The service could read one as a filter, so beside a lock it is refused, whoever says it and when."""
    lock = scope(filters=LOCK, locked=True)
    other = scope(advanced_query={"query": {"match_all": {}}})
    with lock, pytest.raises(ConfigurationError, match="'query'"), other:
        pass
    with other, pytest.raises(ConfigurationError, match="'query'"), lock:
        pass
    assert current_scope() == Scope()
    with lock, pytest.raises(ConfigurationError, match="'query'"):
        effective({}, {"advanced_query": {"query": {"match_all": {}}}})


def test_a_locked_scope_may_bring_options_nobody_knows() -> None:
    """Whoever writes the lock knows what it stands beside."""
    with scope(advanced_query={"new-option": 1}, filters=LOCK, locked=True):
        assert effective({}, {})["advanced_query"] == {"new-option": 1}


def test_a_locked_advanced_query_keeps_its_options_and_its_filters() -> None:
    """A call can add conditions and change no option."""
    locked = {"mode": "text", "filters": {"term": {"tenant": "a"}}}
    with scope(advanced_query=locked, locked=True):
        asked = effective({"advanced_query": {"mode": "vector", "filters": {"term": {"x": 1}}}}, {"rerank": True})
    must = {"bool": {"must": [{"term": {"tenant": "a"}}, {"term": {"x": 1}}]}}
    assert asked == {"rerank": True, "advanced_query": {"mode": "text", "filters": must}}


def test_a_locked_advanced_query_lets_the_filters_of_a_constructor_narrow() -> None:
    """Until a call gives an `advanced_query` of its own, as where nothing is locked."""
    built = {"advanced_query": {"mode": "vector", "filters": {"term": {"x": 1}}}}
    with scope(advanced_query={"mode": "text"}, filters=LOCK, locked=True):
        narrowed, replaced = effective({}, built), effective({"advanced_query": {"mode": "vector"}}, built)
    clause = {"bool": {"must": [{"term": {"tenant": "a"}}, {"term": {"x": 1}}]}}
    assert narrowed["advanced_query"] == {"mode": "text", "filters": clause}
    assert replaced["advanced_query"] == {"mode": "text"}


def test_a_call_beside_a_locked_advanced_query_hears_of_an_option_nobody_knows() -> None:
    """Passed over with the other options, it would have narrowed nothing, in silence."""
    query = {"query": {"term": {"x": 1}}}
    with scope(advanced_query={"mode": "text"}, filters=LOCK, locked=True):
        with pytest.raises(ConfigurationError, match="'query'"):
            effective({"advanced_query": query}, {})
        with pytest.raises(ConfigurationError, match="'query'"), scope(advanced_query=query):
            pass


def test_a_locked_advanced_query_lets_a_calls_two_filters_both_narrow() -> None:
    """What `filters` and `advanced_query` of one call say is joined, though the options are locked."""
    with scope(advanced_query={"mode": "text"}, filters=LOCK, locked=True):
        asked = effective({"filters": F("year") == 1, "advanced_query": {"filters": {"term": {"x": 1}}}}, {})
    assert sent(asked) == (
        [{"tenant": ["a"]}, {"year": [1]}],
        {"bool": {"must": [{"term": {"tenant": "a"}}, {"term": {"x": 1}}]}},
    )


def test_a_locked_raw_filter_does_not_replace_a_callers_or_a_constructors() -> None:
    """Locking `metadata_filters` adds to the others' `metadata_filters`."""
    with scope(metadata_filters={"tenant": "a"}, locked=True):
        assert effective({}, {"metadata_filters": [{"year": [1]}]}) == {
            "metadata_filters": [{"tenant": ["a"]}, {"year": [1]}]
        }
        assert effective({"metadata_filters": []}, {"metadata_filters": [{"year": [1]}]}) == {
            "metadata_filters": [{"tenant": ["a"]}]
        }


def test_a_scope_given_by_hand_takes_the_place_of_the_current_one() -> None:
    """The merge is a pure function of its three arguments."""
    with scope(filters=LOCK, k=3, locked=True) as bounds:
        pass
    assert effective({"k": 9}, {}, bounds) == {"num_results": 3, "metadata_filters": [{"tenant": ["a"]}]}
    with bounds_of_another():
        assert effective({"k": 9}, {}, Scope()) == {"num_results": 9}


def bounds_of_another() -> Any:
    """A scope that must not matter."""
    return scope(k=1, locked=True)
