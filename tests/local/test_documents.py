"""Reading documents: what their text becomes, and bounds that hold for hostile ones."""

from __future__ import annotations

import io
import time
import zipfile
import zlib

import pytest

from rage_retrievers.local import documents
from rage_retrievers.local.documents import UnreadableDocumentError

from .conftest import make_docx, make_pdf


def test_a_page_keeps_its_blocks_apart_and_its_lines_together() -> None:
    """Paragraphs are paragraphs, list items and rows lines, cells words; markup inside a line leaves no trace."""
    page = (
        "<html><head><title>T</title></head><body><h1>A <b>bold</b> head</h1><p>one<br>two</p><ul><li>x</li>"
        "<li>y <i>z</i> w</li></ul><table><tr><th>k</th><td>v</td></tr><tr><td>1</td><td>2</td></tr></table>"
        "<pre>a\nb</pre><!-- hidden --><footer>gone</footer><div>end</div></body></html>"
    )
    text = documents.read("page.html", page.encode()).text
    assert text == "A bold head\n\none\ntwo\nx\ny z w\nk v\n1 2\n\na\nb\nend"


@pytest.mark.parametrize("piece", ["<div>", "<b>x", "<p>x"])
def test_a_page_nested_without_end_is_read_in_one_pass(piece: str) -> None:
    """Ten thousand levels are text like any other."""
    assert documents.read("page.html", (piece * 10_000 + "the end").encode()).text.endswith("the end")


def test_a_page_of_nothing_but_tags_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of tags is bounded before a tree is built."""
    monkeypatch.setattr(documents, "MAX_TAGS", 100)
    with pytest.raises(UnreadableDocumentError, match="more than 100 tags"):
        documents.read("page.html", b"<i>" * 101)


def test_a_pdf_that_unpacks_without_end_is_refused() -> None:
    """A stream of a hundred kilobytes that stands for eighty megabytes is not unpacked."""
    packed = zlib.compress(b" " * 80_000_000, 9)
    whole = make_pdf("x")
    start, end = whole.index(b"4 0 obj"), whole.index(b"5 0 obj")
    bomb = b"4 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream\nendobj\n" % (len(packed), packed)
    with pytest.raises(UnreadableDocumentError):
        documents.read("bomb.pdf", whole[:start] + bomb + whole[end:])


@pytest.mark.parametrize("piece", [b"<!--", b"<?", b"<a<a", b"</a"])
def test_a_page_whose_tags_do_not_end_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """Where the parser takes quadratic time (some versions of Python), the deadline ends it."""
    monkeypatch.setattr(documents, "MAX_SECONDS", 0.2)
    with pytest.raises(UnreadableDocumentError, match=r"takes more than|no text"):
        documents.read("page.html", b"<p>" + piece * 200_000)


def test_a_tag_of_nothing_but_attributes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number is bounded before they are objects; a picture inside a page is one attribute however long."""
    monkeypatch.setattr(documents, "MAX_ATTRIBUTES", 1000)
    with pytest.raises(UnreadableDocumentError, match="attributes"):
        documents.read("page.html", b"<p " + b"a b='c' " * 1000 + b">text")
    picture = b"<img src='data:image/png;base64," + b"Zm9v+" * 50_000 + b"'>"
    assert documents.read("page.html", b"<p>text" + picture).text == "text"


@pytest.mark.parametrize(
    ("line", "title"), [("# One", "One"), ("#  One ##  ", "One"), ("# C#m", "C#m"), ("#One", None), ("## Two", None)]
)
def test_the_first_heading_is_the_title(line: str, title: str | None) -> None:
    """Closing marks are no part of it."""
    assert documents.read("a.md", f"text\n{line}\n".encode()).facts.get("title") == title


def test_a_heading_full_of_spaces_is_read_in_one_pass_and_a_title_is_short() -> None:
    """No quadratic search, and no passage carries a megabyte of title."""
    text = "# a" + " " * 300_000 + "b\n"
    assert len(documents.read("a.md", text.encode()).facts["title"]) == documents.MAX_FACT_CHARACTERS


def packed(parts: list[tuple[str, bytes]]) -> bytes:
    """A zip of these parts, names repeated as given."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts:
            archive.writestr(name, data)
    return made.getvalue()


SPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
BODY = f'<w:document xmlns:w="{SPACE}"><w:body><w:p><w:r><w:t>&e;</w:t></w:r></w:p></w:body></w:document>'
TYPED = f'<!DOCTYPE d [<!ENTITY e "{"lol" * 99}">]>{BODY}'


@pytest.mark.parametrize(
    "xml",
    [
        TYPED.encode(),
        f"<!--{'x' * 5000}-->{TYPED}".encode(),
        f'<?xml version="1.0" encoding="utf-16"?>{TYPED}'.encode("utf-16"),
        b"\xfe\xff" + f'<?xml version="1.0" encoding="utf-16"?>{TYPED}'.encode("utf-16-be"),
    ],
    ids=["utf-8", "after a comment", "utf-16 little", "utf-16 big"],
)
@pytest.mark.parametrize("name", ["word/document.xml", "word/header1.xml.rels", "docProps/core.xml"])
def test_xml_that_declares_entities_is_refused(name: str, xml: bytes) -> None:
    """In every encoding that the parser reads, wherever in the part, in every part that it reads."""
    parts = [("word/document.xml", BODY.replace("&e;", "text").encode())] if name != "word/document.xml" else []
    with pytest.raises(UnreadableDocumentError, match="document type declaration"):
        documents.read("a.docx", packed([*parts, (name, xml)]))


def test_a_packed_bomb_is_not_unpacked() -> None:
    """A document of a hundred kilobytes that stands for more than the bound."""
    bomb = packed([("word/document.xml", b" " * (documents.MAX_UNPACKED_BYTES + 1))])
    assert len(bomb) < 200_000
    with pytest.raises(UnreadableDocumentError, match="unpacks to more"):
        documents.read("a.docx", bomb)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_document_with_two_parts_of_one_name_is_refused() -> None:
    """Each would be unpacked as the last of them, whatever size it declares itself."""
    twice = packed([("word/document.xml", b"<a/>"), ("word/document.xml", BODY.encode())])
    with pytest.raises(UnreadableDocumentError, match="one name"):
        documents.read("a.docx", twice)
    assert documents.read("a.docx", make_docx("once")).text == "once"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("one <!-- hidden --> two", "one  two"),
        ("one\n<!--\nhidden\n# no title\n-->\ntwo", "one\n\ntwo"),
        ("<!-- a --><!-- b -->one", "one"),
        ("<!-- hidden\n```\nx\n```\n-->one", "one"),
        ("one <!-- without end", "one <!-- without end"),
        ("say `<!-- more -->` there", "say `<!-- more -->` there"),
        ("say ``a ` <!-- more -->`` there<!-- x -->", "say ``a ` <!-- more -->`` there"),
        ("a lone ` tick <!-- hidden -->", "a lone ` tick "),
        ("```html\n<!-- kept -->\n```\n<!-- gone -->", "```html\n<!-- kept -->\n```\n"),
        ("~~~~\n~~~\n<!-- kept -->\n~~~~\n<!-- gone -->", "~~~~\n~~~\n<!-- kept -->\n~~~~\n"),
        ("```\n<!-- kept -->", "```\n<!-- kept -->"),
    ],
)
def test_comments_in_markdown_are_not_read(written: str, read: str) -> None:
    """What its author hid stays hidden, and code that shows a comment stays whole."""
    reading = documents.read("a.md", written.encode())
    assert reading.text == read
    assert "title" not in reading.facts


@pytest.mark.parametrize("piece", ["<!--", "`", "` ", "``` ", "```\n", "~~~\n", "<!-- -->"])
def test_markdown_of_nothing_but_marks_is_read_in_one_pass(piece: str) -> None:
    """A megabyte takes a moment."""
    began = time.process_time()
    text = documents.read("a.md", ("x " + piece * (1_000_000 // len(piece))).encode()).text
    assert text.startswith("x ")
    assert time.process_time() - began < 10


@pytest.mark.parametrize("line", ["key: a{}b", "- a{}b", "key{}", "key: [a{}]", "{}- a", 'key: "{}"'])
def test_front_matter_of_nothing_but_spaces_is_read_in_one_pass(line: str) -> None:
    """A megabyte takes a moment, and what is around it is read."""
    began = time.process_time()
    written = f"---\nlist:\n{line.format(' ' * 1_000_000)}\nlast: word  \n---\ntext"
    reading = documents.read("a.md", written.encode())
    assert (reading.text, reading.metadata["last"]) == ("text", "word")
    assert time.process_time() - began < 10
