"""Work beside the caller's thread, where it cannot be interrupted: own httpx clients, the resolver, races.

The threads are used again, so that what the allocator keeps for a thread is kept once. None of them keeps the process
from ending, as those of `concurrent.futures` do.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_IDLE_SECONDS = 10.0
_idle: deque[_Worker] = deque()


class _Worker(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="rage-aside", daemon=True)
        self.jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    def run(self) -> None:
        while True:
            try:
                self._do(*self.jobs.get(timeout=_IDLE_SECONDS))
            except Empty:
                try:
                    _idle.remove(self)
                except ValueError:  # taken at this moment: a job is on its way
                    continue
                return

    def _do(self, work: Callable[[], Any], outcome: Future[Any]) -> None:
        if not outcome.set_running_or_notify_cancel():
            _idle.append(self)
            return
        try:
            result = work()
        except BaseException as error:
            _idle.append(self)
            outcome.set_exception(error)
        else:
            _idle.append(self)  # first, so that whoever waits for the result finds this thread for the next job
            outcome.set_result(result)


def aside(work: Callable[[], T]) -> Future[T]:
    """Begin the work in another thread, as many at once as are asked for; the future has its outcome.

    Cancelled before it began, it is not done; once begun, it is done to its end.
    """
    outcome: Future[T] = Future()
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
        worker.start()
    worker.jobs.put((work, outcome))
    return outcome


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)
