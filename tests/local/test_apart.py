"""Readers in processes of their own: what a hostile document costs is bounded whatever its parser does."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rage_retrievers.local import LocalService, apart, documents, embedding
from rage_retrievers.local.documents import UnreadableDocumentError

from .conftest import Asker, make_docx, make_pdf


def filtered(head: bytes, plain: bytes) -> bytes:
    """A PDF whose one page is `plain`, packed, read through the filters of `head`."""
    whole, packed = make_pdf("x"), zlib.compress(plain, 9)
    start, end = whole.index(b"4 0 obj"), whole.index(b"5 0 obj")
    stream = b"4 0 obj\n<< /Length %d %s >>\nstream\n%s\nendstream\nendobj\n" % (len(packed), head, packed)
    return whole[:start] + stream + whole[end:]


@pytest.fixture
def fresh() -> Iterator[None]:
    """No reader from another test, and none left for the next."""
    apart._end_all()
    yield
    apart._end_all()


def begin_with(setting: str) -> str:
    """How a reader begins that has another bound."""
    return apart._BEGIN.replace("; serve()", f"; from rage_retrievers.local import apart; apart.{setting}; serve()")


def readers() -> list[Any]:
    return [reader._process for reader in apart._readers.idle]


def test_a_stream_that_costs_minutes_is_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty kilobytes whose rows are undone one by one: pypdf asks nobody in the middle of it."""
    monkeypatch.setattr(documents, "MAX_SECONDS", 1.0)
    monkeypatch.setattr(apart, "GRACE_SECONDS", 0.5)
    rows = b"/Filter /FlateDecode /DecodeParms << /Predictor 12 /Columns 1 >>"
    began = time.monotonic()
    with pytest.raises(UnreadableDocumentError, match="takes more than 1 s"):
        apart.read("slow.pdf", filtered(rows, b"\x02\x00" * 30_000_000))
    assert time.monotonic() - began < 20
    assert apart.read("next.pdf", make_pdf("the next one")).text == "the next one"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold a process to its memory")
@pytest.mark.usefixtures("fresh")
def test_a_document_that_needs_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is the reader's own, so whoever asked has all of its memory."""
    monkeypatch.setattr(apart, "_BEGIN", begin_with("MAX_MEMORY_BYTES = 2 * 10**8"))
    grown = filtered(b"/Filter [/FlateDecode /ASCII85Decode]", b"z" * 40_000_000)
    with pytest.raises(UnreadableDocumentError, match="too much memory"):
        apart.read("grown.pdf", grown)


@pytest.mark.usefixtures("fresh")
def test_readers_are_used_again_and_no_two_at_once() -> None:
    """Four documents at the same time need four, four one after the other need one."""
    for number in range(4):
        assert apart.read("a.html", b"<p>page %d" % number).text == f"page {number}"
    assert len(readers()) == 1
    with ThreadPoolExecutor(4) as threads:
        pages = [b"<p>page %d</p>" % number * 2000 for number in range(8)]
        found = list(threads.map(lambda page: apart.read("a.html", page).text[:6], pages))
    assert found == [f"page {number}" for number in range(8)]
    assert 1 <= len(readers()) <= 4


@pytest.mark.usefixtures("fresh")
def test_a_folder_that_needs_a_reader_has_it_begin_at_once(
    tmp_path: Path, open_service: Callable[..., LocalService], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading is under way before the rest is loaded; where nothing is to be read apart, no reader begins."""
    chosen = embedding.choose

    def noted(model: object | None) -> Any:
        if (home / "page.html").exists():
            with apart._readers._changed:
                assert apart._readers._changed.wait_for(lambda: apart._readers.idle, 60)
        return chosen(model)

    monkeypatch.setattr(embedding, "choose", noted)
    for name, expected in (("plain.txt", 0), ("page.html", 1)):
        home = tmp_path / Path(name).stem
        home.mkdir()
        (home / name).write_text("word", encoding="utf-8")
        for _ in range(2):  # the second start finds its index
            open_service(home).close()
        assert len(readers()) == expected


@pytest.mark.usefixtures("fresh")
def test_a_reader_that_is_soon_free_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short documents at the same time have one reader; a long one holds nobody up for ever."""
    monkeypatch.setattr(apart, "_PATIENCE_SECONDS", 60.0)
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: apart.read("a.html", b"<p>page").text, range(8))) == {"page"}
    assert len(readers()) == 1
    monkeypatch.setattr(apart, "_PATIENCE_SECONDS", 0.0)
    with apart._readers.lent() as busy:
        assert apart.read("a.html", b"<p>other").text == "other"
    assert busy in apart._readers.idle
    assert len(readers()) == 2


@pytest.mark.usefixtures("fresh")
def test_a_reader_that_went_idle_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends by itself, so that a service at rest holds no process."""
    monkeypatch.setattr(apart, "_BEGIN", begin_with("_IDLE_SECONDS = 0.1"))
    assert apart.read("a.html", b"<p>one").text == "one"
    (process,) = readers()
    assert process.wait(30) == 0
    assert apart.read("a.html", b"<p>two").text == "two"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.usefixtures("fresh")
def test_a_reader_that_dies_costs_one_document() -> None:
    """The next document has another reader."""
    assert apart.read("a.html", b"<p>one").text == "one"
    (process,) = readers()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    with pytest.raises(UnreadableDocumentError, match="its reader ended"):
        apart.read("a.html", b"<p>two")
    assert apart.read("a.html", b"<p>three").text == "three"


def test_what_a_parser_says_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    """pypdf complains of a broken file on its logger; ours is not a program that configures it."""
    level = logging.getLogger("pypdf").level
    broken = make_pdf("still readable").replace(b"startxref\n", b"startxref\n9")
    assert apart.read("odd.pdf", broken).text == "still readable"
    assert logging.getLogger("pypdf").level == level
    assert capfd.readouterr() == ("", "")


def test_documents_read_apart_keep_their_order(tmp_path: Path, open_service: Callable[..., LocalService]) -> None:
    """Several at once, and each is told of and stored at its turn."""
    home = tmp_path / "docs"
    home.mkdir()
    for number in range(12):
        kind = ("html", "txt", "docx")[number % 3]
        data = make_docx(f"word{number}") if kind == "docx" else f"word{number}".encode()
        (home / f"{number:02}.{kind}").write_bytes(data)
    heard: list[str] = []
    service = open_service(home, progress=lambda step: heard.append(step.path) if step.stage == "read" else None)
    assert heard == sorted(heard)
    assert len(heard) == 12
    for number in range(12):
        assert Asker(service).sources(f"word{number}", advanced={"mode": "text"})[0].startswith(f"{number:02}.")
