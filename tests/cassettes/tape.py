"""Recording and replaying: vcrpy, matched on method, path and body, scrubbed, and closed to what it does not know."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import vcr
import yaml  # type: ignore[import-untyped]
from vcr.persisters.filesystem import CassetteNotFoundError
from vcr.record_mode import RecordMode
from vcr.serialize import deserialize, serialize

from rage_retrievers.engines import httptools
from rage_retrievers.observability.events import AttemptStarted, Event

from .scrub import Scrubber

CASSETTES = Path(__file__).parents[2] / "cassettes"
BASE_URL = "https://cassette.invalid/v1"


class UntapedError(AssertionError):
    """A request went past the cassette, or would have."""


class Tape:
    """A cassette in use. Give it to every client among its `listeners`, so that it knows what was sent."""

    def __init__(self, cassette: Any) -> None:
        self.cassette = cassette
        self.sent = 0

    def on_event(self, event: Event, /) -> None:
        """Count the requests of the clients."""
        self.sent += isinstance(event, AttemptStarted)

    @property
    def requests(self) -> list[Any]:
        """The requests as recorded: `method`, `path`, `headers` and `body`."""
        return list(self.cassette.requests)

    def check(self, taped: int) -> None:
        """Raise UntapedError where the cassette has not seen every request."""
        if taped != self.sent:
            raise UntapedError(f"{self.sent} requests were sent and the cassette saw {taped}; use engine='httpx'.")


@contextmanager
def replay(path: Path) -> Iterator[Tape]:
    """Answer from a cassette alone: a request it does not hold raises, and no connection is opened, loopback or not."""
    with ExitStack() as stack:
        stack.enter_context(_known_transports_only())
        stack.enter_context(_no_network())
        cassette = stack.enter_context(_recorder(Scrubber()).use_cassette(str(path), record_mode=RecordMode.NONE))
        tape = Tape(cassette)
        yield tape
        tape.check(cassette.play_count)


@contextmanager
def record(path: Path, header: str, names: Mapping[str, str] | None, *, scrubbed: bool = True) -> Iterator[Tape]:
    """Write what is sent and answered to `path`, below `header`."""
    path.unlink(missing_ok=True)
    with ExitStack() as stack:
        stack.enter_context(_known_transports_only())
        recorder = _recorder(Scrubber(names), header, whole_response=not scrubbed)
        cassette = stack.enter_context(recorder.use_cassette(str(path), record_mode=RecordMode.ALL))
        tape = Tape(cassette)
        yield tape
        tape.check(len(cassette))


def header_of(path: Path) -> dict[str, str]:
    """The header of a cassette: what it promises, what it was recorded against, and when."""
    lines = [line[2:] for line in path.read_text("utf-8").splitlines() if line.startswith("# ")]
    return dict(line.split(": ", 1) for line in lines)


def _recorder(scrubber: Scrubber, header: str = "", *, whole_response: bool = False) -> Any:
    recorder = vcr.VCR(
        match_on=("method", "path", "body"),
        before_record_request=scrubber.request,
        before_record_response=() if whole_response or not header else scrubber.response,
        decode_compressed_response=True,
    )
    recorder.register_persister(_Files(header))
    return recorder


class _Files:
    """Cassettes as UTF-8 files that can be read by people: a header, and bodies as blocks of text."""

    def __init__(self, header: str) -> None:
        self._header = header

    def load_cassette(self, path: Path, serializer: Any) -> Any:
        """The requests and responses of a file."""
        if self._header:
            raise CassetteNotFoundError  # vcrpy's word for a cassette that is yet to be recorded
        return deserialize(Path(path).read_text("utf-8"), serializer)

    def save_cassette(self, path: Path, cassette: Any, serializer: Any) -> None:
        """Write a file."""
        Path(path).write_text(f"{self._header}\n{serialize(cassette, _Blocks)}", "utf-8")


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Writes texts of several lines as blocks."""


def _as_block(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _as_block)


class _Blocks:
    """The serializer of vcrpy for `_Dumper`."""

    @staticmethod
    def serialize(cassette: Any) -> str:
        """The cassette as YAML."""
        return str(yaml.dump(cassette, Dumper=_Dumper, allow_unicode=True, width=1_000, sort_keys=False))


@contextmanager
def _known_transports_only() -> Iterator[None]:
    """No cassette looks beneath the fast engine; so it may not be used."""

    def refuse(*_: object) -> NoReturn:
        raise UntapedError("The engine 'httptools' cannot be recorded or replayed; use engine='httpx'.")

    with patch.object(httptools, "written", refuse):
        yield


@contextmanager
def _no_network() -> Iterator[None]:
    def refuse(*address: object) -> NoReturn:
        raise UntapedError(f"A replay reached for the network: {address[-1]!r}.")

    with (
        patch.object(socket.socket, "connect", refuse),
        patch.object(socket.socket, "connect_ex", refuse),
        patch.object(socket, "getaddrinfo", refuse),
    ):
        yield
