"""The cassettes leave nothing out: each field, mode and error that the service documents is in one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from local import openapi

from .tape import CASSETTES

SCHEMAS: dict[str, Any] = openapi.raw()["components"]["schemas"]
OPERATIONS = {
    "retrieval": ("RetrieveDocumentsRequest", "/org/{organizationId}/pipelines/{pipelineId}/retrieval"),
    "deep-research": ("StartDeepResearchRequest", "/org/{organizationId}/pipelines/{pipelineId}/deep-research"),
}
TAPED = [yaml.safe_load(file.read_text("utf-8"))["interactions"] for file in sorted(CASSETTES.iterdir())]
EXCHANGES: list[dict[str, Any]] = [exchange for cassette in TAPED for exchange in cassette]


def documented(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    """Each field of a schema by its path, such as `context.messages.role`, and each value of one that names them."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    if schema.get("type") == "array":
        yield from documented(schema["items"], at)
    for value in schema.get("enum", ()):
        yield f"{at}={value}"
    for name, inner in schema.get("properties", {}).items():
        path = f"{at}.{name}".lstrip(".")
        yield path
        yield from documented(inner, path)


def sent(value: Any, at: str = "") -> Iterator[str]:
    """The same of what a request held; a boolean and a text are told as values, too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            path = f"{at}.{name}".lstrip(".")
            yield path
            yield from sent(inner, path)
    elif isinstance(value, list):
        for inner in value:
            yield from sent(inner, at)
    elif isinstance(value, str | bool):
        yield f"{at}={value}"


def on_tape(operation: str) -> set[str]:
    """What the cassettes' requests of an operation hold."""
    bodies = [one["request"]["body"] for one in EXCHANGES if one["request"]["uri"].endswith(f"/{operation}")]
    return {found for body in bodies if body for found in sent(json.loads(body))}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_request_field_and_search_mode_is_on_a_cassette(operation: str) -> None:
    """As the service's OpenAPI document has them, and both values of each switch."""
    schema, _ = OPERATIONS[operation]
    wanted = set(documented(SCHEMAS[schema]))
    assert {"retrieval": "advanced-query.match-type=match_phrase", "deep-research": "n8n.webhookPath"}[
        operation
    ] in wanted
    switches = {"retrieval": "rerank", "deep-research": "webSearch"}
    wanted |= {f"{switches[operation]}={value}" for value in (True, False)}
    assert sorted(wanted - on_tape(operation)) == []


@pytest.mark.parametrize(
    "clause",
    ["term", "terms", "range", "bool.must", "bool.should", "bool.must_not", "bool.must.bool.should"],
)
def test_every_clause_of_a_filter_is_on_a_cassette(clause: str) -> None:
    """What `advanced-query.filters` is documented to take is not in the OpenAPI document, so it is named here."""
    assert f"advanced-query.filters.{clause}" in on_tape("retrieval")


def test_every_documented_error_is_on_a_cassette() -> None:
    """Those of the OpenAPI document, and those that the vendor's documentation and tests tell of besides."""
    told = {402, 405, 429, 503}
    for _, path in OPERATIONS.values():
        told |= {int(status) for status in openapi.raw()["paths"][path]["post"]["responses"] if status != "200"}
    assert {400, 401, 403, 404, 500} <= told
    assert told - {one["response"]["status"]["code"] for one in EXCHANGES} == set()


@pytest.mark.parametrize("header", ["authorization", "x-lambda-api-key"])
def test_every_way_to_send_the_token_is_on_a_cassette(header: str) -> None:
    """With `Bearer`, without it (the older gateway), and as the local environment takes it; redacted in each."""
    found = {value for one in EXCHANGES for value in one["request"]["headers"].get(header, ())}
    assert found == ({"Bearer [redacted]", "[redacted]"} if header == "authorization" else {"[redacted]"})
