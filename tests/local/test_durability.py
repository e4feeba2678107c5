"""What survives: kill -9 at any moment, corrupt files, and several services on one folder."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import LocalService, Progress
from rage_retrievers.local._lock import exclusive
from rage_retrievers.local.collection import Collection
from rage_retrievers.local.feed import Feed
from rage_retrievers.local.snapshot import Snapshot
from rage_retrievers.local.store import ClosedStoreError, Store, _Transaction
from rage_retrievers.local.text_index import TextIndex

from .conftest import FILES, Asker, sources, store_of

INDEX = """
import os, signal, sys
from pathlib import Path
from rage_retrievers.local import LocalService, collection, text_index

collection._BATCH_PASSAGES = 4
folder, cache, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def told(step):
    if moment == f"{step.stage} {step.done}":
        die()

commit = text_index.Writing.commit
def committed(self, gone):
    if moment == "before the text index is written":
        die()
    commit(self, gone)
    if moment == "after the text index is written":
        die()

text_index.Writing.commit = committed
with LocalService.open(folder, cache_dir=cache, progress=told) as service:
    print(service.stats.files, service.stats.chunks)
"""


def index(folder: Path, cache: Path, moment: str = "never") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INDEX, str(folder), str(cache), moment]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("read 17", range(10, 20)),
        ("index 0", range(1)),
        ("before the text index is written", range(1)),
        ("after the text index is written", range(1)),
    ],
)
def test_a_killed_indexing_is_taken_up_again(
    many: Path, tmp_path: Path, open_service: Any, moment: str, left: range
) -> None:
    """Nothing is lost, nothing is there twice, and what was stored is not read again."""
    killed = index(many, tmp_path / "cache", moment)
    killed.communicate()
    assert killed.returncode == -9
    heard: list[Progress] = []
    service: LocalService = open_service(many, progress=heard.append)
    assert len([step for step in heard if step.stage == "read"]) in left
    assert sources(service) == [f"{number:02}.txt" for number in range(FILES)]
    assert Asker(service).sources("number7", num_results=9, advanced={"mode": "text"}) == ["07.txt"]
    assert len(Asker(service)("number7", num_results=999)["documents"]) == FILES


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_indexing_began_costs_no_index(many: Path, tmp_path: Path, open_service: Any) -> None:
    """The text index is as it was at its last commit, and goes on from there."""
    open_service(many).close()
    for number in range(9):
        (many / f"{number:02}.txt").write_text(f"common words, now with zebra{number}")
    killed = index(many, tmp_path / "cache", "read 7")
    killed.communicate()
    assert killed.returncode == -9
    (begun,) = store_of(tmp_path).parent.glob("text-*/.managed.json")
    begun.write_text(json.dumps([*json.loads(begun.read_text()), "0123456789abcdef0123456789abcdef.term"]))
    service: LocalService = open_service(many)
    assert not service.stats.rebuilt
    assert sources(service) == [f"{number:02}.txt" for number in range(FILES)]
    for number in range(9):
        assert Asker(service).sources(f"zebra{number}", advanced={"mode": "text"}) == [f"{number:02}.txt"]
        assert Asker(service).sources(f"number{number}", advanced={"mode": "text"}) == []


def test_an_indexing_that_fails_leaves_the_index_to_the_next(many: Path, tmp_path: Path, open_service: Any) -> None:
    """What had gone to the text index by then is not there, and nobody is locked out of it."""
    service: LocalService = open_service(many)
    (directory,) = store_of(tmp_path).parent.glob("text-*")
    text = TextIndex(directory)

    def broken() -> Iterator[tuple[int, str, str, str, str]]:
        yield 99, "common words that nobody stored", "", "x", "{}"
        raise ZeroDivisionError

    with text.writing() as writing, pytest.raises(ZeroDivisionError):
        writing.add(broken())
    assert text.view().count == FILES
    (many / "new.txt").write_text("common words and zebras")
    assert Asker(service).sources("zebras", advanced={"mode": "text"}) == ["new.txt"]


def test_two_processes_index_one_folder(many: Path, tmp_path: Path, open_service: Any) -> None:
    """Both finish, and the index holds everything once."""
    both = [index(many, tmp_path / "cache") for _ in range(2)]
    for process in both:
        out, errors = process.communicate()
        assert (out.split(), process.returncode) == ([str(FILES), str(FILES)], 0), errors
    service: LocalService = open_service(many)
    assert service.stats.reused
    assert sources(service) == [f"{number:02}.txt" for number in range(FILES)]


def test_two_services_in_one_process_see_each_others_changes(many: Path, open_service: Any) -> None:
    """Whichever of them indexes a change, both answer from it."""
    first: LocalService = open_service(many)
    second: LocalService = open_service(many)
    (many / "new.txt").write_text("common words and zebras")
    assert Asker(first).sources("zebras", advanced={"mode": "text"}) == ["new.txt"]
    assert Asker(second).sources("zebras", advanced={"mode": "text"}) == ["new.txt"]
    first.close()
    assert len(sources(second)) == FILES + 1


@pytest.mark.parametrize("replaced", ["text index", "store"])
def test_a_change_goes_into_what_another_service_has_replaced(
    many: Path, tmp_path: Path, open_service: Any, replaced: str
) -> None:
    """Whoever opened the index before it was made again writes into the new one, and fails nobody."""
    first: LocalService = open_service(many)
    if replaced == "store":
        second: LocalService = open_service(many)
        second._operations.own.feed.collection.rebuild("for this test")  # type: ignore[union-attr]
    else:
        store = Store(store_of(tmp_path))
        store.set(writing="yes")
        store.close()
        second = open_service(many)
    (many / "new.txt").write_text("common words and zebras")
    for service in (first, second):
        assert Asker(service).sources("zebras", advanced={"mode": "text"}) == ["new.txt"]
        assert len(sources(service)) == FILES + 1


def test_what_is_being_replaced_is_answered_from_as_it_was(
    many: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the new version is in the index the old one is found, by its words, its vector and its fields."""
    service: LocalService = open_service(many)
    found: list[Any] = []
    settle = Collection._settle

    def asked_before(self: Collection, last: int) -> None:
        found.extend(
            Asker(service)("number7 number8", num_results=FILES, **knobs)["documents"]
            for knobs in ({}, {"advanced": {"mode": "text"}}, {"metadata_filters": [{"source": ["07.txt", "08.txt"]}]})
        )
        settle(self, last)

    monkeypatch.setattr(Collection, "_settle", asked_before)
    (many / "07.txt").write_text("common words and something else")
    (many / "08.txt").unlink()
    assert sorted(sources(service)) == [f"{number:02}.txt" for number in range(FILES) if number != 8]
    assert len(found) == 3
    for documents in found:
        assert {one["source"]: one["text"] for one in documents}.items() >= {
            f"0{n}.txt": f"common words and the single word number{n}" for n in (7, 8)
        }.items()
    assert not service.stats.rebuilt


def test_what_is_replaced_under_a_request_is_answered_from_as_it_is(
    many: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was ranked as it was and cannot be read so any more; nothing is missing, nothing is made anew."""
    service: LocalService = open_service(many, follow_seconds=9999.0)
    passages = Store.passages
    changes = iter([f"common words and version {n}" for n in range(2)])

    def replaced_before(self: Store, numbers: Any) -> Any:
        if text := next(changes, ""):
            (many / "07.txt").write_text(text)
            service.refresh()
        return passages(self, numbers)

    monkeypatch.setattr(Store, "passages", replaced_before)
    texts = {one["source"]: one["text"] for one in Asker(service)("common", num_results=FILES)["documents"]}
    assert len(texts) == FILES
    assert texts["07.txt"] == "common words and version 1"
    assert not service.stats.rebuilt


def test_a_closed_service_answers_no_more(many: Path, tmp_path: Path) -> None:
    """Nor does it take its closed store for a corrupt one and make the index again."""
    service = LocalService.open(many, cache_dir=tmp_path / "cache")
    service.close()
    store = store_of(tmp_path).stat()
    path = f"/v1/org/{service.organization}/pipelines/{service.pipeline_id}/retrieval"
    asked = json.dumps({"question": "leave", "numResults": 1}).encode()
    assert service.handle("POST", path, {"authorization": "Bearer t"}, asked).status == 503
    assert (store_of(tmp_path).stat().st_ino, store_of(tmp_path).stat().st_mtime_ns) == (
        store.st_ino,
        store.st_mtime_ns,
    )


def test_a_closed_store_is_no_corrupt_one(many: Path, open_service: Any) -> None:
    """Whoever reads from it is told so; nothing is made again."""
    service: LocalService = open_service(many)
    feed = _feed(service)
    feed.close()
    with pytest.raises(ClosedStoreError):
        feed.read(lambda seen: seen.passages([1]))
    assert not feed.collection.rebuilt


def test_a_reader_whose_store_is_replaced_under_it_asks_the_new_one(many: Path, open_service: Any) -> None:
    """It finds its store closed, and is answered all the same."""
    first: LocalService = open_service(many)
    second: LocalService = open_service(many)
    begun: list[Snapshot] = []

    def ask(seen: Snapshot) -> int:
        if not begun:
            begun.append(seen)
            _feed(second).collection.rebuild("for this test")
            second.refresh()
            _feed(first).collection.snapshot()
        return len(seen.passages(seen.numbers.tolist()))

    assert _feed(first).read(ask) == FILES


def test_what_another_service_is_making_again_is_answered_from_as_it_was(many: Path, open_service: Any) -> None:
    """Nobody opens, and so mends, an index that another process is still writing."""
    first: LocalService = open_service(many)
    second: LocalService = open_service(many)
    collection = _feed(second).collection
    collection.rebuild("for this test")
    before = sorted(collection.home.iterdir())
    with exclusive(collection.home / "lock", wait=True):
        assert _feed(first).read(lambda seen: seen.count) == FILES
    assert sorted(collection.home.iterdir()) == before
    second.refresh()
    assert _feed(first).read(lambda seen: seen.count) == FILES


def test_what_another_service_has_made_again_is_not_thrown_away(many: Path, tmp_path: Path, open_service: Any) -> None:
    """Both found the same damage; the second takes what the first has made."""
    first: LocalService = open_service(many)
    second: LocalService = open_service(many)
    _feed(second).collection.rebuild("for this test")
    second.refresh()
    made = store_of(tmp_path).stat().st_ino
    _feed(first).collection.rebuild("for this test")
    assert store_of(tmp_path).stat().st_ino == made
    assert len(sources(first)) == FILES


def test_a_full_disk_is_no_damage(many: Path, open_service: Any) -> None:
    """What could not be stored is told as such, what is there stays, and the next look takes up what is missing."""
    service: LocalService = open_service(many)
    store = _feed(service).collection._store
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count={pages}")
    (many / "new.txt").write_text("common words " * 20_000)
    with pytest.raises(OSError, match="full"):
        service.refresh()
    assert not service.stats.rebuilt
    assert service.stats.files == FILES
    store._db.execute("PRAGMA max_page_count=100000")
    service.refresh()
    assert service.stats.files == FILES + 1


def test_a_change_that_waits_to_be_stored_holds_up_no_reader(many: Path, tmp_path: Path, open_service: Any) -> None:
    """Whoever else holds the store's write lock holds up the one who writes, and nobody who asks."""
    service: LocalService = open_service(many)
    (many / "new.txt").write_text("common words of a new file")
    other = sqlite3.connect(store_of(tmp_path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun, enter = threading.Event(), _Transaction.__enter__

    def entered(self: _Transaction) -> None:
        begun.set()
        enter(self)

    with mock.patch.object(_Transaction, "__enter__", entered), ThreadPoolExecutor(1) as beside:
        change = beside.submit(service.refresh)
        assert begun.wait(60)
        assert len(sources(service)) == FILES
        other.execute("ROLLBACK")
        change.result(60)
    other.close()
    assert len(sources(service)) == FILES + 1


def test_a_change_that_cannot_be_stored_fails_the_one_who_finds_it(
    many: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody else is answered from what is there, until the next look tries again."""
    service: LocalService = open_service(many, follow_seconds=3600.0)
    (many / "new.txt").write_text("common words of a new file")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "replace", mock.Mock(side_effect=OSError(errno.EIO, "database is locked")))
        _feed(service).hurry()
        assert Asker(service).post({"question": "common words", "numResults": 9})[0] == 500
        assert len(sources(service)) == FILES
    _feed(service).hurry()
    assert len(sources(service)) == FILES + 1


def test_a_cache_that_cannot_be_written_is_told_with_the_remedy(
    many: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is found out only when something is to be stored."""
    full = mock.Mock(side_effect=OSError(errno.EIO, "database or disk is full"))
    monkeypatch.setattr(Store, "replace", full)
    with pytest.raises(ConfigurationError, match=r"disk is full.*RAGE_CACHE_DIR"):
        open_service(many)


def test_a_snapshot_that_was_interrupted_leaves_no_vector_behind(
    many: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one begins where the last whole one ended, so every vector stays with its passage."""
    service: LocalService = open_service(many)
    question = "the single word number7"
    expected = Asker(service).sources(question, advanced={"mode": "vector"})
    read = Store.vectors_after

    def interrupted(store: Store, n: int) -> Iterator[Any]:
        yield from read(store, n)
        raise KeyboardInterrupt

    for number in range(FILES, FILES + 9):
        (many / f"{number:02}.txt").write_text(f"other words and a file of its own {number}")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "vectors_after", interrupted)
        with pytest.raises(KeyboardInterrupt):
            service.refresh()
    (many / "last.txt").write_text("zebras graze")
    assert Asker(service).sources("zebras graze", num_results=1, advanced={"mode": "vector"}) == ["last.txt"]
    assert Asker(service).sources(question, advanced={"mode": "vector"}) == expected


def _feed(service: LocalService) -> Feed:
    own = service._operations.own
    assert own is not None
    return own.feed
