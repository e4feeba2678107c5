"""What is damaged: noticed, told, made again where it can be, and never served."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from rage_retrievers.local import LocalService
from rage_retrievers.local.account import Account, Event, now
from rage_retrievers.local.embedding import WordVectors
from rage_retrievers.local.text_index import TextView, Writing

from .conftest import FILES, Asker, sources, store_of


def _truncate_text(tmp_path: Path) -> None:
    for path in store_of(tmp_path).parent.glob("text-*/*.store"):
        path.write_bytes(path.read_bytes()[:-9])


def _scramble_text(tmp_path: Path) -> None:
    for path in store_of(tmp_path).parent.glob("text-*/*.term"):
        path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes()))


def _remove_text(tmp_path: Path) -> None:
    for path in store_of(tmp_path).parent.glob("text-*/*"):
        path.unlink()


def _overwrite_store(tmp_path: Path) -> None:
    for path in store_of(tmp_path).parent.glob("store.sqlite-*"):
        path.unlink()
    store_of(tmp_path).write_bytes(b"not a database" * 999)


def _overwrite_page(tmp_path: Path) -> None:
    """One that nothing reads at a start but the check of the whole file."""
    with sqlite3.connect(store_of(tmp_path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'passages_of'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    whole = store_of(tmp_path).read_bytes()
    store_of(tmp_path).write_bytes(whole[: (page - 1) * size] + b"\x55" * size + whole[page * size :])


def _alter_vector(tmp_path: Path) -> None:
    """The file stays sound, and one document would be found by what it does not say."""
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("UPDATE vectors SET vectors = zeroblob(length(vectors)) WHERE n = 8")
    db.close()


def _alter_setting(tmp_path: Path) -> None:
    """How far the text index has come is no number any more."""
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("UPDATE meta SET value = '3p' WHERE key = 'indexed_through'")
    db.close()


def _write_older_format(tmp_path: Path) -> None:
    """Tables as an earlier version of this package made them."""
    for path in store_of(tmp_path).parent.glob("store.sqlite-*"):
        path.unlink()
    path = store_of(tmp_path)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        db.execute("CREATE TABLE documents (d INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, stamp TEXT NOT NULL)")
        db.execute("INSERT INTO documents VALUES (1, '03.txt', 'as it was')")
    db.close()


@pytest.mark.parametrize(
    "spoil",
    [
        _truncate_text, _scramble_text, _remove_text, _overwrite_store, _overwrite_page, _alter_vector, _alter_setting,
        _write_older_format,
    ],
)  # fmt: skip
def test_a_corrupt_index_is_made_again_and_told(
    many: Path, tmp_path: Path, open_service: Any, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The next start answers from a whole index and says why it was rebuilt."""
    open_service(many).close()
    spoil(tmp_path)
    service: LocalService = open_service(many)
    assert service.stats.rebuilt
    assert "index_rebuilt" in caplog.text
    assert sources(service) == [f"{number:02}.txt" for number in range(FILES)]


@pytest.mark.parametrize(
    "alter",
    [
        "UPDATE passages SET text = 'forged' WHERE n = 8",
        "UPDATE passages SET number = 7 WHERE n = 8",
        "UPDATE passages SET d = 3 WHERE n = 8",
        """UPDATE documents SET fields = replace(fields, '.txt', '.TXT') WHERE d = 8""",
        """UPDATE documents SET metadata = '{"forged": true}' WHERE d = 8""",
        "UPDATE documents SET metadata = CAST(metadata AS BLOB) WHERE d = 8",
        "UPDATE documents SET title = 'forged' WHERE d = 8",
        "UPDATE documents SET total = 9 WHERE d = 8",
    ],
)
def test_what_was_altered_is_never_served(many: Path, tmp_path: Path, open_service: Any, alter: str) -> None:
    """What was changed behind the service's back while it runs is read again from the file."""
    service: LocalService = open_service(many)
    before = Asker(service)("number7", num_results=FILES)["documents"]
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute(alter)
    db.close()
    assert _without_ids(Asker(service)("number7", num_results=FILES)["documents"]) == _without_ids(before)
    assert len(before) == FILES
    assert service.stats.rebuilt


def _without_ids(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents without what a new index numbers anew."""
    return [{name: value for name, value in one.items() if name != "id"} for one in documents]


def test_metadata_that_was_altered_admits_nothing(many: Path, tmp_path: Path, open_service: Any) -> None:
    """A filter is not answered from it either."""
    service: LocalService = open_service(many)
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("""UPDATE documents SET metadata = '{"forged": true}' WHERE d = 8""")
    db.close()
    assert Asker(service)("number7", metadata_filters=[{"forged": [True]}])["documents"] == []
    assert service.stats.rebuilt


def test_a_setting_that_was_altered_under_a_running_service_is_noticed(
    many: Path, tmp_path: Path, open_service: Any
) -> None:
    """At the next question, for it is looked at before the folder is."""
    service: LocalService = open_service(many, follow_seconds=3600.0)
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'generation'")
    db.close()
    assert len(sources(service)) == FILES
    assert service.stats.rebuilt


def test_a_passage_that_vanished_is_noticed(many: Path, tmp_path: Path, open_service: Any) -> None:
    """The index is made again, and the document is answered."""
    service: LocalService = open_service(many)
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("DELETE FROM passages WHERE n = 8")
    db.close()
    assert len(sources(service)) == FILES
    assert service.stats.rebuilt


def test_an_account_that_cannot_be_read_is_moved_aside(many: Path, tmp_path: Path, open_service: Any) -> None:
    """The service goes on with a new one, the old one stays for whoever wants to look."""
    service: LocalService = open_service(many)
    Asker(service).service.handle("GET", f"/v1/org/{service.organization}/pipelines", {"authorization": "t"}, b"")
    service.close()
    (path,) = (tmp_path / "cache").glob("many-*/account/account.sqlite")
    for old in path.parent.glob("account.sqlite-*"):
        old.unlink()
    path.write_bytes(b"not a database" * 999)
    again: LocalService = open_service(many)
    at = f"/v1/org/{again.organization}/pipelines"
    assert json.loads(again.handle("GET", at, {"authorization": "t"}, b"").body)["data"]
    assert len(list(path.parent.glob("account-unreadable-*.sqlite"))) == 1


def test_an_account_that_is_busy_is_no_damaged_one(many: Path, tmp_path: Path) -> None:
    """What somebody holds or a full disk refuses stays where it is; the next request finds it."""
    home = tmp_path / "account"
    account = Account(home)
    account.put(Event("1", "", "kept", now()))
    account.close()
    again = Account(home)
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
    with mock.patch("rage_retrievers.local.account._opened", side_effect=busy), pytest.raises(sqlite3.OperationalError):
        again.all(Event)
    assert [event.type for event in again.all(Event)] == ["kept"]
    again.close()


@pytest.mark.parametrize("gone", ["store", "index", "cache"])
def test_what_is_removed_under_a_running_service_is_made_again(
    many: Path, tmp_path: Path, open_service: Any, gone: str
) -> None:
    """Whoever empties a cache directory is answered from the documents, never from an empty index."""
    service = open_service(many, follow_seconds=3600.0)
    whole, home = sources(service), store_of(tmp_path).parent
    if gone == "store":
        for path in home.glob("store.sqlite*"):
            path.unlink()
    else:
        shutil.rmtree(home if gone == "index" else tmp_path / "cache")
    assert sources(service) == whole
    assert len(whole) == FILES


def _take_away_text(many: Path, tmp_path: Path) -> None:
    """Remove the text index, and give it something to index."""
    for directory in store_of(tmp_path).parent.glob("text-*"):
        shutil.rmtree(directory)
    (many / "new.txt").write_text("common words of a new file")


def test_a_text_index_removed_under_a_running_service_is_made_again(
    many: Path, tmp_path: Path, open_service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """At the next look: whoever reads it does not notice, and whoever writes could not."""
    service = open_service(many)
    _take_away_text(many, tmp_path)
    assert len(sources(service)) == FILES + 1
    assert "its files are gone" in caplog.text


def _overwrite(tmp_path: Path, kind: str, mask: int, kept: int = 0) -> None:
    """Files of the text index, in place, so that whoever has them open sees it; all but the last `kept` bytes."""
    (path,) = store_of(tmp_path).parent.glob(f"text-*/*.{kind}")
    with path.open("r+b") as file:
        whole = file.read()
        file.seek(0)
        file.write(bytes(byte ^ mask if mask else 0 for byte in whole[: len(whole) - kept]))


@pytest.mark.parametrize(("kind", "mask"), [("term", 0x55), ("idx", 0x55), ("pos", 0), ("fast", 0)])
def test_a_text_index_overwritten_under_a_running_service_is_made_again(
    many: Path, tmp_path: Path, open_service: Any, kind: str, mask: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever tantivy says of it (an error, a panic, numbers that are none), whoever asks is answered; told once."""
    service = open_service(many, follow_seconds=3600.0)
    _overwrite(tmp_path, kind, mask)
    assert len(sources(service)) == FILES
    assert Asker(service).sources("number7", advanced={"mode": "text"}) == ["07.txt"]
    assert caplog.text.count("index_rebuilt") == 1
    assert f".{kind} is not what was written" in service.stats.rebuilt


@pytest.mark.parametrize(("kind", "kept"), [("store", 0), ("fieldnorm", 120)])
def test_a_damaged_text_index_is_not_written_on(
    many: Path, tmp_path: Path, open_service: Any, kind: str, kept: int
) -> None:
    """Damage that no search has met is met by whoever adds to it, or else by the look at what was not to change."""
    service = open_service(many)
    _overwrite(tmp_path, kind, 0x55, kept)
    (many / "new.txt").write_text("common words of a new file")
    assert len(sources(service)) == FILES + 1
    assert service.stats.rebuilt


def test_a_sound_text_index_that_fails_is_not_made_again(
    many: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fail once more."""
    service = open_service(many)
    with monkeypatch.context() as patch:
        patch.setattr(TextView, "_collect", mock.Mock(side_effect=ValueError("no")))
        assert Asker(service).post({"question": "common words", "numResults": 9})[0] == 500
    assert len(sources(service)) == FILES
    assert not service.stats.rebuilt


def test_a_text_index_that_could_not_be_made_again_is_not_taken_for_an_empty_one(
    many: Path, tmp_path: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look makes it."""
    service = open_service(many)
    _take_away_text(many, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Writing, "commit", mock.Mock(side_effect=ValueError("no space left")))
        assert Asker(service).post({"question": "common words", "numResults": 9})[0] == 500
    assert len(sources(service)) == FILES + 1


def test_nobody_is_answered_from_an_index_that_is_being_made_again(
    many: Path, tmp_path: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who found the damage makes it again, and the others wait: an empty list would be a lie."""
    service = open_service(many, follow_seconds=3600.0)
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("UPDATE passages SET text = 'altered'")
    db.close()
    taken, leave, passages, found = threading.Event(), threading.Event(), WordVectors.passages, list[int]()

    def slow(self: WordVectors, texts: list[str]) -> Any:
        taken.set()
        leave.wait(60)
        return passages(self, texts)

    monkeypatch.setattr(WordVectors, "passages", slow)
    threads = [threading.Thread(target=lambda: found.append(len(sources(service)))) for _ in range(2)]
    threads[0].start()
    assert taken.wait(60)
    threads[1].start()
    threads[1].join(0.3)
    leave.set()
    for thread in threads:
        thread.join(60)
    assert found == [FILES, FILES]


def test_a_panic_of_the_text_index_is_an_error_of_the_service(
    many: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no Exception, and whoever asks is answered in the protocol's words all the same; Ctrl-C is none."""
    service = open_service(many)

    def fail(kind: type[BaseException]) -> None:
        monkeypatch.setattr(service._operations, "answer", mock.Mock(side_effect=kind("unwrap")))

    fail(type("PanicException", (BaseException,), {}))
    assert Asker(service).post({})[0] == 500
    fail(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        Asker(service).post({})
