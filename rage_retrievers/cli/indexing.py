"""Making the index of a folder ready, while the user watches it grow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .._connection import LOCAL
from ..errors import ConfigurationError
from .screen import bar_width, err, skipped_files

if TYPE_CHECKING:
    from ..client import ClientOptions
    from ..local import LocalService
    from ..local import Progress as Step

_STAGES = {"read": "reading", "index": "writing the index"}


@contextmanager
def indexed(folder: str | Path, *, api_key: str | None = None) -> Iterator[LocalService]:
    """A service over the folder, with a progress bar on stderr until its index is ready.

    Raises ConfigurationError for a folder that cannot be used.
    """
    from ..local import LocalService

    with _bar() as bar:
        task = bar.add_task("looking", total=None)

        def heard(step: Step) -> None:
            bar.update(task, description=_STAGES.get(step.stage, step.stage), completed=step.done, total=step.total)

        service = LocalService.open(folder, api_key=api_key, progress=heard)
    try:
        yield service
    finally:
        service.close()


def watch_indexing(where: ClientOptions) -> str | None:
    """Index the folder of a `local:` address now, so that its progress is seen and what is skipped is told.

    Gives the folder if there was nothing to read in it.
    """
    from ..settings import VectorizeSettings

    base_url = where.get("base_url") or VectorizeSettings.load().base_url or ""
    if not base_url.startswith(LOCAL):
        return None
    folder = base_url[len(LOCAL) :]
    with indexed(folder) as service:
        skipped_files(service.skipped)
        return None if service.stats.files else folder


def nothing_to_read(folder: str) -> ConfigurationError:
    """What to say of a folder without a document."""
    return ConfigurationError(f"{folder} holds no .md, .txt, .html, .pdf or .docx file that can be read.")


def _bar() -> Progress:
    console = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=bar_width(console)),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
