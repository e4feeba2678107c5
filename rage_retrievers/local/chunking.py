"""Cutting a text into passages of at most a given number of characters, at the best boundary there is."""

from __future__ import annotations

CHUNK_CHARACTERS = 2000


def chunks(text: str, size: int = CHUNK_CHARACTERS, overlap: int = 0) -> list[str]:
    """Passages in order, none empty, none longer than `size` characters; no character other than space is lost."""
    if len(text) <= size:
        return [text.strip()] if text.strip() else []
    from semchunk.semchunk import chunk

    pieces = chunk(text, size, len, memoize=False, overlap=min(overlap, size - 1) or None)
    return [piece for piece in map(str, pieces) if piece.strip()]
