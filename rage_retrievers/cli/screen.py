"""What is written where: results on stdout, remarks and progress on stderr; JSON for programs, rich for people."""

from __future__ import annotations

import json
import logging
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO, cast

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from .._secrets import secrets_in_use

_WIDEST = 110
_NARROWEST = 12
"""Characters under which a folded text cannot be read any more."""


def out() -> Console:
    """The console results go to; 80 columns where there is no terminal, never wider than reads well."""
    console = Console(highlight=False, emoji=False)
    console.width = min(console.width, _WIDEST)
    return console


def err() -> Console:
    """The console remarks, errors and progress go to."""
    return Console(stderr=True, highlight=False, emoji=False)


def write_json(value: Any) -> None:
    """One JSON document on stdout; a token in use that a service has echoed is not in it."""
    typer.echo(secrets_in_use.hide(json.dumps(value, ensure_ascii=False, indent=2, default=str)))


def remark(line: str, style: str = "yellow") -> None:
    """One line on stderr, never wrapped, so that it can be searched for."""
    err().print(Text(plain(line), style=style), soft_wrap=True)


def plain(text: str) -> str:
    """The text without control characters, which must not steer the terminal, and without the tokens in use."""
    return "".join(
        c for c in secrets_in_use.hide(text) if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs", "Cf")
    )


def counted(number: int, thing: str) -> str:
    """The number and the thing, in the plural where there is not just one."""
    return f"{number} {thing}" if number == 1 else f"{number:,} {thing}s"


def collected(files: int, passages: int) -> str:
    """What a folder holds."""
    return f"{counted(files, 'file')}, {counted(passages, 'passage')}"


def facts(rows: Sequence[tuple[str, str | Text]]) -> Table:
    """Names and values, side by side."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(plain(value)) if isinstance(value, str) else value)
    return table


@dataclass(frozen=True, slots=True)
class Rows:
    """A table whose columns of texts may fold; name by name where the screen is too narrow to fold them readably."""

    names: Sequence[str]
    found: Sequence[Sequence[str | Text]]
    numbers: Sequence[str] = ()
    """Which of the names are of numbers: those columns never fold."""
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = [[Text(plain(cell)) if isinstance(cell, str) else cell for cell in row] for row in self.found]
        if self._needed(cells) <= options.max_width:
            yield self._table(cells)
            return
        if self.title:
            yield Text(self.title, style="bold")
        for number, row in enumerate(cells):
            if number:
                yield ""
            yield facts(list(zip(self.names, row, strict=True)))

    def _needed(self, cells: Sequence[Sequence[Text]]) -> int:
        """Characters that a table needs to be read."""
        needed = 2 * (len(self.names) - 1)
        for number, name in enumerate(self.names):
            widest = max([len(name), *(row[number].cell_len for row in cells)])
            needed += widest if name in self.numbers else max(len(name), min(widest, _NARROWEST))
        return needed

    def _table(self, cells: Sequence[Sequence[Text]]) -> Table:
        header = "dim" if self.title else "bold"
        table = Table(title=self.title or None, title_justify="left", title_style="bold", box=None, pad_edge=False,
                      header_style=header)  # fmt: skip
        for name in self.names:
            if name in self.numbers:
                table.add_column(name, justify="right", no_wrap=True)
            else:
                table.add_column(name, overflow="fold")
        for row in cells:
            table.add_row(*row)
        return table


def bar_width(console: Console) -> int:
    """How wide a progress bar is, so that what stands beside it is not cut."""
    return max(4, min(30, console.width - 42))


def skipped_files(skipped: Sequence[tuple[str, str]], most: int = 20) -> None:
    """Name the files that could not be read, on stderr."""
    for path, reason in skipped[:most]:
        remark(f"skipped {path}: {reason}")
    if len(skipped) > most:
        remark(f"skipped {len(skipped) - most} more; rage serve DIR --json names them all")


class OutputLostError(Exception):
    """Standard output takes no more, as on a full disk."""


def telling_of_loss(stream: TextIO) -> TextIO:
    """The stream, raising OutputLostError: an OSError may have come from anywhere. None where there is none."""
    return cast("TextIO", stream and _TellingOfLoss(stream))


class _TellingOfLoss:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)
        return _telling()(found) if name in ("write", "flush") else found


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLostError(f"the output could not be written ({error.strerror}).") from None


@contextmanager
def warnings_as_remarks() -> Iterator[None]:
    """Warnings of ours, such as a mistyped variable, become one line each on stderr, and are said once."""
    from ..settings import ConfigurationWarning

    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, ConfigurationWarning) and str(message) not in said:
            said.add(str(message))
            remark(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", ConfigurationWarning)
        warnings.showwarning = show
        yield


@contextmanager
def records_on_stderr() -> Iterator[None]:
    """The log that RAGE_DEBUG, RAGE_LOG_LEVEL or a profile asks for; here, no application has set up a handler."""
    from ..errors import ConfigurationError
    from ..observability.logs import configure_logging
    from ..settings import VectorizeSettings

    logger = logging.getLogger("rage_retrievers")
    before = logger.level, logger.propagate
    handler = None
    # The command says what is wrong with the settings, where it needs them.
    with suppress(ConfigurationError):
        settings = VectorizeSettings.load()
        if settings.debug or "log_level" in settings.model_fields_set:
            handler = configure_logging()
    try:
        yield
    finally:
        if handler is not None:
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]
