"""The truth of one collection, in SQLite: documents, passages, vectors, and how far the text index has come.

Everything else (the text index, the vectors in memory) is made from it and can be made again. Passage numbers `n` only
ever grow, so a number never means two passages. Those of one document follow each other, and its vectors are one row
under the first of them: half floats, one vector after the other. All of a document arrives in one transaction: after a
crash it is there whole or not at all. One that is replaced or removed is marked as gone, and can be read until the text
index knows that it is. Every row but those of unreadable files carries a checksum of what it says, looked at whenever
that is shown or searched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from rage_retrievers._aside import aside
from rage_retrievers._frozen import frozen
from rage_retrievers.local._damage import CorruptStoreError, check_row, checksum, is_damage, joined
from rage_retrievers.local.embedding import Vectors

Numbers = NDArray[np.int64]
_VERSION = 4
_SCHEMA = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS documents (
    d INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, stamp TEXT NOT NULL, total INTEGER NOT NULL,
    title TEXT NOT NULL, fields TEXT NOT NULL, facts TEXT NOT NULL, metadata TEXT NOT NULL, crc INTEGER NOT NULL,
    gone INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX IF NOT EXISTS documents_of ON documents (key) WHERE gone = 0;
CREATE INDEX IF NOT EXISTS documents_gone ON documents (d) WHERE gone = 1;
CREATE TABLE IF NOT EXISTS passages (
    n INTEGER PRIMARY KEY AUTOINCREMENT, d INTEGER NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL,
    crc INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS passages_of ON passages (d);
CREATE TABLE IF NOT EXISTS vectors (
    n INTEGER PRIMARY KEY, d INTEGER NOT NULL, total INTEGER NOT NULL, vectors BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS unreadable (key TEXT PRIMARY KEY, stamp TEXT NOT NULL, reason TEXT NOT NULL);
PRAGMA user_version={_VERSION};
COMMIT;
"""
# The columns of a document that its checksum is of, in that order.
_SAID = "key, stamp, title, fields, facts, metadata"


class MissingPassageError(CorruptStoreError):
    """A passage that was there is there no more: a newer snapshot knows of it, or else nobody does."""


class OtherWidthError(CorruptStoreError):
    """What is stored was made with vectors of another length."""

    def __init__(self, stored: int, given: int) -> None:
        super().__init__(f"made with vectors of {stored} dimensions, now {given}")


class ClosedStoreError(Exception):
    """The store is closed: for good, or because another process has put a new one in its place."""


@frozen
class NewDocument:
    """A document ready to be stored."""

    key: str
    stamp: str
    title: str
    texts: Sequence[str]
    vectors: Vectors
    fields: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


@frozen
class Passage:
    """A stored passage with what its document says."""

    n: int
    number: int
    text: str
    total: int
    title: str
    fields: dict[str, str]
    metadata: dict[str, Any]


class Store:
    """One SQLite file; safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._db = _connected(path)
        self._inode = os.stat(path).st_ino
        # For reading: whoever writes holds his own while he waits for another process to end what it writes.
        self._read_lock = threading.Lock()
        self._read_db = _connection(path)
        self._problem = aside(lambda: _problem_of(path))

    def check(self) -> None:
        """Raise `CorruptStoreError` unless the file is sound, which is looked at from its opening on, beside all else.

        Whoever opens a store calls this before anybody is answered from it, whatever else has failed by then.
        """
        problem = self._problem.result()
        if problem != "ok":
            raise CorruptStoreError(problem)

    def close(self) -> None:
        with self._lock, self._read_lock:
            self._read_db.close()
            self._db.close()

    def moved(self) -> bool:
        """Whether another process has put a new store in the place of this one."""
        try:
            return os.stat(self._path).st_ino != self._inode
        except FileNotFoundError:
            return True

    def get(self, key: str, default: str = "") -> str:
        """A setting of the collection."""
        row = self._one("SELECT value, crc FROM meta WHERE key = ?", (key,))
        if row is None:
            return default
        check_row(row[1], (0, 0, 0), key, row[0])
        return str(row[0])

    def set(self, **values: str) -> None:
        """Write settings, all or none."""
        with self._lock, self._transaction():
            self._set(values)

    def stamps(self) -> dict[str, str]:
        """What each known document, readable or not, looked like when it was read: key to stamp."""
        return dict(
            self._all("SELECT key, stamp FROM documents WHERE gone = 0 UNION ALL SELECT key, stamp FROM unreadable")
        )

    def unreadable(self) -> list[tuple[str, str]]:
        """Key and reason of each document that could not be read."""
        return [(key, reason) for key, reason in self._all("SELECT key, reason FROM unreadable ORDER BY key")]

    def counts(self) -> tuple[int, int]:
        """How many documents and how many passages there are."""
        documents, passages = self._one("SELECT count(*), total(total) FROM documents WHERE gone = 0") or (0, 0)
        return int(documents), int(passages)

    def replace(self, documents: Iterable[NewDocument], unreadable: Iterable[tuple[str, str, str]] = ()) -> None:
        """Store documents in place of those with the same keys, and note those that could not be read.

        What was there before can be read until `settle`.
        """
        with self._lock, self._transaction():
            for document in documents:
                self._remove(document.key)
                self._insert(document)
            for key, stamp, reason in unreadable:
                self._remove(key)
                self._db.execute("INSERT INTO unreadable VALUES (?, ?, ?)", (key, stamp, reason))

    def remove(self, keys: Iterable[str]) -> None:
        """Forget documents; what they say can be read until `settle`."""
        with self._lock, self._transaction():
            for key in keys:
                self._remove(key)

    def pending(self) -> tuple[list[int], int]:
        """What the text index has yet to learn: the passages gone, and the number after which passages are new."""
        gone = [int(n) for (n,) in self._all("SELECT n FROM documents JOIN passages USING (d) WHERE gone = 1")]
        return gone, int(self.get("indexed_through", "0"))

    def settle(self, through: int, **values: str) -> None:
        """Note that the text index knows every passage up to `through` and none that is gone."""
        with self._lock, self._transaction():
            self._db.execute("DELETE FROM passages WHERE d IN (SELECT d FROM documents WHERE gone = 1)")
            self._db.execute("DELETE FROM documents WHERE gone = 1")
            generation = int(self.get("generation", "0")) + 1  # nobody else writes it meanwhile
            self._set({**values, "indexed_through": str(through), "generation": str(generation)})

    def texts_after(self, n: int) -> Iterator[tuple[int, str, str, str, str]]:
        """(n, text, title, source, metadata as JSON) of each passage numbered above `n`, in order, read in pages."""
        while page := self._rows("WHERE n > ? AND gone = 0 ORDER BY n LIMIT 2000", (n,)):
            for number, _, text, _, title, fields, metadata in page:
                yield number, text, title, str(json.loads(fields).get("source", "")), metadata
            n = page[-1][0]

    def vectors_after(self, n: int) -> Iterator[tuple[Numbers, Numbers, Vectors]]:
        """(n, document, vector) of the passages numbered above `n`, in order, in pages."""
        read = "SELECT n, d, total, vectors, crc FROM vectors WHERE n > ? ORDER BY n LIMIT 256"
        while page := self._all(read, (n,)):
            firsts, owners, totals, kept, sums = zip(*page, strict=True)
            if not all(isinstance(vectors, bytes) for vectors in kept) or (
                tuple(map(checksum, firsts, owners, totals, kept)) != sums
            ):
                raise CorruptStoreError("vectors are not what was written")
            if len({len(vectors) / total for vectors, total in zip(kept, totals, strict=True)}) > 1:
                raise CorruptStoreError("vectors of different lengths")
            numbers = _runs(firsts, totals)
            rows = np.frombuffer(b"".join(kept), dtype=np.float16).reshape(len(numbers), -1).astype(np.float32)
            yield numbers, np.repeat(np.asarray(owners, dtype=np.int64), totals), rows
            n = firsts[-1]

    def newest(self) -> int:
        """The number of the passage stored last, 0 when there is none."""
        row = self._one("SELECT max(n) FROM passages")
        return int(row[0] or 0) if row else 0

    def numbers(self) -> Numbers:
        """The numbers of all passages, in order."""
        known = self._all("SELECT n, total FROM vectors ORDER BY n")
        return _runs([n for n, _ in known], [total for _, total in known])

    def described(self) -> Iterator[tuple[int, dict[str, str], dict[str, Any], dict[str, Any]]]:
        """(document, fields, facts, metadata) of every document."""
        for d, crc, total, *said in self._all(f"SELECT d, crc, total, {_SAID} FROM documents ORDER BY d"):  # noqa: S608  # only names
            check_row(crc, (d, total, 0), *said)
            yield d, json.loads(said[3]), json.loads(said[4]), json.loads(said[5])

    def passages(self, numbers: Sequence[int]) -> dict[int, Passage]:
        """The passages of these numbers that still exist; raises `CorruptStoreError` for one that was altered."""
        found: dict[int, Passage] = {}
        for start in range(0, len(numbers), 500):
            some = numbers[start : start + 500]
            marks = ",".join("?" * len(some))
            for n, number, text, total, title, fields, metadata in self._rows(f"WHERE n IN ({marks})", some):
                found[n] = Passage(n, number, text, total, title, from_json(fields), from_json(metadata))
        return found

    def _insert(self, document: NewDocument) -> None:
        d, first = self._next("documents"), self._next("passages")
        total = len(document.texts)
        said = (
            document.key, document.stamp, document.title, json.dumps(document.fields), json.dumps(document.facts),
            json.dumps(document.metadata),
        )  # fmt: skip
        self._db.execute(
            f"INSERT INTO documents (d, crc, total, {_SAID}) VALUES (?,?,?,?,?,?,?,?,?)",  # noqa: S608  # only names
            (d, checksum(d, total, 0, joined(*said)), total, *said),
        )
        if not document.texts:
            return
        self._db.executemany(
            "INSERT INTO passages (n, d, number, text, crc) VALUES (?,?,?,?,?)",
            (
                (first + i, d, i, text, checksum(first + i, d, i, text.encode()))
                for i, text in enumerate(document.texts)
            ),
        )
        stored = self._db.execute("SELECT length(vectors) / total / 2 FROM vectors LIMIT 1").fetchone()
        if stored and stored[0] != document.vectors.shape[1]:
            raise OtherWidthError(stored[0], document.vectors.shape[1])
        vectors = document.vectors.astype(np.float16).tobytes()
        place = (first, d, total)
        self._db.execute("INSERT INTO vectors VALUES (?,?,?,?,?)", (*place, vectors, checksum(*place, vectors)))

    def _next(self, table: str) -> int:
        used = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return used[0] + 1 if used else 1

    def _remove(self, key: str) -> None:
        self._db.execute("DELETE FROM unreadable WHERE key = ?", (key,))
        row = self._db.execute("SELECT d FROM documents WHERE key = ? AND gone = 0", (key,)).fetchone()
        if row is not None:
            self._db.execute("DELETE FROM vectors WHERE n = (SELECT min(n) FROM passages WHERE d = ?)", row)
            self._db.execute("UPDATE documents SET gone = 1 WHERE d = ?", row)

    def _set(self, values: dict[str, str]) -> None:
        rows = [(key, value, checksum(0, 0, 0, joined(key, value))) for key, value in values.items()]
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", rows)

    def _rows(self, where: str, values: Sequence[Any]) -> list[tuple[int, int, str, int, str, str, str]]:
        """(n, number, text, total, title, fields, metadata) of passages, fields and metadata as JSON."""
        found = []
        read = (
            f"SELECT n, number, text, p.crc, d, documents.crc, total, {_SAID} FROM passages p JOIN documents USING (d)"  # noqa: S608  # only names
        )
        for n, number, text, crc, d, document_crc, total, *said in self._all(f"{read} {where}", values):
            check_row(crc, (n, d, number), text)
            check_row(document_crc, (d, total, 0), *said)
            found.append((n, number, text, total, said[2], said[3], said[5]))
        return found

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    def _one(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        rows = self._all(query, values)
        return rows[0] if rows else None

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._read_lock:
            try:
                return self._read_db.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise _failure(error) from error


def _connection(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
    except sqlite3.DatabaseError as error:
        raise _failure(error) from error


def _connected(path: Path) -> sqlite3.Connection:
    """A connection to the store at `path`, made where there is none."""
    db = _connection(path)
    try:
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            made_by = db.execute("PRAGMA user_version").fetchone()[0]
            if made_by != _VERSION:
                raise CorruptStoreError(f"made by another version of this package (store {made_by}, now {_VERSION})")
        # Read whole at each start, in few pieces; holds for a new file only.
        db.execute("PRAGMA page_size=16384")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        # Pages: what is written in several batches reaches the disk once (40 MB), with the same safety.
        db.execute("PRAGMA wal_autocheckpoint=2500")
        db.executescript(_SCHEMA)
    except sqlite3.DatabaseError as error:
        db.close()
        raise _failure(error) from error
    except CorruptStoreError:
        db.close()
        raise
    return db


def _failure(error: sqlite3.DatabaseError) -> Exception:
    """Damage, or what passes and is no reason to make everything anew: a full disk, a lock, a read-only file."""
    if isinstance(error, sqlite3.ProgrammingError):
        return ClosedStoreError(str(error))
    return CorruptStoreError(str(error)) if is_damage(error) else OSError(errno.EIO, str(error))


def _runs(firsts: Sequence[int], totals: Sequence[int]) -> Numbers:
    """As many numbers as each total says, from its first on."""
    counts = np.asarray(totals, dtype=np.int64)
    starts = np.asarray(firsts, dtype=np.int64) - counts.cumsum() + counts
    return np.repeat(starts, counts) + np.arange(counts.sum(), dtype=np.int64)


def _problem_of(path: Path) -> str:
    """What is wrong with a file, "ok" for nothing. Reads all of it, on a connection of its own."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as db:
            return str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return str(error)


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK when the block or the COMMIT fails. Raises what `_failure` makes of it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as failed:
            raise _failure(failed) from failed

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if error is None:
                self._db.execute("COMMIT")
        except sqlite3.DatabaseError as failed:
            error = failed
        if error is None:
            return
        if self._db.in_transaction:  # SQLite itself ends it where the disk is full
            self._db.execute("ROLLBACK")
        if isinstance(error, sqlite3.DatabaseError):
            raise _failure(error) from error
