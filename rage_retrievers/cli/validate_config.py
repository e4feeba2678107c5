"""`rage validate-config`: the settings in force, where they come from, and what is wrong with them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from . import options, screen
from .failure import BAD_INPUT

if TYPE_CHECKING:
    from .configuration import Configuration


def validate_config(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            help="As if RAGE_CONFIG_PROFILE were set: development, staging, production, performance, security.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show every setting with its source, secrets masked, and check that calls can be made with them.

    Nothing is sent. The token is read on this machine: not a JWT, expired, and of another organization are told apart.
    """
    from .configuration import configuration

    found = configuration(profile, time.time())
    if as_json:
        screen.write_json(found.as_dict())
    else:
        _show(found)
    if found.problems:
        raise typer.Exit(BAD_INPUT)


def _show(found: Configuration) -> None:
    console = screen.out()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold")
    for setting in found.settings:
        style = "dim" if setting.source == "default" else ""
        table.add_row(setting.name, Text(screen.plain(_text(setting.value))), setting.source, style=style)
    console.print(table)
    console.print()
    for note in found.notes:
        console.print(Text(screen.plain(note), style="yellow"))
    for problem in found.problems:
        console.print(Text.assemble(("problem  ", "bold red"), screen.plain(problem)))
    if not found.problems:
        console.print(Text("Calls can be made with these settings.", style="green"))


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
