"""What an error of SQLite says about the file."""

from __future__ import annotations

import sqlite3

_PASSING = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY,
)  # fmt: skip


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is damaged; False for what passes: a full disk, a lock, a read-only file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # without one: text that is none
    return code & 0xFF not in _PASSING
