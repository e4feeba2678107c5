"""Documents in, an indexed and searchable collection out, kept on disk and followed as the documents change.

Any number of threads read; one writer at a time, in whichever process, holds the lock file. A reader works on a
`Snapshot`, which nothing changes after it is made.
"""

from __future__ import annotations

import errno
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rage_retrievers._frozen import frozen
from rage_retrievers.local import chunking, metadata
from rage_retrievers.local._damage import CorruptStoreError
from rage_retrievers.local._lock import exclusive
from rage_retrievers.local.ahead import Ahead
from rage_retrievers.local.documents import UnreadableDocumentError
from rage_retrievers.local.embedding import Embedding
from rage_retrievers.local.progress import Listener, Progress, unheard
from rage_retrievers.local.snapshot import Snapshot
from rage_retrievers.local.sources import Entry, Loaded
from rage_retrievers.local.store import NewDocument, Store
from rage_retrievers.local.text_index import CorruptIndexError, TextIndex, Writing, discard

FORMAT = "3"
_BATCH_PASSAGES = 512
_WORTH_A_WAIT = 64
# Of a file that cannot be opened for any other reason (too many are open, a network is gone) the next look tries again.
_LASTING = (errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.EPERM)
_log = logging.getLogger("rage_retrievers.local")


@frozen
class Synced:
    """What one synchronization did, in documents; `passages` counts those made."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    passages: int = 0
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@frozen
class Chunking:
    """How long passages are, in characters."""

    size: int = chunking.CHUNK_CHARACTERS
    overlap: int = 0


class Collection:
    """One searchable set of documents below one directory."""

    def __init__(self, home: Path, embedding: Embedding, cut: Chunking | None = None) -> None:
        self.home = home
        self.embedding = embedding
        self._cut = cut or Chunking()
        self._mutex = threading.RLock()
        self._current: Snapshot
        self.rebuilt = ""
        """Why the index was made again, when it was found unusable; empty otherwise."""
        self.is_whole = False
        """Whether this store was brought up to date since it was opened: it may lack what the one before it held."""
        home.mkdir(parents=True, exist_ok=True)
        with exclusive(self._lock_path, wait=True):
            self._open()

    @property
    def _lock_path(self) -> Path:
        return self.home / "lock"

    def close(self) -> None:
        with self._mutex:
            self._store.close()

    def counts(self) -> tuple[int, int]:
        """How many documents and passages are stored."""
        return self._store.counts()

    def unreadable(self) -> list[tuple[str, str]]:
        """Key and reason of each document that could not be read."""
        return self._store.unreadable()

    def snapshot(self) -> Snapshot:
        """The collection as it is now, whichever process wrote it last.

        One that another process is making again is opened when that is done; until then it is as it was.
        """
        if self._store.moved():
            with self._mutex, exclusive(self._lock_path, wait=False) as held:
                if held:
                    self._renew()
        generation = self._store.get("generation", "0")
        if generation != self._generation:
            with self._mutex:
                if generation != self._generation:
                    self._refresh()
        return self._current

    def at_rest(self) -> Snapshot | None:
        """What `snapshot` gives, where nobody in this process writes and nobody elsewhere has; None otherwise."""
        if not self._mutex.acquire(blocking=False):
            return None
        self._mutex.release()
        current = not self._store.moved() and self._store.get("generation", "0") == self._generation
        return self._current if current else None

    @property
    def passages(self) -> int:
        """How many passages the last snapshot holds, those removed since its last compaction among them."""
        return self._current.count

    def sync(self, entries: Sequence[Entry], *, wait: bool = True, progress: Listener = unheard) -> Synced:
        """Make the collection hold exactly `entries`; gives up at once when `wait` is False and another is writing."""
        started = time.perf_counter()
        if not self._mutex.acquire(blocking=wait):
            return Synced()
        try:
            with exclusive(self._lock_path, wait=wait) as held:
                if not held:
                    return Synced()
                self._renew()
                with self._text.writing() as writing:
                    done = self._take(entries, writing, progress)
                    self._catch_up(writing, progress)
                self.is_whole = True
        finally:
            self._mutex.release()
        self.snapshot()
        seconds = time.perf_counter() - started
        return Synced(done.added, done.changed, done.removed, done.passages, seconds)

    def rebuild(self, reason: str) -> None:
        """Throw everything away, unless another process has done so; the next `sync` makes it again."""
        with self._mutex, exclusive(self._lock_path, wait=True):
            moved = self._store.moved()
            self._store.close()
            if not moved:
                self._wipe(reason)
            self._open()

    def mend(self) -> None:
        """Make the text index again where its files are not those that were written."""
        with self._mutex, exclusive(self._lock_path, wait=True):
            self._renew()
            try:
                TextIndex.verify(self._text.directory, self._store.get("manifest"))
            except CorruptIndexError as error:
                self._new_text(str(error))

    def _open(self) -> None:
        try:
            self._open_store()
        except CorruptStoreError as error:
            self._wipe(str(error))
            self._open_store()

    def _open_store(self) -> None:
        self._store = Store(self.home / "store.sqlite")
        self.is_whole = False
        try:
            self._check_format()
            self._open_text()
            self._refresh(anew=True)
        finally:
            self._store.check()

    def _renew(self) -> None:
        """Write into nothing that another process has replaced; called with the lock held, so it stays."""
        if self._store.moved():
            self._store.close()
            self._open()
        elif self._store.get("text") != self._text.directory.name:
            self._open_text()
        elif not self._text.is_there():
            self._new_text("its files are gone")

    def _check_format(self) -> None:
        made_by = f"{FORMAT}/{self.embedding.identity}/{self._cut.size}/{self._cut.overlap}"
        known = self._store.get("made_by")
        if known and known != made_by:
            raise CorruptStoreError(f"made with other settings ({known}, now {made_by})")
        if not known:
            self._store.set(made_by=made_by)

    def _open_text(self) -> None:
        name = self._store.get("text")
        try:
            if self._store.get("writing"):
                raise CorruptIndexError("its writing was interrupted")
            if not name:
                raise CorruptIndexError("")
            directory = self.home / name
            TextIndex.verify(directory, self._store.get("manifest"))
            self._text = TextIndex(directory)
        except CorruptIndexError as error:
            self._new_text(str(error))

    def _new_text(self, reason: str) -> None:
        if reason:
            self._tell(f"text index: {reason}")
        for old in self.home.glob("text-*"):
            discard(old)
        self._text = TextIndex.made(self.home / f"text-{secrets.token_hex(6)}")
        with self._text.writing() as writing:
            if self._store.newest():
                writing.add(self._store.texts_after(0))
                writing.commit(())
        self._settle(writing.last)

    def _settle(self, last: int) -> None:
        directory = self._text.directory
        before = self._store.get("manifest") if self._store.get("text") == directory.name else ""
        manifest = TextIndex.manifest(directory, before)
        self._store.settle(last, text=directory.name, manifest=manifest, writing="")

    def _catch_up(self, writing: Writing, progress: Listener) -> None:
        gone, through = self._store.pending()
        if not gone and self._store.newest() <= through:
            return
        progress(Progress("index", 0, 1))
        writing.add(self._store.texts_after(max(writing.last, through)))
        self._store.set(writing="yes")
        writing.commit(gone)
        try:
            self._settle(max(writing.last, through))
        except CorruptIndexError as error:
            self._new_text(str(error))
        progress(Progress("index", 1, 1))

    def _take(self, entries: Sequence[Entry], writing: Writing, progress: Listener) -> Synced:
        known = self._store.stamps()
        offered = {entry.key for entry in entries}
        removed = [key for key in known if key not in offered]
        if removed:
            self._store.remove(removed)
        wanted = [entry for entry in entries if known.get(entry.key) != entry.stamp]
        passages = 0
        _, through = self._store.pending()

        def stored() -> None:
            writing.add(self._store.texts_after(max(writing.last, through)))

        batch = _Batch(self._store, self.embedding, self._cut, stored)
        with Ahead(wanted) as ahead:
            for done, entry in enumerate(wanted, 1):
                if batch.passages >= _WORTH_A_WAIT and not ahead.has(entry):
                    batch.flush()  # there is nothing better to do meanwhile
                passages += batch.add(entry, ahead.take)
                progress(Progress("read", done, len(wanted), entry.key))
            batch.flush()
        changed = sum(entry.key in known for entry in wanted)
        return Synced(len(wanted) - changed, changed, len(removed), passages)

    def _refresh(self, anew: bool = False) -> None:
        generation = self._store.get("generation", "0")
        name = self._store.get("text")
        if self._text.directory.name != name:
            self._text = TextIndex(self.home / name)
        previous = None if anew else self._current
        self._current = Snapshot.make(self._store, self._text.view(), previous or Snapshot.empty(self._store))
        self._generation = generation

    def _wipe(self, reason: str) -> None:
        self._tell(reason)
        for path in self.home.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith("store.sqlite"):
                path.unlink(missing_ok=True)

    def _tell(self, reason: str) -> None:
        self.rebuilt = reason
        _log.warning("local.index_rebuilt reason=%s home=%s", reason, self.home)


class _Batch:
    """Documents read and waiting to be embedded and stored together."""

    def __init__(self, store: Store, embedding: Embedding, cut: Chunking, stored: Callable[[], None]) -> None:
        """`stored` is called whenever some have been."""
        self._store = store
        self._embedding = embedding
        self._cut = cut
        self._stored = stored
        self._read: list[tuple[Entry, Loaded, list[str]]] = []
        self._unreadable: list[tuple[str, str, str]] = []
        self.passages = 0

    def add(self, entry: Entry, load: Callable[[Entry], Loaded]) -> int:
        try:
            loaded = load(entry)
            metadata.check(loaded.metadata)
            texts = chunking.chunks(loaded.reading.text, self._cut.size, self._cut.overlap)
        except (UnreadableDocumentError, metadata.BadMetadataError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            passes = isinstance(error, OSError) and error.errno not in _LASTING
            self._unreadable.append((entry.key, "" if passes else entry.stamp, reason))
            return 0
        self._read.append((entry, loaded, texts))
        self.passages += len(texts)
        if self.passages >= _BATCH_PASSAGES:
            self.flush()
        return len(texts)

    def flush(self) -> None:
        if not self._read and not self._unreadable:
            return
        vectors = self._embedding.passages([text for _, _, texts in self._read for text in texts])
        self._store.replace(self._documents(vectors), self._unreadable)
        self._stored()
        self._read, self._unreadable, self.passages = [], [], 0

    def _documents(self, vectors: NDArray[np.float32]) -> Iterable[NewDocument]:
        start = 0
        for entry, loaded, texts in self._read:
            facts = loaded.reading.facts
            yield NewDocument(
                entry.key,
                entry.stamp,
                str(facts.get("title", "")),
                texts,
                vectors[start : start + len(texts)],
                loaded.fields,
                facts,
                loaded.metadata,
            )
            start += len(texts)
