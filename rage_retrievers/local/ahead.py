"""Documents that another process reads, read before they are needed, as far as memory allows."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import TracebackType

from rage_retrievers._aside import aside
from rage_retrievers.local.sources import Entry, Loaded, Scan

_MAX_THREADS = 4
_MAX_WAITING_CHARACTERS = 32_000_000


class Ahead:
    """From its making to the end of its `with` block, entries that are read apart are being loaded, in order.

    No further one is begun while texts of more than 32 million characters wait to be taken.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        begun: list[tuple[Entry, Future[Loaded]]] = [(entry, Future()) for entry in entries if entry.apart]
        self._begun = {entry.key: outcome for entry, outcome in begun}
        self._coming = iter(begun)
        self._changed = threading.Condition()
        self._waiting = 0
        self._ended = False
        for _ in range(min(len(begun), os.cpu_count() or 1, _MAX_THREADS)):
            aside(self._work)

    def take(self, entry: Entry) -> Loaded:
        """What `entry` loads, or the error that it raises; waits for it only where it was begun."""
        outcome = self._begun.pop(entry.key, None)
        if outcome is None:
            return entry.load()
        loaded = outcome.result()
        with self._changed:
            self._waiting -= len(loaded.reading.text)
            self._changed.notify_all()
        return loaded

    def has(self, entry: Entry) -> bool:
        """Whether `take` would not wait for another process."""
        outcome = self._begun.get(entry.key)
        return outcome is None or outcome.done()

    def through(self, scan: Scan) -> Scan:
        """The same offer, its entries loaded by way of `take`."""
        entries = [replace(entry, load=partial(self.take, entry)) if entry.apart else entry for entry in scan.entries]
        return Scan(entries, scan.refused)

    def _work(self) -> None:
        while (begun := self._next()) is not None:
            entry, outcome = begun
            try:
                loaded = entry.load()
            except BaseException as error:
                outcome.set_exception(error)
            else:
                with self._changed:
                    self._waiting += len(loaded.reading.text)
                    self._changed.notify_all()
                outcome.set_result(loaded)

    def _next(self) -> tuple[Entry, Future[Loaded]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._waiting < _MAX_WAITING_CHARACTERS)
            return None if self._ended else next(self._coming, None)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
