"""`rage health`: whether a pipeline answers, or whether a running service that asks it is ready."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from . import options, screen
from .failure import CommandFailedError
from .running import fetch

if TYPE_CHECKING:
    from ..client import ClientOptions


def health(
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Ask this running service, which mounts rage_retrievers.asgi.app."),
    ] = None,
    *,
    base_url: options.BaseUrl = None,
    environment: options.Environment = None,
    organization: options.Organization = None,
    pipeline_id: options.PipelineId = None,
    api_key: options.ApiKey = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask how the pipeline is, which costs no retrieval; with --url, how a running service is.

    Exit code 0 means that questions can be expected to be answered.
    """
    where = options.connection(base_url, environment, organization, pipeline_id, api_key)
    if url is not None and where:
        raise ConfigurationError("--url asks a running service, which knows its pipeline; give no other address or id.")
    found = _of_service(url) if url is not None else _of_pipeline(where)
    if as_json:
        screen.write_json(found)
    else:
        rows = [(name.replace("_", " "), _text(value)) for name, value in found.items()]
        screen.out().print(screen.facts(rows))
    if not found["ready"]:
        raise CommandFailedError


def _of_pipeline(where: ClientOptions) -> dict[str, Any]:
    from ..client import VectorizeClient

    with VectorizeClient(**where) as client:
        started = time.perf_counter()
        status = client.pipeline()
        elapsed = time.perf_counter() - started
    return {
        "ready": status.answers,
        "pipeline": status.id,
        "name": status.name,
        "status": status.status,
        "documents": status.document_count,
        "elapsed_ms": round(elapsed * 1000, 1),
    }


def _of_service(url: str) -> dict[str, Any]:
    status, said = fetch(url, "/health", holding=("ready",))
    return {**said, "ready": status == 200 and said["ready"] is True, "url": url}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items()) or "-"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "-" if value is None else str(value)
