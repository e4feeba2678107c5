"""What happens to the connection, to time, and to the framing of an answer: what is not, or only nearly, HTTP."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .faults import (
    Close,
    Drip,
    Hang,
    Reset,
    Wait,
    Write,
    answer,
    answer_body,
    chunk,
    delay,
    http,
)
from .faults_case import ANSWER, LOST, FaultCase, case


def _parts() -> tuple[bytes, bytes]:
    """A right answer's head, with the blank line, and its body."""
    whole = http(200, answer_body())
    head, blank, body = whole.partition(b"\r\n\r\n")
    return head + blank, body


def connections() -> Iterator[FaultCase]:
    head, body = _parts()
    cut = {
        "before-answer": (),
        "in-status-line": (Write(head[:9]),),
        "in-head": (Write(head[:40]),),
        "after-head": (Write(head),),
        "in-body": (Write(head + body[: len(body) // 2]),),
        "before-last-byte": (Write(head + body[:-1]),),
    }
    for place, steps in cut.items():
        yield case(f"connection/dropped-{place}", *steps, Close(), outcome=LOST)
        yield case(f"connection/reset-{place}", *steps, Wait(0.02), Reset(), outcome=LOST)
    yield case("connection/dropped-on-accept", Close(), outcome=LOST, on_accept=True)
    yield case("connection/reset-on-accept", Reset(), outcome=LOST, on_accept=True)
    yield case("connection/dropped-after-answer", Write(head + body), Close(), outcome=ANSWER)
    yield case("connection/closes-when-idle", Write(head + body), Wait(0.02), Close(), outcome=ANSWER)
    yield case("connection/resets-when-idle", Write(head + body), Wait(0.05), Reset(), outcome=ANSWER)
    announced = http(200, body, ("Connection", "close"))
    yield case("connection/announces-close", Write(announced), Close(), outcome=ANSWER)
    yield case("connection/announces-close-and-stays", Write(announced), Hang(), outcome=ANSWER)
    yield case("connection/408-when-idle", Write(head + body), Wait(0.02), Write(http(408)), Close(), outcome=ANSWER)


def times() -> Iterator[FaultCase]:
    head, body = _parts()
    late = "DeadlineExceededError"
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield case("time/silent", Hang(), outcome=late)
    yield case("time/silent-on-accept", Hang(), outcome=late, on_accept=True)
    yield case("time/silent-in-head", Write(head[:30]), Hang(), outcome=late)
    yield case("time/silent-after-head", Write(head), Hang(), outcome=late)
    yield case("time/silent-in-body", Write(head + body[:-1]), Hang(), outcome=late)
    yield case("time/silent-in-chunks", Write(chunked + b'5\r\n{"doc\r\n'), Hang(), outcome=late)
    yield case("time/dripping-status-line", Drip(b"HTTP/1.1 200 " + b"O" * 10_000), outcome=late)
    yield case("time/dripping-header", Write(head[:20]), Drip(b"x" * 10_000), outcome=late)
    yield case("time/dripping-headers", Write(head[:17]), Drip(b"A: b\r\n", every=0.005, forever=True), outcome=late)
    yield case("time/dripping-body", Write(long), Drip(b" ", forever=True), outcome=late)
    yield case("time/dripping-body-fast", Write(long), Drip(b" ", every=0.001, forever=True), outcome=late)
    yield case("time/dripping-chunks", Write(chunked), Drip(b"1\r\n \r\n", every=0.005, forever=True), outcome=late)
    yield case("time/dripping-chunk-size", Write(chunked), Drip(b"0", forever=True), outcome=(late, LOST))
    yield case("time/dripping-error-body", Write(long.replace(b"200 OK", b"503 No")), Drip(b" " * 999), outcome=late)
    yield FaultCase("time/slow-answer", delay(0.1, answer()), ANSWER)
    yield case("time/answer-byte-by-byte", Drip(http(200, b'{"documents":[{"text":"\xc3\xa9"}]}'), 0), outcome=ANSWER)


def lengths() -> Iterator[FaultCase]:
    body = answer_body()

    def announced(length: bytes) -> Write:
        return Write(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + body)

    size = len(body)
    differing = b"%d\r\nContent-Length: %d" % (size, size - 7)
    yield case("framing/length-too-long", announced(b"%d" % (size + 7)), Close(), outcome=LOST)
    yield case("framing/length-too-long-open", announced(b"%d" % (size + 7)), Hang(), outcome="DeadlineExceededError")
    yield case("framing/length-too-short", announced(b"%d" % (size - 7)), outcome=("InvalidResponseError", LOST))
    yield case("framing/length-negative", announced(b"-1"), Close(), outcome=LOST)
    yield case("framing/length-not-a-number", announced(b"many"), Close(), outcome=LOST)
    yield case("framing/lengths-that-differ", announced(differing), Close(), outcome=LOST)
    yield case("framing/length-absurd", announced(b"9" * 30), Close(), outcome=("ResponseTooLargeError", LOST))
    yield case("framing/length-and-chunks", Write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body) + b"0\r\n\r\n"
    ), outcome=(ANSWER, LOST))  # fmt: skip
    yield case("framing/answer-twice", Write(http(200, body) + http(200, answer_body(1))), outcome=ANSWER)
    yield case("framing/bytes-after-answer", Write(http(200, body) + b"trailing"), outcome=ANSWER)


def chunks() -> Iterator[FaultCase]:
    body = answer_body()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    halves = chunk(body[:50]) + chunk(body[50:])
    yield case("framing/chunks", Write(head + halves + b"0\r\n\r\n"), outcome=ANSWER)
    yield case("framing/chunks-with-trailer", Write(head + halves + b"0\r\nX-Sum: 1\r\n\r\n"), outcome=ANSWER)
    yield case(
        "framing/chunk-extension", Write(head + b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(body), body)), outcome=ANSWER
    )
    broken = {
        "chunk-size-not-hex": b"zz\r\n" + body,
        "chunk-size-negative": b"-5\r\n" + body,
        "chunk-size-overflow": b"f" * 40 + b"\r\n" + body,
        "chunk-size-missing": b"\r\n" + body,
        "chunk-longer-than-said": b"5\r\n" + body + b"\r\n0\r\n\r\n",
        "chunk-shorter-than-said": b"%x\r\n" % (len(body) + 999) + body,
        "chunks-without-end": halves,
        "chunks-cut-in-size": halves + b"5",
        "chunks-cut-before-trailer": halves + b"0\r\n",
    }
    for name, rest in broken.items():
        yield case(f"framing/{name}", Write(head + rest), Close(), outcome=LOST)
    unknown = head.replace(b"chunked", b"snappy")
    yield case("framing/unknown-transfer", Write(unknown + body), Close(), outcome=(LOST, "InvalidResponseError"))


def garbage() -> Iterator[FaultCase]:
    """What is not HTTP, followed by the end of the connection."""
    body = answer_body()
    length = b"Content-Length: %d\r\n" % len(body)
    kinds = {
        "bytes": random.Random(0).randbytes(2_000),  # noqa: S311 # repeatable, not secret
        "text": b"hello, what do you want?\r\n\r\n",
        "body-only": body,
        "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
        "tls-alert": b"\x15\x03\x03\x00\x02\x02\x46",
        "http2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00\x03\x00\x00\x00\x64" * 3,
        "icy": b"ICY 200 OK\r\n\r\n" + body,
        "http2-status": b"HTTP/2 200\r\n" + length + b"\r\n" + body,
        "status-word": b"HTTP/1.1 fine\r\n\r\n" + body,
        "status-2-digits": b"HTTP/1.1 20 OK\r\n\r\n" + body,
        "header-without-colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n" + body,
        "header-nul": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n" + length + b"\r\n" + body,
        "blank-lines": b"\r\n" * 200,
    }
    for name, data in kinds.items():
        yield case(f"framing/garbage-{name}", Write(data), Close(), outcome=LOST)


def nearly_http() -> Iterator[FaultCase]:
    """Odd forms of HTTP, of which most are allowed."""
    body = answer_body()
    length = b"Content-Length: %d\r\n" % len(body)
    closed = {
        "http10": b"HTTP/1.0 200 OK\r\n" + length + b"\r\n",
        "http10-until-close": b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n",
        "http11-until-close": b"HTTP/1.1 200 OK\r\n\r\n",
        "no-reason": b"HTTP/1.1 200\r\n" + length + b"\r\n",
        "reason-not-ascii": b"HTTP/1.1 200 tr\xe8s bien\r\n" + length + b"\r\n",
        "header-not-ascii": b"HTTP/1.1 200 OK\r\nX-Note: caf\xc3\xa9\r\n" + length + b"\r\n",
        "header-repeated": b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n" + length + b"\r\n",
        "odd-content-type": b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-7\r\n" + length + b"\r\n",
    }
    for name, head in closed.items():
        yield case(f"framing/{name}", Write(head + body), Close(), outcome=ANSWER)
    yield case(
        "framing/http10-keep-alive", Write(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + length + b"\r\n" + body),
        outcome=ANSWER,
    )  # fmt: skip
    yield case(
        "framing/http10-cut", Write(closed["http10-until-close"] + body[:-9]), Close(), outcome="InvalidResponseError"
    )
    # RFC 9112, 6.3: the same length twice may be refused or taken for one.
    twice = b"HTTP/1.1 200 OK\r\n" + length + length + b"\r\n" + body
    yield case("framing/length-repeated", Write(twice), Close(), outcome=(ANSWER, LOST))
    bare = closed["no-reason"].replace(b"\r\n", b"\n") + body
    yield case("framing/bare-newlines", Write(bare), Close(), outcome=(ANSWER, LOST))
    folded = b"HTTP/1.1 200 OK\r\nX-Long: a\r\n  b\r\n" + length + b"\r\n" + body
    yield case("framing/folded-header", Write(folded), outcome=(ANSWER, LOST))
