"""Pipelines: the one over the folder, and those that clients create over what they upload.

A created pipeline is deployed beside the requests; until it is ready it answers 503, as the service's do. Inferred from
the service's documents: a stopped pipeline still answers and follows no changes; a schedule changes nothing here,
uploads are seen by the next request.
"""

from __future__ import annotations

import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rage_retrievers._frozen import frozen
from rage_retrievers.local import _paths, connectors
from rage_retrievers.local.account import Account, Event, Job, PipelineRecord, new_id, new_pipeline_id, now
from rage_retrievers.local.collection import Chunking
from rage_retrievers.local.connectors import DESTINATIONS, PLATFORMS, SOURCES, UPLOAD
from rage_retrievers.local.feed import Feed
from rage_retrievers.local.jobs import Background
from rage_retrievers.local.uploads import Uploaded
from rage_retrievers.local.wire import Fields, RefusedError, bad

_KEPT_EVENTS = 500
_PAGE = 100
_STRATEGIES = ("FIXED", "SENTENCE", "PARAGRAPH", "MARKDOWN")


@frozen
class FolderPipeline:
    """The pipeline over the folder: what is known of it without the account."""

    id: str
    feed: Feed


class Pipelines:
    """All pipelines of one organization; safe to call from any thread."""

    def __init__(
        self,
        home: Path,
        organization: str,
        account: Account,
        folder: FolderPipeline | None,
        *,
        new_feed: Callable[[Path, Uploaded, Chunking], Feed],
        background: Background,
    ) -> None:
        self._home = home
        self._organization = organization
        self._account = account
        self._folder = folder
        self._new_feed = new_feed
        self._background = background
        self._feeds: dict[str, Feed] = {}
        self._opening: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.RLock()
        self._folder_stopped = False

    def close(self) -> None:
        with self._lock:
            opening = list(self._opening.values())
        for one in opening:
            with one:  # whoever opens a feed has put it with the others by then
                pass
        with self._lock:
            for identity in [*self._feeds, *([] if self._folder is None else [self._folder.id])]:
                self._tell_runs(identity)
            for feed in self._feeds.values():
                feed.close()
            self._feeds.clear()

    def find(self, identity: str) -> PipelineRecord:
        """A pipeline by its id; 404 when there is none."""
        if self._folder is not None and identity == self._folder.id:
            return self._of_folder(self._folder)
        record = self._account.get(PipelineRecord, identity)
        if record is None or record.owner != self._organization:
            raise RefusedError(404, "Pipeline not found", f"no pipeline {identity}")
        return record

    def every(self) -> list[PipelineRecord]:
        """The folder's pipeline first, then the created ones."""
        own = [] if self._folder is None else [self._of_folder(self._folder)]
        return [*own, *self._account.all(PipelineRecord, self._organization)]

    def ready_feed(self, identity: str) -> Feed:
        """What to ask, brought up to date; 404 for an unknown pipeline, 503 for one that is not ready."""
        if self._folder is not None and identity == self._folder.id:
            if not self._folder_stopped:
                self._folder.feed.follow()
            return self._folder.feed
        record = self.find(identity)
        if record.problem:
            raise RefusedError(503, "Pipeline failed to deploy", record.problem)
        if not record.ready:
            self._deploy_soon(record)
            raise RefusedError(503, "Pipeline is not ready", "it is being deployed: try again", {"retry-after": "1"})
        feed = self._feed(record)
        if not record.stopped:
            feed.follow()
        return feed

    def open_feed(self, identity: str) -> Feed | None:
        """What to ask of a pipeline that has been asked before; None for any other."""
        if self._folder is not None and identity == self._folder.id:
            return self._folder.feed
        return self._feeds.get(identity)

    def hurry(self) -> None:
        """Let the next request see what was uploaded just now."""
        with self._lock:
            for feed in self._feeds.values():
                feed.hurry()

    def create(self, body: Mapping[str, Any]) -> PipelineRecord:
        """Keep a new pipeline and deploy it soon; 400 naming the field that is wrong."""
        record = _Configuration(self._account, self._organization).read(body)
        self._account.put(record)
        self.tell(record.id, "PIPELINE_CREATED")
        self._deploy_soon(record)
        return record

    def stop(self, record: PipelineRecord, stopped: bool) -> None:
        """Follow changes no more, or again."""
        if self._folder is not None and record.id == self._folder.id:
            self._folder_stopped = stopped
        else:
            self._account.put(replace(record, stopped=stopped))
        self.tell(record.id, "PIPELINE_STOPPED" if stopped else "PIPELINE_STARTED")

    def delete(self, record: PipelineRecord) -> None:
        """Forget a created pipeline and its index; the uploaded files stay with their connector."""
        if self._folder is not None and record.id == self._folder.id:
            raise RefusedError(403, "Forbidden", "the pipeline over the folder is built in: it cannot be deleted")
        account = self._account
        with self._opened_by_one(record):
            account.remove(PipelineRecord, record.id)
            with self._lock:
                feed = self._feeds.pop(record.id, None)
            if feed is not None:
                feed.close()
        for kind in (Event, Job):
            for gone in account.all(kind, record.id):
                account.remove(kind, gone.id)
        shutil.rmtree(self._place(record), ignore_errors=True)

    def status(self, record: PipelineRecord) -> str:
        """The status as the service names it."""
        if record.problem:
            return "ERROR_DEPLOYING"
        if not record.ready:
            return "DEPLOYING"
        return "IDLE" if record.stopped else "LISTENING"

    def summary(self, record: PipelineRecord) -> dict[str, Any]:
        """A pipeline as a list shows it."""
        known = self.open_feed(record.id)
        return {
            "id": record.id,
            "name": record.name,
            "documentCount": 0 if known is None else known.collection.counts()[0],
            "sourceConnectorAuthIds": [source for source, _ in record.sources],
            "destinationConnectorAuthIds": [record.destination[0]],
            "aiPlatformAuthIds": [record.platform[0]],
            "sourceConnectorTypes": [kind for _, kind in record.sources],
            "destinationConnectorTypes": [record.destination[1]],
            "aiPlatformTypes": [record.platform[1]],
            "createdAt": record.created,
            "createdBy": "local",
            "status": self.status(record),
            "configDoc": record.config,
        }

    def details(self, record: PipelineRecord) -> dict[str, Any]:
        """A pipeline with its connectors."""
        if record.ready and record.created:
            self._feed(record)
        named = {
            "sourceConnectors": (SOURCES, [source for source, _ in record.sources]),
            "destinationConnectors": (DESTINATIONS, [record.destination[0]]),
            "aiPlatforms": (PLATFORMS, [record.platform[0]]),
        }
        return self.summary(record) | {
            key: [connectors.described(connectors.find(self._account, family, one)) for one in identities]
            for key, (family, identities) in named.items()
        }

    def tell(self, identity: str, kind: str, **summary: int | str) -> None:
        """Keep an event of a pipeline, and no more than the last few hundred."""
        account = self._account
        account.put(Event(new_id(), identity, kind, now(), summary))
        for old in account.all(Event, identity)[:-_KEPT_EVENTS]:
            account.remove(Event, old.id)

    def _tell_runs(self, identity: str) -> None:
        """Write down what was indexed since the last time: here, so that no question waits for it."""
        feed = self.open_feed(identity)
        for done in [] if feed is None else feed.take_runs():
            counts = {"newObjects": done.added, "changedObjects": done.changed, "deletedObjects": done.removed}
            self.tell(identity, "DOCUMENTS_INDEXED", **counts)

    def events(self, identity: str, token: str) -> dict[str, Any]:
        """A page of events, newest first, with the token of the next page when there is one."""
        if token and not token.isdecimal():
            raise bad("nextToken", "expected one that an earlier answer gave")
        start = int(token or "0")
        self._tell_runs(identity)
        kept = self._account.all(Event, identity)[::-1]
        data = [
            {"id": one.id, "type": one.type, "timestamp": one.timestamp, "details": {}, "summary": one.summary}
            for one in kept[start : start + _PAGE]
        ]
        more = {"nextToken": str(start + _PAGE)} if len(kept) > start + _PAGE else {}
        return {"message": "Pipeline events retrieved", "data": data, **more}

    def metrics(self, identity: str) -> dict[str, Any]:
        """What each indexing run did, oldest first."""
        self._tell_runs(identity)
        runs = [one for one in self._account.all(Event, identity) if one.type == "DOCUMENTS_INDEXED"]
        return {
            "message": "Pipeline metrics retrieved",
            "data": [{"timestamp": one.timestamp, **one.summary} for one in runs],
        }

    def _of_folder(self, folder: FolderPipeline) -> PipelineRecord:
        return PipelineRecord(
            folder.id,
            self._organization,
            "local folder",
            ((connectors.FOLDER_SOURCE, UPLOAD),),
            (connectors.BUILT_IN_DESTINATION, connectors.BUILT_IN),
            (connectors.BUILT_IN_PLATFORM, connectors.BUILT_IN),
            {},
            None,
            ready=True,
            stopped=self._folder_stopped,
        )

    def _place(self, record: PipelineRecord) -> Path:
        return self._home / "pipelines" / _paths.digest(record.id)

    def _feed(self, record: PipelineRecord) -> Feed:
        known = self._feeds.get(record.id)
        if known is not None:
            return known
        with self._opened_by_one(record):
            feed = self._feeds.get(record.id) or self._open(record)
            with self._lock:
                self._feeds[record.id] = feed
            return feed

    def _opened_by_one(self, record: PipelineRecord) -> threading.Lock:
        """Held while a pipeline is opened or deleted: that may take minutes, in which the others are asked."""
        with self._lock:
            return self._opening[record.id]

    def _open(self, record: PipelineRecord) -> Feed:
        source = Uploaded(self._account, self._organization, tuple(source for source, _ in record.sources))
        feed = self._new_feed(self._place(record), source, _chunking(record.config))
        feed.sync()
        return feed

    def _deploy_soon(self, record: PipelineRecord) -> None:
        self._background.run(record.id, lambda: self._deploy(record))

    def _deploy(self, record: PipelineRecord) -> None:
        if self._account.get(PipelineRecord, record.id) is None:  # deleted before its turn came
            return
        try:
            self._feed(record)
            changed = replace(record, ready=True)
            kind = "PIPELINE_DEPLOYED"
        except Exception as error:  # the pipeline's status is where a client looks
            changed = replace(record, problem=f"{type(error).__name__}: {error}"[:300])
            kind = "PIPELINE_FAILED"
        if self._account.get(PipelineRecord, record.id) is not None:
            self._account.put(changed)
            self.tell(record.id, kind)


class _Configuration:
    """Reads the body that creates a pipeline."""

    def __init__(self, account: Account, organization: str) -> None:
        self._account = account
        self._organization = organization

    def read(self, body: Mapping[str, Any]) -> PipelineRecord:
        fields = Fields(body)
        fields.only("sourceConnectors", "destinationConnector", "aiPlatformConnector", "pipelineName", "schedule")
        name = fields.text("pipelineName", filled=True)
        given = fields.array("sourceConnectors")
        if not given:
            raise bad("sourceConnectors", "at least one is needed")
        sources = tuple(self._connector(SOURCES, one, f"sourceConnectors[{i}]") for i, one in enumerate(given))
        for index, (_, kind) in enumerate(sources):
            if kind != UPLOAD:
                at = f"sourceConnectors[{index}].type"
                raise bad(at, f"this local service reads uploads only: use a connector of type {UPLOAD}")
        destination = self._connector(DESTINATIONS, fields.object("destinationConnector"), "destinationConnector")
        platform = self._connector(PLATFORMS, fields.object("aiPlatformConnector"), "aiPlatformConnector")
        config = dict(Fields(fields.object("aiPlatformConnector"), "aiPlatformConnector").object("config"))
        _check_platform(Fields(config, "aiPlatformConnector.config"))
        schedule = Fields(fields.object("schedule"), "schedule").choice("type", ("manual", "realtime", "custom"))
        kept = {"aiPlatform": config, "schedule": schedule}
        return PipelineRecord(new_pipeline_id(), self._organization, name, sources, destination, platform, kept, now())

    def _connector(self, family: str, given: Any, at: str) -> tuple[str, str]:
        if not isinstance(given, dict):
            raise bad(at, "expected an object")
        fields = Fields(given, at)
        fields.only("id", "type", "config")
        identity, kind = fields.text("id", filled=True), fields.text("type", filled=True)
        fields.object("config", {} if family == DESTINATIONS else None)
        try:
            found = connectors.find(self._account, family, identity)
        except RefusedError as refused:
            raise bad(f"{at}.id", refused.details) from refused
        if found.id == connectors.FOLDER_SOURCE:
            raise bad(f"{at}.id", "the folder has a pipeline of its own")
        connectors.check_type(found, kind, f"{at}.type")
        return identity, kind


def _check_platform(config: Fields) -> None:
    config.only(
        "embeddingModel", "chunkingStrategy", "chunkSize", "chunkOverlap", "dimensions", "extractionStrategy"
    )  # fmt: skip
    if config.has("chunkingStrategy"):
        config.choice("chunkingStrategy", _STRATEGIES)
    for name, least in (("chunkSize", 1), ("chunkOverlap", 0), ("dimensions", 1)):
        if config.has(name) and (config.number(name) < least or config.number(name) % 1):
            raise bad(config.name(name), f"expected an integer of at least {least}")


def _chunking(config: Mapping[str, Any]) -> Chunking:
    """The chunks a configuration asks for; sizes count characters, and below 100 they would be useless."""
    asked = config.get("aiPlatform", {})
    usual = Chunking()
    size = max(100, min(int(asked.get("chunkSize", usual.size)), 20_000))
    return Chunking(size, min(int(asked.get("chunkOverlap", usual.overlap)), size // 2))
