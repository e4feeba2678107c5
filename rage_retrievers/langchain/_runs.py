"""What belongs to a LangChain run: who hears of it, its id, which ties our records to it, and its span, not doubled."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks.manager import CallbackManager
from langchain_core.runnables.config import RunnableConfig, ensure_config

from ..observability.correlation import within_run

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseRunManager


def is_heard(config: RunnableConfig | None) -> bool:
    """Whether anybody would hear of a run with this config: a callback, given or inherited, a tracer, a debug print.

    LangChain itself is asked, at each call, so that whoever comes to listen hears of the next run.
    """
    return bool(CallbackManager.configure(ensure_config(config).get("callbacks")).handlers)


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
