"""`rage metrics`: what a running service has counted and timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from . import options, screen
from .running import DEFAULT_URL, Url, fetch

_LATENCY = ("p50", "p95", "p99")
_TIMED = ("count", *(f"{name} ms" for name in _LATENCY))


def metrics(url: Url = DEFAULT_URL, as_json: options.AsJson = False) -> None:
    """Show a running service's calls, attempts and policy events, with their latencies.

    The numbers live in the process that makes the calls, so that process is asked.
    """
    _, said = fetch(url, "/metrics", holding=("calls", "attempts", "policies", "documents", "circuits"))
    if as_json:
        screen.write_json(said)
        return
    console = screen.out()
    if not said["calls"]:
        console.print(Text("No call has ended there yet.", style="dim"))
        return
    documents = [{"pipeline": pipeline, "count": count} for pipeline, count in said["documents"].items()]
    for part in (
        _series("calls", said["calls"], ("pipeline", "operation", "outcome", "error_type")),
        _series("attempts", said["attempts"], ("pipeline", "attempt", "status", "error_type")),
        _table("policies", said["policies"], ("pipeline", "event", "detail", "count"), ("count",)),
        _table("documents", documents, ("pipeline", "count"), ("count",)),
        _table("circuits", said["circuits"], ("pipeline", "organization", "base_url", "state")),
    ):
        if part.found:
            console.print(part)


def _series(title: str, series: list[dict[str, Any]], names: tuple[str, ...]) -> screen.Rows:
    entries = []
    for entry in series:
        latency = entry["latency"]
        times = {f"{name} ms": f"{latency[name] * 1000:,.1f}" for name in _LATENCY}
        entries.append({**entry, "count": latency["count"], **times})
    return _table(title, entries, (*names, *_TIMED), _TIMED)


def _table(title: str, entries: list[dict[str, Any]], names: Sequence[str], numbers: Sequence[str] = ()) -> screen.Rows:
    found = [[_text(entry[name]) for name in names] for entry in entries]
    shown = [name.removesuffix("_type").replace("base_url", "service") for name in names]
    return screen.Rows(shown, found, numbers=numbers, title=title)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
