"""A local server that answers every retrieval with the same 6 KB, five-document answer, as fast as Python can.

Run as a program it prints its port; `--delay` seconds pass before each answer, `--slow-every N` makes one request in N
forty times slower.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

PASSAGE = "A retrieval brings the passages that answer a question best, with where each comes from. " * 11


def body() -> bytes:
    """The answer: five documents with every documented field, and one the client has never heard of."""
    documents = [
        {
            "relevancy": 0.9 - n / 10,
            "id": f"bd649160-a790-4b81-a4f4-4655ffe3a71f-{n}",
            "text": PASSAGE,
            "chunk_id": str(n),
            "total_chunks": "229",
            "origin": "file-upload",
            "origin_id": "bd649160-a790-4b81-a4f4-4655ffe3a71f",
            "similarity": 0.77 - n / 100,
            "source": "582893ba/cdfa4981/report.pdf",
            "unique_source": "bd649160-a790-4b81-a4f4-4655ffe3a71f",
            "source_display_name": "582893ba/cdfa4981/report.pdf",
            "pipeline_id": "aipf9ab5-702c-40de-a2f7-8a2139129ba5",
            "org_id": "582893ba-291c-4ec7-a6ee-e85c26888817",
            "index": "sp-1536",
            "metadata": {"created-from-api": True, "year": 2024},
        }
        for n in range(5)
    ]
    answer = {"question": "What?", "documents": documents, "average_relevancy": 0.7, "ndcg": 1}
    return json.dumps(answer, separators=(",", ":")).encode()


BODY = body()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Answering(asyncio.Protocol):
    """One connection. Reads Content-Length bodies and nothing else."""

    connections = 0

    def __init__(self, delay: float, slow_every: int, numbers: Iterator[int]) -> None:
        self._delay = delay
        self._slow_every = slow_every
        self._numbers = numbers
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        Answering.connections += 1

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (head := self._data.find(b"\r\n\r\n")) >= 0:
            headers = self._data[:head].lower()
            at = headers.find(b"content-length:")
            length = int(headers[at + 15 : (headers.find(b"\r\n", at) + 1 or len(headers) + 1) - 1]) if at >= 0 else 0
            if len(self._data) < head + 4 + length:
                return
            path = self._data.split(b" ", 2)[1]
            self._data = self._data[head + 4 + length :]
            self._answer(path)

    def _answer(self, path: bytes) -> None:
        if path == b"/connections":
            told = str(Answering.connections).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told))
            return
        slow = self._slow_every and next(self._numbers) % self._slow_every == 0
        delay = self._delay * (40 if slow else 1)
        if delay:
            asyncio.get_running_loop().call_later(delay, self._write)
        else:
            self._transport.write(ANSWER)

    def _write(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


async def serve(delay: float, slow_every: int) -> None:
    """Serve until the standard input ends."""
    loop = asyncio.get_running_loop()
    numbers = count(1)
    server = await loop.create_server(lambda: Answering(delay, slow_every, numbers), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def pin(core: int) -> None:
    """Keep this process on one core, where the system can and has more than one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core % len(cores)]})


@contextmanager
def running(delay: float = 0.0, slow_every: int = 0) -> Iterator[str]:
    """The base URL of a server in a process of its own, on a core of its own."""
    command = [sys.executable, __file__, "--delay", str(delay), "--slow-every", str(slow_every)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--slow-every", type=int, default=0)
    options = parser.parse_args()
    pin(-1)
    asyncio.run(serve(options.delay, options.slow_every))
