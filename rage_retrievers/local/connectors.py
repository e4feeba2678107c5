"""Source, destination and AI platform connectors: create, list, get, update, delete, and the users of a source.

The three families have one shape on the wire and differ by the names of their lists and types. Values that look like
credentials are masked before anything is kept: nothing here needs them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rage_retrievers._frozen import frozen
from rage_retrievers.local.account import Account, Connector, PipelineRecord, new_id, now
from rage_retrievers.local.wire import Call, Fields, LocalResponse, RefusedError, bad, reply

SOURCES, DESTINATIONS, PLATFORMS = "sources", "destinations", "aiplatforms"
UPLOAD = "FILE_UPLOAD"
BUILT_IN = "VECTORIZE"
FOLDER_SOURCE = "00000000-0000-4000-8000-000000000001"
BUILT_IN_DESTINATION = "00000000-0000-4000-8000-000000000002"
BUILT_IN_PLATFORM = "00000000-0000-4000-8000-000000000003"

_SOURCE_TYPES = (
    "AWS_S3", "AZURE_BLOB", "CONFLUENCE", "DISCORD", "DROPBOX", "DROPBOX_OAUTH", "DROPBOX_OAUTH_MULTI",
    "DROPBOX_OAUTH_MULTI_CUSTOM", UPLOAD, "GOOGLE_DRIVE_OAUTH", "GOOGLE_DRIVE", "GOOGLE_DRIVE_OAUTH_MULTI",
    "GOOGLE_DRIVE_OAUTH_MULTI_CUSTOM", "FIRECRAWL", "GCS", "ZOOM", "ZOOM_ADMIN", "INTERCOM", "NOTION",
    "NOTION_OAUTH_MULTI", "NOTION_OAUTH_MULTI_CUSTOM", "ONE_DRIVE", "SHAREPOINT", "WEB_CRAWLER", "GITHUB", "FIREFLIES",
    "DOCUSIGN", "GMAIL",
)  # fmt: skip
_DESTINATION_TYPES = (
    "CAPELLA", "DATASTAX", "ELASTIC", "PINECONE", "SINGLESTORE", "MILVUS", "POSTGRESQL", "QDRANT", "SUPABASE",
    "WEAVIATE", "AZUREAISEARCH", "TURBOPUFFER",
)  # fmt: skip
_PLATFORM_TYPES = ("BEDROCK", "VERTEX", "OPENAI", "VOYAGE", "ANTHROPIC", "GROQ")
_SECRET = re.compile(r"key|secret|token|password|credential|connection|auth|json|service-account", re.IGNORECASE)
MASK = "********"


@frozen
class _Family:
    listed: str
    noun: str
    types: tuple[str, ...]
    built_in: tuple[Connector, ...]


_FAMILIES = {
    SOURCES: _Family(
        "sourceConnectors", "source connector", _SOURCE_TYPES,
        (Connector(FOLDER_SOURCE, SOURCES, UPLOAD, "Local folder"),),
    ),
    DESTINATIONS: _Family(
        "destinationConnectors", "destination connector", _DESTINATION_TYPES,
        (Connector(BUILT_IN_DESTINATION, DESTINATIONS, BUILT_IN, "Local index"),),
    ),
    PLATFORMS: _Family(
        "aiPlatformConnectors", "AI platform connector", _PLATFORM_TYPES,
        (Connector(BUILT_IN_PLATFORM, PLATFORMS, BUILT_IN, "Local embedding"),),
    ),
}  # fmt: skip


def answer(call: Call, account: Account, rest: tuple[str, ...]) -> LocalResponse | None:
    """The operations below `/org/{id}/connectors`; None for a path that is none of theirs."""
    match call.method, *rest:
        case "GET", str(family), *identity if family in _FAMILIES and len(identity) <= 1:
            if identity:
                return reply(described(find(account, family, identity[0])))
            return reply({_FAMILIES[family].listed: [described(one) for one in every(account, family)]})
        case "POST", str(family) if family in _FAMILIES:
            return _create(account, family, call.json())
        case "PATCH", str(family), identity if family in _FAMILIES:
            return _update(account, find(account, family, identity), call.json())
        case "DELETE", str(family), identity if family in _FAMILIES:
            return _delete(account, find(account, family, identity))
        case ("POST" | "PATCH" | "DELETE") as method, "sources", identity, "users":
            return _users(account, find(account, SOURCES, identity), method, call.json())
    return None


def every(account: Account, family: str) -> list[Connector]:
    """The connectors of a family, the built-in ones first."""
    return [*_FAMILIES[family].built_in, *account.all(Connector, family)]


def find(account: Account, family: str, identity: str) -> Connector:
    """A connector by its id; 404 when there is none in that family."""
    built_in = next((one for one in _FAMILIES[family].built_in if one.id == identity), None)
    found = built_in or account.get(Connector, identity)
    if found is None or found.owner != family:
        raise RefusedError(404, "Connector not found", f"no {_FAMILIES[family].noun} {identity}")
    return found


def described(connector: Connector) -> dict[str, Any]:
    """A connector as the protocol shows it."""
    return {
        "id": connector.id,
        "type": connector.type,
        "name": connector.name,
        "configDoc": connector.config,
        "createdAt": connector.created,
        "createdById": "local",
        "lastUpdatedById": "local",
        "createdByEmail": "local@localhost",
        "lastUpdatedByEmail": "local@localhost",
        "errorMessage": "",
        "verificationStatus": "NOT_VERIFIED" if connector.type not in (UPLOAD, BUILT_IN) else "VERIFIED",
    }


def _create(account: Account, family: str, body: Mapping[str, Any]) -> LocalResponse:
    fields = Fields(body)
    name = fields.text("name", filled=True)
    kind = fields.choice("type", _FAMILIES[family].types)
    config = fields.object("config", {} if kind == UPLOAD else None)
    made = Connector(new_id(), family, kind, name, masked(config), now())
    account.put(made)
    noun = _FAMILIES[family].noun
    return reply({"message": f"Successfully created {noun}", "connector": {"name": name, "id": made.id}})


def _update(account: Account, connector: Connector, body: Mapping[str, Any]) -> LocalResponse:
    _own(connector)
    fields = Fields(body)
    config = {**connector.config, **masked(fields.object("config", {}))}
    changed = replace(connector, name=fields.text("name", connector.name, filled=True), config=config)
    account.put(changed)
    data = {"updatedConnector": described(changed), "pipelineIds": users_of(account, connector)}
    return reply({"message": f"Successfully updated {_FAMILIES[connector.owner].noun}", "data": data})


def _delete(account: Account, connector: Connector) -> LocalResponse:
    _own(connector)
    if used := users_of(account, connector):
        raise RefusedError(400, "Connector in use", f"delete these pipelines first: {', '.join(used)}")
    account.remove(Connector, connector.id)
    return reply({"message": f"Successfully deleted {_FAMILIES[connector.owner].noun}"})


def _users(account: Account, connector: Connector, method: str, body: Mapping[str, Any]) -> LocalResponse:
    _own(connector)
    fields = Fields(body)
    user = fields.text("userId", filled=True)
    known = user in connector.users
    if method == "POST":
        fields.object("selectedFiles")
    elif not known:
        raise RefusedError(404, "User not found", "the connector has no such user")
    others = tuple(one for one in connector.users if one != user)
    account.put(replace(connector, users=others if method == "DELETE" else (*others, user)))
    done = {"POST": "added", "PATCH": "updated", "DELETE": "removed"}[method]
    return reply({"message": f"Successfully {done} user"})


def _own(connector: Connector) -> None:
    if connector.type == BUILT_IN or connector.id == FOLDER_SOURCE:
        raise RefusedError(403, "Forbidden", f"{connector.name} is built in: it can be neither changed nor deleted")


def users_of(account: Account, connector: Connector) -> list[str]:
    """The ids of the pipelines that use a connector."""
    return [
        pipeline.id
        for pipeline in account.all(PipelineRecord)
        if connector.id in (*(source for source, _ in pipeline.sources), pipeline.destination[0], pipeline.platform[0])
    ]


def masked(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without whatever looks like a credential, at any depth."""
    return {name: MASK if _SECRET.search(str(name)) else _masked(value) for name, value in config.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return masked(value)
    return [_masked(one) for one in value] if isinstance(value, list) else value


def check_type(connector: Connector, given: str, at: str) -> None:
    """400 when a client names a connector by another type than its own."""
    if connector.type != given:
        raise bad(at, f"connector {connector.id} is of type {connector.type}")
