"""`rage ask`: one question to a pipeline, its passages on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import options, passages, screen

if TYPE_CHECKING:
    from ..client import ClientOptions
    from ..models import Retrieval


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.", show_default=False)],
    *,
    num_results: options.Passages = None,
    rerank: options.Rerank = None,
    filters: options.Filters = None,
    mode: options.Mode = None,
    min_score: options.MinScore = None,
    timeout: options.Timeout = None,
    full: Annotated[bool, typer.Option("--full", help="Show whole passages, not excerpts.")] = False,
    base_url: options.BaseUrl = None,
    environment: options.Environment = None,
    organization: options.Organization = None,
    pipeline_id: options.PipelineId = None,
    api_key: options.ApiKey = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask a pipeline a question and show the passages it finds."""
    where = options.connection(base_url, environment, organization, pipeline_id, api_key)
    knobs = options.query(
        num_results=num_results, rerank=rerank, mode=mode, filters=filters, min_score=min_score, timeout=timeout
    )
    retrieval = _retrieve(question, where, knobs)
    if as_json:
        screen.write_json(_as_dict(retrieval))
        return
    console = screen.out()
    found = [passages.Passage.of(document, retrieval.ordered_by) for document in retrieval.documents]
    passages.show(console, found, question, full=full)
    console.print(Text(_summary(retrieval), style="dim"))


def _retrieve(question: str, where: ClientOptions, knobs: dict[str, object]) -> Retrieval:
    from ..client import VectorizeClient
    from .indexing import nothing_to_read, watch_indexing

    with VectorizeClient(**where) as client:
        empty = watch_indexing(where)
        retrieval = client.retrieve(question, **knobs)  # type: ignore[arg-type]  # the client checks each of them
    if empty is not None and not retrieval.documents:
        raise nothing_to_read(empty)
    return retrieval


def _summary(retrieval: Retrieval) -> str:
    parts = [
        f"{screen.counted(len(retrieval), 'passage')} by {retrieval.ordered_by}",
        f"{retrieval.elapsed * 1000:,.1f} ms",
        screen.counted(retrieval.attempts, "request"),
    ]
    if retrieval.average_relevancy is not None:
        parts.append(f"average relevancy {retrieval.average_relevancy:.3f}")
    if retrieval.stale:
        parts.append("an old answer: the service is down")
    if retrieval.degraded is not None:
        parts.append(f"degraded: {retrieval.degraded}")
    return ", ".join(parts)


def _as_dict(retrieval: Retrieval) -> dict[str, object]:
    return {
        **retrieval.model_dump(),
        "ordered_by": retrieval.ordered_by,
        "attempts": retrieval.attempts,
        "elapsed_ms": round(retrieval.elapsed * 1000, 3),
        "stale": retrieval.stale,
        "degraded": retrieval.degraded,
    }
