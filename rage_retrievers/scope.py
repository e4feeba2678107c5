"""Who asks, of what, within which bounds: carried in a ContextVar, so that it reaches a retriever through any composer.

    with rage_retrievers.scope(filters=F("tenant") == tenant, locked=True, user="u-17"):
        chain.invoke(question)

Values are merged constructor < scope < per call, name by name; an inner scope goes before an outer one. What remains of
`filters`, `metadata_filters` and the filters of `advanced_query` is joined by AND.

What a scope with `locked=True` sets, stays: its filters are ANDed with every other filter, so an inner scope, a
per-call argument or a model can narrow them and do nothing else; its other values and labels cannot be overridden (an
attempt is passed over, the locked value is used). An empty locked filter is an error, for it would lock nothing.

The scope is the context's: tasks, `asyncio.to_thread` and copied contexts inherit it; a bare `Thread` or
`ThreadPoolExecutor.submit` starts without it (use `contextvars.copy_context().run`), and so does a web framework's
synchronous dependency that runs in another thread. Enter it where the call is made.
"""

from __future__ import annotations

import copy
import difflib
import enum
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType, TracebackType
from typing import Any, TypeAlias

from ._checks import typed
from .errors import ConfigurationError
from .filters import Condition, Filter, conjoin
from .models import AdvancedQuery, Message, Query

__all__ = ["Scope", "current_scope", "effective", "scope"]

Label: TypeAlias = str | int | float | bool | None


class _Unset(enum.Enum):
    """Marks what was not given; None, 0 and [] are values."""

    UNSET = 0


UNSET = _Unset.UNSET


@dataclass(frozen=True, slots=True)
class Scope:
    """What holds here and now: all scopes entered, merged. Its `repr` shows names only, no values."""

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Canonical name to value (`num_results`, never `k`), locked filters left out."""
    labels: Mapping[str, Label] = field(default_factory=dict, repr=False)
    """What the scopes were labelled with, `user` among them; for logs and audits, never sent."""
    locked_filters: tuple[Condition, ...] = field(default=(), repr=False)
    """Conditions that every retrieval here is bound by, outermost first."""
    locked: frozenset[str] = frozenset()
    """Names of the values and labels that cannot be overridden."""
    _entry: Bounds | None = field(default=None, repr=False, compare=False)
    _outer: Scope | None = field(default=None, repr=False, compare=False)

    @property
    def user(self) -> Label:
        """Who asks, as `scope(user=...)` said; None if nobody did."""
        return self.labels.get("user")


_EVERYWHERE = Scope()
_CURRENT: ContextVar[Scope] = ContextVar("rage_retrievers_scope", default=_EVERYWHERE)


def current_scope() -> Scope:
    """The scope that a retrieval made here and now would have; an empty one outside every `with scope(...)`."""
    return _CURRENT.get()


class Bounds:
    """A scope to be entered with `with` or `async with`; as often as needed, by many tasks and threads at once."""

    __slots__ = ("_conditions", "_labels", "_locked", "_values")

    def __init__(self, values: dict[str, Any], labels: dict[str, Label], locked: bool) -> None:
        self._conditions = _take_conditions(values) if locked else ()
        self._values = values
        self._labels = labels
        self._locked = frozenset({*values, *labels}) if locked else frozenset()

    def __enter__(self) -> Scope:
        outer = _CURRENT.get()
        if outer.locked_filters:
            _refuse_unknown_options(self._values.get("advanced_query"))
        inner = Scope(
            values=MappingProxyType({**outer.values, **_without(self._values, outer.locked)}),
            labels=MappingProxyType({**outer.labels, **_without(self._labels, outer.locked)}),
            locked_filters=outer.locked_filters + self._conditions,
            locked=outer.locked | self._locked,
            _entry=self,
            _outer=outer,
        )
        _check_beside_lock(inner, inner.values)
        _CURRENT.set(inner)
        return inner

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        inner = _CURRENT.get()
        if inner._entry is self and inner._outer is not None:
            _CURRENT.set(inner._outer)
        elif error is None:
            raise ConfigurationError(
                "scope() was left in another context than it was entered in, or out of order, so it did not hold "
                "throughout; enter it in the task or thread that makes the calls."
            )

    async def __aenter__(self) -> Scope:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


def scope(
    *,
    filters: Condition | _Unset | None = UNSET,
    metadata_filters: Sequence[Mapping[str, Any]] | Mapping[str, Any] | _Unset | None = UNSET,
    advanced_query: AdvancedQuery | Mapping[str, Any] | _Unset | None = UNSET,
    pipeline_id: str | _Unset = UNSET,
    organization: str | _Unset = UNSET,
    k: int | _Unset = UNSET,
    num_results: int | _Unset = UNSET,
    similarity_top_k: int | _Unset = UNSET,
    rerank: bool | _Unset = UNSET,
    min_score: float | _Unset | None = UNSET,
    context: Mapping[str, Any] | list[Message] | _Unset | None = UNSET,
    timeout: float | _Unset | None = UNSET,
    locked: bool = False,
    user: Label | _Unset = UNSET,
    labels: Mapping[str, Label] | None = None,
    **more_labels: Label,
) -> Bounds:
    """Bound every retrieval made inside `with scope(...)`; the module's docstring says how scopes merge.

    `k` and `similarity_top_k` are `num_results`. Any other keyword is a label, kept for audit; one that looks like a
    misspelt value (`filter`, `pipeline`) or holds anything but a text, number or boolean is a TypeError.
    ConfigurationError for a value that no query could have.
    """
    given = {
        "filters": filters,
        "metadata_filters": metadata_filters,
        "advanced_query": advanced_query,
        "pipeline_id": pipeline_id,
        "organization": organization,
        "k": k,
        "num_results": num_results,
        "similarity_top_k": similarity_top_k,
        "rerank": rerank,
        "min_score": min_score,
        "context": context,
        "timeout": timeout,
    }
    values = _canonical({name: copy.deepcopy(value) for name, value in given.items() if value is not UNSET})
    _check(values, locked)
    if not isinstance(labels, Mapping | None):
        raise ConfigurationError(f"labels is {typed(labels)}; give a mapping, such as {{'team': 'search'}}.")
    named = {**(labels or {}), **_no_misspelt_values(more_labels), **({} if user is UNSET else {"user": user})}
    return Bounds(values, _checked_labels(named), locked)


def effective(
    call_values: Mapping[str, Any], constructor_values: Mapping[str, Any], within: Scope | None = None
) -> dict[str, Any]:
    """What one call really asks: constructor < scope < per call, with the scope's locks.

    Names are canonical afterwards (`num_results` for `k`), `filters` has become `metadata_filters` and
    `advanced_query["filters"]`, and a name nobody gave is absent. None is a value, so leave out what was not given.
    Names that are no knob of a query pass through. `within` is the current scope unless given. ConfigurationError for
    filters that cannot be said, or cannot be joined to a locked one with certainty.
    """
    bounds = current_scope() if within is None else within
    built, call = _canonical(constructor_values), _canonical(call_values)
    merged = {**built, **bounds.values, **_without(call, bounds.locked)}
    if bounds.locked_filters:
        _refuse_unknown_options(call.get("advanced_query"))
        _check_beside_lock(bounds, merged)
    elif merged.get("filters") is None:
        merged.pop("filters", None)
        return merged
    free = _take_conditions(merged)
    if "advanced_query" in bounds.locked:
        # Its options are locked; the filters it hides still narrow.
        free += _take_conditions({"advanced_query": call.get("advanced_query", built.get("advanced_query"))})
    metadata, advanced = conjoin(free, bounds.locked_filters)
    if metadata:
        merged["metadata_filters"] = metadata
    if advanced:
        merged["advanced_query"] = {**(merged.get("advanced_query") or {}), "filters": advanced}
    return merged


def _take_conditions(values: dict[str, Any]) -> tuple[Condition, ...]:
    """Take the conditions out of the values; what else `advanced_query` says stays there."""
    found: list[Condition] = []
    if (given := values.pop("filters", None)) is not None:
        found.append(_condition(given))
    if (given := values.pop("metadata_filters", None)) is not None:
        found.append([{key: value} for key, value in given.items()] if isinstance(given, Mapping) else given)
    if (given := values.pop("advanced_query", None)) is not None:
        options = _advanced(given)
        found += _clauses(options.pop("filters", None))
        if options:
            values["advanced_query"] = options
    return tuple(found)


def _condition(given: Any) -> Condition:
    if isinstance(given, Filter) or (isinstance(given, Sequence) and not isinstance(given, str | bytes)):
        return given
    if isinstance(given, Mapping):
        unknown = set(given) - _CLAUSES
        if not unknown:
            return given
        remedy = (
            f"{min(map(str, unknown))!r} is no clause; for a field write F(name) == value or a list [{{name: [value]}}]"
        )
    else:
        remedy = "use F(name) == value, a list of mappings, or a clause such as {'term': {name: value}}"
    raise ConfigurationError(f"filters of type {type(given).__name__} cannot be used: {remedy}.")


_CLAUSES = frozenset(
    {"bool", "exists", "ids", "match", "match_all", "match_phrase", "prefix", "range", "term", "terms", "wildcard"}
)


def _advanced(query: Any) -> dict[str, Any]:
    if isinstance(query, AdvancedQuery):
        return query.wire()
    if isinstance(query, Mapping):
        return dict(query)
    raise ConfigurationError(
        f"advanced_query of type {type(query).__name__} cannot be used; use a mapping such as {{'mode': 'hybrid'}}."
    )


def _clauses(given: Any) -> list[Condition]:
    if given is None or isinstance(given, Mapping):
        return [] if given is None else [given]
    if isinstance(given, list | tuple) and all(isinstance(clause, Mapping) for clause in given):
        return list(given)
    raise ConfigurationError(
        f"advanced_query filters of type {type(given).__name__} cannot be joined to other filters; use a mapping."
    )


def _check_beside_lock(bounds: Scope, values: Mapping[str, Any]) -> None:
    """Refuse beside a lock what an unlocked scope or a constructor says and nobody knows; what the lock says, stays."""
    if bounds.locked_filters and "advanced_query" not in bounds.locked:
        _refuse_unknown_options(values.get("advanced_query"))


def _refuse_unknown_options(query: Any) -> None:
    """Beside a locked filter, an option nobody knows could be one that the service reads as a filter."""
    unknown = set() if query is None else set(_advanced(query)) - _OPTIONS
    if unknown:
        raise ConfigurationError(
            f"advanced_query with {min(map(str, unknown))!r} cannot join a locked filter; known here are "
            "mode, text-fields, match-type, text-boost and filters; the locked scope itself may say more."
        )


_OPTIONS = set(AdvancedQuery.model_fields) | {info.alias for info in AdvancedQuery.model_fields.values() if info.alias}
_ALIASES = {"k": "num_results", "similarity_top_k": "num_results"}
_ADDRESS = ("pipeline_id", "organization")
_KNOBS = ("filters", "locked", "labels", *_ALIASES, *_ADDRESS, *(name for name in Query.model_fields))


def _canonical(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        canonical = _ALIASES.get(name, name)
        if canonical in found and found[canonical] != value:
            raise ConfigurationError(
                f"{canonical} is given twice, as {found[canonical]!r} and {value!r}; give it once."
            )
        found[canonical] = value
    return found


def _check(values: Mapping[str, Any], locked: bool) -> None:
    """Refuse, where it is written, what every query in this scope would be refused for."""
    Query.make({"question": "any", **{name: value for name, value in values.items() if name in Query.model_fields}})
    for name in _ADDRESS:
        if name in values and not (isinstance(values[name], str) and values[name].strip()):
            raise ConfigurationError(f"{name} = {values[name]!r} cannot be used; use a text that is not empty.")
    conditions = _take_conditions(dict(values))
    for condition in conditions:
        found = conjoin((), [condition]) if locked else conjoin([condition])
        if locked and (found == (None, None) or (isinstance(condition, Mapping) and not _binds(condition))):
            raise _locks_nothing("filters")
    for name in ("filters", "metadata_filters", "advanced_query"):
        if locked and values.get(name, UNSET) is None:
            raise _locks_nothing(name)


def _binds(clause: Mapping[str, Any]) -> bool:
    """Whether a raw clause can turn any document away; `match_all` and an empty `bool` cannot."""
    return any(_binds_as(kind, body) for kind, body in clause.items())


def _binds_as(kind: str, body: Any) -> bool:
    if kind == "match_all":
        return False
    if not isinstance(body, Mapping):
        return True  # the service says what is wrong with it
    if kind == "range":
        return any(body.values())
    return kind != "bool" or _binds_together(body)


def _binds_together(occurrences: Mapping[str, Any]) -> bool:
    must = [*_clauses_of(occurrences, "must"), *_clauses_of(occurrences, "filter")]
    if any(map(_binds, must)) or _clauses_of(occurrences, "must_not"):
        return True
    should = _clauses_of(occurrences, "should")
    # Beside a `must`, and where nobody says how many of them must match, `should` is optional.
    needed = occurrences.get("minimum_should_match", 0 if must else 1)
    return isinstance(needed, int) and needed > 0 and bool(should) and all(map(_binds, should))


def _clauses_of(occurrences: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    given = occurrences.get(name)
    return [one for one in (given if isinstance(given, list | tuple) else [given]) if isinstance(one, Mapping) and one]


def _locks_nothing(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is empty and locked, so it would lock nothing; leave it out or say what holds.")


def _no_misspelt_values(labels: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raise for a label that was meant to be a value: `filter=` kept as a label would filter nothing, in silence."""
    for name in labels:
        near = difflib.get_close_matches(name.casefold(), _KNOBS, n=1, cutoff=0.75)
        if near or name in _FOREIGN_NAMES:
            meant = f"did you mean {(near or [_FOREIGN_NAMES[name]])[0]!r}?"
            raise TypeError(f"unknown keyword {name!r}; {meant} As a label, write labels={{{name!r}: ...}}.")
    return labels


_FOREIGN_NAMES = {
    **dict.fromkeys(("top_k", "limit"), "k"),
    **dict.fromkeys(("where", "search_kwargs", "metadata"), "filters"),
    **dict.fromkeys(("mode", "text_fields", "match_type", "text_boost"), "advanced_query"),
}


def _checked_labels(labels: Mapping[str, Any]) -> dict[str, Label]:
    for name, value in labels.items():
        if not isinstance(value, Label):
            raise TypeError(f"label {name!r} must be a text, a number or a boolean, not {typed(value)}.")
    return dict(labels)


def _without(values: Mapping[str, Any], names: frozenset[str]) -> Mapping[str, Any]:
    return {name: value for name, value in values.items() if name not in names} if names else values


class _CallableModule(ModuleType):
    """`rage_retrievers.scope` names this module and its main function; both uses work, in any order of imports."""

    def __call__(self, **bounds: Any) -> Bounds:
        return scope(**bounds)


sys.modules[__name__].__class__ = _CallableModule
