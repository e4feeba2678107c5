"""A request over a lane, in both worlds: taken, perhaps found dead and replaced, given back or thrown away."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, TypeVar

from .._flow import WireRequest, WireResponse
from ._answer import host_of
from ._failures import failure_of
from ._lanes import Lanes, LoopLane


class AnyLane(Protocol):
    """What an engine asks of a connection in either world."""

    def ended(self) -> bool:
        """Whether the server has closed the connection, or it was idle for too long."""
        ...

    def reusable(self) -> bool:
        """Whether the next call may use it: open, and with no byte of the server's left over."""
        ...

    def found_dead(self, error: BaseException) -> bool:
        """Whether the exchange failed so because the connection had ended before anything of an answer came."""
        ...


class Lane(AnyLane, Protocol):
    """A connection of blocking code."""

    def exchange(self, request: WireRequest, deadline: float, max_bytes: int) -> WireResponse:
        """The whole answer, by the deadline (of `time.monotonic`). May raise whatever `failure_of` knows."""
        ...

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        ...


class AsyncLane(AnyLane, LoopLane, Protocol):
    """A connection of an event loop."""

    async def exchange(self, request: WireRequest, deadline: float, max_bytes: int) -> WireResponse:
        """As in blocking code."""
        ...

    async def aclose(self) -> None:
        """Close the connection, whatever state it is in."""
        ...


def send(lanes: Lanes[_L], request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
    """One request, one whole answer."""
    deadline = time.monotonic() + timeout
    origin = host_of(request.url)
    lane, kept = lanes.take(origin)
    if kept and lane.ended():
        lane.close()
        lane, kept = lanes.open(origin), False
    if not kept:
        for old in lanes.expired():
            old.close()
    while True:
        try:
            response = lane.exchange(request, deadline, max_bytes)
        except BaseException as error:
            lane.close()
            if kept and request.repeatable and lane.found_dead(error):
                lane, kept = lanes.open(origin), False
                continue
            failure = failure_of(error, request, timeout)
            if failure is None:
                raise
        else:
            unused = lanes.give_back(origin, lane) if lane.reusable() else lane
            if unused is not None:
                unused.close()
            return response
        raise failure


async def asend(lanes: Lanes[_A], request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
    """The same in asyncio."""
    deadline = time.monotonic() + timeout
    origin = host_of(request.url)
    lane, kept = lanes.take(origin)
    if kept and lane.ended():
        await discard(lane)
        lane, kept = lanes.open(origin), False
    if not kept:
        for old in lanes.expired():
            await discard(old)
    while True:
        try:
            response = await lane.exchange(request, deadline, max_bytes)
        except BaseException as error:
            await discard(lane, error)
            if kept and request.repeatable and lane.found_dead(error):
                lane, kept = lanes.open(origin), False
                continue
            failure = failure_of(error, request, timeout)
            if failure is None:
                raise
        else:
            unused = lanes.give_back(origin, lane) if lane.reusable() else lane
            if unused is not None:
                await discard(unused)
            return response
        raise failure


async def discard(lane: AsyncLane, error: BaseException | None = None) -> None:
    """Close a lane that a failure or a cancellation left in an unknown state."""
    if isinstance(error, GeneratorExit):  # the call was thrown away: it can await nothing any more
        return lane.abandon()
    try:
        asyncio.get_running_loop()  # before something is made that nobody awaits
        await asyncio.shield(lane.aclose())
    except Exception:
        lane.abandon()


_L = TypeVar("_L", bound=Lane)
_A = TypeVar("_A", bound=AsyncLane)
