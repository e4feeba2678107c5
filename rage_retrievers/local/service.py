"""The embedded service: a request in, the protocol's answer out, from any number of threads."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import _paths, retrieval
from rage_retrievers.local._names import LOCAL_ORGANIZATION, LOCAL_PIPELINE
from rage_retrievers.local.embedding import Embedding, choose
from rage_retrievers.local.feed import Feed
from rage_retrievers.local.folder import Folder, checked
from rage_retrievers.local.progress import Progress, unheard
from rage_retrievers.local.ranking import Reranker
from rage_retrievers.local.wire import Call, LocalResponse, RefusedError, reply

_log = logging.getLogger("rage_retrievers.local")


@dataclass(frozen=True, slots=True)
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

    def __init__(
        self,
        *,
        organization: str,
        pipeline_id: str,
        feed: Feed | None,
        embedding: Embedding,
        reranker: Reranker | None,
        api_key: str | None,
        seconds: float,
        reused: bool,
    ) -> None:
        self.organization = organization
        self.pipeline_id = pipeline_id
        self._feed = feed
        self._embedding = embedding
        self._reranker = reranker
        self._api_key = api_key
        self._seconds = seconds
        self._reused = reused

    @classmethod
    def open(
        cls,
        folder: str | Path | None,
        *,
        organization: str = LOCAL_ORGANIZATION,
        pipeline_id: str = LOCAL_PIPELINE,
        cache_dir: Path | None = None,
        embedding: object | None = None,
        reranker: Callable[[str, list[str]], list[float]] | None = None,
        api_key: str | None = None,
        progress: Callable[[Progress], None] | None = None,
        follow_seconds: float = 2.0,
    ) -> LocalService:
        """Index the folder, or reuse the index of an earlier start, and be ready to answer.

        The index lives below `cache_dir` (else RAGE_CACHE_DIR, else the user's cache directory), one per folder and
        embedding. Changes in the folder are seen at a request `follow_seconds` or more after the last look. Raises
        `ConfigurationError` for a folder that is missing, not a directory or not readable; a file that cannot be read
        is named in `skipped`. With `api_key`, only that token is accepted; without, any token that is not empty.
        """
        root = None if folder is None else checked(folder)
        model = choose(embedding)
        feed = None
        seconds, reused = 0.0, True
        if root is not None:
            home = _paths.folder_home(_paths.cache_root(cache_dir), root)
            try:
                feed = Feed(home / f"index-{_paths.digest(model.identity)}", Folder(root), model, pause=follow_seconds)
            except OSError as error:
                raise ConfigurationError(
                    f"the cache directory {str(home)!r} cannot be written ({error.strerror}): set RAGE_CACHE_DIR to one"
                    " that can"
                ) from error
            done = feed.sync(progress or unheard)
            seconds, reused = done.seconds, not done
        return cls(
            organization=organization,
            pipeline_id=pipeline_id,
            feed=feed,
            embedding=model,
            reranker=reranker,
            api_key=api_key,
            seconds=seconds,
            reused=reused,
        )

    @property
    def has_api_key(self) -> bool:
        """Whether only one token is accepted."""
        return self._api_key is not None

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(path, reason) of each file of the folder that is not indexed though its type is supported."""
        return [] if self._feed is None else self._feed.skipped

    @property
    def stats(self) -> Stats:
        """What is indexed now, and what opening took."""
        files, chunks = (0, 0) if self._feed is None else self._feed.collection.counts()
        rebuilt = "" if self._feed is None else self._feed.collection.rebuilt
        return Stats(files, chunks, self._seconds, self._reused, rebuilt)

    def refresh(self) -> None:
        """Look at the folder now, whenever the last look was."""
        if self._feed is not None:
            self._feed.sync()

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> LocalResponse:
        """Answer one request; never raises for what a request may hold. `path` may carry a query string."""
        try:
            call = Call.read(method, path, headers, body)
            return self._route(call)
        except RefusedError as refused:
            return refused.response()
        except Exception as error:  # the protocol's way to say that the service failed
            _log.exception("local.failed")
            return RefusedError(500, "Internal error", type(error).__name__).response()

    def close(self) -> None:
        """Free the files; a closed service answers no more."""
        if self._feed is not None:
            self._feed.close()

    def __enter__(self) -> LocalService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _route(self, call: Call) -> LocalResponse:
        if not call.segments or call.segments[0] not in ("v1", "api"):
            raise RefusedError(404, "Not found", "paths begin with /v1 or /api")
        self._authorize(call)
        match call.segments[1:]:
            case ("org", organization, "pipelines", pipeline_id, *rest):
                self._check(organization, pipeline_id)
                return self._pipeline(call, tuple(rest))
        raise RefusedError(404, "Not found", f"no such operation: {call.method} /{'/'.join(call.segments)}")

    def _authorize(self, call: Call) -> None:
        token = call.token()
        if not token:
            raise RefusedError(401, "Unauthorized", "send the header Authorization: Bearer <token>")
        if self._api_key is not None and not hmac.compare_digest(token.encode(), self._api_key.encode()):
            raise RefusedError(401, "Unauthorized", "the token is not the one this service was started with")

    def _check(self, organization: str, pipeline_id: str) -> None:
        if organization != self.organization:
            raise RefusedError(404, "Organization not found", f"this service knows organization {self.organization}")
        if self._feed is None or pipeline_id != self.pipeline_id:
            raise RefusedError(404, "Pipeline not found", f"no pipeline {pipeline_id}")

    def _pipeline(self, call: Call, rest: tuple[str, ...]) -> LocalResponse:
        if rest == ("retrieval",):
            return self._retrieval(call)
        if rest == () and call.method == "GET":
            return reply({"message": "Pipeline details", "data": self._summary()})
        raise RefusedError(404, "Not found", f"no such operation: {call.method} /{'/'.join(call.segments)}")

    def _retrieval(self, call: Call) -> LocalResponse:
        if call.method != "POST":
            raise RefusedError(405, "Method not allowed", "retrieval is asked for with POST", {"allow": "POST"})
        ask = retrieval.read_ask(call.json())
        assert self._feed is not None  # _check has seen to it
        self._feed.follow()
        owner = {"pipeline_id": self.pipeline_id, "org_id": self.organization}
        return reply(self._feed.read(lambda seen: retrieval.answer(seen, self._embedding, ask, self._reranker, owner)))

    def _summary(self) -> dict[str, Any]:
        return {
            "id": self.pipeline_id,
            "name": "local folder",
            "documentCount": self.stats.files,
            "status": "LISTENING",
            "createdAt": None,
            "createdBy": "local",
            **{key: [] for key in ("sourceConnectorAuthIds", "destinationConnectorAuthIds", "aiPlatformAuthIds")},
            "sourceConnectorTypes": ["FILE_UPLOAD"],
            "destinationConnectorTypes": ["VECTORIZE"],
            "aiPlatformTypes": ["VECTORIZE"],
            **{key: [] for key in ("sourceConnectors", "destinationConnectors", "aiPlatforms")},
        }
