"""What belongs to a run of LangChain's: who hears of it, its id for our records, its span."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks.manager import CallbackManager
from langchain_core.runnables.config import RunnableConfig, var_child_runnable_config

from ..observability.correlation import within_run

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseRunManager


_NAMES = frozenset({"run_id", "verbose"})
"""LangChain's own keywords of a run."""


def without_run(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is left when LangChain's own two keywords are taken away."""
    if _NAMES.isdisjoint(options):
        return options
    return {name: value for name, value in options.items() if name not in _NAMES}


def needs_run(config: RunnableConfig | None, options: Mapping[str, Any]) -> bool:
    """Whether a run must be made: somebody hears of it, or knows of it, as a run's own keywords tell."""
    return not _NAMES.isdisjoint(options) or is_heard(config)


def is_heard(config: RunnableConfig | None) -> bool:
    """Whether anybody would hear of a run with this config: a callback, given or inherited, a tracer, a debug print.

    LangChain itself is asked, at each call, so that whoever comes to listen hears of the next run.
    """
    callbacks = (config or {}).get("callbacks")
    if callbacks is None:
        callbacks = (var_child_runnable_config.get() or {}).get("callbacks")
    return bool(getattr(callbacks, "handlers", callbacks)) or bool(CallbackManager.configure(callbacks).handlers)


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
