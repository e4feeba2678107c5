"""Files that clients send: to an upload connector, or for extraction.

A client asks for a URL and puts the bytes there. The URL carries its own secret and needs no token, as the service's
do; it takes one file. A file is there whole or not at all, and one of the same name and connector replaces the last.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from rage_retrievers.local import apart, connectors, documents, metadata
from rage_retrievers.local._paths import digest
from rage_retrievers.local.account import Account, StoredFile, Ticket, new_id, now
from rage_retrievers.local.connectors import FOLDER_SOURCE, SOURCES, UPLOAD
from rage_retrievers.local.documents import UnreadableDocumentError
from rage_retrievers.local.sources import Entry, Loaded, Scan
from rage_retrievers.local.wire import Call, Fields, LocalResponse, RefusedError, bad, reply

PATH = "upload"
_MAX_NAME = 1024


def answer(call: Call, account: Account, rest: tuple[str, ...]) -> LocalResponse | None:
    """The operations below `/org/{id}/uploads`; None for a path that is none of theirs."""
    match call.method, *rest:
        case "GET", connector, "files":
            found = account.all(StoredFile, _upload_connector(account, connector))
            return reply({"message": "Files retrieved", "files": [_described(file) for file in found]})
        case "PUT", connector, "files":
            return _start(call, account, _upload_connector(account, connector))
        case "DELETE", connector, "files", *parts if parts:
            return _delete(account, _upload_connector(account, connector), "/".join(parts))
    return None


def start_for_extraction(call: Call, account: Account) -> LocalResponse:
    """`POST /org/{id}/files`: where to put a file that is to be extracted."""
    fields = Fields(call.json())
    name, content_type = _name(fields), fields.text("contentType", filled=True)
    ticket = Ticket(secrets.token_urlsafe(24), "", name, content_type, new_id())
    account.put(ticket)
    return reply({"fileId": ticket.file_id, "uploadUrl": _url(call, ticket)})


def receive(call: Call, account: Account, secret: str) -> LocalResponse:
    """`PUT` of the bytes to an upload URL."""
    if call.method != "PUT":
        raise RefusedError(405, "Method not allowed", "send the file with PUT", {"allow": "PUT"})
    ticket = account.remove(Ticket, secret)
    if ticket is None:
        raise RefusedError(403, "Forbidden", "this upload URL is unknown or used")
    identity = ticket.file_id or _file_id(ticket.owner, ticket.name)
    before = account.get(StoredFile, identity)
    blob = account.write_blob(call.body)
    account.put(
        StoredFile(
            identity, ticket.owner, ticket.name, ticket.content_type, len(call.body), blob, now(), ticket.metadata
        )
    )
    if before is not None:
        account.drop_blob(before.blob)
    return LocalResponse(200, {"content-type": "text/plain"}, b"")


class Uploaded:
    """The files of upload connectors, as a source of documents."""

    def __init__(self, account: Account, organization: str, owners: tuple[str, ...]) -> None:
        self._account = account
        self._organization = organization
        self._owners = owners

    def scan(self) -> Scan:
        """What is uploaded now."""
        entries: list[Entry] = []
        refused: list[tuple[str, str]] = []
        for owner in self._owners:
            for file in self._account.all(StoredFile, owner):
                if documents.supported(name := read_as(file)):
                    load = partial(self._load, file)
                    entries.append(Entry(file.id, file.blob, load, apart.is_apart(name)))
                else:
                    refused.append((file.name, f"type {file.content_type} is not supported"))
        return Scan(entries, refused)

    def _load(self, file: StoredFile) -> Loaded:
        try:
            data = self._account.read_blob(file.blob)
        except FileNotFoundError as error:
            raise UnreadableDocumentError("it was replaced or deleted meanwhile") from error
        path = f"{self._organization}/{file.owner}/{file.name}"
        fields = {
            "origin": "file-upload",
            "origin_id": file.owner,
            "source": path,
            "unique_source": f"{file.owner}-{hashlib.sha256(file.name.encode()).hexdigest()}",
            "source_display_name": path,
        }
        return Loaded(apart.read(read_as(file), data), fields, file.metadata)


def read_as(file: StoredFile) -> str:
    """The name that tells how to read a file: its own, or one of its content type when its own tells nothing."""
    if documents.supported(file.name):
        return file.name
    return f"file{_SUFFIXES.get(file.content_type.partition(';')[0].strip().lower(), '')}"


_SUFFIXES = {
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "text/html": ".html",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
}


def _upload_connector(account: Account, identity: str) -> str:
    found = connectors.find(account, SOURCES, identity)
    if found.type != UPLOAD:
        raise RefusedError(400, "Invalid request", f"connector {identity} is of type {found.type}, not {UPLOAD}")
    if found.id == FOLDER_SOURCE:
        raise RefusedError(403, "Forbidden", "the folder takes no uploads: create a connector of type FILE_UPLOAD")
    return found.id


def _start(call: Call, account: Account, connector: str) -> LocalResponse:
    fields = Fields(call.json())
    name, content_type = _name(fields), fields.text("contentType", filled=True)
    given = _metadata(fields.text("metadata")) if fields.has("metadata") else {}
    ticket = Ticket(secrets.token_urlsafe(24), connector, name, content_type, metadata=given)
    account.put(ticket)
    return reply({"uploadUrl": _url(call, ticket)})


def _delete(account: Account, connector: str, name: str) -> LocalResponse:
    gone = account.remove(StoredFile, _file_id(connector, name))
    if gone is None:
        raise RefusedError(404, "File not found", "the connector holds no file of this name")
    account.drop_blob(gone.blob)
    return reply({"message": "File deleted", "fileName": name})


def _name(fields: Fields) -> str:
    name = fields.text("name", filled=True)
    if len(name) > _MAX_NAME:
        raise bad("name", f"longer than {_MAX_NAME} characters")
    return name


def _metadata(written: str) -> dict[str, Any]:
    try:
        value = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise bad("metadata", "expected a string that holds a JSON object") from error
    if not isinstance(value, dict):
        raise bad("metadata", "expected a string that holds a JSON object")
    try:
        metadata.check(value)
    except metadata.BadMetadataError as error:
        raise bad("metadata", str(error)) from error
    return value


def _url(call: Call, ticket: Ticket) -> str:
    return f"http://{call.headers.get('host', 'localhost')}/v1/{PATH}/{ticket.id}"


def _file_id(connector: str, name: str) -> str:
    return f"{connector}-{digest(name)}"


def _described(file: StoredFile) -> dict[str, Any]:
    return {
        "key": f"{file.owner}/{file.name}",
        "name": file.name,
        "size": file.size,
        "extension": PurePosixPath(file.name).suffix.lstrip("."),
        "lastModified": file.modified,
        "metadata": file.metadata,
    }
