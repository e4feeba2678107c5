"""Degradation: what to answer when no answer can be had. Opt-in and explicit; the answer and an event say so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from .._checks import shown, typed
from .._flow import Flow, as_ask, immediate, is_async
from ..errors import ConfigurationError, RageError
from ..models import Document, Query, Retrieval
from ..observability.events import Degraded
from .cache import Cache
from .failures import is_outage
from .pipeline import Call, Step


class Fallback(Protocol):
    """Something that answers in the service's place."""

    @property
    def name(self) -> str:
        """What the event and `Retrieval.degraded` call it."""
        ...

    def __call__(self, call: Call, query: Query, /) -> Flow[Retrieval | None]:
        """An answer, or None when it has none."""
        ...


@dataclass(frozen=True, slots=True)
class EmptyAnswer:
    """No documents."""

    name: str = "empty"

    def __call__(self, call: Call, query: Query, /) -> Flow[Retrieval | None]:
        """A retrieval without documents."""
        return immediate(_retrieval((), query))


@dataclass(frozen=True, slots=True)
class StaleAnswer:
    """What the cache of the same pipeline still keeps, up to its `ttl` + `stale_for`.

    The cache serves stale answers in an outage by itself; this is for the other failures that `Degrade.when` names.
    """

    cache: Cache
    name: str = "stale"

    def __post_init__(self) -> None:
        if not isinstance(self.cache, Cache):
            raise ConfigurationError(f"cache is {typed(self.cache)}; give the Cache(...) of the same pipeline.")

    def __call__(self, call: Call, query: Query, /) -> Flow[Retrieval | None]:
        """The answer kept, if there is one."""
        return immediate(self.cache.kept(call))


@dataclass(frozen=True, slots=True)
class OtherRetriever:
    """A function of yours, sync or async, from a `Query` to a `Retrieval` or to documents, best first.

    It runs when the call's time may already be spent, so bound it yourself.
    """

    retrieve: Callable[[Query], Any]
    name: str = "other retriever"

    def __post_init__(self) -> None:
        if not callable(self.retrieve):
            raise ConfigurationError(
                f"retrieve is {typed(self.retrieve)}; give a function from a Query, such as "
                "lambda query: search(query.question)."
            )

    def __call__(self, call: Call, query: Query, /) -> Flow[Retrieval | None]:
        """Whatever the function answers."""

        answer = yield as_ask(self.retrieve, query)
        return answer if isinstance(answer, Retrieval) or answer is None else _retrieval(answer, query)


@dataclass(frozen=True, slots=True)
class Degrade:
    """When a retrieval fails, the first of the fallbacks `to` that has an answer gives it.

        Degrade((OtherRetriever(search_my_database), EmptyAnswer()))

    Only failures for which `when` is true are covered: by default outages (`is_outage`), never a wrong token or a wrong
    query. The answer's `degraded` and the `Degraded` event name the fallback. When none has an answer, the failure is
    raised, with a note for each fallback that failed too.
    """

    kind: ClassVar[str] = "degradation"
    to: tuple[Fallback, ...]
    when: Callable[[Exception], bool] = is_outage

    def __post_init__(self) -> None:
        if not isinstance(self.to, tuple | list) or not self.to or not all(map(_is_fallback, self.to)):
            raise ConfigurationError(f"to={shown(self.to)} cannot be used; give fallbacks, such as (EmptyAnswer(),).")
        if not callable(self.when) or is_async(self.when):  # whose coroutine would be true
            raise ConfigurationError(f"when={shown(self.when)} cannot be used; it is a plain function of an error.")
        object.__setattr__(self, "to", tuple(self.to))

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Proceed; on a failure that is covered, ask the fallbacks in turn."""
        try:
            return (yield from proceed(call))
        except RageError as error:
            query = call.query
            if query is None or not self.when(error):
                raise
            for fallback in self.to:
                answer = yield from _answer_of(fallback, call, query, error)
                if answer is not None:
                    call.emit(Degraded, fallback.name, error)
                    return answer.with_facts(degraded=fallback.name)
            raise


def _is_fallback(given: object) -> bool:
    return callable(given) and not isinstance(given, type) and isinstance(getattr(given, "name", None), str)


def _answer_of(fallback: Fallback, call: Call, query: Query, error: RageError) -> Flow[Retrieval | None]:
    try:
        return (yield from fallback(call, query))
    except Exception as trouble:  # the user's own function may raise anything; the next fallback has its turn
        error.add_note(f"The fallback {fallback.name!r} failed too: {type(trouble).__name__}.")
        return None


def _retrieval(documents: Iterable[Document], query: Query) -> Retrieval:
    found = Retrieval(documents=tuple(documents), question=query.question)
    return found.with_facts(ordered_by=query.ordered_by, attempts=0)
