"""A function of the user's own, asked in either world: it has the time that is left for the call, and no more."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rage_retrievers import AsyncVectorizeClient, DeadlineExceededError, VectorizeClient
from rage_retrievers._flow import Ask, LateError
from rage_retrievers._world import AsyncioWorld, BlockingWorld
from rage_retrievers.testing import FaultServer, answer

WORLDS = pytest.mark.parametrize("world", ["blocking", "asyncio"])
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
SPOKEN: contextvars.ContextVar[str] = contextvars.ContextVar("SPOKEN", default="nothing")


def ask(world: str, kind: str, function: Callable[[], Any], timeout: float) -> Any:
    """What the world answers to the effect of calling the function."""

    async def later() -> Any:
        return function()

    effect = Ask(call=function, timeout=timeout) if kind == "sync" else Ask(acall=later, timeout=timeout)
    return performed(world, effect)


def performed(world: str, effect: Ask) -> Any:
    """Perform the effect in real time; no engine is needed for it."""
    engine: Any = None
    if world == "blocking":
        return BlockingWorld(engine).perform(effect)

    async def main() -> Any:
        return await AsyncioWorld(engine).perform(effect)

    return asyncio.run(main())


@WORLDS
@KINDS
def test_a_function_answers_in_its_time_and_in_the_callers_context(world: str, kind: str) -> None:
    """Whichever thread it runs in, it finds the context variables of who asks."""
    token = SPOKEN.set("here")
    assert ask(world, kind, SPOKEN.get, 60) == "here"
    SPOKEN.reset(token)


@WORLDS
@KINDS
def test_a_time_out_of_the_functions_own_is_not_ours(world: str, kind: str) -> None:
    """It ran into that itself, and says so."""

    def runs_out() -> None:
        raise TimeoutError("the vault's")

    with pytest.raises(TimeoutError, match="the vault's"):
        ask(world, kind, runs_out, 60)


@WORLDS
def test_a_late_sync_function_is_left_behind(world: str) -> None:
    """It cannot be interrupted; the caller, and the end of the caller's loop, do not wait for it."""
    leave, done = threading.Event(), threading.Event()

    def hangs() -> None:
        leave.wait(60)
        done.set()

    with pytest.raises(LateError):
        ask(world, "sync", hangs, 0.01)
    assert not done.is_set()
    leave.set()
    assert done.wait(60)


@WORLDS
def test_a_late_async_function_is_cancelled(world: str) -> None:
    """It ends with the call that asks."""
    ends: list[str] = []

    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    with pytest.raises(LateError):
        performed(world, Ask(acall=hangs, timeout=0.01))
    assert ends == ["cancelled"]


@WORLDS
def test_a_token_that_comes_late_fails_the_call_in_time_and_serves_the_next(world: str) -> None:
    """A vault that hangs costs a call its own time; nothing is sent, and nobody asks the vault again meanwhile."""
    leave, asked = threading.Event(), list[str]()

    def vault() -> str:
        asked.append("vault")
        leave.wait(60)
        return "planted-token"

    def in_blocking_code(options: dict[str, Any]) -> None:
        with VectorizeClient(**options) as client:
            for _ in range(2):
                with pytest.raises(DeadlineExceededError, match="api_key's function"):
                    client.retrieve("What?", timeout=0.02)
            assert (server.requests, asked) == ([], ["vault"])
            leave.set()
            assert len(client.retrieve("What?", timeout=60).documents) == 3

    async def in_async_code(client: AsyncVectorizeClient) -> None:
        async with client:
            for _ in range(2):
                with pytest.raises(DeadlineExceededError, match="api_key's function"):
                    await client.retrieve("What?", timeout=0.02)
            assert (server.requests, asked) == ([], ["vault"])
            leave.set()
            assert len((await client.retrieve("What?", timeout=60)).documents) == 3

    with FaultServer(answer(documents=3)) as server:
        options: Any = {"base_url": server.url, "api_key": vault, "organization": "org-1", "pipeline_id": "aip-1"}
        if world == "blocking":
            in_blocking_code(options)
        else:
            asyncio.run(in_async_code(AsyncVectorizeClient(**options)))
    assert asked == ["vault"]
