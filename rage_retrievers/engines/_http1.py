"""HTTP/1.1 as bytes: requests written, answers read by llhttp (Node's parser, in httptools); no input or output.

Both worlds of the fast engine use it, so what is refused, and when a connection may be used again, is decided once.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import Any

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from .._flow import WireRequest, WireResponse
from ..errors import ConfigurationError, InvalidResponseError, RageError
from ._answer import MAX_HEADER_BYTES, Body, answer, check_length, connection_failed, head_too_large, host_of

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~]*")


@lru_cache(maxsize=256)
def parsed(url: str) -> httpx.URL:
    """The URL as httpx reads it: names in IDNA, the path percent-encoded."""
    return httpx.URL(url)


@lru_cache(maxsize=256)
def _opening(method: str, url: str) -> str:
    target = parsed(url)
    path, host = target.raw_path.decode("ascii"), target.netloc.decode("ascii")
    return f"{method} {path} HTTP/1.1\r\nhost: {host}\r\naccept-encoding: gzip\r\n"


def written(request: WireRequest) -> bytes:
    """Head and body. Raises ConfigurationError for a header that HTTP does not allow; it is not quoted."""
    head = _opening(request.method, request.url)
    for name, value in request.headers:
        # Most values are printable and have no tab, which takes a fraction of what the expression does.
        if not _is_name(name) or not ((value.isascii() and value.isprintable()) or _VALUE.fullmatch(value)):
            raise ConfigurationError(f"The request to {host_of(request.url)} cannot be written: a header is not valid.")
        head += f"{name}: {value}\r\n"
    length = f"content-length: {len(request.body)}\r\n\r\n" if request.body else "\r\n"
    return (head + length).encode("ascii") + request.body


@lru_cache(maxsize=256)
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


_NO_BODY = Body(0)


class Reader:
    """Reads the answers of one connection, one after another."""

    done = False
    """Whether the answer is whole, or can be refused already."""
    begun = False
    """Whether anything of an answer came."""
    reusable = False
    """Whether the connection may take another request: the answer is whole and nothing came after it."""

    def __init__(self) -> None:
        self._parser: Any = HttpResponseParser(self)
        self.expect(0)

    def expect(self, max_bytes: int) -> None:
        """A request has been sent; its answer may be that long."""
        self.done = self.begun = self._whole = False
        self._failure: RageError | None = None
        self._max_bytes = max_bytes
        self._beside = 0  # bytes since the last piece of a body: heads, trailers, the framing of chunks
        self.reusable = False
        self._start()

    def _start(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._head_read = self._until_end = False
        self._body = Body(self._max_bytes)

    def feed(self, data: bytes | memoryview) -> None:
        """Take in what came; see `done`."""
        self.begun = True
        self._beside += len(data)
        handled = sys.exception()
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if error.__context__ is not None and error.__context__ is not handled:
                raise error.__context__ from None  # Ctrl-C, in what the parser called: none of it raises by itself
            self.reusable = False  # what follows a whole answer is no fault of the answer
            if not self.done:
                self._refuse(None)
        if self._beside > MAX_HEADER_BYTES and not self.done:
            self._refuse(head_too_large())

    def end(self) -> None:
        """The connection has ended, which is how an answer without a length ends, too."""
        self.reusable = False
        if not self.done:
            self.done = True
            self._whole = self._head_read and self._until_end

    def _refuse(self, failure: RageError | None) -> None:
        """End with that failure; with None, as an answer that is cut short or is not HTTP."""
        self.done, self.reusable = True, False
        self._failure = self._failure or failure

    def response(self, request: WireRequest) -> WireResponse:
        """The answer, decompressed. Raises the typed error of one that was refused."""
        if self._failure is not None:
            raise self._failure
        if not self._whole:
            raise connection_failed(request, "the answer was cut short or is not valid HTTP", None)
        body, self._body = self._body, _NO_BODY
        return answer(self._status, self._headers, body.whole(), self._max_bytes)

    # What follows is called by the parser. It wraps what is raised here, so failures are kept instead.

    def on_message_begin(self) -> None:
        """The first byte of an answer; after a whole one, it is one that nobody asked for."""
        if self.done:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after a chunked body."""
        if not self.done and not self._head_read:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self.done:
            return
        self._head_read = True
        self._status = self._parser.get_status_code()
        coding = self._headers.get("transfer-encoding")
        if sum(map(len, self._headers)) + sum(map(len, self._headers.values())) > MAX_HEADER_BYTES:
            self._refuse(head_too_large())
        elif coding is not None and coding.strip().lower() != "chunked":
            self._refuse(
                InvalidResponseError(f"The answer has the transfer coding {coding[:20]!r}, which was not asked for.")
            )
        else:
            self._until_end = coding is None and "content-length" not in self._headers
            self._check_length()

    def _check_length(self) -> None:
        try:
            check_length(self._headers, self._max_bytes)
        except RageError as error:
            self._refuse(error)

    def on_body(self, data: bytes) -> None:
        """A piece of the body, without the framing of its chunks."""
        self._beside = 0
        if not self.done:
            try:
                self._body.add(data)
            except RageError as error:
                self._refuse(error)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it is one of the kind that goes before (1xx)."""
        if self.done:
            return
        if 100 <= self._status < 200:
            self._start()
            return
        self.done = self._whole = True
        self.reusable = bool(self._parser.should_keep_alive())
