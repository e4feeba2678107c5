"""What an organization owns beside the folder: connectors, uploaded files, pipelines, and what was asked of them.

Kept on disk below the cache directory, so that it outlives the process; any number of processes may share it. Every
record is a frozen dataclass with an `id`; `owner` names what it belongs to. Bytes of files are kept under random names,
so that no name a client chooses ever becomes a path.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sqlite3
import threading
import uuid
from dataclasses import asdict, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from rage_retrievers._frozen import frozen
from rage_retrievers.local._damage import is_damage

_log = logging.getLogger("rage_retrievers.local")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    place INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL,
    body TEXT NOT NULL, UNIQUE (kind, id));
CREATE INDEX IF NOT EXISTS records_of ON records (kind, owner);
"""


class Record(Protocol):
    """What can be kept: a frozen dataclass of JSON values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str: ...

    @property
    def owner(self) -> str: ...


R = TypeVar("R", bound=Record)


@frozen
class Connector:
    """A connector; `owner` is its family: sources, destinations or aiplatforms. Secrets are never among `config`."""

    id: str
    owner: str
    type: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    created: str | None = None
    users: tuple[str, ...] = ()


@frozen
class StoredFile:
    """A file of a connector (its `owner`), or one sent for extraction (owner ""); `blob` names its bytes."""

    id: str
    owner: str
    name: str
    content_type: str
    size: int
    blob: str
    modified: str
    metadata: dict[str, Any] = field(default_factory=dict)


@frozen
class Ticket:
    """Leave to send the bytes of one file, once; `id` is the secret part of the upload URL."""

    id: str
    owner: str
    name: str
    content_type: str
    file_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@frozen
class PipelineRecord:
    """A pipeline that was created through the protocol."""

    id: str
    owner: str
    name: str
    sources: tuple[tuple[str, str], ...]
    """(connector id, type) of each."""
    destination: tuple[str, str]
    platform: tuple[str, str]
    config: dict[str, Any]
    """As the client gave it: the platform's configuration and the schedule."""
    created: str | None
    ready: bool = False
    stopped: bool = False
    problem: str = ""


@frozen
class Event:
    """Something that happened to a pipeline (its `owner`)."""

    id: str
    owner: str
    type: str
    timestamp: str
    summary: dict[str, Any] = field(default_factory=dict)


@frozen
class Job:
    """Something a client started and polls for: deep research of a pipeline (its `owner`), or an extraction."""

    id: str
    owner: str
    asked: dict[str, Any]
    result: dict[str, Any] | None = None


class Account:
    """The records and files of one organization, opened at their first use; safe to call from any thread."""

    def __init__(self, home: Path) -> None:
        self._files = home / "files"
        self._path = home / "account.sqlite"
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()

    def put(self, record: Record) -> None:
        """Keep a record, in place of the one with the same kind and id."""
        values = (type(record).__name__, record.id, record.owner, json.dumps(asdict(record)))
        self._all(
            "INSERT INTO records (kind, id, owner, body) VALUES (?,?,?,?)"
            " ON CONFLICT (kind, id) DO UPDATE SET owner = excluded.owner, body = excluded.body",
            values,
        )

    def get(self, kind: type[R], identity: str) -> R | None:
        """The record of that kind and id."""
        rows = self._all("SELECT body FROM records WHERE kind = ? AND id = ?", (kind.__name__, identity))
        return _revived(kind, rows[0][0]) if rows else None

    def all(self, kind: type[R], owner: str | None = None) -> list[R]:
        """The records of a kind, of one owner when given, in the order in which they were made."""
        whose, values = ("", (kind.__name__,)) if owner is None else (" AND owner = ?", (kind.__name__, owner))
        rows = self._all(f"SELECT body FROM records WHERE kind = ?{whose} ORDER BY place", values)  # noqa: S608  # no input
        return [_revived(kind, body) for (body,) in rows]

    def remove(self, kind: type[R], identity: str) -> R | None:
        """Forget a record; None when there was none (of several callers one gets it)."""
        rows = self._all("DELETE FROM records WHERE kind = ? AND id = ? RETURNING body", (kind.__name__, identity))
        return _revived(kind, rows[0][0]) if rows else None

    def write_blob(self, data: bytes) -> str:
        """Keep bytes; the name to read them by. They are whole on disk when this returns."""
        name = secrets.token_hex(16)
        with (self._files / name).open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return name

    def read_blob(self, name: str) -> bytes:
        """Bytes kept before; raises `FileNotFoundError` when they are gone."""
        return (self._files / name).read_bytes()

    def drop_blob(self, name: str) -> None:
        """Forget bytes."""
        (self._files / name).unlink(missing_ok=True)

    def _all(self, query: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._db is None:
                self._db = self._open()
            return self._db.execute(query, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        self._files.mkdir(parents=True, exist_ok=True)
        try:
            return _opened(self._path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            aside = self._path.with_name(f"account-unreadable-{secrets.token_hex(4)}.sqlite")
            self._path.rename(aside)
            _log.warning("local.account_unreadable reason=%s moved_to=%s", error, aside)
            return _opened(self._path)


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _revived(kind: type[R], body: str) -> R:
    values = json.loads(body)
    for name in ("sources", "users"):
        if name in values:
            values[name] = tuple(tuple(one) if isinstance(one, list) else one for one in values[name])
    for name in ("destination", "platform"):
        if name in values:
            values[name] = tuple(values[name])
    return kind(**values)


def now() -> str:
    """The time, as the service writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """A fresh id of the usual kind."""
    return str(uuid.uuid4())


def new_pipeline_id() -> str:
    """A fresh id as the service gives it to pipelines: a UUID whose first three letters are `aip`."""
    return f"aip{new_id()[3:]}"
