"""`rage serve`: a folder behind the service's protocol on this machine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import options, screen

if TYPE_CHECKING:
    from ..local import LocalServer, LocalService


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The documents: .md, .txt, .html, .pdf, .docx.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Any but loopback needs --api-key.")] = "127.0.0.1",
    api_key: Annotated[
        str | None, typer.Option("--api-key", metavar="K", help="The only token to accept; any when left out.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Serve a folder of documents over HTTP, exactly as Vectorize.io would; Ctrl-C ends it."""
    from ..local import LocalServer
    from .indexing import indexed, nothing_to_read
    from .operating import SelfProbe, operator_routes

    with indexed(folder, api_key=api_key) as service:
        probe = SelfProbe()
        routes = operator_routes(host, probe)
        with LocalServer(service, host=host, port=port, routes=routes, loop_waits=True) as server:
            probe.knows(server.url, service, api_key)
            if not service.stats.files:  # it serves all the same: files may come while it runs
                screen.remark(nothing_to_read(str(folder)).message)
            if as_json:
                screen.write_json(_as_dict(service, server))
            else:
                _announce(folder, service, server)
            with _stop_signals() as stopped:
                stopped.wait()
    if not as_json:
        screen.remark("stopped", style="dim")


def _announce(folder: Path, service: LocalService, server: LocalServer) -> None:
    stats = service.stats
    how = "index reused" if stats.reused else "indexed"
    console = screen.out()
    screen.skipped_files(service.skipped)
    rows = [
        ("folder", f"{folder}: {screen.collected(stats.files, stats.chunks)}, {how} in {stats.seconds:.2f} s"),
        ("base URL", server.url),
        ("organization", service.organization),
        ("pipeline", service.pipeline_id),
        ("operators", _operators(server)),
        ("token", "the --api-key it was started with" if service.has_api_key else "any that is not empty"),
    ]
    console.print(screen.facts(rows))
    console.print()
    console.print(Text(_curl(service, server)), soft_wrap=True)
    console.print()
    console.print(Text("Ctrl-C ends it.", style="dim"))


def _operators(server: LocalServer) -> str:
    from ..local.server import is_loopback

    root = server.url.removesuffix("/v1")
    return f"{root}/rage/health, /metrics, /circuit, /config" if is_loopback(server.host) else "on loopback only"


def _curl(service: LocalService, server: LocalServer) -> str:
    token = "$VECTORIZE_API_KEY" if service.has_api_key else "local"
    path = f"org/{service.organization}/pipelines/{service.pipeline_id}/retrieval"
    body = '{"question": "What is this about?", "numResults": 3, "rerank": false}'
    return (
        f"curl -s {server.url}/{path} \\\n"
        f'  -H "Authorization: Bearer {token}" -H "Content-Type: application/json" \\\n'
        f"  -d '{body}'"
    )


def _as_dict(service: LocalService, server: LocalServer) -> dict[str, object]:
    stats = service.stats
    return {
        "base_url": server.url,
        "organization": service.organization,
        "pipeline_id": service.pipeline_id,
        "files": stats.files,
        "chunks": stats.chunks,
        "seconds": round(stats.seconds, 3),
        "reused": stats.reused,
        "skipped": [{"path": path, "reason": reason} for path, reason in service.skipped],
    }


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and a polite kill set, so that both end the server in good order."""
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stopped.set()) for number in numbers]
    try:
        yield stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
