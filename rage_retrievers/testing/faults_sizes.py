"""Answers that are coded, well or badly, and answers that are too large in every way we know."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial

from .faults import Flood, ReceivedRequest, Write, answer_body, chunk, http
from .faults_case import ANSWER, LOST, FaultCase, case

_SIZE = 300 * 1024 * 1024
_BLANKS = b" " * 65_536
_BLOCKS = _SIZE // len(_BLANKS)
_OPENING = b'{"documents": ['
_CLOSING = b"]}"
_UNDER_THE_BOUND = 15 * 1024 * 1024


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


@cache
def _bomb() -> bytes:
    """300 MiB of JSON, blank but for its ends, as bare deflate data of about 400 KB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    opening = packer.compress(_OPENING) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush each block stands alone, so a single one is packed and then repeated.
    block = packer.compress(_BLANKS) + packer.flush(zlib.Z_FULL_FLUSH)
    return opening + block * _BLOCKS + packer.compress(_CLOSING) + packer.flush()


@cache
def _gzip_bomb() -> bytes:
    checksum = zlib.crc32(_OPENING)
    for _ in range(_BLOCKS):
        checksum = zlib.crc32(_BLANKS, checksum)
    length = len(_OPENING) + _SIZE + len(_CLOSING)
    return b"\x1f\x8b\x08" + bytes(7) + _bomb() + struct.pack("<II", zlib.crc32(_CLOSING, checksum), length)


def _coded(coding: str, data: bytes) -> Write:
    return Write(http(200, data, ("Content-Encoding", coding)))


def codings() -> Iterator[FaultCase]:
    packed = _gzip(answer_body())
    invalid = "InvalidResponseError"
    yield case("coding/gzip", _coded("gzip", packed), outcome=ANSWER)
    yield case("coding/gzip-upper-case", _coded("GZIP", packed), outcome=ANSWER)
    yield case("coding/deflate", _coded("deflate", zlib.compress(answer_body())), outcome=ANSWER)
    yield case("coding/deflate-bare", _coded("deflate", zlib.compress(answer_body(), wbits=-15)), outcome=ANSWER)
    yield case("coding/identity", _coded("identity", answer_body()), outcome=ANSWER)
    yield case("coding/gzip-cut", _coded("gzip", packed[:-20]), outcome=LOST)
    yield case("coding/gzip-garbage", _coded("gzip", b"\x1f\x8b" + b"garbage" * 9), outcome=invalid)
    yield case("coding/gzip-not-coded", _coded("gzip", answer_body()), outcome=invalid)
    yield case("coding/gzip-wrong-sum", _coded("gzip", packed[:-8] + b"\0" * 8), outcome=invalid)
    yield case("coding/unknown", _coded("br", b"\x0b\x02\x80"), outcome=invalid)
    yield case("coding/twice", _coded("gzip, gzip", _gzip(packed)), outcome=(ANSWER, invalid))
    error = http(503, _gzip(b'{"error": "no"}'), ("Content-Encoding", "gzip"))
    yield case("coding/error-gzip", Write(error), outcome="ServerError", transient=True)


def _exploding(coding: str, bomb: Callable[[], bytes], _: ReceivedRequest) -> bytes:
    return http(200, bomb(), ("Content-Encoding", coding))


def sizes() -> Iterator[FaultCase]:
    large = "ResponseTooLargeError"
    length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (_SIZE + len(_OPENING))
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    flood = Flood(_BLANKS, _SIZE)
    yield case("size/body-300mb", Write(length + _OPENING), flood, outcome=large)
    yield case("size/body-300mb-chunks", Write(chunked + chunk(_OPENING)), Flood(chunk(_BLANKS), _SIZE), outcome=large)
    yield case("size/body-300mb-until-close", Write(b"HTTP/1.0 200 OK\r\n\r\n" + _OPENING), flood, outcome=large)
    yield case(
        "size/error-body-300mb", Write(length.replace(b"200 OK", b"500 No")), flood, outcome=(large, "ServerError")
    )
    bombs = {"gzip": _gzip_bomb, "deflate": _bomb}
    for coding, bomb in bombs.items():
        yield case(f"size/{coding}-bomb", Write(partial(_exploding, coding, bomb)), outcome=large)
    coded = chunked.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    chunky = Write(lambda _: coded + chunk(_gzip_bomb()) + b"0\r\n\r\n")
    yield case("size/gzip-bomb-chunks", chunky, outcome=large)
    many = _OPENING + b",".join([b'{"text": ""}'] * 20_000) + _CLOSING
    yield case("size/documents-20000", Write(http(200, many)), outcome=large)


def _values(opening: bytes, item: bytes, closing: bytes, _: ReceivedRequest) -> bytes:
    return http(200, opening + item * (_UNDER_THE_BOUND // len(item)) + closing)


def values() -> Iterator[FaultCase]:
    """Bodies within the usual bound of 16 MiB whose values, once read, would take twenty to eighty times as much."""
    kinds = {
        "lists": (b'{"documents": [{"text": "a", "x": [', b"[],", b"0]}]}"),
        "numbers": (b'{"documents": [{"text": "a", "x": [', b"0,", b"0]}]}"),
        "documents": (_OPENING, b'{"text":""},', b'{"text":""}]}'),
        "wrong-documents": (_OPENING, b"1,", b"1]}"),
        "wrapped": (b'{"record": {"value": "[', b"[],", b'0]"}}'),
    }
    for name, parts in kinds.items():
        yield case(f"size/values-{name}", Write(partial(_values, *parts)), outcome="ResponseTooLargeError")


def heads() -> Iterator[FaultCase]:
    """Heads, trailers and chunk extensions of 300 KB, and heads without end."""
    body = answer_body()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    long = b"a" * 300_000
    kinds = {
        "header-300kb": head + b"X-Long: " + long + b"\r\n\r\n" + body,
        "headers-300kb": head + b"X-Many: 0123456789\r\n" * 15_000 + b"\r\n" + body,
        "header-name-300kb": head + long + b": b\r\n\r\n" + body,
        "reason-300kb": b"HTTP/1.1 200 " + long + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        "trailer-300kb": chunked + chunk(body) + b"0\r\nX-Long: " + long + b"\r\n\r\n",
        "chunk-extension-300kb": chunked + b"%x;" % len(body) + long + b"\r\n" + body + b"\r\n0\r\n\r\n",
    }
    refused = ("ResponseTooLargeError", "InvalidResponseError", LOST)
    for name, data in kinds.items():
        # Who throws the reason phrase away as it comes in may answer: nothing of it is kept.
        outcome = (*refused, "answer") if name == "reason-300kb" else refused
        yield case(f"size/{name}", Write(data), outcome=outcome)
    many, garbage = Flood(b"X-Many: 0123456789\r\n" * 3_000, _SIZE), Flood(b"garbage " * 8_000, _SIZE)
    yield case("size/endless-headers", Write(head), many, outcome=refused)
    yield case("size/endless-garbage", garbage, outcome=refused)
