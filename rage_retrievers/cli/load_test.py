"""`rage load-test`: many questions at once, and how long the answers took."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..errors import ConfigurationError, RageError, StatusError
from . import options, screen
from .failure import CommandFailedError
from .load_picture import check_drawing, png_report
from .load_plan import LoadPlan, Measured
from .load_report import html_report
from .load_run import FailureWatch, run

if TYPE_CHECKING:
    from .._calls import Calls
    from ..client import AsyncVectorizeClient, ClientOptions

_BAR = 34
"""Characters of the longest bar of the histogram, where there is room for them."""


def load_test(
    question: Annotated[list[str] | None, typer.Argument(metavar="[QUESTION...]", help="Asked in turn.")] = None,
    *,
    questions: Annotated[
        Path | None, typer.Option("--questions", metavar="FILE", help="A file with one question a line.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests", "-n", metavar="N", help="How many; 100 without --duration.")
    ] = None,
    duration: Annotated[float | None, typer.Option("--duration", metavar="SECONDS", help="For how long.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", metavar="N", help="How many at once.")] = 4,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", help="Requests a second; as fast as answers come if left out."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Without retries, circuit breaker and bulkhead: the service alone.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write a report: .html, or .png (needs matplotlib).")
    ] = None,
    num_results: options.Passages = None,
    rerank: options.Rerank = None,
    mode: options.Mode = None,
    timeout: options.Timeout = None,
    base_url: options.BaseUrl = None,
    environment: options.Environment = None,
    organization: options.Organization = None,
    pipeline_id: options.PipelineId = None,
    api_key: options.ApiKey = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask many questions and show latency percentiles, a histogram, and errors by type.

    One question is asked first and not measured. Each request draws on the pipeline's quota.
    Exit code 1 when a call failed.
    """
    number = 100 if requests is None and duration is None else requests
    plan = LoadPlan(_questions(question or [], questions), concurrency, number, duration, rate)
    where = options.connection(base_url, environment, organization, pipeline_id, api_key)
    knobs = options.query(num_results=num_results, rerank=rerank, mode=mode, timeout=timeout)
    if report is not None:
        _check_report(report)
    measured = Measured()
    target = _measure(plan, where, knobs, measured, raw=raw)
    found = measured.as_dict()
    if report is not None:
        drawn = png_report if _is_picture(report) else _page
        _write(report, drawn(plan.described(), target, found, datetime.now(UTC)))
    if as_json:
        screen.write_json({"service": target, "plan": plan.described(), **found})
    else:
        _show(screen.out(), target, plan.described(), found, report)
    if measured.interrupted:
        raise KeyboardInterrupt
    if measured.failed:
        raise CommandFailedError


def _questions(given: list[str], file: Path | None) -> tuple[str, ...]:
    if file is None:
        return tuple(given)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"--questions {str(file)!r} cannot be read ({type(error).__name__}); name a UTF-8 text file."
        ) from None
    return (*given, *(line.strip() for line in lines if line.strip()))


def _check_report(report: Path) -> None:
    """Refuse before the test what could not be written after it."""
    if report.suffix.lower() not in (".html", ".htm", ".png"):
        raise ConfigurationError(f"--report {str(report)!r} cannot be used; name an .html or a .png file.")
    if _is_picture(report):
        check_drawing()
    _check_writable(report)


def _is_picture(report: Path) -> bool:
    return report.suffix.lower() == ".png"


def _page(plan: str, target: str, measured: dict[str, Any], when: datetime) -> bytes:
    return html_report(plan, target, measured, when).encode()


def _check_writable(report: Path) -> None:
    """Leaves a report of before as it is, and no empty one: the test may yet fail."""
    with _writing(report):
        is_new = not report.exists()
        report.open("ab").close()
        if is_new:
            report.unlink()


def _write(report: Path, content: bytes) -> None:
    with _writing(report):
        report.write_bytes(content)


@contextmanager
def _writing(report: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"--report {str(report)!r} cannot be written ({error.strerror}); name another file."
        ) from None


def _measure(plan: LoadPlan, where: ClientOptions, knobs: dict[str, Any], measured: Measured, *, raw: bool) -> str:
    """Fill `measured`; gives the service's name. Ctrl-C ends the test early and keeps what was measured."""
    console = screen.err()
    columns = (
        TextColumn("asking"),
        BarColumn(bar_width=screen.bar_width(console)),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    calls = _calls(where, raw=raw, watch=FailureWatch(measured))
    base_url, _, pipeline = calls.connection.address.target
    embedded = calls.connection.engines.name == "embedded"

    async def go(bar: Progress) -> None:
        from ..client import AsyncVectorizeClient

        async with AsyncVectorizeClient.over(calls) as client:
            await _first(client, plan.questions[0], knobs)
            task = bar.add_task("asking", total=plan.requests)
            await run(
                lambda question: client.retrieve(question, **knobs),
                plan,
                measured,
                heard=lambda: bar.update(task, completed=measured.ended),
            )

    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        try:
            asyncio.run(go(bar))
        except KeyboardInterrupt:
            measured.interrupted = True
    from ..observability.redaction import DEFAULT_REDACTOR

    return DEFAULT_REDACTOR.identifier(f"{'embedded pipeline' if embedded else base_url}, pipeline {pipeline}")


def _calls(where: ClientOptions, *, raw: bool, watch: FailureWatch) -> Calls:
    from .._calls import Calls

    if not raw:
        return Calls.make({**where, "listeners": (watch,)})
    calls = Calls.make(where)
    bare = calls.resilience.without("retry", "circuit breaker", "bulkhead", "cache", "hedge")
    return calls.with_options({"resilience": bare})


async def _first(client: AsyncVectorizeClient, question: str, knobs: dict[str, Any]) -> None:
    """One question that is not measured. What no repetition can cure ends the test before it begins."""
    try:
        await client.retrieve(question, **knobs)
    except RageError as error:
        if isinstance(error, ConfigurationError | StatusError) and not error.transient:
            raise


def _show(console: Console, target: str, plan: str, found: dict[str, Any], report: Path | None) -> None:
    calls = f"{found['calls']:,}: {found['answered']:,} answered, {found['failed']:,} failed"
    if found["empty_answers"]:
        calls += f", {found['empty_answers']:,} answered without passages"
    rows = [
        ("service", target),
        ("plan", plan + (" (interrupted)" if found["interrupted"] else "")),
        ("calls", calls),
        ("requests", f"{found['requests_sent']:,} sent, those of failed calls too"),
        ("time", f"{found['elapsed_s']:,} s, {found['answers_per_s'] or 0:,} answers/s"),
    ]
    console.print(screen.facts(rows))
    if found["latency_ms"]:
        console.print()
        console.print(_latency(found["latency_ms"]))
        console.print()
        console.print(_histogram(console, found["histogram_ms"]))
    if found["errors"]:
        console.print()
        console.print(screen.facts([(f"{count:,}", name) for name, count in found["errors"].items()]))
        if any(name.startswith(("CircuitOpen", "BulkheadFull", "RetryBudget")) for name in found["errors"]):
            console.print(Text("--raw shows what the service answers when nothing protects it.", style="dim"))
    if report is not None:
        console.print(Text(f"\nreport written to {report}", style="dim"), soft_wrap=True)


def _latency(latency: dict[str, float]) -> screen.Rows:
    names = tuple(latency)
    values = [f"{value:,.1f}" for value in latency.values()]
    return screen.Rows(names, [values], numbers=names, title="latency, ms")


def _histogram(console: Console, rows: list[dict[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    labels = [f"{row['from']:,.1f} to {row['to']:,.1f} ms" for row in rows]
    most = max(row["count"] for row in rows)
    room = console.width - max(map(len, labels)) - len(f"   {most:,}")
    longest = max(1, min(_BAR, room))
    for label, row in zip(labels, rows, strict=True):
        bar = "█" * round(longest * row["count"] / most) or ("▏" if row["count"] else "")
        table.add_row(label, Text(f"{bar} {row['count']:,}", style="cyan"))
    return table
