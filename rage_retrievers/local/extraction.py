"""Extraction: the text and the chunks of one file that was sent for it."""

from __future__ import annotations

import json
from typing import Any

from rage_retrievers.local import apart, chunking
from rage_retrievers.local.account import Account, Job, StoredFile, new_id
from rage_retrievers.local.documents import UnreadableDocumentError
from rage_retrievers.local.jobs import Jobs
from rage_retrievers.local.uploads import read_as
from rage_retrievers.local.wire import Call, Fields, LocalResponse, RefusedError, bad, reply

_OWNER = "extraction"
# Inferred: the service counts chunkSize (256 unless told) in tokens, about four characters of English.
_CHARACTERS_PER_UNIT = 4


def answer(call: Call, account: Account, jobs: Jobs, rest: tuple[str, ...]) -> LocalResponse | None:
    """The operations below `/org/{id}/extraction`; None for a path that is none of theirs."""
    match call.method, *rest:
        case ("POST",):
            job = _read(call, account)
            jobs.start(job, lambda job: _result(job, account))
            return reply({"message": "Extraction started", "extractionId": job.id})
        case "GET", identity:
            known = account.get(Job, identity)
            if known is None or known.owner != _OWNER:
                raise RefusedError(404, "Extraction not found", f"no extraction {identity}")
            return reply(jobs.poll(known, lambda job: _result(job, account)))
    return None


def _read(call: Call, account: Account) -> Job:
    fields = Fields(call.json())
    fields.choice("type", ("iris",), "iris")
    fields.choice("chunkingStrategy", ("markdown",), "markdown")
    fields.object("metadata", {})
    size = fields.number("chunkSize", 256)
    if not 1 <= size <= 100_000:
        raise bad("chunkSize", "must be between 1 and 100000")
    file = account.get(StoredFile, fields.text("fileId", filled=True))
    if file is None or file.owner:
        raise RefusedError(404, "File not found", "no file of this id was sent for extraction")
    return Job(new_id(), _OWNER, {"file": file.id, "size": int(size)})


def _result(job: Job, account: Account) -> dict[str, Any]:
    file = account.get(StoredFile, job.asked["file"])
    if file is None:
        return {"success": False, "error": "the file is gone"}
    try:
        reading = apart.read(read_as(file), account.read_blob(file.blob))
    except (UnreadableDocumentError, OSError) as error:
        return {"success": False, "error": str(error)}
    chunks = chunking.chunks(reading.text, job.asked["size"] * _CHARACTERS_PER_UNIT)
    facts = json.dumps({**reading.facts, **reading.metadata}, ensure_ascii=False)
    return {"success": True, "chunks": chunks, "text": reading.text, "metadata": facts}
