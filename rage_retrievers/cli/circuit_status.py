"""`rage circuit-status`: the circuits of a running service."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from . import options, screen
from .failure import CommandFailedError
from .running import DEFAULT_URL, Url, fetch

_STYLES = {"closed": "green", "half-open": "yellow", "open": "red"}


def circuit_status(url: Url = DEFAULT_URL, as_json: options.AsJson = False) -> None:
    """Show which circuits of a running service are closed, open or half-open.

    A circuit lives in the process that makes the calls, so that process is asked. Exit code 1 when one is open.
    """
    _, said = fetch(url, "/circuit", holding=("circuits",))
    circuits = list(said["circuits"])
    if as_json:
        screen.write_json(said)
    elif circuits:
        screen.out().print(_table(circuits))
    else:
        screen.out().print(Text("No call went through a circuit there yet.", style="dim"))
    if any(circuit["state"] == "open" for circuit in circuits):
        raise CommandFailedError


def _table(circuits: list[dict[str, Any]]) -> screen.Rows:
    found: list[list[str | Text]] = []
    for circuit in circuits:
        state = screen.plain(str(circuit["state"]))
        wait = f"in {circuit['retry_after']:.1f} s" if circuit["retry_after"] else "-"
        places = [str(circuit[name]) for name in ("pipeline", "organization", "base_url")]
        found.append([Text(state, style=_STYLES.get(state, "")), *places, wait])
    return screen.Rows(("state", "pipeline", "organization", "service", "next probe"), found)
