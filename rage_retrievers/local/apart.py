"""Reading foreign formats in processes of their own, so that a hostile file costs bounded time and memory.

A reader takes one document at a time on its standard input (a line of JSON: name, size, seconds; then the bytes) and
answers on its standard output (eight hexadecimal digits of length; then JSON). It ends with its input, or by itself
when nobody asked for a while.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

from rage_retrievers.local import documents
from rage_retrievers.local.documents import Reading, UnreadableDocumentError

MAX_MEMORY_BYTES = 1024 * 1024 * 1024
# Beyond the document's own deadline, which ends the reading with a better reason where it can be asked.
GRACE_SECONDS = 2.0
_APART = (".html", ".htm", ".pdf", ".docx")
# What the parsers would load beside themselves and no reading of text needs: half as long as all the rest.
_UNNEEDED = ("soupsieve", "PIL", "fontTools")
# To begin another reader takes about as long as most documents: one at work is waited for that long.
_PATIENCE_SECONDS = 0.5
_IDLE_SECONDS = 20.0
_MAX_ANSWER_BYTES = 4 * documents.MAX_TEXT_CHARACTERS + 1024 * 1024
_BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);from rage_retrievers.local.apart import serve; serve()"
)


def is_apart(name: str) -> bool:
    """Whether a file of this name is read in another process, so that several at once go faster."""
    return documents.suffix_of(name) in _APART


def read(name: str, data: bytes) -> Reading:
    """`documents.read`, in another process for every format that a parser might choke on."""
    if not is_apart(name) or len(data) > documents.MAX_FILE_BYTES or getattr(sys, "frozen", False):
        return documents.read(name, data)
    while True:
        with _readers.lent() as reader:
            try:
                answer = reader.ask(name, data)
            except EOFError:
                if reader.ended_by_itself():
                    continue
                raise UnreadableDocumentError("its reader ended: too much memory, or a fault of the parser") from None
        if "refused" in answer:
            raise UnreadableDocumentError(answer["refused"])
        return Reading(answer["text"], answer["facts"], answer["metadata"])


class _Reader:
    """One process that reads."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter
            [sys.executable, "-I", "-c", _BEGIN, json.dumps([*map(str, sys.path)])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, name: str, data: bytes) -> dict[str, Any]:
        """What it answers; EOFError when it ended, `UnreadableDocumentError` when it had to be ended."""
        seconds = documents.MAX_SECONDS
        late = threading.Event()
        timer = threading.Timer(seconds + GRACE_SECONDS, self._kill, (late,))
        timer.daemon = True
        timer.start()
        try:
            return self._exchange({"name": name, "size": len(data), "seconds": seconds}, data)
        except (EOFError, OSError, ValueError) as error:
            self.end()
            if late.is_set():
                raise UnreadableDocumentError(f"takes more than {seconds:.0f} s to read") from None
            raise EOFError from error
        finally:
            timer.cancel()

    def _kill(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _exchange(self, asked: dict[str, Any], data: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n" + data)
        self._process.stdin.flush()
        size = int(_exactly(self._process.stdout, 8), 16)
        if size > _MAX_ANSWER_BYTES:
            raise ValueError("an answer beyond its bound")
        answer: dict[str, Any] = json.loads(_exactly(self._process.stdout, size))
        return answer

    @property
    def alive(self) -> bool:
        """Whether it has not been ended."""
        return self._process.returncode is None

    def ended_by_itself(self) -> bool:
        """Whether it had gone idle before it was asked, so that another should be."""
        return self._process.returncode == 0

    def end(self) -> None:
        """End it now; it holds nothing that would be lost."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


class _Readers:
    """The readers of this process: as few as keep up, each with one document at a time."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin with none: in a forked process these are the other's, and a pipe that two write to is no pipe."""
        self._changed = threading.Condition()
        self.idle: list[_Reader] = []
        self._working = 0

    @contextlib.contextmanager
    def lent(self) -> Iterator[_Reader]:
        """A reader for one document; it is kept when it is still alive."""
        with self._changed:
            if self._working:
                self._changed.wait_for(lambda: self.idle, _PATIENCE_SECONDS)
            reader = self.idle.pop() if self.idle else _Reader()
            self._working += 1
        try:
            yield reader
        finally:
            with self._changed:
                self._working -= 1
                if reader.alive:
                    self.idle.append(reader)
                self._changed.notify()

    def end(self) -> None:
        """End those at rest."""
        with self._changed:
            while self.idle:
                self.idle.pop().end()


_readers = _Readers()


@atexit.register
def _end_all() -> None:
    _readers.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_readers.forget)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def serve() -> None:
    """Be a reader: answer each document on standard input until there is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks
    _limit_memory()
    sys.modules.update(dict.fromkeys(_UNNEEDED))  # type: ignore[arg-type]  # None: as if it were not installed
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a parser prints is no part of an answer
    while True:
        idle = threading.Timer(_IDLE_SECONDS, os._exit, (0,))
        idle.daemon = True
        idle.start()
        line = asked.readline()
        idle.cancel()
        if not line:
            return
        header = json.loads(line)
        documents.MAX_SECONDS = header["seconds"]
        answer = json.dumps(_answer(header["name"], _exactly(asked, header["size"])), ensure_ascii=False).encode()
        answers.write(b"%08x" % len(answer) + answer)
        answers.flush()


def _answer(name: str, data: bytes) -> dict[str, Any]:
    if hasattr(signal, "alarm"):
        # Should whoever asked be gone by then, nobody else would end this process.
        signal.alarm(int(documents.MAX_SECONDS + 2 * GRACE_SECONDS) + 1)
    try:
        reading = documents.read(name, data)
    except UnreadableDocumentError as error:
        return {"refused": str(error).encode("utf-8", "replace").decode()}
    finally:
        if hasattr(signal, "alarm"):
            signal.alarm(0)
    return {"text": reading.text, "facts": reading.facts, "metadata": reading.metadata}


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # a system may know no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
