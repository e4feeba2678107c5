"""Faults as data: what a server does, step by step, once it has read a request.

A `Fault` is a sequence of steps. A connection that is still open after the last step waits for its next request, so a
right answer is a fault too: a single `Write`. A script says which fault each request meets.

    Fault((Write(http(200, b"{}")[:20]), Reset()))     # reset in the middle of the head
    Fault((Wait(0.2), *answer().steps))                # the same as delay(0.2, answer())
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from http import HTTPStatus
from typing import Any, TypeAlias

from .._checks import is_count, is_number
from ._needs import COUNT, FAULT, SECONDS, is_plain, is_seconds, need


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request as the server read it. Header names are in lower case; the credential stays out of the repr."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    port: int
    """The port it came in at: the server's own, or that of its other origin."""
    other_port: int
    """The port of the other origin, to which redirects point."""

    def json(self) -> Any:
        """The body as JSON. Raises ValueError if it is none."""
        return json.loads(self.body)


Content: TypeAlias = bytes | Callable[[ReceivedRequest], bytes]


@dataclass(frozen=True, slots=True)
class Write:
    """Write these bytes, or what the function makes of the request."""

    data: Content = field(repr=False)

    def __post_init__(self) -> None:
        fits = isinstance(self.data, bytes) or is_plain(self.data)
        need(fits, "Write's data", self.data, "bytes, or a function from a ReceivedRequest to bytes")


@dataclass(frozen=True, slots=True)
class Drip:
    """Write one byte every `every` seconds; `forever` starts again at the end of `data`."""

    data: bytes = field(repr=False)
    every: float = 0.02
    forever: bool = False

    def __post_init__(self) -> None:
        need(isinstance(self.data, bytes), "Drip's data", self.data, "bytes")
        need(is_seconds(self.every), "Drip's every", self.every, SECONDS)
        need(isinstance(self.forever, bool), "Drip's forever", self.forever, "True or False")
        need(bool(self.data) or not self.forever, "Drip's data", self.data, "at least one byte, where it is for ever")


@dataclass(frozen=True, slots=True)
class Flood:
    """Write `chunk` again and again, `total` bytes in all, as fast as the client reads and no faster."""

    chunk: bytes = field(repr=False)
    total: int

    def __post_init__(self) -> None:
        need(isinstance(self.chunk, bytes) and bool(self.chunk), "Flood's chunk", self.chunk, "bytes, at least one")
        need(is_count(self.total, 0), "Flood's total", self.total, COUNT)


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for `seconds`, or until the client has left."""

    seconds: float

    def __post_init__(self) -> None:
        need(is_seconds(self.seconds), "Wait's seconds", self.seconds, f"{SECONDS}, or Hang() in its place")


@dataclass(frozen=True, slots=True)
class Hang:
    """Do nothing until the client has left."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in order (FIN), once everything is written."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection (RST); bytes the client has not read yet may be lost."""


Step: TypeAlias = Write | Drip | Flood | Wait | Hang | Close | Reset


@dataclass(frozen=True, slots=True)
class Fault:
    """What the server does with one request. With `on_accept`, it acts on a new connection before any request."""

    steps: tuple[Step, ...]
    on_accept: bool = False

    def __post_init__(self) -> None:
        need(isinstance(self.steps, tuple | list), "Fault's steps", self.steps, "a tuple of steps, such as (Reset(),)")
        for step in self.steps:
            need(isinstance(step, Step), "Fault's step", step, "a step: Write, Drip, Flood, Wait, Hang, Close or Reset")
        need(isinstance(self.on_accept, bool), "Fault's on_accept", self.on_accept, "True or False")


Script: TypeAlias = Fault | Sequence[Fault] | Callable[[int], Fault]
"""One fault for every request; one per request, of which the last repeats; or a function of the request's index."""

_REASONS = {int(known): known.phrase for known in HTTPStatus}


def http(code: int, body: bytes = b"", *headers: tuple[str, str], content_type: str = "application/json") -> bytes:
    """A whole HTTP/1.1 answer as bytes, with its right length."""
    need(is_count(code, 0), "http's code", code, "a status, such as 503")
    need(isinstance(body, bytes), "http's body", body, "bytes")
    for header in headers:
        fits = isinstance(header, tuple) and len(header) == 2 and all(isinstance(part, str) for part in header)
        need(fits, "http's header", header, 'a name and a value, such as ("Retry-After", "1")')
    reason = _REASONS.get(code, "Unknown")
    fields = [("Content-Type", content_type), *headers] if body else list(headers)
    if code >= 200 and code not in (204, 304):
        fields.append(("Content-Length", str(len(body))))
    lines = [f"HTTP/1.1 {code} {reason}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    """One chunk of a body that is sent with `Transfer-Encoding: chunked`."""
    need(isinstance(data, bytes), "chunk's data", data, "bytes")
    return b"%x\r\n%s\r\n" % (len(data), data)


def status(code: int, body: bytes | None = None, *headers: tuple[str, str], content_type: str | None = None) -> Fault:
    """An answer with this status. Its body is the service's own JSON form of an error, unless another one is given."""
    need(is_count(code, 0), "status's code", code, "a status, such as 503")
    if body is None:
        body = json.dumps({"error": f"Status {code}", "details": "scripted by the fault server"}).encode()
    return Fault((Write(http(code, body, *headers, content_type=content_type or "application/json")),))


@cache
def _passages(count: int) -> str:
    """The documents of a right answer, best first under either score."""
    return json.dumps(
        [
            {
                "relevancy": round(0.99 / rank, 6),
                "similarity": round(0.8 - rank / (8 * count), 6),
                "id": f"origin-1-unique-1-{rank}",
                "text": f"Passage {rank} of {count}: the café's opening hours, §{rank}.",
                "chunk_id": str(rank),
                "total_chunks": str(count),
                "origin": "file-upload",
                "origin_id": "origin-1",
                "source": "org-1/folder/opening-hours.pdf",
                "unique_source": "origin-1-unique-1",
                "source_display_name": "org-1/folder/opening-hours.pdf",
                "pipeline_id": "aip00000-0000-4000-8000-000000000001",
                "org_id": "org-1",
                "metadata": {"year": 2024, "public": True},
            }
            for rank in range(1, count + 1)
        ],
        ensure_ascii=False,
    )


def answer_body(documents: int = 5, question: str = "When is it open?") -> bytes:
    """The body of a right answer to `question`, with this many documents."""
    need(is_count(documents, 0), "answer_body's documents", documents, COUNT)
    need(isinstance(question, str), "answer_body's question", question, "a text")
    asked = json.dumps(question)
    return (
        f'{{"question": {asked}, "documents": {_passages(documents)}, "average_relevancy": 0.45, "ndcg": 1}}'.encode()
    )


def question_of(request: ReceivedRequest) -> str:
    """The question that a request asks, or an empty text when it asks none."""
    try:
        asked = request.json()
    except ValueError:
        return ""
    question = asked.get("question") if isinstance(asked, dict) else None
    return question if isinstance(question, str) else ""


def answer(documents: int = 5) -> Fault:
    """No fault at all: a right answer with this many documents, which repeats the question it was asked."""
    need(is_count(documents, 0), "answer's documents", documents, COUNT)
    return Fault((Write(lambda request: http(200, answer_body(documents, question_of(request)))),))


def delay(seconds: float, fault: Fault) -> Fault:
    """The same fault, `seconds` later."""
    need(isinstance(fault, Fault), "delay's fault", fault, FAULT)
    return replace(fault, steps=(Wait(seconds), *fault.steps))


def fail_then(failures: int, fault: Fault, then: Fault | None = None) -> tuple[Fault, ...]:
    """A script that fails this many times and then works for good; `then` is a right answer unless given."""
    need(is_count(failures, 0), "fail_then's failures", failures, COUNT)
    need(isinstance(fault, Fault), "fail_then's fault", fault, FAULT)
    need(isinstance(then, Fault | None), "fail_then's then", then, FAULT)
    return (*[fault] * failures, answer() if then is None else then)


def fraction(share: float, fault: Fault, otherwise: Fault | None = None, *, seed: int = 0) -> Callable[[int], Fault]:
    """A script in which this share of the requests, chosen at random, meets the fault.

    A request's index and the seed alone decide, so every run, in any order, meets the same faults.
    """
    need(is_number(share) and 0 <= share <= 1, "fraction's share", share, "a share from 0 to 1")
    need(isinstance(fault, Fault), "fraction's fault", fault, FAULT)
    need(isinstance(otherwise, Fault | None), "fraction's otherwise", otherwise, FAULT)
    healthy = answer() if otherwise is None else otherwise

    def script(index: int) -> Fault:
        chance = random.Random(f"{seed}/{index}").random()  # noqa: S311 # repeatable, not secret
        return fault if chance < share else healthy

    return script


def refused_url() -> str:
    """A base URL on which nothing listens, so that connecting to it is refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/v1"
