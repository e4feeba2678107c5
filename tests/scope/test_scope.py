"""Scopes: where they reach, how they nest, and what a call asks in the end."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import rage_retrievers.scope as scope_module
from rage_retrievers.errors import ConfigurationError
from rage_retrievers.filters import F
from rage_retrievers.models import AdvancedQuery, Query
from rage_retrievers.scope import current_scope, effective, scope

TENANT = F("tenant") == "a"
SCALARS: dict[str, tuple[Any, Any, Any]] = {
    "pipeline_id": ("p-built", "p-scope", "p-call"),
    "organization": ("o-built", "o-scope", "o-call"),
    "num_results": (1, 2, 3),
    "rerank": (True, False, True),
    "min_score": (0.1, 0.0, None),
    "timeout": (1.0, 2.0, None),
    "context": (None, {"messages": []}, {"messages": [{"role": "user", "content": "hi"}]}),
    "advanced_query": ({"mode": "text"}, {"mode": "hybrid"}, None),
}


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=3)))
def test_a_value_per_call_goes_before_the_scope_and_the_scope_before_the_constructor(
    name: str, given: tuple[bool, bool, bool]
) -> None:
    """In every combination of who gave it; what nobody gave is absent, and None, 0 and False are values."""
    built, scoped, called = ({name: value} if use else {} for value, use in zip(SCALARS[name], given, strict=True))
    with scope(**scoped):
        assert effective(called, built) == {**built, **scoped, **called}


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=3)))
def test_a_locked_value_holds_against_everybody(name: str, given: tuple[bool, bool, bool]) -> None:
    """A call, the constructor and an inner scope, locked or not, cannot override it, whoever tries."""
    locked = SCALARS[name][1]
    built, inner, called = (
        {name: value} if use else {} for value, use in zip((SCALARS[name][0],) * 3, given, strict=True)
    )
    with scope(**{name: locked}, locked=True), scope(**inner), scope(**inner, locked=True):
        assert effective(called, built)[name] == locked
        assert name in current_scope().locked
    assert effective(called, built) == {**built, **called}


def test_k_and_similarity_top_k_are_num_results_in_every_place() -> None:
    """Each framework's habit is understood, and none can slip past a lock on another name."""
    assert effective({"k": 3}, {"similarity_top_k": 2}) == {"num_results": 3}
    with scope(k=7, locked=True):
        for name in ("k", "num_results", "similarity_top_k"):
            assert effective({name: 1000}, {}) == {"num_results": 7}
    with pytest.raises(ConfigurationError, match="num_results is given twice"):
        effective({"k": 3, "num_results": 4}, {})
    with pytest.raises(ConfigurationError, match="num_results is given twice"):
        scope(k=3, similarity_top_k=4)


def test_what_a_call_asks_makes_a_query() -> None:
    """The result is what `Query.make` takes, beside the address."""
    with scope(filters=TENANT & (F("year") > 2020), pipeline_id="aip1", k=4):
        values = effective({"question": "why?"}, {"rerank": True})
    assert values.pop("pipeline_id") == "aip1"
    query = Query.make(values)
    assert query.metadata_filters == [{"tenant": ["a"]}]
    assert query.advanced_query == {"filters": {"range": {"year": {"gt": 2020}}}}
    assert (query.num_results, query.rerank) == (4, True)


FILTERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"filters": TENANT}, {"metadata_filters": [{"tenant": ["a"]}]}),
    ({"filters": [{"x": {"odd": 1}}]}, {"metadata_filters": [{"x": {"odd": 1}}]}),
    ({"filters": {"exists": {"field": "x"}}}, {"advanced_query": {"filters": {"exists": {"field": "x"}}}}),
    ({"filters": None}, {}),
    ({"metadata_filters": [{"x": 1}]}, {"metadata_filters": [{"x": 1}]}),
    ({"metadata_filters": []}, {"metadata_filters": []}),
    ({"metadata_filters": {"x": 1}}, {"metadata_filters": {"x": 1}}),
    (
        {"advanced_query": {"mode": "text", "filters": {"a": 1}}},
        {"advanced_query": {"mode": "text", "filters": {"a": 1}}},
    ),
    ({"filters": TENANT, "metadata_filters": {"x": 1}}, {"metadata_filters": [{"x": 1}, {"tenant": ["a"]}]}),
    (
        {"filters": F("year") > 1, "advanced_query": AdvancedQuery(mode="text", filters={"term": {"a": 1}})},
        {
            "advanced_query": {
                "mode": "text",
                "filters": {"bool": {"must": [{"range": {"year": {"gt": 1}}}, {"term": {"a": 1}}]}},
            }
        },
    ),
]


@pytest.mark.parametrize(("given", "asked"), FILTERS)
@pytest.mark.parametrize("place", ["call", "scope", "constructor"])
def test_filters_reach_the_query_from_every_place(given: dict[str, Any], asked: dict[str, Any], place: str) -> None:
    """Expressions become the service's languages, raw filters stay as they are, different names are ANDed."""
    if place == "scope":
        with scope(**given):
            assert effective({}, {}) == asked
    else:
        assert (effective(given, {}) if place == "call" else effective({}, given)) == asked


def test_an_unlocked_filter_is_overridden_by_name() -> None:
    """Without a lock `filters` is a value like any other, and None takes it away."""
    with scope(filters=F("a") == 1):
        assert effective({}, {"filters": F("b") == 2}) == {"metadata_filters": [{"a": [1]}]}
        assert effective({"filters": F("c") == 3}, {}) == {"metadata_filters": [{"c": [3]}]}
        assert effective({"filters": None}, {"filters": F("b") == 2}) == {}
        with scope(filters=F("d") == 4):
            assert effective({}, {}) == {"metadata_filters": [{"d": [4]}]}


@pytest.mark.parametrize("given", ["year > 3", 5, {"year": [2024]}, F("year")])
@pytest.mark.parametrize("use", [lambda given: effective({"filters": given}, {}), lambda given: scope(filters=given)])
def test_filters_that_are_no_filters_are_an_error(given: Any, use: Callable[[Any], Any]) -> None:
    """A mapping of fields is told from a clause, and the remedy is named."""
    with pytest.raises(ConfigurationError, match="filters of type"):
        use(given)


@pytest.mark.parametrize(
    "given",
    [
        {"k": 0},
        {"num_results": "5"},
        {"pipeline_id": ""},
        {"pipeline_id": None},
        {"organization": 7},
        {"rerank": "yes"},
        {"min_score": float("nan")},
        {"timeout": 0},
        {"metadata_filters": "x"},
        {"advanced_query": {"mode": "psychic"}},
        {"filters": F("a").exists()},
    ],
)
@pytest.mark.parametrize("locked", [True, False])
def test_a_value_no_query_could_have_is_refused_where_the_scope_is_written(given: dict[str, Any], locked: bool) -> None:
    """Not at the first retrieval, which is somebody else's code."""
    with pytest.raises(ConfigurationError):
        scope(**given, locked=locked)


@pytest.mark.parametrize(
    "given",
    [
        {"filters": None},
        {"filters": []},
        {"filters": {}},
        {"filters": [{}]},
        {"metadata_filters": []},
        {"metadata_filters": {}},
        {"metadata_filters": None},
        {"advanced_query": None},
        {"advanced_query": {"filters": {}}},
        {"metadata_filters": [{"tenant": []}]},
        {"metadata_filters": [{"$or": ["a"]}]},
        {"filters": {"match_all": {}}},
        {"filters": {"bool": {}}},
        {"filters": {"bool": {"must": []}}},
        {"filters": {"bool": {"filter": {"match_all": {}}}}},
        {"filters": {"bool": {"should": [{"term": {"a": 1}}, {"match_all": {}}]}}},
        {"filters": {"bool": {"should": [{"term": {"a": 1}}], "minimum_should_match": 0}}},
        {"filters": {"bool": {"must": [{"bool": {}}], "should": [{"term": {"a": 1}}]}}},
        {"filters": {"range": {"year": {}}}},
        {"advanced_query": {"filters": {"bool": {"must": [], "must_not": []}}}},
    ],
)
def test_a_locked_filter_that_locks_nothing_is_an_error(given: dict[str, Any]) -> None:
    """A tenant filter that came out empty must not open everything."""
    with pytest.raises(ConfigurationError):
        scope(**given, locked=True)


@pytest.mark.parametrize(
    "clause",
    [
        {"term": {"tenant": "a"}},
        {"terms": {"tenant": []}},
        {"range": {"year": {"gte": 0}}},
        {"bool": {"must": {"term": {"tenant": "a"}}, "should": [{"match_all": {}}]}},
        {"bool": {"filter": [{"match_all": {}}, {"term": {"tenant": "a"}}]}},
        {"bool": {"must_not": [{"term": {"tenant": "b"}}]}},
        {"bool": {"should": [{"term": {"tenant": "a"}}, {"term": {"tenant": "b"}}]}},
        {"bool": {"must": [{"match_all": {}}], "should": [{"term": {"a": 1}}], "minimum_should_match": 1}},
        {"bool": "malformed"},
    ],
)
def test_a_raw_clause_that_turns_documents_away_can_be_locked(clause: dict[str, Any]) -> None:
    """Clauses that hold for some documents only are no empty lock."""
    with scope(filters=clause, locked=True) as here:
        assert here.locked_filters == (clause,)


@pytest.mark.parametrize(
    "name",
    ["filter", "Filters", "metadataFilters", "metadata_filter", "pipeline", "num_result", "NUM_RESULTS", "top_k",
     "where", "lock", "mode", "text_fields", "match_type", "text_boost"],
)  # fmt: skip
def test_a_misspelt_value_is_not_taken_for_a_label(name: str) -> None:
    """`filter=` would be a label that filters nothing, in silence."""
    with pytest.raises(TypeError, match=name):
        scope(**{name: "x"})  # type: ignore[arg-type]
    with scope(labels={name: "x"}) as here:
        assert here.labels == {name: "x"}


def test_a_label_is_a_plain_value() -> None:
    """An expression under an unknown name is no label."""
    with pytest.raises(TypeError, match="tenant_rule"):
        scope(tenant_rule=TENANT)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="team"):
        scope(labels={"team": ["x"]})  # type: ignore[dict-item]


def test_labels_say_who_asks_and_a_locked_one_stays() -> None:
    """For audits: inner scopes add and rename, but not what a locked scope said."""
    with scope(user="u1", locked=True), scope(user="u2", team="t", request=7), scope(team="t2") as here:
        assert here is current_scope()
        assert here.user == "u1"
        assert here.labels == {"user": "u1", "team": "t2", "request": 7}
        assert effective({}, {}) == {}
    assert current_scope().user is None


def test_a_scope_shows_names_and_no_values() -> None:
    """A tenant's or a user's name does not reach a log by way of `repr`."""
    with scope(filters=F("tenant") == "secret", user="secret", k=3, locked=True) as here:
        assert "secret" not in repr(here)
        assert "num_results" in repr(here)


def test_a_scope_cannot_be_changed_from_inside_or_through_its_result() -> None:
    """Neither the list it was given nor what it gave back is the list that holds."""
    raw = [{"tenant": ["a"]}]
    with scope(metadata_filters=raw, locked=True) as here:
        raw[0]["tenant"].append("b")
        effective({}, {})["metadata_filters"][0]["tenant"].append("b")
        assert effective({}, {})["metadata_filters"] == [{"tenant": ["a"]}]
        with pytest.raises(TypeError):
            here.values["num_results"] = 5  # type: ignore[index]


def test_a_scope_ends_with_its_block_whatever_happens_inside() -> None:
    """An exception passes, and the outer scope is back."""
    with scope(k=1):
        with pytest.raises(ZeroDivisionError), scope(k=2):
            raise ZeroDivisionError
        assert effective({}, {}) == {"num_results": 1}
    assert effective({}, {}) == {}


def test_one_scope_object_can_be_entered_again_and_inside_itself() -> None:
    """It is a value; entering it leaves no trace in it."""
    bounds = scope(k=2)
    for _ in range(2):
        with bounds, scope(k=3), bounds:
            assert effective({}, {}) == {"num_results": 2}
    assert effective({}, {}) == {}


async def test_tasks_have_scopes_of_their_own() -> None:
    """A task inherits the scope it was made in and does not disturb its siblings."""
    both_inside = asyncio.Barrier(2)

    async def ask(tenant: str) -> list[Any]:
        with scope(filters=F("tenant") == tenant, locked=True):
            await both_inside.wait()
            inherited = await asyncio.create_task(_asked())
            return [inherited, await asyncio.to_thread(lambda: effective({}, {})["metadata_filters"])]

    async def _asked() -> Any:
        return effective({}, {})["metadata_filters"]

    with scope(k=1):
        answers = await asyncio.gather(ask("a"), ask("b"))
    assert list(answers) == [[[{"tenant": ["a"]}]] * 2, [[{"tenant": ["b"]}]] * 2]
    assert current_scope().locked_filters == ()


async def test_a_scope_can_be_entered_with_async_with() -> None:
    """Both ways do the same."""
    async with scope(k=3) as here:
        assert here is current_scope()
        assert effective({}, {}) == {"num_results": 3}
    assert effective({}, {}) == {}


def test_threads_inherit_through_a_copied_context_and_not_otherwise() -> None:
    """What `contextvars` does, said aloud: a bare thread starts outside every scope."""
    bounds = scope(k=5)
    with bounds, ThreadPoolExecutor(1) as pool:
        assert pool.submit(contextvars.copy_context().run, effective, {}, {}).result() == {"num_results": 5}
        assert pool.submit(effective, {}, {}).result() == {}
    seen: list[Any] = []

    def enter(k: int) -> None:
        with bounds, scope(pipeline_id=f"p{k}"):
            start.wait()
            seen.append(effective({}, {})["pipeline_id"])

    start = threading.Barrier(8)
    threads = [threading.Thread(target=enter, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [f"p{k}" for k in range(8)]


def test_leaving_a_scope_in_another_context_is_an_error() -> None:
    """Else a web framework that enters it in one thread and leaves it in another would never have been in it."""
    bounds = scope(k=5)
    contextvars.copy_context().run(bounds.__enter__)
    with pytest.raises(ConfigurationError, match="another context"):
        bounds.__exit__(None, None, None)


def interleaved() -> tuple[contextvars.Context, Generator[None], Generator[None]]:
    """Two generators, each inside a scope of its own, and the context that both have entered theirs in."""

    def bounded(k: int) -> Generator[None]:
        with scope(k=k):
            yield

    first, second = bounded(1), bounded(2)
    context = contextvars.copy_context()
    context.run(next, first)
    context.run(next, second)
    return context, first, second


def test_scopes_left_out_of_order_are_an_error() -> None:
    """Two generators interleaved would otherwise take each other's bounds."""
    context, first, _second = interleaved()
    with pytest.raises(ConfigurationError, match="out of order"):
        context.run(next, first, None)


def test_an_error_inside_goes_before_that_of_a_scope_left_out_of_order() -> None:
    """What failed in the block is what its caller hears of."""
    context, first, _second = interleaved()
    with pytest.raises(ZeroDivisionError):
        context.run(first.throw, ZeroDivisionError())


@pytest.mark.parametrize("first", ["import rage_retrievers.scope as m", "from rage_retrievers.scope import effective"])
def test_the_module_can_be_called_like_its_function(first: str) -> None:
    """`rage_retrievers.scope` is the module once anything imported it; calling it works all the same."""
    code = f"{first}\nimport rage_retrievers\nwith rage_retrievers.scope(k=3) as s: print(dict(s.values))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'num_results': 3}"
    assert callable(scope_module)


@pytest.mark.parametrize("labels", [5, "team", ["team"], b"team"])
def test_labels_that_are_no_mapping_are_refused(labels: Any) -> None:
    """With what would do."""
    with pytest.raises(ConfigurationError, match=r"labels is an? \w+; give a mapping"):
        scope(labels=labels)
