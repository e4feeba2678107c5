"""Passages as one text for a prompt, in delimiters that a retrieved text cannot break out of.

`standard`    `<document index="1" source="guide.md">`, the text, `</document>`, inside `<documents>`
`detailed`    the same with id, score and its kind, chunk, origin and the user's metadata
`compact`     one line a passage: `[1] guide.md: the text`

In the first two, a `<` in a text is written `&lt;` where one of our tags could begin, in whatever disguise: letter
case, accents, full-width and mathematical letters make no difference, and neither does anything that is no letter or
digit, however much of it there is, before or inside the name. The rest of the text, code and markup included, stays as
it is. In `compact`, white space is drawn together, so no text can begin a line. Attributes are escaped. Numbers count
from 1, as in `cite`.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from .._checks import shown
from ..errors import ConfigurationError
from ..models import Retrieval
from .passages import Passage, passages

Style: TypeAlias = Literal["standard", "detailed", "compact"]
STYLES: tuple[Style, ...] = ("standard", "detailed", "compact")


def render(documents: Iterable[Any] | Retrieval, style: Style = "standard") -> str:
    """The passages in the order given, numbered from 1, as one text."""
    if style not in STYLES:
        raise ConfigurationError(f"style = {shown(style)} cannot be used; use {', '.join(STYLES)}.")
    blocks = [block(one, number, style) for number, one in enumerate(passages(documents), 1)]
    return "\n".join(blocks if style == "compact" else ["<documents>", *blocks, "</documents>"])


def block(one: Passage, number: int, style: Style) -> str:
    """One passage, between its delimiters."""
    if style == "compact":
        return " ".join(f"[{number}] {one.title + ': ' if one.title else ''}{one.text}".split())
    names: dict[str, Any] = {"index": number, "source": one.title}
    if style == "detailed":
        names |= _details(one)
    attributes = "".join(f' {name}="{_attribute(value)}"' for name, value in names.items() if value is not None)
    return f"<document{attributes}>\n{defuse(one.text)}\n</document>"


def defuse(text: str, *tags: str) -> str:
    """The text with `<` made harmless where one of the tags could begin or end (default: the tags of `render`)."""
    names = tuple(_letters(tag, len(tag)) for tag in tags or ("document",))
    longest = max(map(len, names))
    first, *rest = _BRACKET.split(text)
    ahead, backwards = "", []
    # From the end, so that each piece is read once, however many brackets stand before a name.
    for bracket, piece in zip(rest[-2::-2], rest[::-2], strict=True):
        ahead = (_letters(piece, longest) + ahead)[:longest]
        backwards += [piece, "&lt;" if ahead.startswith(names) else bracket]
    return "".join([first, *reversed(backwards)])


_BRACKET = re.compile("([<＜﹤])")


def _letters(text: str, most: int) -> str:
    """The first `most` letters and digits, or a few more, as a reader takes them; all that lies between is passed."""
    found = ""
    for character in text:
        found += _plain(character)
        if len(found) >= most:
            break
    return found


@lru_cache(maxsize=4096)
def _plain(character: str) -> str:
    parts = unicodedata.normalize("NFKD", character)
    return "".join(part for part in parts if part.isalnum() and part not in _FILLERS).casefold()


_FILLERS = "\u115f\u1160"  # letters by their category, but nobody sees them


def _details(one: Passage) -> dict[str, Any]:
    chunk, total = one.fields.get("chunk_id"), one.fields.get("total_chunks")
    return {
        "id": one.id,
        "score": one.score,
        "ordered_by": one.ordered_by,
        "chunk": None if chunk is None else f"{chunk}/{total}" if total is not None else chunk,
        "origin": one.fields.get("origin"),
        "metadata": json.dumps(one.metadata, ensure_ascii=False, default=str) if one.metadata else None,
    }


def _attribute(value: Any) -> str:
    return defuse(html.escape(" ".join(str(value).split()), quote=True))
