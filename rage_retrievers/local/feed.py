"""A collection that follows where its documents come from."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local._damage import CorruptStoreError
from rage_retrievers.local.collection import Chunking, Collection, Synced
from rage_retrievers.local.embedding import Embedding
from rage_retrievers.local.progress import Listener, unheard
from rage_retrievers.local.snapshot import Snapshot
from rage_retrievers.local.sources import Entry, Scan, Source
from rage_retrievers.local.store import (
    ClosedStoreError,
    MissingPassageError,
    OtherWidthError,
)
from rage_retrievers.local.text_index import TextIndexError

T = TypeVar("T")
_KEPT_RUNS = 500


class Feed:
    """Keeps a collection equal to its source: at `sync`, and while it is used, by a look at most every `pause` seconds.

    A look at a large source takes longer, so the pause is also at least a hundred times what the last look took:
    looking never costs more than one part in a hundred. A pause of 0 looks at every request. The caller whose request
    finds a change waits for it to be indexed; everybody else is answered from what was there before.
    """

    def __init__(
        self,
        home: Path,
        source: Source,
        embedding: Embedding,
        *,
        cut: Chunking | None = None,
        pause: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.collection = Collection(home, embedding, cut)
        self._source = source
        self._pause = pause
        self._clock = clock
        self._looking = threading.Lock()
        self._due = 0.0
        self._widened = False
        self._refused: list[tuple[str, str]] = []
        self._runs: deque[Synced] = deque(maxlen=_KEPT_RUNS)

    def take_runs(self) -> list[Synced]:
        """What each look since the last call did, those that found nothing left out."""
        taken = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._runs.popleft())
        return taken

    def hurry(self) -> None:
        """Look again at the next request."""
        self._due = 0.0

    def sync(self, progress: Listener = unheard, seen: Scan | None = None) -> Synced:
        """Look now, or take what was `seen` just now, and index what changed."""
        with self._looking:
            return self._look(progress, seen, wait=True)

    def follow(self) -> None:
        """Look if the last look was long enough ago and nobody else is looking."""
        if self._clock() < self._due or not self._looking.acquire(blocking=False):
            return
        try:
            self._look(unheard, None, wait=False)
        finally:
            self._looking.release()

    def glance(self, ask: Callable[[Snapshot], T]) -> T | None:
        """What `read` gives, where that takes neither a look at the source nor a wait nor a repair; None elsewhere."""
        if self._clock() < self._due and self.collection.is_whole:
            with contextlib.suppress(ClosedStoreError, CorruptStoreError, TextIndexError):
                seen = self.collection.at_rest()
                return None if seen is None else ask(seen)
        return None

    def read(self, ask: Callable[[Snapshot], T]) -> T:
        """Ask the collection as it is now; one that is corrupt or new is made again first and never answers."""
        seen = None
        try:
            return ask(seen := self._whole())
        except ClosedStoreError:  # another process has replaced it under this request, or it is closed for good
            return ask(self._whole())
        except TextIndexError:
            self.collection.mend()
            if (mended := self.collection.snapshot()) is seen:  # there was nothing to mend
                raise
            return ask(mended)
        except CorruptStoreError as error:
            if isinstance(error, MissingPassageError) and self.collection.snapshot() is not seen:
                return self.read(ask)  # it has been replaced under this request
            self._rebuild(error)
            self.sync()
            return ask(self.collection.snapshot())

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(key, reason) of every document that is not indexed though it was offered."""
        return sorted({**dict(self.collection.unreadable()), **dict(self._refused)}.items())

    def close(self) -> None:
        self.collection.close()

    def _whole(self) -> Snapshot:
        """The collection as it is now; another store than at the last look has first to hold what the source does."""
        seen = self.collection.snapshot()
        if self.collection.is_whole:
            return seen
        self.sync()
        return self.collection.snapshot()

    def _rebuild(self, error: CorruptStoreError) -> None:
        if isinstance(error, OtherWidthError):
            if self._widened:  # it was made by this very embedding: to make it once more would not help
                raise ConfigurationError(f"embedding: its vectors have different lengths ({error})") from error
            self._widened = True
        self.collection.rebuild(str(error))

    def _look(self, progress: Listener, seen: Scan | None, *, wait: bool) -> Synced:
        started = self._clock()
        scan = self._source.scan() if seen is None else seen
        took = self._clock() - started
        self._refused = scan.refused
        try:
            done = self._index(scan.entries, progress, wait=wait)
        finally:  # what fails is tried again at the next look, not by everybody who asks until then
            self._due = self._clock() + (max(self._pause, 100 * took) if self._pause else 0)
        if done:
            self._runs.append(done)
        return done

    def _index(self, entries: Sequence[Entry], progress: Listener, *, wait: bool) -> Synced:
        try:
            return self.collection.sync(entries, wait=wait, progress=progress)
        except CorruptStoreError as error:
            self._rebuild(error)
        except TextIndexError:
            self.collection.mend()
        return self.collection.sync(entries, wait=wait, progress=progress)
