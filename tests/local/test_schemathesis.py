"""Requests that schemathesis makes from the vendor's OpenAPI document, good ones and bad ones, for every operation."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, LocalService

from . import openapi
from .conftest import write_folder

load_all_checks()
# Those that hold of the vendor's service too, as far as its document tells. Not among them: what the document leaves
# open (unknown query parameters, the settings of each kind of connector, the status for a method that does not exist).
KEPT = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)
HELD = CHECKS.get_by_names(KEPT)


def _document() -> dict[str, Any]:
    """The document, with names in place of the ids that only a running service knows."""
    document = copy.deepcopy(openapi.raw())
    _name_ids(document)
    # Six alternatives that say the same, of which exactly one may hold: there is no such body.
    update = document["components"]["schemas"]["UpdateAIPlatformConnectorRequest"]
    update["anyOf"] = update.pop("oneOf")
    return document


def _name_ids(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("in") == "path":
            node["schema"] = {"anyOf": [{"enum": ["known"]}, {"type": "string", "minLength": 1, "maxLength": 12}]}
        for inner in node.values():
            _name_ids(inner)
    elif isinstance(node, list):
        for inner in node:
            _name_ids(inner)


schema = schemathesis.openapi.from_dict(_document())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """The base URL, and an id of something that exists for each parameter of a path."""
    home = tmp_path_factory.mktemp("served")
    opened = LocalService.open(write_folder(home / "docs"), cache_dir=home / "cache")
    with opened as service, LocalServer(service) as server:
        yield server.url, _known(f"{server.url}/org/{LOCAL_ORGANIZATION}")


def _known(url: str) -> dict[str, str]:
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer t"}) as http:

        def connector(family: str, kind: str) -> str:
            made = http.post(f"/connectors/{family}", json={"name": "x", "type": kind, "config": {}})
            return str(made.json()["connector"]["id"])

        file = {"name": "known", "contentType": "text/plain"}
        upload = connector("sources", "FILE_UPLOAD")
        httpx.put(http.put(f"/uploads/{upload}/files", json=file).json()["uploadUrl"], content=b"text")
        research = http.post(f"/pipelines/{LOCAL_PIPELINE}/deep-research", json={"query": "bees"}).json()
        sent = http.post("/files", json=file).json()
        httpx.put(sent["uploadUrl"], content=b"text")
        return {
            "organizationId": LOCAL_ORGANIZATION,
            "pipelineId": LOCAL_PIPELINE,
            "researchId": research["researchId"],
            "connectorId": upload,
            "fileName": "known",
            "sourceConnectorId": connector("sources", "AWS_S3"),
            "destinationConnectorId": connector("destinations", "PINECONE"),
            "aiPlatformConnectorId": connector("aiplatforms", "OPENAI"),
            "extractionId": http.post("/extraction", json={"fileId": sent["fileId"]}).json()["extractionId"],
            "workspaceId": http.get("/workspaces").json()["workspaces"][0]["id"],
        }


@schema.parametrize()
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_every_operation_answers_as_the_document_says(case: Any, served: tuple[str, Any]) -> None:
    """No 5xx, a status and content type that are described, a body of its schema, no way past the token."""
    base, known = served
    asked = dict(case.path_parameters)
    case.path_parameters = {name: known[name] if value == "known" else value for name, value in asked.items()}
    case.call_and_validate(base_url=base, headers={"Authorization": "Bearer t"}, checks=HELD)


@pytest.mark.parametrize("base", ["v1", "api"])
@pytest.mark.parametrize("header", ["Authorization", "x-lambda-api-key"])
def test_every_operation_is_answered_with_either_credential(steady: Any, base: str, header: str) -> None:
    """Under both base paths: what is refused is refused for what it names or holds, never for its path."""
    for template, methods in openapi.raw()["paths"].items():
        for method in methods:
            path = template.replace("{organizationId}", LOCAL_ORGANIZATION).replace("{", "").replace("}", "")
            answer = steady.service.handle(method.upper(), f"/{base}{path}", {header: "t"}, b"")
            assert b"no such operation" not in answer.body, (method, template)
            assert answer.status in (200, 400, 404), (method, template)
            assert steady.service.handle(method.upper(), f"/{base}{path}", {}, b"").status == 401
