"""Cutting a text into passages of at most a given number of characters, at the best boundary there is."""

from __future__ import annotations

import re

CHUNK_CHARACTERS = 2000
_LONGEST_GAP = 64
_GAP = re.compile(rf"\s{{{_LONGEST_GAP + 1},}}")
_LONG_GAPS = tuple(space * (_LONGEST_GAP + 1) for space in ("\n", "\r\n", " ", "\t", "\xa0", "\u3000"))


def chunks(text: str, size: int = CHUNK_CHARACTERS, overlap: int = 0) -> list[str]:
    """Passages in order, none empty, none longer than `size` characters; no character other than space is lost."""
    if len(text) <= size:
        return [text.strip()] if text.strip() else []
    # The library goes one call deeper for each length of gap that it meets.
    if any(gap in text for gap in _LONG_GAPS):
        text = _GAP.sub(_shorter, text)
    try:
        pieces = _cut(text, size, overlap)
    except RecursionError:  # spaces of another kind, for which it is not worth looking in every text
        pieces = _cut(_GAP.sub(_shorter, text), size, overlap)
    return [piece for piece in pieces if piece.strip()]


def _cut(text: str, size: int, overlap: int) -> list[str]:
    from semchunk.semchunk import chunk

    return [str(piece) for piece in chunk(text, size, len, memoize=False, overlap=min(overlap, size - 1) or None)]


def _shorter(gap: re.Match[str]) -> str:
    return "\n" * min(gap[0].count("\n"), _LONGEST_GAP) or " " * _LONGEST_GAP
