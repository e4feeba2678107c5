"""Passages as the terminal shows them, whichever framework brought them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .screen import plain

if TYPE_CHECKING:
    from ..models import Document, ScoreName

_WORD = re.compile(r"\w{3,}")


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage: its score (None where the service sent none), where it comes from, and its text."""

    score: float | None
    source: str
    text: str
    chunk: str = ""
    """Which passage of its document it is, such as `4 of 12`."""

    @classmethod
    def of(cls, document: Document, ordered_by: ScoreName) -> Passage:
        """The passage a client retrieved."""
        fields = document.fields()
        return cls(document.score(ordered_by), source_of(fields), document.text, chunk_of(fields))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


def source_of(fields: dict[str, Any]) -> str:
    """The name a person knows the document by."""
    for name in ("source_display_name", "source", "unique_source", "id"):
        if fields.get(name):
            return str(fields[name])
    return "unknown source"


def chunk_of(fields: dict[str, Any]) -> str:
    """Which passage of its document; the service counts from 0."""
    number, total = fields.get("chunk_id"), fields.get("total_chunks")
    if not (str(number).isdigit() and str(total).isdigit()):
        return ""
    return f"{int(str(number)) + 1} of {total}"


def show(console: Console, passages: Sequence[Passage], question: str, *, full: bool = False) -> None:
    """A headline and an excerpt for each passage; the whole text when `full`."""
    if not passages:
        console.print(Text("   no passages", style="dim"))
    words = sorted(set(_WORD.findall(question.lower())), key=len, reverse=True)
    for rank, passage in enumerate(passages, 1):
        console.print(_headline(rank, passage, console.width))
        text = plain(passage.text).strip() if full else excerpt(passage.text, question, 3 * (console.width - 4))
        shown = Text(text)
        shown.highlight_words(words, "bold", case_sensitive=False)
        console.print(Padding(shown, (0, 0, 0, 4)))


def _headline(rank: int, passage: Passage, width: int) -> Table:
    """Rank, score, and where it comes from, which may take three lines; of a longer name its end is shown."""
    score = "    -" if passage.score is None else f"{passage.score:.3f}"
    source = plain(passage.source)
    most = 3 * (width - 13)
    if len(source) > most:
        source = "…" + source[len(source) - most + 1 :]
    line = Table.grid(padding=(0, 2))
    line.add_column(style="dim", no_wrap=True)
    line.add_column(style="bold green", no_wrap=True)
    line.add_column(overflow="fold")
    chunk = f"  passage {passage.chunk}" if passage.chunk else ""
    line.add_row(f"{rank:>2}", score, Text.assemble((source, "cyan"), (chunk, "dim")))
    return line


def excerpt(text: str, question: str, most: int) -> str:
    """The `most` characters of the text that hold most of the question's words, cut between words."""
    flat = " ".join(plain(text).split())
    if len(flat) <= most:
        return flat
    wanted = {word.lower() for word in _WORD.findall(question)}
    starts = [0, *(found.end() for found in re.finditer(r"[.!?:|]\s|\s(?=#)", flat))]
    best = max(starts, key=lambda start: (*_hits(flat[start : start + most], wanted), -start))
    best = max(0, min(best, len(flat) - most // 2))
    cut = flat[best : best + most - 2]
    if best + len(cut) < len(flat):
        cut = cut.rsplit(" ", 1)[0] + " …"
    return ("… " if best else "") + cut.strip()


def _hits(text: str, wanted: set[str]) -> tuple[int, int]:
    """How many of the words the text holds, and how many its first half does."""
    lowered = text.lower()
    first = lowered[: len(lowered) // 2]
    return len(wanted & set(_WORD.findall(lowered))), len(wanted & set(_WORD.findall(first)))
