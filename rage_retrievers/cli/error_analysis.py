"""`rage error-analysis`: what failed, since when, how often, in which pipeline, and what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..errors import ConfigurationError
from . import options, screen

if TYPE_CHECKING:
    from ..observability.log_analysis import Finding, PipelineSummary, Report

_STANDARD_INPUT = "-"


def error_analysis(
    logs: Annotated[
        list[Path],
        typer.Argument(metavar="LOG...", help="JSON logs of this package, plain or .gz; - is standard input."),
    ],
    most: Annotated[int, typer.Option("--most", min=1, metavar="N", help="How many findings to show.")] = 20,
    as_json: options.AsJson = False,
) -> None:
    """Read JSON logs of any size and say what failed, since when, how often, where, and what to do about it."""
    report = _analyse([_standard_input() if str(log) == _STANDARD_INPUT else log for log in logs])
    if as_json:
        screen.write_json(report.as_dict())
        return
    console = screen.out()
    _show(console, report, most)


def _standard_input() -> BinaryIO:
    if sys.stdin is None:  # so Python tells that it was started without one
        raise ConfigurationError("- is standard input, which is closed; name a log file, or pipe one in.")
    return sys.stdin.buffer


def _analyse(logs: list[Path | BinaryIO]) -> Report:
    from ..observability.log_analysis import analyse

    console = screen.err()
    columns = (
        TextColumn("reading"),
        BarColumn(bar_width=screen.bar_width(console)),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        return analyse(logs, lambda done, total: bar.update(task, completed=done, total=total or None))


def _show(console: Console, report: Report, most: int) -> None:
    read = f"{screen.counted(report.lines, 'line')}, {report.bytes_read / 2**20:,.1f} MiB"
    if report.skipped:
        read += f", {report.skipped:,} of them not ours"
    period = f"{report.first} to {report.last}" if report.pipelines else "no event of this package"
    console.print(screen.facts([("read", read), ("period", period)]))
    console.print()
    if report.pipelines:
        console.print(_pipelines(report.pipelines))
    for number, finding in enumerate(report.findings[:most], 1):
        console.print()
        _show_finding(console, number, finding)
    if len(report.findings) > most:
        console.print(Text(f"\n{len(report.findings) - most} findings more; --most shows them.", style="dim"))
    if report.pipelines and not report.findings:
        console.print(Text("\nNothing failed.", style="green"))


def _pipelines(pipelines: tuple[PipelineSummary, ...]) -> screen.Rows:
    numbers = ("calls", "failed", "rate", "requests", "opened", "p50 ms", "p95 ms")
    found = [
        (
            one.pipeline,
            f"{one.calls:,}", f"{one.failed:,}", f"{one.failure_rate:.1%}", f"{one.attempts:,}",
            f"{one.circuit_opened:,}", f"{one.latency.p50 * 1000:,.0f}", f"{one.latency.p95 * 1000:,.0f}",
        )
        for one in pipelines
    ]  # fmt: skip
    return screen.Rows(("pipeline", *numbers), found, numbers=numbers)


def _show_finding(console: Console, number: int, finding: Finding) -> None:
    kind = finding.error_type if finding.status is None else f"{finding.error_type} {finding.status}"
    failed = screen.counted(finding.count, "failed call" if finding.fatal else "failed attempt")
    console.print(
        Text.assemble(
            (f"{number}. {screen.plain(kind)}", "bold red" if finding.fatal else "bold yellow"),
            f"  {failed} ({finding.share:.1%})",
        )
    )
    lasting = (
        f"since {finding.since}, without an answer after" if finding.since else "over: answers came after the last"
    )
    rows = [
        ("pipeline", finding.pipeline),
        ("when", f"{finding.first} to {finding.last}"),
        ("now", lasting),
        ("said", finding.message or "-"),
        ("find by", ", ".join(finding.correlation_ids) or "-"),
        ("do", finding.advice),
    ]
    console.print(Padding(screen.facts(rows), (0, 0, 0, 3)))
