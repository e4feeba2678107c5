"""The embedded service: a request in, the protocol's answer out, from any number of threads."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from rage_retrievers._frozen import frozen
from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import _paths
from rage_retrievers.local._damage import is_panic
from rage_retrievers.local._names import LOCAL_ORGANIZATION, LOCAL_PIPELINE
from rage_retrievers.local.ahead import Ahead
from rage_retrievers.local.folder import Folder, checked
from rage_retrievers.local.progress import Progress, unheard
from rage_retrievers.local.wire import Call, LocalResponse, RefusedError

if TYPE_CHECKING:
    from rage_retrievers.local.operations import Operations

T = TypeVar("T")
_BRIEF_BYTES = 2_048
_CLOSED = RefusedError(503, "Service unavailable", "the service is closed")
_log = logging.getLogger("rage_retrievers.local")


@frozen
class Stats:
    """What the folder's index holds, and what making it ready took."""

    files: int
    chunks: int
    seconds: float
    reused: bool
    """True when nothing had to be read: the index of an earlier start was up to date."""
    rebuilt: str = ""
    """Why the index was made again, when it was found unusable."""


class LocalService:
    """A local Vectorize over one folder of documents; make it with `open`, use it from any thread, close it.

    `skipped` names the files that could not be read, with the reason; `stats` says what is indexed.
    """

    def __init__(self, operations: Operations, organization: str, pipeline_id: str, *, has_api_key: bool) -> None:
        """Used by `open`."""
        self.organization = organization
        self.pipeline_id = pipeline_id
        self.has_api_key = has_api_key
        """Whether only one token is accepted."""
        self._operations = operations
        self._closed = False

    @classmethod
    def open(
        cls,
        folder: str | Path | None,
        *,
        organization: str = LOCAL_ORGANIZATION,
        pipeline_id: str = LOCAL_PIPELINE,
        cache_dir: str | Path | None = None,
        embedding: object | None = None,
        reranker: Callable[[str, list[str]], list[float]] | None = None,
        api_key: str | None = None,
        progress: Callable[[Progress], None] | None = None,
        follow_seconds: float = 2.0,
        executor: Executor | None = None,
    ) -> LocalService:
        """Index the folder, or reuse the index of an earlier start, and be ready to answer.

        The index lives below `cache_dir` (else RAGE_CACHE_DIR, else the user's cache directory), one per folder and
        embedding. Changes in the folder are seen at a request `follow_seconds` or more after the last look. Raises
        `ConfigurationError` for a folder that is missing, not a directory or not readable, and for an empty `api_key`;
        a file that cannot be read is named in `skipped`. With `api_key`, only that token is accepted; without, any
        token that is not empty. Pipelines are deployed and research is done in `executor`, else in threads of the
        service's own.
        """
        if api_key is not None and not api_key.strip():
            raise ConfigurationError("api_key is empty, so no token could match it: give one, or leave it out")
        root = None if folder is None else checked(folder)
        home = _paths.folder_home(_paths.cache_root(cache_dir), root)
        source = None if root is None else Folder(root)
        seen = None if source is None or home.exists() else source.scan()
        with Ahead(() if seen is None else seen.entries) as ahead:
            # Loading the rest takes a good part of a second, in which the first documents are read.
            if f"{__package__}.server" in sys.modules:  # whoever has loaded it will serve
                import_module(f"{__package__}.asgi")
            from rage_retrievers.local.embedding import choose
            from rage_retrievers.local.operations import Operations

            operations = Operations(
                home,
                source,
                choose(embedding),
                organization=organization,
                pipeline_id=pipeline_id,
                reranker=reranker,
                api_key=api_key,
                progress=progress or unheard,
                seen=None if seen is None else ahead.through(seen),
                follow_seconds=follow_seconds,
                executor=executor,
            )
        return cls(operations, organization, pipeline_id, has_api_key=api_key is not None)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(path, reason) of each file of the folder that is not indexed though its type is supported."""
        own = self._operations.own
        return [] if own is None else own.feed.skipped

    @property
    def stats(self) -> Stats:
        """What is indexed now, and what opening took."""
        own, opened = self._operations.own, self._operations.opened
        if own is None:
            return Stats(0, 0, 0.0, True)
        files, chunks = own.feed.collection.counts()
        return Stats(files, chunks, opened.seconds, not opened, own.feed.collection.rebuilt)

    def refresh(self) -> None:
        """Look at the folder now, whenever the last look was."""
        if self._operations.own is not None:
            self._operations.own.feed.sync()

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> LocalResponse:
        """Answer one request; never raises for what a request may hold. `path` may carry a query string."""
        if self._closed:  # its store would be taken for a corrupt one, and made again
            return _CLOSED.response()
        return self._said(lambda: self._operations.answer(Call.read(method, path, headers, body)))

    def handle_briefly(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> LocalResponse | None:
        """What `handle` answers where that takes a few milliseconds, so that a server's loop may wait; else None."""
        if self._closed or method != "POST" or len(body) > _BRIEF_BYTES:
            return None
        return self._said(lambda: self._operations.brief(Call.read(method, path, headers, body)))

    def _said(self, work: Callable[[], T]) -> T | LocalResponse:
        try:
            return work()
        except RefusedError as refused:
            return refused.response()
        except BaseException as error:  # the protocol's way to say that the service failed
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            if self._closed:  # under this request
                return _CLOSED.response()
            _log.exception("local.failed")
            return RefusedError(500, "Internal error", type(error).__name__).response()

    def close(self) -> None:
        """Wait for work under way and free the files; a closed service answers no more."""
        self._closed = True
        self._operations.close()

    def __enter__(self) -> LocalService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
