"""The operations of the embedded service, over the folder and over what clients create."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import (
    _paths,
    connectors,
    extraction,
    pipeline_operations,
    research,
    retrieval,
    uploads,
)
from rage_retrievers.local.account import Account, Job, PipelineRecord
from rage_retrievers.local.collection import Chunking, Synced
from rage_retrievers.local.embedding import Embedding, WordVectors
from rage_retrievers.local.feed import Feed
from rage_retrievers.local.folder import Folder
from rage_retrievers.local.jobs import Background, Jobs
from rage_retrievers.local.pipelines import FolderPipeline, Pipelines
from rage_retrievers.local.progress import Listener
from rage_retrievers.local.ranking import Ask, Reranker
from rage_retrievers.local.snapshot import Snapshot
from rage_retrievers.local.sources import Scan, Source
from rage_retrievers.local.wire import Call, LocalResponse, RefusedError, reply
from rage_retrievers.local.workspaces import workspaces

_BRIEF_PASSAGES = 20_000


class Operations:
    """What one organization may ask for; safe to use from any thread."""

    def __init__(
        self,
        home: Path,
        folder: Folder | None,
        model: Embedding,
        *,
        organization: str,
        pipeline_id: str,
        reranker: Reranker | None,
        api_key: str | None,
        progress: Listener,
        seen: Scan | None,
        follow_seconds: float,
        executor: Executor | None,
    ) -> None:
        """Index the folder, as it was `seen` just now if it was, or reuse what `home` holds.

        Raises `ConfigurationError` when `home` cannot be written.
        """
        self._organization = organization
        self._embedding = model
        self._reranker = reranker
        self._runs_users_code = reranker is not None or not isinstance(model, WordVectors)
        self._api_key = api_key
        self._account = Account(home / "account")
        self._background = Background(executor)

        def new_feed(place: Path, source: Source, cut: Chunking | None = None) -> Feed:
            return Feed(place / f"index-{_paths.digest(model.identity)}", source, model, cut=cut, pause=follow_seconds)

        self.opened = Synced()
        self.own: FolderPipeline | None = None
        try:
            home.mkdir(parents=True, exist_ok=True)
            if folder is not None:
                self.own = FolderPipeline(pipeline_id, new_feed(home, folder))
                self.opened = self.own.feed.sync(progress, seen)
        except OSError as error:
            raise ConfigurationError(
                f"the cache directory {str(home)!r} cannot be written ({error.strerror}): set RAGE_CACHE_DIR to one"
                " that can"
            ) from error
        self._pipelines = Pipelines(
            home, organization, self._account, self.own, new_feed=new_feed, background=self._background
        )

    def close(self) -> None:
        """Wait for work under way and free the files."""
        self._background.close()
        self._pipelines.close()
        if self.own is not None:
            self.own.feed.close()
        self._account.close()

    def answer(self, call: Call) -> LocalResponse:
        """Answer a request; raises `RefusedError` for one that cannot be granted."""
        if not call.segments or call.segments[0] not in ("v1", "api"):
            raise RefusedError(404, "Not found", "paths begin with /v1 or /api")
        if call.segments[1:2] == (uploads.PATH,) and len(call.segments) == 3:
            done = uploads.receive(call, self._account, call.segments[2])
            self._pipelines.hurry()
            return done
        self._authorize(call)
        match call.segments[1:]:
            case ("org", organization, operations, *rest):
                if organization != self._organization:
                    raise RefusedError(404, "Organization not found", "this service has another organization")
                answer = self._operate(call, operations, tuple(rest))
                if answer is not None:
                    return answer
        raise RefusedError(404, "Not found", f"no such operation: {call.method} /{'/'.join(call.segments)}")

    def brief(self, call: Call) -> LocalResponse | None:
        """The answer where it takes a few milliseconds, else None: a short question to few passages, no user's code.

        It waits for nobody: not for the account, nor for whoever deploys, reads documents or makes an index again.
        """
        match call.method, call.segments:
            case "POST", ("v1" | "api", "org", self._organization, "pipelines", identity, "retrieval"):
                feed = self._pipelines.open_feed(identity)
                if feed is None or feed.collection.passages > _BRIEF_PASSAGES or self._runs_users_code:
                    return None
                self._authorize(call)
                ask = retrieval.read_ask(call.json())
                answer = feed.glance(self._asking(identity, ask)) if retrieval.is_brief(ask) else None
                return None if answer is None else reply(answer)
        return None

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
        return reply(feed.read(self._asking(identity, ask)))

    def _asking(self, identity: str, ask: Ask) -> Callable[[Snapshot], dict[str, Any]]:
        owner = {"pipeline_id": identity, "org_id": self._organization}
        return lambda seen: retrieval.answer(seen, self._embedding, ask, self._reranker, owner)

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
        return research.result(job.asked, lambda ask: feed.read(self._asking(job.owner, ask)))
