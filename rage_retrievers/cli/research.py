"""`rage research`: a deep research, from its start to its report."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from . import options, screen

if TYPE_CHECKING:
    from ..client import ClientOptions
    from ..models import Research, ResearchEvent


def research(
    query: Annotated[str, typer.Argument(help="What to find out.", show_default=False)],
    *,
    web_search: Annotated[bool, typer.Option("--web-search", help="Search the web, too.")] = False,
    schema: Annotated[str | None, typer.Option("--schema", metavar="JSON", help="The report's JSON schema.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait at most.")] = 300,
    poll_every: Annotated[float, typer.Option("--poll-every", metavar="SECONDS", help="Between two looks.")] = 2,
    base_url: options.BaseUrl = None,
    environment: options.Environment = None,
    organization: options.Organization = None,
    pipeline_id: options.PipelineId = None,
    api_key: options.ApiKey = None,
    as_json: options.AsJson = False,
) -> None:
    """Start a deep research, wait until it is ready, and show its report; Markdown when it is not a terminal."""
    _check_schema(schema)
    where = options.connection(base_url, environment, organization, pipeline_id, api_key)
    found = _research(query, where, web_search=web_search, schema=schema, timeout=timeout, poll_every=poll_every)
    if as_json:
        screen.write_json(found.model_dump())
    elif sys.stdout.isatty():
        from rich.markdown import Markdown

        screen.out().print(Markdown(screen.plain(found.markdown)))
    else:
        typer.echo(screen.plain(found.markdown))


def _check_schema(schema: str | None) -> None:
    """The service takes any text, and a research is long and draws on a quota."""
    try:
        usable = schema is None or isinstance(json.loads(schema), dict)
    except (ValueError, RecursionError):
        usable = False
    if not usable:
        raise ConfigurationError(
            f"--schema {str(schema)[:80]!r} cannot be used; give a JSON object, such as '{{\"type\": …}}'."
        )


def _research(
    query: str, where: ClientOptions, *, web_search: bool, schema: str | None, timeout: float, poll_every: float
) -> Research:
    from ..client import VectorizeClient

    with VectorizeClient(**where) as client, screen.err().status("starting") as status:

        def heard(event: ResearchEvent) -> None:
            status.update(f"research {event.research_id}: {event.elapsed:.0f} s of at most {timeout:.0f} s")

        return client.deep_research(
            query, web_search=web_search, schema=schema, timeout=timeout, poll_every=poll_every, on_progress=heard
        )
