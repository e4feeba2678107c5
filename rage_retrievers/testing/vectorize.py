"""A whole Vectorize for a test: real answers from the documents given, and faults where the script says so.

    # conftest.py
    from rage_retrievers.testing import vectorize_server

    vectorize = vectorize_server("docs")

    # a test
    def test_my_app_survives_an_outage(vectorize):
        vectorize.play([status(503), status(503), vectorize.real])
        assert my_app(**vectorize.settings).answer("When is it open?")

Needs the extra `local`; `vectorize_server` needs pytest too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from ..errors import ConfigurationError
from ._needs import need, need_script
from .faults import Fault, ReceivedRequest, Script, Write, http
from .faults_server import FaultServer

if TYPE_CHECKING:
    from ..local import LocalService


class VectorizeServer(FaultServer):
    """A `FaultServer` whose right answer is that of the embedded pipeline; use it in a `with` block.

    `documents` is a folder, or texts by file name. Whatever clients create lasts as long as the block. Without a script
    every request is answered; `play` goes on with another one, in which `real` is the answer of the pipeline.
    """

    def __init__(
        self,
        documents: str | Path | Mapping[str, str],
        script: Script | None = None,
        *,
        embedding: object | None = None,
    ) -> None:
        _need_documents(documents)
        self._documents = documents
        self._embedding = embedding
        self.real = Fault((Write(self._answer),))
        """No fault: what the embedded pipeline answers to this request."""
        super().__init__(self.real if script is None else script)

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments for a client or a retriever of this package: where the server is, and whom it serves."""
        return {
            "base_url": self.url,
            "api_key": "test-token",
            "organization": self._service.organization,
            "pipeline_id": self._service.pipeline_id,
        }

    def recover(self) -> None:
        """Answer every request from here on."""
        self.play(self.real)

    def __enter__(self) -> Self:
        self._home = tempfile.TemporaryDirectory(prefix="vectorize-server-")
        try:
            self._service = self._open(Path(self._home.name))
            return super().__enter__()
        except BaseException:
            self._home.cleanup()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._service.close()
            self._home.cleanup()

    def _open(self, home: Path) -> LocalService:
        from ..local import LocalService

        folder = self._documents
        if isinstance(folder, Mapping):
            folder = _written(folder, home / "documents")
        return LocalService.open(folder, cache_dir=home / "cache", embedding=self._embedding, follow_seconds=0.0)

    def _answer(self, request: ReceivedRequest) -> bytes:
        answer = self._service.handle(request.method, request.path, request.headers, request.body)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        content_type = headers.pop("content-type", "application/json")
        return http(answer.status, answer.body, *headers.items(), content_type=content_type)


def vectorize_server(
    documents: str | Path | Mapping[str, str],
    script: Script | None = None,
    *,
    scope: Literal["session", "package", "module", "class", "function"] = "function",
    embedding: object | None = None,
) -> Callable[[], Iterator[VectorizeServer]]:
    """A pytest fixture that is a running `VectorizeServer`; assign it to the name that your tests ask for."""
    import pytest

    _need_documents(documents)
    known = ("session", "package", "module", "class", "function")
    need(scope in known, "vectorize_server's scope", scope, " or ".join(known))
    if script is not None:
        need_script("vectorize_server's script", script, Fault)

    @pytest.fixture(scope=scope)
    def running() -> Iterator[VectorizeServer]:
        with VectorizeServer(documents, script, embedding=embedding) as server:
            yield server

    fixture: Callable[[], Iterator[VectorizeServer]] = running
    return fixture


def _need_documents(documents: object) -> None:
    fits = isinstance(documents, str | os.PathLike | Mapping)
    need(fits, "documents", documents, 'a folder, or texts by file name: {"hours.md": "Open from 9 to 5."}')
    for name, text in documents.items() if isinstance(documents, Mapping) else ():
        need(isinstance(name, str) and bool(name.strip()), "The name of a document", name, 'a name, such as "hours.md"')
        need(isinstance(text, str), f"The document {name!r}", text, "its text")


def _written(documents: Mapping[str, str], home: Path) -> Path:
    home.mkdir()
    for name, text in documents.items():
        path = (home / name).resolve()
        if not path.is_relative_to(home.resolve()):
            raise ConfigurationError(f"The file name {name!r} leads out of the folder of documents")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return home
