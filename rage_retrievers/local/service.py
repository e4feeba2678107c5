"""The embedded service: a request in, the protocol's answer out, from any number of threads."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import (
    _paths,
    apart,
    connectors,
    extraction,
    pipeline_operations,
    research,
    retrieval,
    uploads,
)
from rage_retrievers.local._names import LOCAL_ORGANIZATION, LOCAL_PIPELINE
from rage_retrievers.local.account import Account, Job, PipelineRecord
from rage_retrievers.local.collection import Chunking, Synced
from rage_retrievers.local.embedding import Embedding, choose
from rage_retrievers.local.feed import Feed
from rage_retrievers.local.folder import Folder, checked
from rage_retrievers.local.jobs import Background, Jobs
from rage_retrievers.local.pipelines import FolderPipeline, Pipelines
from rage_retrievers.local.progress import Progress, unheard
from rage_retrievers.local.ranking import Ask, Reranker
from rage_retrievers.local.uploads import Uploaded
from rage_retrievers.local.wire import Call, LocalResponse, RefusedError, reply
from rage_retrievers.local.workspaces import workspaces

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
        home: Path,
        organization: str,
        folder: FolderPipeline | None,
        model: Embedding,
        *,
        pipeline_id: str,
        reranker: Reranker | None,
        api_key: str | None,
        opened: Synced,
        follow_seconds: float,
        executor: Executor | None,
    ) -> None:
        """Used by `open`."""
        self.organization = organization
        self.pipeline_id = pipeline_id
        self._folder = folder
        self._embedding = model
        self._reranker = reranker
        self._api_key = api_key
        self._opened = opened
        self._account = Account(home / "account")
        self._background = Background(executor)

        def new_feed(place: Path, source: Uploaded, cut: Chunking) -> Feed:
            return Feed(place / f"index-{_paths.digest(model.identity)}", source, model, cut=cut, pause=follow_seconds)

        self._pipelines = Pipelines(
            home, organization, self._account, folder, new_feed=new_feed, background=self._background
        )

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
        executor: Executor | None = None,
    ) -> LocalService:
        """Index the folder, or reuse the index of an earlier start, and be ready to answer.

        The index lives below `cache_dir` (else RAGE_CACHE_DIR, else the user's cache directory), one per folder and
        embedding. Changes in the folder are seen at a request `follow_seconds` or more after the last look. Raises
        `ConfigurationError` for a folder that is missing, not a directory or not readable; a file that cannot be read
        is named in `skipped`. With `api_key`, only that token is accepted; without, any token that is not empty.
        Pipelines are deployed and research is done in `executor`, else in threads of the service's own.
        """
        root = None if folder is None else checked(folder)
        home = _paths.folder_home(_paths.cache_root(cache_dir), root)
        if root is not None and not home.exists():
            apart.get_ready(entry.key for entry in Folder(root).scan().entries)
        model = choose(embedding)
        opened, own = Synced(), None
        try:
            home.mkdir(parents=True, exist_ok=True)
            if root is not None:
                feed = Feed(home / f"index-{_paths.digest(model.identity)}", Folder(root), model, pause=follow_seconds)
                own = FolderPipeline(pipeline_id, feed)
        except OSError as error:
            raise ConfigurationError(
                f"the cache directory {str(home)!r} cannot be written ({error.strerror}): set RAGE_CACHE_DIR to one"
                " that can"
            ) from error
        if own is not None:
            opened = own.feed.sync(progress or unheard)
        return cls(
            home,
            organization,
            own,
            model,
            pipeline_id=pipeline_id,
            reranker=reranker,
            api_key=api_key,
            opened=opened,
            follow_seconds=follow_seconds,
            executor=executor,
        )

    @property
    def has_api_key(self) -> bool:
        """Whether only one token is accepted."""
        return self._api_key is not None

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(path, reason) of each file of the folder that is not indexed though its type is supported."""
        return [] if self._folder is None else self._folder.feed.skipped

    @property
    def stats(self) -> Stats:
        """What is indexed now, and what opening took."""
        if self._folder is None:
            return Stats(0, 0, 0.0, True)
        collection = self._folder.feed.collection
        files, chunks = collection.counts()
        return Stats(files, chunks, self._opened.seconds, not self._opened, collection.rebuilt)

    def refresh(self) -> None:
        """Look at the folder now, whenever the last look was."""
        if self._folder is not None:
            self._folder.feed.sync()

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
        """Wait for work under way and free the files; a closed service answers no more."""
        self._background.close()
        self._pipelines.close()
        if self._folder is not None:
            self._folder.feed.close()
        self._account.close()

    def __enter__(self) -> LocalService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _route(self, call: Call) -> LocalResponse:
        if not call.segments or call.segments[0] not in ("v1", "api"):
            raise RefusedError(404, "Not found", "paths begin with /v1 or /api")
        if call.segments[1:2] == (uploads.PATH,) and len(call.segments) == 3:
            done = uploads.receive(call, self._account, call.segments[2])
            self._pipelines.hurry()
            return done
        self._authorize(call)
        match call.segments[1:]:
            case ("org", organization, operations, *rest):
                if organization != self.organization:
                    raise RefusedError(404, "Organization not found", "this service has another organization")
                answer = self._operate(call, operations, tuple(rest))
                if answer is not None:
                    return answer
        raise RefusedError(404, "Not found", f"no such operation: {call.method} /{'/'.join(call.segments)}")

    def _authorize(self, call: Call) -> None:
        token = call.token()
        if not token:
            raise RefusedError(401, "Unauthorized", "send the header Authorization: Bearer <token>")
        if self._api_key is not None and not hmac.compare_digest(token.encode(), self._api_key.encode()):
            raise RefusedError(401, "Unauthorized", "the token is not the one this service was started with")

    def _operate(self, call: Call, operations: str, rest: tuple[str, ...]) -> LocalResponse | None:
        match call.method, operations:
            case _, "pipelines":
                return self._pipeline(call, rest)
            case _, "connectors":
                return connectors.answer(call, self._account, rest)
            case _, "uploads":
                answer = uploads.answer(call, self._account, rest)
                self._pipelines.hurry()
                return answer
            case "POST", "files" if not rest:
                return uploads.start_for_extraction(call, self._account)
            case _, "extraction":
                account = self._account
                return extraction.answer(call, account, Jobs(account, self._background), rest)
            case "GET", "workspaces":
                return workspaces(rest)
        return None

    def _pipeline(self, call: Call, rest: tuple[str, ...]) -> LocalResponse | None:
        match call.method, *rest:
            case "POST", identity, "retrieval":
                return self._retrieval(call, identity)
            case _, identity, "retrieval":
                self._pipelines.find(identity)
                raise RefusedError(405, "Method not allowed", "retrieval is asked for with POST", {"allow": "POST"})
            case "POST", identity, "deep-research":
                return self._start_research(call, self._pipelines.find(identity))
            case "GET", identity, "deep-research", research_id:
                return self._research(self._pipelines.find(identity), research_id)
        return pipeline_operations.answer(call, self._pipelines, rest)

    def _retrieval(self, call: Call, identity: str) -> LocalResponse:
        feed = self._pipelines.ready_feed(identity)
        ask = retrieval.read_ask(call.json())
        return reply(self._ask(feed, identity, ask))

    def _ask(self, feed: Feed, identity: str, ask: Ask) -> dict[str, Any]:
        owner = {"pipeline_id": identity, "org_id": self.organization}
        return feed.read(lambda seen: retrieval.answer(seen, self._embedding, ask, self._reranker, owner))

    def _start_research(self, call: Call, pipeline: PipelineRecord) -> LocalResponse:
        self._pipelines.ready_feed(pipeline.id)
        job = research.read_job(call.json(), pipeline.id)
        Jobs(self._account, self._background).start(job, self._do_research)
        return reply({"researchId": job.id})

    def _research(self, pipeline: PipelineRecord, identity: str) -> LocalResponse:
        job = self._account.get(Job, identity)
        if job is None or job.owner != pipeline.id:
            raise RefusedError(404, "Research not found", f"no deep research {identity}")
        return reply(Jobs(self._account, self._background).poll(job, self._do_research))

    def _do_research(self, job: Job) -> dict[str, Any]:
        feed = self._pipelines.ready_feed(job.owner)
        return research.result(job.asked, lambda ask: self._ask(feed, job.owner, ask))
