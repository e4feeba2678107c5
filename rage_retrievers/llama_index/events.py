"""What LlamaIndex's own instrumentation hears of a retrieval, beside its start and end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import Dispatcher
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler

from ..errors import RageError
from ..models import Facts, Retrieval, ScoreName
from ..observability.enclosing import (
    ATTEMPTS,
    CACHED,
    DATA_SOURCE,
    DEGRADED,
    DOCUMENT_COUNT,
    ERROR_TYPE,
    PROVIDER,
    PROVIDER_NAME,
    STALE,
    TOP_K,
    enclosing_span,
    span_told,
)
from .nodes import Asked

__all__ = ["VectorizeRetrievalEvent", "VectorizeRetrievalFailedEvent", "announce", "failure_announced", "is_heard"]

_dispatcher = get_dispatcher(__name__)
_base_dispatcher = get_dispatcher(BaseRetriever.__module__)


class VectorizeRetrievalEvent(BaseEvent):
    """An answer arrived, in the span of `retrieve` or `aretrieve`. Holds no question, no passage and no token.

    `attempts` counts the requests sent, 0 for an answer `from_cache`. `elapsed` is in seconds. `stale` and `degraded`
    say that a fallback answered. The two judgements of the list are None where the service sent none.
    """

    provider: str = "vectorize"
    organization: str
    pipeline_id: str
    top_k: int
    ordered_by: ScoreName
    documents: int
    attempts: int
    elapsed: float
    from_cache: bool
    stale: bool
    degraded: str | None
    average_relevancy: float | None
    ndcg: float | None

    @classmethod
    def class_name(cls) -> str:
        """The name that handlers tell events apart by."""
        return "VectorizeRetrievalEvent"


class VectorizeRetrievalFailedEvent(BaseEvent):
    """A retrieval ended with an error, in the span that it left. Holds no question and no token.

    `attempts` counts the requests sent; `error_type` is the error's class.
    """

    provider: str = "vectorize"
    organization: str
    pipeline_id: str
    top_k: int
    attempts: int
    error_type: str

    @classmethod
    def class_name(cls) -> str:
        """The name that handlers tell events apart by."""
        return "VectorizeRetrievalFailedEvent"


def announce(owner: str, retrieval: Retrieval, asked: Asked) -> None:
    """Tell the span of the retrieval, which bears the `owner`'s name, and who listens to LlamaIndex's dispatcher."""
    _announce(owner, lambda: _attributes(retrieval, asked), lambda: _event(retrieval, asked))


def _announce(owner: str, facts: Callable[[], dict[str, str | int | bool]], event: Callable[[], BaseEvent]) -> None:
    span = enclosing_span(owner)
    with nullcontext() if span is None else span_told(span, facts()):
        if _has_handler(_dispatcher):
            _dispatcher.event(event())


class failure_announced:  # noqa: N801  # reads as the context manager it is
    """Within this context an error of ours is told of as an answer is, and goes its way."""

    __slots__ = ("_asked", "_owner")

    def __init__(self, owner: str, asked: Asked) -> None:
        self._owner = owner
        self._asked = asked

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, RageError):
            return
        asked, attempts, failure = self._asked, error.attempts, type(error).__name__
        _announce(
            self._owner,
            lambda: {**_told(asked, attempts), ERROR_TYPE: failure},
            lambda: VectorizeRetrievalFailedEvent(**asked._asdict(), attempts=attempts, error_type=failure),
        )


def _told(asked: Asked, attempts: int) -> dict[str, str | int | bool]:
    return {PROVIDER_NAME: PROVIDER, DATA_SOURCE: asked.pipeline_id, TOP_K: asked.top_k, ATTEMPTS: attempts}


def _attributes(retrieval: Retrieval, asked: Asked) -> dict[str, str | int | bool]:
    facts = retrieval.facts
    found = {**_told(asked, facts.attempts), DOCUMENT_COUNT: len(retrieval)}
    if _from_cache(facts):
        found[CACHED] = True
    if facts.stale:
        found[STALE] = True
    if facts.degraded is not None:
        found[DEGRADED] = facts.degraded
    return found


def _event(retrieval: Retrieval, asked: Asked) -> VectorizeRetrievalEvent:
    facts = retrieval.facts
    return VectorizeRetrievalEvent(
        **asked._asdict(),
        ordered_by=facts.ordered_by,
        documents=len(retrieval),
        attempts=facts.attempts,
        elapsed=facts.elapsed,
        from_cache=_from_cache(facts),
        stale=facts.stale,
        degraded=facts.degraded,
        average_relevancy=retrieval.average_relevancy,
        ndcg=retrieval.ndcg,
    )


def _from_cache(facts: Facts) -> bool:
    return facts.attempts == 0 and facts.degraded is None


def is_heard(callbacks: CallbackManager) -> bool:
    """Whether anybody would hear of a retrieval by LlamaIndex's own means: a callback, or a handler of events or spans.

    LlamaIndex itself is asked, at each call, so that whoever comes to listen hears of the next retrieval.
    """
    return bool(callbacks.handlers) or _has_handler(_base_dispatcher) or _has_handler(_dispatcher)


def _has_handler(at: Dispatcher) -> bool:
    """Whether a handler is here, or at a dispatcher above."""
    while True:
        for one in at.event_handlers:
            if not isinstance(one, NullEventHandler):
                return True
        for handler in at.span_handlers:
            if not isinstance(handler, NullSpanHandler):
                return True
        if not at.propagate or not at.parent_name:
            return False
        at = at.parent
