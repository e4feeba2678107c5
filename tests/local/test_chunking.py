"""Cutting texts that nobody wrote to be read."""

from __future__ import annotations

import pytest

from rage_retrievers.local.chunking import CHUNK_CHARACTERS, chunks


@pytest.mark.parametrize("gap", ["\n", " ", "\t", " \n", "\r\n", "\u2003"])
def test_a_text_with_gaps_of_every_length_is_cut(gap: str) -> None:
    """No word is lost, no passage too long, and no stack overflows."""
    text = "".join(f"word{length}{gap * length}" for length in range(1, 1100))
    found = chunks(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert max(map(len, found)) <= CHUNK_CHARACTERS
