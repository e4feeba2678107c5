"""How damage of a stored file is told: by SQLite's and tantivy's own errors, and by checksums of what rows say."""

from __future__ import annotations

import sqlite3
import zlib

_PASSING = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY,
)  # fmt: skip


class CorruptStoreError(Exception):
    """What is stored contradicts itself or cannot be read; it must be made again."""


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is damaged; False for what passes: a full disk, a lock, a read-only file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # without one: text that is none
    return code & 0xFF not in _PASSING


def is_panic(error: BaseException) -> bool:
    """Whether the text index has met what cannot be: it raises no Exception, and a class that nobody can import."""
    return type(error).__name__ == "PanicException"


def checksum(first: int, second: int, third: int, said: bytes) -> int:
    """A checksum of what a row says, and of where it says it."""
    return zlib.crc32(said, (first + 8191 * second + 131071 * third) & 0xFFFFFFFF)


def joined(*words: str) -> bytes:
    """What several columns say, as one."""
    return "\0".join(words).encode()


def check_row(crc: int, numbers: tuple[int, int, int], *said: str) -> None:
    """Raise CorruptStoreError where a row does not say what its checksum was made of."""
    try:
        if checksum(*numbers, joined(*said)) == crc:
            return
    except TypeError:  # what was text when it was written may come back as anything else
        pass
    raise CorruptStoreError(f"row {numbers[0]} is not what was written")
