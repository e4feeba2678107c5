"""Batches: how many questions at once, and a long blocking batch asked from one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.runnables.config import RunnableConfig, get_config_list

from .._checks import is_count, shown, typed
from .._world import run_apart
from ..errors import ConfigurationError
from ._options import check_call
from ._runs import is_heard, without_run
from ._runtime import has_runtime, no_config

T = TypeVar("T")


def bounded(config: RunnableConfig | Sequence[RunnableConfig] | None, at_once: int) -> Any:
    """The config with a bound on concurrency; LangChain's own is the number of CPUs, or none at all."""
    if config is not None and not isinstance(config, Mapping | list | tuple):
        raise no_config(config)
    if isinstance(config, Sequence):
        # LangChain goes by the first one.
        return [bounded(config[0], at_once), *config[1:]] if config else config
    given = config.get("max_concurrency") if config else None
    if given is None:
        return {**(config or {}), "max_concurrency": at_once}
    if not is_count(given):  # with 0, LangChain's abatch waits for ever
        raise ConfigurationError(
            f"max_concurrency = {shown(given)} cannot be used; give a whole number of 1 or more, or leave it out."
        )
    return config


def check_batch(inputs: object, options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for what is no list of questions: of a single text, each letter would be one. TypeError
    for a keyword that no call has."""
    if isinstance(inputs, str | bytes) or not isinstance(inputs, Sequence):
        raise ConfigurationError(f"inputs is {typed(inputs)}; give a list of questions.")
    check_call(without_run(options))


def fits_one_loop(inputs: Sequence[str], config: Any) -> bool:
    """Whether one event loop does as well for this bounded batch as LangChain's threads, in less time.

    It opens connections of its own, so each must serve more than one question; no run may be heard of, for its
    callbacks would be called in that loop; and no config may bring a runtime of its own.
    """
    if not 1 <= _at_once(config) < len(inputs):
        return False
    configs = get_config_list(config, len(inputs)) if isinstance(config, list) else [config]
    return not any(has_runtime(one) or is_heard(one) for one in configs)


def _at_once(config: Any) -> int:
    first = config[0] if isinstance(config, list) and config else config
    return int(first["max_concurrency"]) if first else 0


def ask_all(
    ask: Callable[[str], Awaitable[T]],
    close: Callable[[], Awaitable[None]],
    inputs: Sequence[str],
    config: Any,
    *,
    return_exceptions: bool,
) -> list[T | Exception]:
    """The answers in the order of the questions. The first error ends the batch, unless it is to be returned.

    `close` closes the connections that the loop has opened.
    """
    answers: list[Any] = [None] * len(inputs)

    async def ask_them() -> None:
        left = iter(enumerate(inputs))

        async def work() -> None:
            for place, question in left:
                try:
                    answers[place] = await ask(question)
                except Exception as error:
                    if not return_exceptions:
                        raise
                    answers[place] = error

        workers: list[asyncio.Task[None]] = []
        try:
            for _ in range(_at_once(config)):
                workers.append(asyncio.create_task(work()))
                await asyncio.sleep(0)  # or the first request would wait until the last connection is open
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await close()

    run_apart(ask_them)
    return answers
