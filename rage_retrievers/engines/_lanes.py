"""Lanes: one connection each, taken last in first out, so that the cost of a call does not grow with concurrency.

A lane belongs to one call at a time. One that failed or was cancelled is thrown away with its connection, so neither
can poison the others.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

KEEPALIVE_SECONDS = 30.0
"""How long an idle connection may be used again."""

L = TypeVar("L")


class Lanes(Generic[L]):
    """Idle lanes per origin. `deque.pop` and `append` are atomic, so no lock is needed.

    A process that was forked forgets its parent's lanes: two processes on one connection would mix their answers up.
    """

    def __init__(
        self, open_lane: Callable[[str], L], keep_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open = open_lane
        self._keep = keep_seconds
        self._clock = clock
        self._idle: defaultdict[str, deque[tuple[L, float]]] = defaultdict(deque)
        _every.add(self)

    def take(self, origin: str) -> tuple[L, bool]:
        """The lane used last, or a new one; and whether it was used before."""
        try:
            return self._idle[origin].pop()[0], True
        except IndexError:
            return self._open(origin), False

    def open(self, origin: str) -> L:
        """A new lane."""
        return self._open(origin)

    def give_back(self, origin: str, lane: L) -> L | None:
        """Put a lane in good order back; answers one that nobody has used for too long, for the caller to close."""
        idle, now = self._idle[origin], self._clock()
        idle.append((lane, now))
        try:
            return idle.popleft()[0] if now - idle[0][1] > self._keep else None
        except IndexError:  # another thread took the last one
            return None

    def expired(self) -> list[L]:
        """Take out every lane that nobody has used for too long, also of origins that are not asked any more."""
        lanes: list[L] = []
        for idle in list(self._idle.values()):
            with suppress(IndexError):  # empty, or another thread took the last one
                while self._clock() - idle[0][1] > self._keep:
                    lanes.append(idle.popleft()[0])
        return lanes

    def drain(self) -> list[L]:
        """Take out every idle lane, to be closed."""
        lanes: list[L] = []
        for idle in list(self._idle.values()):
            while idle:
                lanes.append(idle.pop()[0])
        return lanes

    def forget(self) -> None:
        """Leave every idle lane to the process it came from."""
        self._idle = defaultdict(deque)


class LoopLane(Protocol):
    """A lane that belongs to an event loop."""

    def abandon(self) -> None:
        """Close the socket alone: the loop that the connection belongs to has ended."""
        ...


A = TypeVar("A", bound=LoopLane)


class LoopLanes(Generic[A]):
    """The lanes of each running event loop: a connection belongs to the loop that opened it."""

    def __init__(self, open_lane: Callable[[str], A], keep_seconds: float) -> None:
        self._open = open_lane
        self._keep = keep_seconds
        self._lock = threading.Lock()
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Lanes[A]] = weakref.WeakKeyDictionary()

    def here(self) -> Lanes[A]:
        """The lanes of the running loop."""
        loop = asyncio.get_running_loop()
        lanes = self._by_loop.get(loop)
        if lanes is None:
            with self._lock:
                self._sweep()
                lanes = self._by_loop.setdefault(loop, Lanes(self._open, self._keep))
        return lanes

    def _sweep(self) -> None:
        """Close what loops that have ended left open; their own closing can no longer run."""
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            for lane in self._by_loop.pop(loop).drain():
                lane.abandon()


_every: weakref.WeakSet[Lanes[Any]] = weakref.WeakSet()


def _forget_all() -> None:
    for lanes in list(_every):
        lanes.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
