"""Reading a document's bytes into text, with bounds on what a hostile file costs; `apart` makes them hold always.

Supported: .md .txt .html .htm .pdf .docx. `read` raises `UnreadableDocumentError` with a reason to act on.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Any

from rage_retrievers._frozen import frozen
from rage_retrievers.local import front_matter
from rage_retrievers.local.comments import without_comments

if TYPE_CHECKING:
    from zipfile import ZipFile

    from bs4 import BeautifulSoup, Tag
    from bs4.element import NavigableString

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_TEXT_CHARACTERS = 20_000_000
MAX_UNPACKED_BYTES = 128 * 1024 * 1024
MAX_TAGS = 500_000
MAX_ATTRIBUTES = 500_000
MAX_FACT_CHARACTERS = 1_000
MAX_PDF_PAGES = 5_000
MAX_SECONDS = 60.0


class UnreadableDocumentError(Exception):
    """A document gives no text; the message says why, without its path."""


@frozen
class Reading:
    """What one document says: `text`, and the `facts` it tells of itself (title, author, type, pages, …)."""

    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    """What the author wrote for machines, for example Markdown front matter; JSON types."""


def suffix_of(name: str) -> str:
    """What tells the type of a file, with its dot and in lower case; empty for a name without."""
    before, _, kind = name.rpartition(".")  # a Path would take ten times as long
    return f".{kind}".lower() if before and before[-1] != "/" else ""


def supported(name: str) -> bool:
    """Whether `read` knows the type of a file of this name."""
    return suffix_of(name) in _READERS


def read(name: str, data: bytes) -> Reading:
    """The text of a document; raises `UnreadableDocumentError` when there is none to be had within the bounds."""
    suffix = suffix_of(name)
    reader = _READERS.get(suffix)
    if reader is None:
        raise UnreadableDocumentError(f"type {suffix or 'without extension'} is not supported")
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableDocumentError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
    try:
        reading = reader(data)
    except UnreadableDocumentError:
        raise
    except RecursionError as error:
        raise UnreadableDocumentError("nested too deeply") from error
    except MemoryError as error:
        raise UnreadableDocumentError("needs too much memory") from error
    except Exception as error:  # parsers of foreign formats raise anything on a broken file
        raise UnreadableDocumentError(f"{type(error).__name__}: {error}"[:300]) from error
    if len(reading.text) > MAX_TEXT_CHARACTERS:
        raise UnreadableDocumentError(f"more than {MAX_TEXT_CHARACTERS:,} characters of text")
    if not reading.text.strip():
        raise UnreadableDocumentError("no text in it" + (" (scanned pages?)" if suffix == ".pdf" else ""))
    facts = {"type": suffix.lstrip("."), **{name: _fact(value) for name, value in reading.facts.items()}}
    return Reading(_clean(reading.text), facts, reading.metadata)


class _Deadline:
    """The moment after which a document is given up; asked between one piece of it and the next."""

    def __init__(self) -> None:
        self._end = time.monotonic() + MAX_SECONDS

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise UnreadableDocumentError(f"takes more than {MAX_SECONDS:.0f} s to read")


def _clean(text: str) -> str:
    # Lone surrogates cannot be written as UTF-8; PDF text holds them at times.
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _fact(value: Any) -> Any:
    return _clean(value)[:MAX_FACT_CHARACTERS] if isinstance(value, str) else value


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if b"\x00" in data[:8192]:
        raise UnreadableDocumentError("not a text file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _text(data: bytes) -> Reading:
    return Reading(_decode(data))


def _markdown(data: bytes) -> Reading:
    metadata, text = front_matter.split(_decode(data))
    text = without_comments(text)
    heading = re.search(r"^#[ \t]+(\S.*)$", text, re.MULTILINE)
    title = metadata.get("title") or (heading.group(1).strip().rstrip("#").strip() if heading else None)
    return Reading(text, {"title": str(title)} if title else {}, metadata)


_DROPPED = ["script", "style", "nav", "header", "footer", "aside", "noscript", "template", "svg", "iframe"]
_BLOCKS = frozenset(
    """
    address article blockquote body dd div dl dt figcaption figure h1 h2 h3 h4 h5 h6 li main ol p pre section table td
    th tr ul
    """.split()  # noqa: SIM905  # readable as a list of words
)
_PARAGRAPHS = frozenset({"p", "pre", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6"})
_BREAK = "\x1e"
# A page may nest as deep as it is long; beyond this a string counts as standing in a block of its own.
_MAX_CLIMB = 32


# What could be the start of an attribute, counted only in tags too long to be judged by their number.
_ATTRIBUTE = re.compile(rb"""[\s/"'][^\s/"'=>]""")
_LONG_TAG = 1_000


def _html(data: bytes) -> Reading:
    _check_tags(data)
    soup = _parsed(data)
    facts: dict[str, Any] = {}
    if soup.title is not None and soup.title.get_text(strip=True):
        facts["title"] = soup.title.get_text(" ", strip=True)
    for name in ("description", "author", "keywords"):
        tag = soup.find("meta", attrs={"name": name})
        if tag is not None and tag.get("content"):
            facts[name] = str(tag["content"])
    for tag in soup([*_DROPPED, "title"]):
        tag.decompose()
    lines = (" ".join(line.split()) for line in "".join(_spoken(soup)).split(_BREAK))
    return Reading(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), facts)


def _check_tags(data: bytes) -> None:
    if data.count(b"<") > MAX_TAGS:
        raise UnreadableDocumentError(f"more than {MAX_TAGS:,} tags")
    for piece in data.split(b">"):
        start = piece.find(b"<")
        if start < 0 or len(piece) - start < _LONG_TAG:
            continue
        if sum(1 for _ in _ATTRIBUTE.finditer(piece, start)) > MAX_ATTRIBUTES:
            raise UnreadableDocumentError(f"more than {MAX_ATTRIBUTES:,} attributes in a tag")


def _parsed(data: bytes) -> BeautifulSoup:
    """The tree. Some versions of `html.parser` take quadratic time for tags that do not end, hence the deadline."""
    from bs4 import BeautifulSoup

    deadline = _Deadline()

    class Bounded(BeautifulSoup):
        def handle_data(self, data: str) -> None:
            deadline.check()
            super().handle_data(data)

    return Bounded(data, "html.parser")


def _spoken(soup: BeautifulSoup) -> Iterator[str]:
    """The strings of a page in order, with a break wherever the block they stand in changes; one pass over the tree."""
    from bs4 import Tag
    from bs4.element import NavigableString

    previous: Tag | None = None
    for node in soup.descendants:
        if isinstance(node, Tag):
            if node.name in ("br", "hr"):
                yield _BREAK
        elif type(node) is NavigableString:
            block = _block_of(node)
            if block is not previous:
                if node.isspace():
                    continue
                yield _between(previous, block)
                previous = block
            yield node.replace("\n", _BREAK) if block is not None and block.name == "pre" else str(node)


def _block_of(node: NavigableString) -> Tag | None:
    parent = node.parent
    for _ in range(_MAX_CLIMB):
        if parent is None or parent.name in _BLOCKS:
            break
        parent = parent.parent
    return parent


def _between(previous: Tag | None, block: Tag | None) -> str:
    if previous is None or block is None:
        return _BREAK
    if {previous.name, block.name} <= {"td", "th"} and previous.parent is block.parent:
        return " "
    return 2 * _BREAK if block.name in _PARAGRAPHS else _BREAK


def _pdf(data: bytes) -> Reading:
    from pypdf import PdfReader

    deadline = _Deadline()
    pdf = PdfReader(io.BytesIO(data))
    if pdf.is_encrypted and not pdf.decrypt(""):
        raise UnreadableDocumentError("protected by a password")
    if len(pdf.pages) > MAX_PDF_PAGES:
        raise UnreadableDocumentError(f"more than {MAX_PDF_PAGES:,} pages")
    pages: list[str] = []
    size = 0
    for page in pdf.pages:
        pages.append(page.extract_text())
        size += len(pages[-1])
        if size > MAX_TEXT_CHARACTERS:
            raise UnreadableDocumentError(f"more than {MAX_TEXT_CHARACTERS:,} characters of text")
        deadline.check()
    facts: dict[str, Any] = {"pages": len(pages)}
    for name in ("title", "author"):
        value = getattr(pdf.metadata, name, None)
        if isinstance(value, str) and value.strip():
            facts[name] = value.strip()
    return Reading("\n\n".join(pages), facts)


def _docx(data: bytes) -> Reading:
    from zipfile import ZipFile

    import docx2txt

    with ZipFile(io.BytesIO(data)) as archive:
        # zipfile never unpacks more than the size an entry declares, so the declared sizes are a bound.
        if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED_BYTES:
            raise UnreadableDocumentError(f"unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MiB")
        names = archive.namelist()
        if len(set(names)) < len(names):
            # Each of them would be unpacked as the last one is, however small its own declared size.
            raise UnreadableDocumentError("two entries of one name")
        if any(_declares_type(archive.read(name)) for name in names if _XML_PART.search(name)):
            raise UnreadableDocumentError("XML with a document type declaration")
        facts = _core_properties(archive)
    text: str = docx2txt.process(io.BytesIO(data))
    return Reading(re.sub(r"\n{3,}", "\n\n", text).strip(), facts)


# docx2txt reads whatever begins as a header or footer does, however its name goes on.
_XML_PART = re.compile(r"\.xml$|^word/(?:header|footer|document)")


def _declares_type(xml: bytes) -> bool:
    # In UTF-16 every other byte is zero; expat knows no other encoding that hides ASCII letters.
    return b"<!DOCTYPE" in xml or (b"\x00" in xml and b"<!DOCTYPE" in xml.replace(b"\x00", b""))


def _core_properties(archive: ZipFile) -> dict[str, Any]:
    from xml.etree import ElementTree

    if "docProps/core.xml" not in archive.namelist():
        return {}
    namespace = "{http://purl.org/dc/elements/1.1/}"
    root = ElementTree.fromstring(archive.read("docProps/core.xml"))  # noqa: S314  # no DOCTYPE in it: see _docx
    named = {"title": root.findtext(f"{namespace}title"), "author": root.findtext(f"{namespace}creator")}
    return {name: value.strip() for name, value in named.items() if value and value.strip()}


_READERS: dict[str, Callable[[bytes], Reading]] = {
    ".md": _markdown,
    ".txt": _text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
}
