"""A request over a lane: taken, perhaps found dead and replaced, given back or thrown away; one flow for both worlds.

What a lane is made of is each engine's own affair.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from .._flow import WireRequest, WireResponse, adrive, drive
from ._answer import host_of
from ._failures import failure_of
from ._lanes import Lanes, LoopLane, LoopLanes


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

    def exchange(self, request: WireRequest, deadline: float, max_bytes: int) -> Coroutine[Any, Any, WireResponse]:
        """As in blocking code."""
        ...

    async def aclose(self) -> None:
        """Close the connection, whatever state it is in, at once: nothing is waited for."""
        ...


L = TypeVar("L", bound=AnyLane)
B = TypeVar("B", bound=Lane)
A = TypeVar("A", bound=AsyncLane)


@dataclass(slots=True)
class _Exchange(Generic[L]):
    """Have the lane perform the request. Answer: the response."""

    lane: L


@dataclass(slots=True)
class _Discard(Generic[L]):
    """Close the lane."""

    lane: L


_Deed: TypeAlias = _Exchange[L] | _Discard[L]


def _over(lanes: Lanes[L], request: WireRequest, timeout: float) -> Generator[_Deed[L], Any, WireResponse]:
    """One request over one of these lanes, or over a second one where the first was found dead."""
    origin = host_of(request.url)
    lane, kept = lanes.take(origin)
    if kept and lane.ended():
        yield _Discard(lane)
        lane, kept = lanes.open(origin), False
    if not kept:
        for old in lanes.expired():
            yield _Discard(old)
    while True:
        try:
            response: WireResponse = yield _Exchange(lane)
        except BaseException as error:
            yield _Discard(lane)
            if kept and request.repeatable and lane.found_dead(error):
                lane, kept = lanes.open(origin), False
                continue
            failure = failure_of(error, request, timeout)
            if failure is None:
                raise
        else:
            unused = lanes.give_back(origin, lane) if lane.reusable() else lane
            if unused is not None:
                yield _Discard(unused)
            return response
        raise failure


@dataclass(slots=True)
class _Performer:
    """What both worlds need to perform the deeds of one request."""

    request: WireRequest
    deadline: float
    max_bytes: int


class _Blocking(_Performer, Generic[B]):
    """In blocking code."""

    def perform(self, deed: _Deed[B], /) -> WireResponse | None:
        """Exchange or discard."""
        if isinstance(deed, _Exchange):
            return deed.lane.exchange(self.request, self.deadline, self.max_bytes)
        deed.lane.close()
        return None


class _Async(_Performer, Generic[A]):
    """In asyncio."""

    def perform(self, deed: _Deed[A], /) -> Coroutine[Any, Any, WireResponse | None]:
        """Exchange or discard."""
        if isinstance(deed, _Exchange):
            return deed.lane.exchange(self.request, self.deadline, self.max_bytes)
        return _discard(deed.lane)


async def _discard(lane: AsyncLane) -> None:
    try:
        await lane.aclose()  # which waits for nothing, as a call that was thrown away can await nothing any more
    except Exception:  # no loop runs, and httpcore closes nothing without one; the call's outcome is decided already
        lane.abandon()


class LaneEngine(Generic[B]):
    """Blocking requests over the process's lanes."""

    def __init__(self, name: str, lanes: Lanes[B]) -> None:
        self.name = name
        self._lanes = lanes

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        world: _Blocking[B] = _Blocking(request, time.monotonic() + timeout, max_bytes)
        return drive(_over(self._lanes, request, timeout), world)

    def close(self) -> None:
        """Close the idle connections."""
        for lane in self._lanes.drain():
            lane.close()


class AsyncLaneEngine(Generic[A]):
    """Async requests over the running loop's lanes."""

    def __init__(self, name: str, lanes: LoopLanes[A]) -> None:
        self.name = name
        self._lanes = lanes

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        world: _Async[A] = _Async(request, time.monotonic() + timeout, max_bytes)
        return await adrive(_over(self._lanes.here(), request, timeout), world)

    async def aclose(self) -> None:
        """Close the idle connections of the running loop."""
        for lane in self._lanes.here().drain():
            await lane.aclose()
