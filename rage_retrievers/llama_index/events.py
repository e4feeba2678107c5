"""What LlamaIndex's own instrumentation hears of a retrieval, beside its start and end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.event_handlers import NullEventHandler

from .._face import Link
from ..models import Retrieval, ScoreName

__all__ = ["VectorizeRetrievalEvent", "announce"]

_dispatcher = get_dispatcher(__name__)


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


def announce(retrieval: Retrieval, link: Link, options: Mapping[str, Any]) -> None:
    """Tell whoever listens to LlamaIndex's dispatcher; costs next to nothing when nobody does."""
    if not _is_heard():
        return
    target = link.calls.connection.address.target
    _dispatcher.event(
        VectorizeRetrievalEvent(
            organization=options.get("organization", target.organization),
            pipeline_id=options.get("pipeline_id", target.pipeline_id),
            top_k=options.get("num_results", link.settings.num_results),
            ordered_by=retrieval.ordered_by,
            documents=len(retrieval),
            attempts=retrieval.attempts,
            elapsed=retrieval.elapsed,
            from_cache=retrieval.attempts == 0 and retrieval.degraded is None,
            stale=retrieval.stale,
            degraded=retrieval.degraded,
            average_relevancy=retrieval.average_relevancy,
            ndcg=retrieval.ndcg,
        )
    )


def _is_heard() -> bool:
    """Whether a handler listens, here or at a dispatcher above."""
    at = _dispatcher
    while all(isinstance(one, NullEventHandler) for one in at.event_handlers):
        if not at.propagate or not at.parent_name:
            return False
        at = at.parent
    return True
