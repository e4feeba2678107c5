"""What every engine does with what it read: bound it, decompress it within the bound, and name its failures."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

from .._flow import WireRequest, WireResponse
from ..errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidResponseError,
    RageError,
    ResponseTooLargeError,
)

MAX_HEADER_BYTES = 100 * 1024
_MIB = 1024 * 1024


def too_large(max_bytes: int) -> ResponseTooLargeError:
    """The answer passed the bound on bytes."""
    return ResponseTooLargeError(
        f"The answer is larger than {max_bytes / _MIB:.3g} MiB, so reading it stopped; "
        "ask for fewer results or raise max_response_bytes."
    )


def head_too_large() -> ResponseTooLargeError:
    """The headers passed their bound."""
    return ResponseTooLargeError(
        f"The answer's headers are larger than {MAX_HEADER_BYTES // 1024} KiB; check that base_url is a Vectorize API."
    )


def check_length(headers: Mapping[str, str], max_bytes: int) -> None:
    """Refuse an announced length beyond the bound before reading any of it."""
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > max_bytes):
        raise too_large(max_bytes)


class Body:
    """A body as it comes in, bounded. One growing block: many small ones would leave the heap full of holes."""

    __slots__ = ("_block", "_first", "_most")

    def __init__(self, max_bytes: int) -> None:
        self._most = max_bytes
        self._first = b""
        self._block: bytearray | None = None

    def begin(self) -> None:
        """Make the block here and now, in the calling thread, whose part of the heap it then grows in."""
        self._block = bytearray(1024)  # less would be Python's own affair, and nobody's part of the heap
        self._block.clear()

    def add(self, chunk: bytes) -> None:
        """Take a chunk in; `ResponseTooLargeError` as soon as the body passes the bound."""
        if len(self._first if self._block is None else self._block) + len(chunk) > self._most:
            self._first, self._block = b"", None  # whoever holds the error holds none of it
            raise too_large(self._most)
        if self._block is not None:
            self._block += chunk
        elif self._first:
            self._block = bytearray(self._first)
            self._block += chunk
        else:
            self._first = chunk

    def whole(self) -> bytes:
        """All of it, once; a body of one chunk is not copied."""
        block, self._block = self._block, None
        return self._first if block is None else bytes(block)


def collect(chunks: Iterable[bytes], max_bytes: int) -> bytes:
    """The body, or `ResponseTooLargeError` as soon as it passes the bound."""
    body = Body(max_bytes)
    for chunk in chunks:
        body.add(chunk)
    return body.whole()


def answer(status: int, headers: dict[str, str], body: bytes, max_bytes: int) -> WireResponse:
    """The answer as plain data, decompressed."""
    encoding = headers.get("content-encoding")
    if encoding is not None and body:
        body = decompress(body, encoding.strip().lower(), max_bytes)
    return WireResponse(status, headers, body)


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body without its gzip or deflate coding, never more than `max_bytes` of it in memory."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise InvalidResponseError(f"The answer is encoded as {encoding[:20]!r}, which was not asked for.")
    # 47: gzip or zlib, told by the header. Some servers send bare deflate data without the zlib header.
    for window in (47,) if encoding != "deflate" else (47, -15):
        try:
            return _inflated(body, window, max_bytes)
        except zlib.error:
            continue
    raise InvalidResponseError(f"The answer cannot be used: its body is not valid {encoding}.")


_STEP = 256 * 1024


def _inflated(body: bytes, window: int, max_bytes: int) -> bytes:
    # In steps: in one, the decoder would hold what it has made twice over.
    decoder, text = zlib.decompressobj(window), Body(max_bytes)
    left, piece = body, b""
    while not decoder.eof and (left or len(piece) == _STEP):  # it may hold more than it has let out
        piece = decoder.decompress(left, _STEP)
        text.add(piece)
        left = decoder.unconsumed_tail
    if not decoder.eof:
        raise ConnectionFailedError("The answer was cut short: its compressed body ends in the middle.")
    return text.whole()


def deadline_passed(request: WireRequest, timeout: float) -> DeadlineExceededError:
    """No whole answer within the time that was left for this attempt."""
    return DeadlineExceededError(
        f"No whole answer from {host_of(request.url)} within the {max(timeout, 0):.3g} s left for this attempt; "
        "raise timeout= if the service needs longer."
    )


def connection_failed(request: WireRequest, reason: str, cause: BaseException | None) -> RageError:
    """No whole answer: the connection could not be made or did not hold."""
    error = ConnectionFailedError(f"No whole answer from {host_of(request.url)}: {reason}.")
    error.__cause__ = bare(cause)
    return error


def bare(error: BaseException | None) -> BaseException | None:
    """The error without what holds the request's headers, and so the token: the variables of the frames that it passed
    through, and the request itself, which an error of httpx's may have."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            if hasattr(link, "_request"):
                link._request = None
            waiting += [link.__cause__, link.__context__]
    return error


@lru_cache(maxsize=256)
def host_of(url: str) -> str:
    """The origin of a URL, for messages."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"
