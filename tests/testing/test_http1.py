"""HTTP/1.1 of the fast engine: what is written, and answers that come in any pieces."""

from __future__ import annotations

import time
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rage_retrievers._flow import WireRequest, WireResponse
from rage_retrievers.engines._answer import MAX_HEADER_BYTES, decompress
from rage_retrievers.engines._http1 import Reader, written
from rage_retrievers.errors import (
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    RageError,
    ResponseTooLargeError,
)
from rage_retrievers.testing import Fault, FaultServer, Hang, answer, delay
from testing.engines import OURS, WORLDS

REQUEST = WireRequest("POST", "https://bücher.example/v1/a b?c=d", (("authorization", "Bearer t"),), b"{}")
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nX-Note: caf\xe9\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\ntrailer: t\r\n\r\n"
UNTIL_END = b"HTTP/1.0 200 OK\r\n\r\nhello"


def read(*pieces: bytes, max_bytes: int = 1000) -> Reader:
    reader = Reader()
    reader.expect(max_bytes)
    for piece in pieces:
        reader.feed(piece)
    return reader


def outcome(reader: Reader) -> WireResponse | type[RageError]:
    try:
        return reader.response(REQUEST)
    except RageError as error:
        return type(error)


def test_a_request_is_written_as_http_has_it() -> None:
    """The name in IDNA, the path percent-encoded, the length of the body."""
    assert written(REQUEST) == (
        b"POST /v1/a%20b?c=d HTTP/1.1\r\nhost: xn--bcher-kva.example\r\naccept-encoding: gzip\r\n"
        b"authorization: Bearer t\r\ncontent-length: 2\r\n\r\n{}"
    )
    tabbed = WireRequest("GET", "https://a.example/", (("x", "a\tb"), ("y", "")), b"")
    assert written(tabbed).endswith(b"\r\nx: a\tb\r\ny: \r\n\r\n")


@pytest.mark.parametrize("header", [("x", "a\r\nevil: b"), ("x", "a\nb"), ("x", "\0"), ("x: y\r\nz", "a"), ("", "a"),
                                    ("x", "é"), ("x", "\r")])  # fmt: skip
def test_a_header_that_would_begin_another_is_refused(header: tuple[str, str]) -> None:
    """And is not quoted: it may be a credential."""
    with pytest.raises(ConfigurationError) as caught:
        written(REQUEST.with_headers((header,)))
    assert "evil" not in str(caught.value)


@given(whole=st.sampled_from([SIZED, HINTS + SIZED, HINTS * 3 + CHUNKED, CHUNKED]), cuts=st.sets(st.integers(0, 150)))
def test_an_answer_is_the_same_in_any_pieces(whole: bytes, cuts: set[int]) -> None:
    """Also after answers of the kind that goes before (1xx); the connection may be used again."""
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(whole)), len(whole)]
    reader = read(*(whole[a:b] for a, b in pairwise(edges)))
    response = outcome(reader)
    assert reader.done
    assert reader.reusable
    assert isinstance(response, WireResponse)
    assert (response.status, response.body) == (200, b"hello")


@pytest.mark.parametrize("more", [b"x", SIZED, SIZED[:20]])
def test_what_follows_an_answer_ends_the_connection(more: bytes) -> None:
    """The next call would take it for its own answer."""
    for reader in (read(SIZED + more), read(SIZED, more)):
        assert not reader.reusable
        assert outcome(reader) == outcome(read(SIZED))


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    """And one with a length does not."""
    for data, expected in ((UNTIL_END, 200), (SIZED[:-1], None), (CHUNKED[:-2], None), (b"HTTP", None)):
        reader = read(data)
        before = reader.done
        reader.end()
        assert (before, reader.done, reader.reusable) == (False, True, False)
        response = outcome(reader)
        assert getattr(response, "status", None) == expected
        assert expected or response is ConnectionFailedError


def test_what_is_no_body_is_bounded() -> None:
    """Heads, hints without end, chunk extensions and trailers."""
    much = b"a" * (MAX_HEADER_BYTES + 1)
    start = CHUNKED[: CHUNKED.index(b";x")]
    for pieces in ((b"HTTP/1.1 200 OK\r\nx: ", much), [HINTS] * 4000, (start + b";", much), (CHUNKED[:-4], much)):
        assert outcome(read(*pieces)) is ResponseTooLargeError


def test_a_body_of_many_small_chunks_is_no_head() -> None:
    """Their framing is longer than the bound on heads, and no fault."""
    chunks = b"1\r\na\r\n" * MAX_HEADER_BYTES
    whole = CHUNKED[: CHUNKED.index(b"2;x")] + chunks + b"0\r\n\r\n"
    reader = read(*(whole[at : at + 16_384] for at in range(0, len(whole), 16_384)), max_bytes=len(chunks))
    response = outcome(reader)
    assert isinstance(response, WireResponse)
    assert response.body == b"a" * MAX_HEADER_BYTES


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("name", ["on_header", "on_headers_complete", "on_body", "on_message_complete"])
def test_an_interruption_while_reading_is_no_fault_of_the_answer(
    name: str, interruption: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the call wherever it comes; it is not retried as a connection that failed."""

    def interrupted(*_: object) -> None:
        raise interruption

    monkeypatch.setattr(Reader, name, interrupted)
    with pytest.raises(interruption):
        read(SIZED)


def test_an_answer_that_is_not_http_is_told_as_such_while_another_error_is_handled() -> None:
    """As by a caller who asks in an except block."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert outcome(read(b"junk\r\n\r\n")) is ConnectionFailedError


def test_a_bare_deflate_body_is_inflated_to_its_end() -> None:
    """It ends without a checksum, so the last of it may be in the decoder when all of it was read."""
    for size in range(256 * 1024 - 300, 256 * 1024 + 300, 7):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(b"a" * size) + packer.flush()
        assert decompress(packed, "deflate", 1_000_000) == b"a" * size
        with pytest.raises(ConnectionFailedError):
            decompress(packed[:-1], "deflate", 1_000_000)


@pytest.mark.parametrize("world", OURS)
def test_each_call_over_a_kept_connection_has_its_own_deadline(world: str) -> None:
    """A short one after a long one, and a long one after a short one."""
    script = (answer(), delay(0.4, answer()), Fault((Hang(),)))
    with WORLDS[world]() as ask, FaultServer(script) as server:
        ask(server.url, 0.3)
        assert len(ask(server.url, 30.0).documents) == 5
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            ask(server.url, 0.3)
        assert 0.3 <= time.monotonic() - started <= 0.55
        assert server.connections == 1
