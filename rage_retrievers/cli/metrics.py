"""`rage metrics`: what a running service has counted and timed."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from . import options, screen
from .running import DEFAULT_URL, Url, fetch


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
    console.print(_series("calls", said["calls"], ("pipeline", "operation", "outcome", "error_type")))
    console.print(_series("attempts", said["attempts"], ("pipeline", "attempt", "status", "error_type")))
    if said["policies"]:
        console.print(_policies(said["policies"]))
    counted = [(f"documents, {pipeline}", str(count)) for pipeline, count in said["documents"].items()]
    counted += [(f"circuit, {_place(circuit)}", str(circuit["state"])) for circuit in said["circuits"]]
    console.print(screen.facts(counted))


def _place(circuit: dict[str, Any]) -> str:
    return screen.plain(" ".join(str(circuit[name]) for name in ("pipeline", "organization", "base_url")))


def _series(title: str, series: list[dict[str, Any]], names: tuple[str, ...]) -> Table:
    table = _titled(title)
    for name in names:
        table.add_column(name.replace("_type", ""), overflow="fold")
    for name in ("count", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in series:
        latency = entry["latency"]
        cells = ["-" if entry[name] is None else screen.plain(str(entry[name])) for name in names]
        numbers = [f"{latency[name] * 1000:,.1f}" for name in ("p50", "p95", "p99")]
        table.add_row(*map(Text, cells), f"{latency['count']:,}", *numbers)
    return table


def _policies(policies: list[dict[str, Any]]) -> Table:
    table = _titled("policies")
    for name in ("pipeline", "event", "detail"):
        table.add_column(name, overflow="fold")
    table.add_column("count", justify="right")
    for entry in policies:
        cells = [screen.plain(str(entry[name])) for name in ("pipeline", "event", "detail")]
        table.add_row(*map(Text, cells), f"{entry['count']:,}")
    return table


def _titled(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
