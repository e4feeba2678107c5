"""A client of a few lines over a bare socket, so that the server is not judged by a library it is meant to test."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

QUESTION = "When does the café open?"


@contextmanager
def connected(url: str, timeout: float = 2.0) -> Iterator[socket.socket]:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout) as connection:
        yield connection


def written(path: str = "/v1/org/o/pipelines/p/retrieval", question: str = QUESTION) -> bytes:
    body = json.dumps({"question": question, "numResults": 5, "rerank": False}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer that announces its length."""
    with connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, file.read(length)


def ask(url: str, question: str = QUESTION) -> tuple[int, bytes]:
    """One question on a connection of its own."""
    with connected(url) as connection:
        connection.sendall(written(question=question))
        return read_answer(connection)


def drain(url: str) -> int:
    """The number of bytes that one question brings, up to the end of the connection."""
    with connected(url, 10.0) as connection:
        connection.sendall(written())
        connection.shutdown(socket.SHUT_WR)
        space = bytearray(65_536)
        total = 0
        while count := connection.recv_into(space):
            total += count
        return total
