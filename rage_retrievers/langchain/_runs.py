"""What belongs to a LangChain run: its id ties our records to it, and its span, where it is traced, is not doubled."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..observability.correlation import within_run

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseRunManager


def within(run: BaseRunManager) -> AbstractContextManager[None]:
    """The context of a run: a retriever's, or a research's."""
    return within_run(run.run_id, _span_of(run.handlers, run.run_id))


def _span_of(handlers: list[Any], run_id: object) -> object:
    """The span that a tracing callback keeps for this run, or None: OpenInference's is in no OpenTelemetry context."""
    for handler in handlers:
        get_span = getattr(handler, "get_span", None)
        if callable(get_span):
            try:
                return get_span(run_id)
            except Exception:  # noqa: S112  # a stranger's method of that name says nothing of spans
                continue
    return None
