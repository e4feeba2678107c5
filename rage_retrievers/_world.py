"""The two worlds that perform effects: blocking code and asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol

from ._aside import aside
from ._flow import (
    Ask,
    Effect,
    Flow,
    LateError,
    Promise,
    Race,
    Send,
    Sleep,
    Wait,
    WireRequest,
    WireResponse,
    adrive,
    drive,
)


class Engine(Protocol):
    """Performs a `Send` in blocking code; see `Send` for what it may raise."""

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        ...

    def close(self) -> None:
        """Close every connection. Closing twice is fine."""
        ...


class AsyncEngine(Protocol):
    """Performs a `Send` in asyncio; see `Send` for what it may raise."""

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> Coroutine[Any, Any, WireResponse]:
        """One request, one whole answer."""
        ...

    async def aclose(self) -> None:
        """Close every connection. Closing twice is fine."""
        ...


_LONGEST_SLEEP = 10 * 365 * 86_400.0
"""Ten years; no clock can be asked for the thousand that a `Retry-After` may name."""

_GLANCE = 0.5
"""Seconds after which a thread that waits looks whether it has been interrupted."""

race_decided: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("race_decided", default=None)
"""Set in the threads of a race: an engine that can end its request early does so once the event is set."""


class _RealClock:
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
    random = staticmethod(random.random)


class BlockingWorld(_RealClock):
    """Real time, real threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def perform(self, effect: Effect) -> Any:
        """Perform the effect in this thread."""
        kind = type(effect)
        if kind is Send:
            assert isinstance(effect, Send)
            return self._engine.send(effect.request, effect.timeout, effect.max_bytes)
        match effect:
            case Sleep(seconds):
                return time.sleep(min(seconds, _LONGEST_SLEEP))
            case Wait(promise, timeout):
                return promise.result(min(timeout, threading.TIMEOUT_MAX))
            case Ask(call, acall, timeout):
                if acall is not None:
                    return run_apart(acall, timeout)
                assert call is not None  # an Ask has one of the two
                return call() if timeout is None else _in_time(_begun(call), timeout)
            case Race():
                return self._race(effect)
            case _:
                raise TypeError(f"{effect!r} is no effect")

    def _race(self, race: Race) -> tuple[int, Any]:
        """Each flow in a thread of its own. A loser ends with the effect it is at, without a verdict."""
        runner = _Runner(self)
        try:
            runners = [_beside(race.first, runner)]
            wait(runners, min(race.delay, threading.TIMEOUT_MAX))
            second = None if runners[0].done() else race.second()
            if second is not None:
                runners.append(_beside(second, runner))
            return _winner(runners, lambda pending: wait(pending, return_when=FIRST_COMPLETED).done)
        finally:
            runner.decided.set()


class _LostError(BaseException):
    """Thrown into a flow that lost its race; no policy takes it for a failure of the service."""


class _Runner(_RealClock):
    """A blocking world for one race: once that is decided, the flow still running in it is cancelled."""

    def __init__(self, world: BlockingWorld) -> None:
        self._world = world
        self.decided = threading.Event()

    def perform(self, effect: Effect) -> Any:
        """Perform the effect; cancel the flow when the race was decided before or meanwhile."""
        if self.decided.is_set():
            raise _LostError
        try:
            return self._world.perform(effect)
        finally:
            if self.decided.is_set():
                raise _LostError


def _beside(flow: Flow[Any], runner: _Runner) -> Future[Any]:
    """Run the flow in a thread that does not keep the process from ending, as a pool's would."""

    def run() -> Any:
        race_decided.set(runner.decided)
        return drive(flow, runner)

    context = contextvars.copy_context()
    return aside(lambda: context.run(run))


def _winner(runners: list[Future[Any]], next_done: Any) -> tuple[int, Any]:
    pending = set(runners)
    while pending:
        done = next_done(pending)
        pending -= done
        for index, runner in enumerate(runners):
            if runner in done and runner.exception() is None:
                return index, runner.result()
    return 0, runners[0].result()


def _begun(call: Callable[[], Any]) -> Future[Any]:
    """Call the user's function in another thread, which is left behind when it takes too long."""
    context = contextvars.copy_context()
    return aside(lambda: context.run(call))


def _in_time(outcome: Future[Any], timeout: float) -> Any:
    # In glances: a signal that comes just before a wait for ever, and on Windows any, would not end it.
    end = time.monotonic() + timeout
    while not wait([outcome], min(_GLANCE, max(end - time.monotonic(), 0))).done:
        if time.monotonic() >= end:
            raise LateError
    return outcome.result()


def run_apart(acall: Callable[[], Awaitable[Any]], timeout: float | None = None) -> Any:
    """Run an async function from blocking code, in a thread with its own loop.

    An interrupt here cancels it there, and so does the end of its time, which raises LateError.
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()

    async def call() -> Any:
        task = asyncio.current_task()
        assert task is not None
        begun.set_result((asyncio.get_running_loop(), task))
        return await acall()

    context = contextvars.copy_context()
    outcome = aside(lambda: context.run(asyncio.run, call()))
    try:
        return _in_time(outcome, math.inf if timeout is None else timeout)
    except BaseException:
        wait([begun, outcome], return_when=FIRST_COMPLETED)
        if not outcome.done():
            loop, task = begun.result()
            loop.call_soon_threadsafe(task.cancel)
            wait([outcome])
        raise


class AsyncioWorld(_RealClock):
    """Real time, asyncio."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def perform(self, effect: Effect) -> Coroutine[Any, Any, Any]:
        """Perform the effect in this task."""
        if isinstance(effect, Send):
            return self._engine.send(effect.request, effect.timeout, effect.max_bytes)
        return self._other(effect)

    async def _other(self, effect: Effect) -> Any:
        match effect:
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Wait(promise, timeout):
                return await _until(promise, timeout)
            case Ask(call, acall, timeout):
                if acall is not None:
                    return await _acall_in_time(acall, timeout)
                assert call is not None  # an Ask has one of the two
                return await _acall_apart(call, timeout)
            case Race():
                return await self._race(effect)
            case _:
                raise TypeError(f"{effect!r} is no effect")

    async def _race(self, race: Race) -> tuple[int, Any]:
        """Each flow in a task of its own; whoever is not needed any more is cancelled and waited for."""
        tasks = [asyncio.ensure_future(adrive(race.first, self))]
        try:
            await asyncio.wait(tasks, timeout=race.delay)
            second = None if tasks[0].done() else race.second()
            if second is not None:
                tasks.append(asyncio.ensure_future(adrive(second, self)))
            pending = set(tasks)
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for index, task in enumerate(tasks):
                    if task in done and task.exception() is None:
                        return index, task.result()
            return 0, tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _acall_in_time(acall: Callable[[], Awaitable[Any]], timeout: float | None) -> Any:
    try:
        async with asyncio.timeout(timeout) as limit:
            return await acall()
    except TimeoutError:
        if limit.expired():
            raise LateError from None
        raise  # its own


async def _acall_apart(call: Callable[[], Any], timeout: float | None) -> Any:
    outcome = _begun(call)
    try:
        return await _until(outcome, _LONGEST_SLEEP if timeout is None else min(timeout, _LONGEST_SLEEP))
    except TimeoutError:
        if not outcome.done():
            raise LateError from None
        raise  # its own


async def _until(promise: Promise, timeout: float) -> Any:
    """Wait for what any thread or loop may keep."""
    loop = asyncio.get_running_loop()
    here = threading.get_ident()
    done = loop.create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def wake(_: Any) -> None:
        try:
            if threading.get_ident() == here:  # as a rule: the loop need not be woken by a system call
                finish()
            else:
                loop.call_soon_threadsafe(finish)
        except RuntimeError:  # the loop has been closed: nobody waits there, and who keeps the promise is not to blame
            return

    promise.add_done_callback(wake)
    expiry = loop.call_later(timeout, finish)  # half of what asyncio.timeout takes, and lines are long under load
    try:
        await done
    finally:
        expiry.cancel()
    return promise.result(0)
