"""Where documents come from, and how they are offered to a collection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, Protocol

from rage_retrievers._frozen import frozen
from rage_retrievers.local.documents import Reading


@frozen
class Entry:
    """A document as its source offers it: `stamp` changes whenever its content may have."""

    key: str
    stamp: str
    load: Callable[[], Loaded]
    """Reads it; raises `UnreadableDocumentError` or `OSError`."""
    apart: bool = False
    """Whether another process does the work of reading, so that it may be begun before it is needed."""


@frozen
class Loaded:
    """A document read: its text and facts, the user's metadata, and the protocol's fields (source, origin, …)."""

    reading: Reading
    fields: dict[str, str]
    metadata: dict[str, Any] = field(default_factory=dict)


@frozen
class Scan:
    """What a source holds now."""

    entries: list[Entry]
    refused: list[tuple[str, str]]
    """(key, reason) of what is not read whatever its content."""


class Source(Protocol):
    """Where documents come from."""

    def scan(self) -> Scan: ...
