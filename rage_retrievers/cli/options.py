"""Options that several commands share, and the client's options they make."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..client import ClientOptions

_SERVICE = "Which service"

BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", metavar="URL", help="API address, or local:FOLDER for your own documents.",
        rich_help_panel=_SERVICE,
    ),
]  # fmt: skip
Environment = Annotated[
    str | None, typer.Option("--environment", metavar="NAME", help="prod, staging, dev or local.",
                             rich_help_panel=_SERVICE),
]  # fmt: skip
Organization = Annotated[
    str | None, typer.Option("--organization", metavar="ID", help="Organization id.", rich_help_panel=_SERVICE)
]
PipelineId = Annotated[
    str | None, typer.Option("--pipeline", metavar="ID", help="Pipeline id.", rich_help_panel=_SERVICE)
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", metavar="TOKEN", help="Access token; VECTORIZE_API_KEY keeps it out of the shell's history.",
        rich_help_panel=_SERVICE,
    ),
]  # fmt: skip
Timeout = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Budget of a whole call.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Passages = Annotated[
    int | None, typer.Option("-k", "--num-results", metavar="N", help="How many passages; 5 unless set.")
]
Rerank = Annotated[bool | None, typer.Option("--rerank/--no-rerank", help="Rerank; draws on the advanced quota.")]
Mode = Annotated[str | None, typer.Option("--mode", metavar="MODE", help="text, vector or hybrid.")]
MinScore = Annotated[float | None, typer.Option("--min-score", metavar="X", help="Leave out passages below.")]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter", metavar="FIELD=VALUE",
        help="Only passages with this metadata; the same field again is OR, another field AND.",
    ),
]  # fmt: skip


def connection(
    base_url: str | None = None,
    environment: str | None = None,
    organization: str | None = None,
    pipeline_id: str | None = None,
    api_key: str | None = None,
) -> ClientOptions:
    """The client's options; what is None stays with the settings."""
    return _given(
        base_url=base_url,
        environment=environment,
        organization=organization,
        pipeline_id=pipeline_id,
        api_key=api_key,
    )


def query(
    *,
    num_results: int | None = None,
    rerank: bool | None = None,
    mode: str | None = None,
    filters: Iterable[str] | None = None,
    min_score: float | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """The query's options; what is None stays with the settings. Raises ConfigurationError for an unreadable filter."""
    return dict(
        _given(
            num_results=num_results,
            rerank=rerank,
            advanced_query=None if mode is None else {"mode": mode},
            metadata_filters=metadata_filters(filters or ()) or None,
            min_score=min_score,
            timeout=timeout,
        )
    )


def metadata_filters(conditions: Iterable[str]) -> list[dict[str, list[Any]]]:
    """`FIELD=VALUE` conditions as the service's filters: one object for each field, with all its values.

    A value that reads as a JSON number or boolean is one; anything else is a text, quoted ("2024") or not.
    """
    fields: dict[str, list[Any]] = {}
    for condition in conditions:
        name, separator, value = condition.partition("=")
        if not separator or not name.strip():
            raise ConfigurationError(f"--filter {condition!r} cannot be used; write FIELD=VALUE, such as year=2024.")
        fields.setdefault(name.strip(), []).append(_scalar(value))
    return [{name: values} for name, values in fields.items()]


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float | bool) else text


def _given(**values: Any) -> ClientOptions:
    return cast("ClientOptions", {name: value for name, value in values.items() if value is not None})
