"""A LangGraph runtime's context, as filters that nobody can widen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from langchain_core.runnables.config import RunnableConfig, ensure_config, var_child_runnable_config

from .._checks import typed
from ..errors import ConfigurationError
from ..filters import Condition
from ..scope import Scope, scope

# Where LangGraph puts the runtime into a node's config.
_KEY = "__pregel_runtime"


_NOWHERE = nullcontext()


def running_in(config: RunnableConfig | None) -> AbstractContextManager[None]:
    """The runtime of this config is the current one. LangGraph hands the later steps of a node only the config."""
    try:
        return _current(config) if config and has_runtime(config) else _NOWHERE
    except AttributeError:
        raise no_config(config) from None


def no_config(given: object) -> ConfigurationError:
    """The error for what is given in the place of a config: `invoke(question, 5)` means no five passages."""
    return ConfigurationError(
        f"config is {typed(given)}; give a RunnableConfig of LangChain's, and options by their names, such as k=5."
    )


def has_runtime(config: RunnableConfig) -> bool:
    """Whether a LangGraph runtime is in this config."""
    return _KEY in (config.get("configurable") or {})


@contextmanager
def _current(config: RunnableConfig) -> Iterator[None]:
    token = var_child_runnable_config.set(ensure_config(config))
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def runtime_scope(filters: Callable[[Any], Condition]) -> Scope:
    """The current scope, with what `filters` makes of the runtime's context locked before everything else.

    ConfigurationError where there is no runtime, or the filters would lock nothing.
    """
    with scope(filters=filters(_context()), locked=True) as here:
        *outer, ours = here.locked_filters
    return replace(here, locked_filters=(ours, *outer))


def _context() -> Any:
    from langgraph.runtime import Runtime, get_runtime

    try:
        runtime: object = get_runtime()
    except RuntimeError:
        runtime = None
    if not isinstance(runtime, Runtime):
        raise ConfigurationError(
            "runtime_filters needs a LangGraph runtime, and this call is outside of one; nothing was asked."
        )
    return runtime.context
