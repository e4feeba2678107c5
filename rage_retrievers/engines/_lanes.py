"""Lanes: one connection each, taken last in first out, so that the cost of a call does not grow with concurrency.

A lane belongs to one call at a time. One that failed or was cancelled is thrown away with its connection, so neither
can poison the others.
"""

from __future__ import annotations

import os
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

L = TypeVar("L")


class Lanes(Generic[L]):
    """Idle lanes per origin. `deque.pop` and `append` are atomic, so no lock is needed.

    A process that was forked forgets its parent's lanes: two processes on one connection would mix their answers up.
    """

    def __init__(self, open_lane: Callable[[], L]) -> None:
        self._open = open_lane
        self._idle: defaultdict[str, deque[L]] = defaultdict(deque)
        _every.add(self)

    def take(self, origin: str) -> tuple[L, bool]:
        """The lane used last, or a new one; and whether it was used before."""
        try:
            return self._idle[origin].pop(), True
        except IndexError:
            return self._open(), False

    def open(self) -> L:
        """A new lane."""
        return self._open()

    def give_back(self, origin: str, lane: L) -> None:
        """Put a lane in good order back."""
        self._idle[origin].append(lane)

    def drain(self) -> list[L]:
        """Take out every idle lane, to be closed."""
        lanes: list[L] = []
        for idle in list(self._idle.values()):
            while idle:
                lanes.append(idle.pop())
        return lanes

    def forget(self) -> None:
        """Leave every idle lane to the process it came from."""
        self._idle = defaultdict(deque)


_every: weakref.WeakSet[Lanes[Any]] = weakref.WeakSet()


def _forget_all() -> None:
    for lanes in list(_every):
        lanes.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
