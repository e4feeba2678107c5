"""Passages as one text for a prompt, in delimiters that a retrieved text cannot break out of.

`standard`    `<document index="1" source="guide.md">`, the text, `</document>`, inside `<documents>`
`detailed`    the same with id, score and its kind, chunk, origin and the user's metadata
`compact`     one line a passage: `[1] guide.md: the text`

In the first two, a `<` in a text is written `&lt;` where one of our tags could begin, also in disguise (other letter
case, spaces, full-width or invisible characters); the rest of the text, code and markup included, stays as it is. In
`compact`, white space is drawn together, so no text can begin a line. Attributes are escaped. Numbers count from 1, as
in `cite`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from ..errors import ConfigurationError
from ..models import Retrieval
from .passages import Passage, passages

Style: TypeAlias = Literal["standard", "detailed", "compact"]
STYLES = ("standard", "detailed", "compact")


def render(documents: Iterable[Any] | Retrieval, style: Style = "standard") -> str:
    """The passages in the order given, numbered from 1, as one text."""
    if style not in STYLES:
        raise ConfigurationError(f"style = {style!r} cannot be used; use {', '.join(STYLES)}.")
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
    return _openings(tags or ("document",)).sub("&lt;", text)


# Soft hyphens, zero-width characters, marks of direction, variation selectors: a reader sees none of them.
_INVISIBLE = "[\u00ad\u034f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]*"


@lru_cache(maxsize=64)
def _openings(tags: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(_INVISIBLE.join(map(_in_both_widths, tag)) for tag in tags)
    return re.compile(rf"[<＜﹤](?=\W{{0,64}}(?:{names}))", re.IGNORECASE)


def _in_both_widths(character: str) -> str:
    wide = chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else ""
    return f"[{re.escape(character)}{wide}]"


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
