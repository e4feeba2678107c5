"""What another process reads is read before it is needed, and no more of it than memory allows."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from rage_retrievers.local import ahead
from rage_retrievers.local.ahead import Ahead
from rage_retrievers.local.documents import Reading, UnreadableDocumentError
from rage_retrievers.local.sources import Entry, Loaded


class Shelf:
    """Documents that note when they are read."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self._changed = threading.Condition()

    def entry(self, key: str, *, apart: bool = True) -> Entry:
        def load() -> Loaded:
            with self._changed:
                self.read.append(key)
                self._changed.notify_all()
            if key == "bad":
                raise UnreadableDocumentError("broken")
            return Loaded(Reading(key * 10), {})

        return Entry(key, "1", load, apart)

    def until(self, holds: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(holds, 60)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_MAX_THREADS", 1)


def test_documents_are_read_before_they_are_taken() -> None:
    """In their order, and each once; one that fails fails whoever takes it, and nobody else."""
    shelf = Shelf()
    entries = [shelf.entry("a"), shelf.entry("bad"), shelf.entry("here", apart=False), shelf.entry("b")]
    with Ahead(entries) as reading:
        assert shelf.until(lambda: shelf.read == ["a", "bad", "b"])
        assert reading.take(entries[0]).reading.text == "a" * 10
        with pytest.raises(UnreadableDocumentError, match="broken"):
            reading.take(entries[1])
        assert reading.take(entries[2]).reading.text == "here" * 10
        assert reading.take(entries[3]).reading.text == "b" * 10
    assert shelf.read == ["a", "bad", "b", "here"]


def test_what_is_taken_again_is_read_again() -> None:
    """An index that was found damaged meanwhile is made from the same offer."""
    shelf = Shelf()
    entry = shelf.entry("a")
    with Ahead([entry]) as reading:
        assert reading.take(entry) == reading.take(entry)
    assert shelf.read == ["a", "a"]


def test_no_more_waits_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next document is begun when one was taken, and none any more when nobody will take it."""
    monkeypatch.setattr(ahead, "_MAX_WAITING_CHARACTERS", 15)
    shelf = Shelf()
    entries = [shelf.entry(key) for key in "abcde"]
    with Ahead(entries) as reading:
        assert shelf.until(lambda: shelf.read == ["a", "b"])
        reading.take(entries[0])
        assert shelf.until(lambda: shelf.read == ["a", "b", "c"])
        with reading._changed:
            assert reading._changed.wait_for(lambda: reading._waiting == 20, 60)
    assert reading._next() is None
    assert shelf.read == ["a", "b", "c"]
