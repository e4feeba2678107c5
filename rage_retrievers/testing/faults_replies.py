"""Whole HTTP answers that say no, say nothing, point elsewhere, or bring a body that is odd or cannot be used."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

from .faults import (
    Close,
    Drip,
    Fault,
    ReceivedRequest,
    Wait,
    Write,
    answer_body,
    http,
    status,
)
from .faults_case import ANSWER, FaultCase, case

_HTML = b"<!doctype html><html><head><title>Gateway says no</title></head><body><h1>Sorry</h1></body></html>"
_STATUSES = (
    400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 418, 422, 423, 425, 429, 431, 451, 499,
    500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 522, 524, 529, 599,
)  # fmt: skip
_CLASSES = {
    400: "BadRequestError",
    401: "UnauthorizedError",
    402: "QuotaExceededError",
    403: "ForbiddenError",
    404: "NotFoundError",
    422: "BadRequestError",
    429: "RateLimitedError",
}


def _outcome_of(code: int) -> tuple[str, bool]:
    transient = code in (408, 425, 429) or (code >= 500 and code not in (501, 505))
    return _CLASSES.get(code, "ServerError" if code >= 500 else "StatusError"), transient


def statuses() -> Iterator[FaultCase]:
    for code in _STATUSES:
        outcome, transient = _outcome_of(code)
        yield FaultCase(f"status/{code}-json", status(code), outcome, transient)
        yield FaultCase(f"status/{code}-html", status(code, _HTML, content_type="text/html"), outcome, transient)
        yield FaultCase(f"status/{code}-empty", status(code, b""), outcome, transient)
    problem = json.dumps({"type": "about:blank", "title": "Out of service", "status": 503, "detail": "Later."}).encode()
    yield FaultCase(
        "status/503-problem", status(503, problem, content_type="application/problem+json"), "ServerError", True
    )
    yield FaultCase("status/500-right-body", status(500, answer_body()), "ServerError", True)
    yield FaultCase("status/401-list", status(401, b'[{"error": {"nested": 1}}]'), "UnauthorizedError", False)
    yield FaultCase("status/500-not-utf8", status(500, b'{"error": "caf\xe9"}'), "ServerError", True)
    yield FaultCase(
        "status/500-forged-lines", status(500, b'{"error": "a\\r\\nERROR b\\u001b[31m"}'), "ServerError", True
    )
    yield FaultCase("status/201-answer", status(201, answer_body()), ANSWER)
    for code in (200, 202, 204, 205, 206):
        yield FaultCase(f"status/{code}-empty", status(code, b""), "InvalidResponseError", False)
    yield FaultCase("status/200-html", status(200, _HTML, content_type="text/html"), "InvalidResponseError", False)
    yield FaultCase("status/200-error", status(200, b'{"error": "no"}'), "InvalidResponseError", False)
    yield case(
        "status/101", Write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), Close(),
        outcome=("StatusError", "InvalidResponseError", "ConnectionFailedError"))  # fmt: skip


def informational() -> Iterator[FaultCase]:
    right = Write(http(200, answer_body()))
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
    yield case("status/100-then-answer", Write(b"HTTP/1.1 100 Continue\r\n\r\n"), right, outcome=ANSWER)
    yield case("status/102-then-answer", Write(b"HTTP/1.1 102 Processing\r\n\r\n"), right, outcome=ANSWER)
    yield case("status/103-then-answer", Write(hints), Wait(0.02), right, outcome=ANSWER)
    yield case("status/100-thrice-then-answer", Write(b"HTTP/1.1 100 Continue\r\n\r\n" * 3), right, outcome=ANSWER)
    yield case("time/endless-1xx", Drip(hints, every=0.001, forever=True), outcome="DeadlineExceededError")


def _in_seconds(seconds: float, code: int) -> Write:
    def written(_: ReceivedRequest) -> bytes:
        return http(code, b'{"error": "slow down"}', ("Retry-After", formatdate(time.time() + seconds, usegmt=True)))

    return Write(written)


def retry_after() -> Iterator[FaultCase]:
    values = {
        "seconds": "1",
        "zero": "0",
        "fraction": "0.5",
        "absurd": "31536000000",
        "absurd-digits": "9" * 400,
        "infinite": "inf",
        "exponent": "1e309",
        "negative": "-5",
        "garbage": "soon, maybe",
        "empty": "",
        "bad-date": "Wed, 99 Foo 2077 25:61:61 GMT",
        "far-date": "Fri, 31 Dec 9999 23:59:59 GMT",
        "latin1": "caf\xe9",
        "unix": "1893456000",
    }
    for code in (429, 503):
        outcome, _ = _outcome_of(code)
        for form, value in values.items():
            yield FaultCase(f"retry-after/{code}-{form}", status(code, None, ("Retry-After", value)), outcome, True)
        for form, seconds in {"date": 2.0, "past-date": -3600.0}.items():
            yield FaultCase(f"retry-after/{code}-{form}", Fault((_in_seconds(seconds, code),)), outcome, True)


def redirects() -> Iterator[FaultCase]:
    def elsewhere(code: int) -> Write:
        def written(request: ReceivedRequest) -> bytes:
            return http(code, b"", ("Location", f"http://127.0.0.1:{request.other_port}{request.path}"))

        return Write(written)

    def itself(code: int) -> Write:
        return Write(lambda request: http(code, b"", ("Location", request.path)))

    for code in (301, 302, 303, 307, 308):
        yield case(f"redirect/{code}-other-origin", elsewhere(code), outcome="StatusError")
        yield case(f"redirect/{code}-itself", itself(code), outcome="StatusError")
    yield case("redirect/302-nowhere", Write(http(302)), outcome="StatusError")
    # A client that reads the address before it declines to go there may call the answer broken.
    bad = Write(http(302, b"", ("Location", "http://[::1")))
    yield case("redirect/302-bad-location", bad, outcome=("StatusError", "ConnectionFailedError"))
    yield case("redirect/302-file", Write(http(302, b"", ("Location", "file:///etc/hostname"))), outcome="StatusError")
    yield case("redirect/302-json", Write(http(302, answer_body(), ("Location", "/x"))), outcome="StatusError")
    yield case("redirect/302-html", Write(http(302, _HTML, ("Location", "/x"))), outcome="StatusError")
    yield case("redirect/300", Write(http(300, _HTML)), outcome="StatusError")
    yield case("redirect/304", Write(http(304)), outcome="StatusError")


def content() -> Iterator[FaultCase]:
    for name, body in _unusable().items():
        yield case(f"content/{name}", Write(http(200, body)), outcome="InvalidResponseError")
    for name, body in _usable().items():
        yield case(f"content/{name}", Write(http(200, body)), outcome=ANSWER)


def _unusable() -> dict[str, bytes]:
    body = answer_body()
    return {
        "cut-short": body[: len(body) // 2],
        "cut-in-character": body[: body.index("é".encode()) + 1],
        "invalid-utf8": body.replace("é".encode(), b"\xe9"),
        "utf16": body.decode().encode("utf-16"),
        "blank": b" \r\n ",
        "text": b"OK",
        "trailing-garbage": body + b"}",
        "single-quotes": b"{'documents': []}",
        "null": b"null",
        "list": b"[]",
        "string": b'"documents"',
        "number": b"5",
        "nan": b"NaN",
        "nested-100000": b"[" * 100_000,
        "nested-document": b'{"documents": [' + b'{"text":' * 50_000 + b"1" + b"}" * 50_000 + b"]}",
        "documents-missing": b'{"question": "q", "average_relevancy": 0.5, "ndcg": 1}',
        "documents-null": b'{"documents": null}',
        "documents-object": b'{"documents": {"0": {"text": "a"}}}',
        "documents-string": b'{"documents": "none"}',
        "documents-renamed": b'{"results": [{"text": "a"}]}',
        "document-null": b'{"documents": [null]}',
        "document-string": b'{"documents": ["a"]}',
        "text-missing": b'{"documents": [{"id": "1", "similarity": 0.5}]}',
        "text-null": b'{"documents": [{"text": null}]}',
        "text-number": b'{"documents": [{"text": 5}]}',
        "text-list": b'{"documents": [{"text": ["a"]}]}',
        "one-text-missing-of-two": b'{"documents": [{"text": "a"}, {"id": "2"}]}',
        "wrapped-garbage": b'{"record": {"value": "not JSON"}}',
    }


def _usable() -> dict[str, bytes]:
    return {**_odd_answers(), **_odd_documents()}


def _odd_answers() -> dict[str, bytes]:
    return {
        "no-documents": b'{"question": "q", "documents": [], "average_relevancy": null, "ndcg": null}',
        "text-only": b'{"documents": [{"text": "a"}]}',
        "text-empty": b'{"documents": [{"text": ""}]}',
        "summary-nulls": b'{"question": null, "documents": [{"text": "a"}], "average_relevancy": null, "ndcg": null}',
        "nan-average": b'{"documents": [{"text": "a"}], "average_relevancy": NaN, "ndcg": NaN}',
        "unknown-top-fields": b'{"documents": [{"text": "a"}], "version": 2, "usage": {"units": 1}, "next": null}',
        "repeated-keys": b'{"documents": null, "documents": [{"text": "a", "text": "b"}]}',
        "lone-surrogates": b'{"documents": [{"text": "cut \\ud83d", "id": "\\udc00", "source": "a\\ud83d"}]}',
        "lone-surrogate-keys": b'{"documents": [{"text": "a", "\\ud83d": "b"}]}',
        "nul": b'{"documents": [{"text": "a\\u0000b"}]}',
        "controls-raw": b'{"documents": [{"text": "a\\u001b[31m"}]}',
        "byte-order-mark": b"\xef\xbb\xbf" + _one(),
        "blanks-around": b"\r\n \t" + _one() + b"\n\n",
        "wrapped": json.dumps({"record": {"value": _one().decode()}}).encode(),
        "wrapped-object": b'{"record": {"value": {"documents": [{"text": "a"}]}}}',
        "escapes-only": answer_body().decode().encode("ascii", "backslashreplace").replace(b"\\x", b"\\u00"),
    }


def _odd_documents() -> dict[str, bytes]:
    return {
        "nulls": _one(**dict.fromkeys(_document().keys() - {"text"})),
        "scores-missing": json.dumps({"documents": [_document(without=("relevancy", "similarity"))]}).encode(),
        "nan-scores": _scored(b"NaN"),
        "infinite-scores": _scored(b"-Infinity"),
        "overflowing-scores": _scored(b"1e999"),
        "integer-scores-5000-digits": _scored(b"9" * 5_000),
        "text-scores": _one(relevancy="0.9", similarity="high"),
        "true-scores": _one(relevancy=True, similarity=[0.5]),
        "number-ids": _one(id=7, chunk_id=84, total_chunks=229.0, origin_id=12),
        "list-labels": _one(source=["a"], source_display_name={"name": "a"}, origin=False),
        "metadata-list": _one(metadata=[1, "two", None]),
        "metadata-text": _one(metadata="none"),
        "unknown-fields": _one(score=0.1, page=3, embedding=[0.1] * 20, nested={"a": {"b": [None]}}),
        "model-names": _one(model_config=1, fields="x", copy="y", __class__="z", self="s"),
    }


def _one(**changed: Any) -> bytes:
    """An answer of one document, with these fields changed or added."""
    return json.dumps({"question": "q", "documents": [{**_document(), **changed}], "ndcg": 1}).encode()


def _scored(value: bytes) -> bytes:
    """An answer of one document whose scores are written so."""
    return _one(relevancy="@", similarity="@").replace(b'"@"', value)


def _document(without: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: value for name, value in json.loads(answer_body(1))["documents"][0].items() if name not in without}
