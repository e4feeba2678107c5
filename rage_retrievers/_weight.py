"""What an answer would weigh once it is read: a body within its bound can hold millions of tiny values.

16 MiB of `[],[],[]` become 550 MiB of lists, and of `{"text":""}` 1.3 GiB of documents, so bytes alone bound nothing.
The estimate is made before anything is parsed. It counts the marks of JSON, each with the memory measured for what it
announces, and the text as wide as its widest character makes it in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .errors import ResponseTooLargeError

MOST_MEMORY = 56 * 1024 * 1024
"""What an answer may take, its body included, in bytes; more in step with a bound on the body above 16 MiB."""
_PER_BODY_BYTE = 3.5
_SURELY_LIGHT = 512 * 1024
_FIRST = 1024 * 1024

_WEIGHTS = {b"{": 800, b"[": 150, b",": 60, b":": 15}
_QUOTE = 30
_NOT_MARKS = bytes(byte for byte in range(256) if byte not in b'{[,:"')
_TEXT = re.compile(rb'"[^"]*"')
# What announces a character beyond U+FFFF: the first byte of its UTF-8 form, or the first half of its escape.
_FOUR_BYTES = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4", b"\\ud", b"\\uD")


def check_weight(body: bytes, max_bytes: int, *, copies: int = 1) -> None:
    """Raise ResponseTooLargeError when reading the body would take more memory than an answer may.

    `copies` says how many times a way of reading holds the values at once.
    """
    if len(body) <= _SURELY_LIGHT:
        return
    most = (max(MOST_MEMORY, _PER_BODY_BYTE * max_bytes) - len(body)) / copies
    # A text with escapes is written out twice more on its way: in the parser's own buffer, and as that buffer grows.
    texts = len(body) * (_width(body) + (2 if b"\\" in body else 0)) + _QUOTE * (body.count(b'"') - body.count(b'\\"'))
    if texts + _marks(body) <= most:
        return
    # Marks inside texts were counted too; telling them apart takes longer, and a copy. Most that is too heavy shows it
    # in its first part.
    if texts > most or any(texts + _marks_outside_texts(part) > most for part in _parts(body)):
        raise ResponseTooLargeError(
            f"The answer's {len(body):,} bytes hold so many values that reading them would take too much memory; "
            "ask for fewer results or raise max_response_mib."
        )


def _width(body: bytes) -> int:
    """Bytes that a character takes in Python: as many as the widest of its text needs."""
    if body.isascii() and b"\\u" not in body:
        return 1
    return 4 if any(sign in body for sign in _FOUR_BYTES) else 2


def _marks(text: bytes) -> int:
    return sum(weight * text.count(mark) for mark, weight in _WEIGHTS.items())


def _parts(body: bytes) -> Iterator[bytes]:
    """The first of it, up to where no text is open, and then the whole."""
    first = body[:_FIRST].replace(b"\\\\", b"").replace(b'\\"', b"")
    yield first if first.count(b'"') % 2 == 0 else first[: first.rfind(b'"')]
    yield body


def _marks_outside_texts(body: bytes) -> int:
    # Without escapes each quote begins or ends a text; most texts hold no mark, and are `""` once all else is gone.
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_MARKS).replace(b'""', b"")
    return _marks(marks) - sum(_marks(match[0]) for match in _TEXT.finditer(marks))
