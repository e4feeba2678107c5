"""What the logs say went wrong."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pytest

from rage_retrievers import errors
from rage_retrievers.errors import ConfigurationError
from rage_retrievers.observability import Audit, EventLog, Metrics, configure_logging, correlation
from rage_retrievers.observability.log_analysis import ADVICE, analyse

from .conftest import ANSWER, Story, limited


def line(event: str, minute: int, pipeline: str = "aip-1", **fields: object) -> str:
    record = {"timestamp": f"2026-01-01T10:{minute:02d}:00.000Z", "level": "INFO", "event": event, "pipeline": pipeline}
    return json.dumps(record | {"correlation_id": f"r-{minute}"} | fields) + "\n"


def completed(minute: int, pipeline: str = "aip-1") -> str:
    return line("retrieve.completed", minute, pipeline, attempts=1, elapsed_ms=100.0, documents=5)


def failed(minute: int, pipeline: str = "aip-1", error: str = "ServerError", status: int | None = 503) -> str:
    return line("retrieve.failed", minute, pipeline, attempts=3, elapsed_ms=9.0, error_type=error, status=status)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(lines))
    return path


def test_the_logs_we_write_are_read(tmp_path: Path) -> None:
    """From events to a report: calls, failures, attempts made good, circuits, latency."""
    stream = io.StringIO()
    configure_logging(json=True, level="DEBUG", stream=stream)
    listeners = (EventLog(show_texts=True), Audit(), Metrics())
    with correlation("request-7"):
        Story(listeners).answered()
        Story(listeners).answered_at_second()
        Story(listeners).end(ANSWER.with_facts(stale=True))
        Story(listeners).failed(limited())
    report = analyse([write(tmp_path / "log", stream.getvalue())])
    (pipeline,) = report.pipelines
    assert (pipeline.pipeline, pipeline.calls, pipeline.failed, pipeline.attempts) == ("aip-1", 4, 1, 5)
    assert (pipeline.stale, pipeline.circuit_opened, pipeline.failure_rate) == (1, 1, 0.25)
    assert pipeline.latency.count == 3
    assert report.skipped == 0
    found = [(f.operation, f.error_type, f.status, f.fatal, f.count) for f in report.findings]
    assert found == [
        ("retrieve", "RateLimitedError", 429, True, 1),
        ("attempt", "RateLimitedError", 429, False, 1),
        ("attempt", "ServerError", 503, False, 1),
    ]
    worst = report.findings[0]
    assert worst.correlation_ids == ("request-7",)
    assert worst.message == "HTTP 429; too many requests."
    assert worst.share == 0.25
    json.dumps(report.as_dict())


def test_since_is_when_the_failures_began_that_no_success_followed(tmp_path: Path) -> None:
    """An outage that goes on has a beginning; one that is over has none, only a first and a last time."""
    log = write(
        tmp_path / "log",
        *[failed(1), completed(2), failed(3), failed(4)],
        *[failed(1, "aip-2"), failed(2, "aip-2"), completed(5, "aip-2")],
    )
    lasting, over = sorted(analyse([log]).findings, key=lambda finding: finding.pipeline)
    assert lasting.since == "2026-01-01T10:03:00.000Z"
    assert (lasting.first, lasting.last) == ("2026-01-01T10:01:00.000Z", "2026-01-01T10:04:00.000Z")
    assert over.since is None
    assert over.count == 2


def test_lines_of_others_are_counted_and_left_alone(tmp_path: Path) -> None:
    """Text, foreign JSON, broken lines and bytes do not stop the reading."""
    log = tmp_path / "log"
    strange = ["INFO plain text\n", "{}\n", "[1]\n", '{"event": 5, "pipeline": 1}\n', '{"event": "retrieve.fai\n', "\n"]
    half = line("retrieve.completed", 1, elapsed_ms=None)
    log.write_bytes("".join([*strange, half, failed(1, status=None)]).encode() + b"\xff\xfe\n" + completed(2).encode())
    report = analyse([log])
    assert (report.lines, report.skipped, report.pipelines[0].calls) == (10, 7, 2)


def test_many_files_and_packed_ones_are_one_log(tmp_path: Path) -> None:
    """Rotated logs are given in their order, plain or gzipped; the last line may lack its end."""
    first, second = tmp_path / "log.1.gz", tmp_path / "log"
    first.write_bytes(gzip.compress(failed(1).encode()))
    second.write_text(failed(2).rstrip())
    (finding,) = analyse([first, str(second)]).findings
    assert (finding.count, finding.since) == (2, "2026-01-01T10:01:00.000Z")


@pytest.mark.parametrize("content", [None, b"not gzip"], ids=["missing", "not gzip"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """One error of configuration, with the file and the remedy."""
    path = tmp_path / "gone.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"gone\.gz cannot be read"):
        analyse([path])


def test_progress_comes_to_its_end(tmp_path: Path) -> None:
    """Bytes read grow from file to file up to the bytes there are."""
    log = write(tmp_path / "log", completed(1) * 40_000)
    told: list[tuple[int, int]] = []
    analyse([log, log], progress=lambda done, total: told.append((done, total)))
    size = 2 * log.stat().st_size
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == (size, size)
    assert {total for _, total in told} == {size}


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Many pipelines, many kinds of errors, and one endless line: what is kept stays small."""
    log = tmp_path / "log"
    with open(log, "w") as file:
        file.writelines(failed(number % 60, f"aip-{number}", error=f"Error{number}") for number in range(3_000))
        file.write("x" * 20_000_000 + "\n")
        file.write(completed(1))
    analyse([write(tmp_path / "small", failed(1))])
    tracemalloc.start()
    try:
        report = analyse([log])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000
    assert len(report.findings) <= 2_100
    assert len(report.pipelines) <= 1_001
    assert sum(finding.count for finding in report.findings) == 3_000


def test_a_report_shows_no_secret_of_a_log_that_held_one(tmp_path: Path) -> None:
    """Logs written by somebody else's formatter may hold what ours would not."""
    record = line("retrieve.failed", 1, attempts=1, elapsed_ms=1, error="Bearer abc123def456 of ada@example.org")
    report = analyse([write(tmp_path / "log", record)])
    assert report.findings[0].message == "Bearer [redacted] of [email]"


@pytest.mark.parametrize(
    "broken",
    [
        line("retrieve.failed", 1, attempts="many", elapsed_ms=1, error_type="E"),
        line("retrieve.failed", 1, attempts=1, elapsed_ms=1, error_type="E", status={"a": 1}),
        line("attempt.failed", 1, attempt=1, elapsed_ms=1, error_type="E", status=[1]),
        line("retrieve.completed", 1, attempts=1, elapsed_ms="long"),
        line("retrieve.completed", 1, attempts=None, elapsed_ms=1),
    ],
)
def test_a_broken_record_counts_for_nothing(tmp_path: Path, broken: str) -> None:
    """A record with the wrong kinds of values is passed over whole, not half counted."""
    report = analyse([write(tmp_path / "log", completed(1), broken)])
    (pipeline,) = report.pipelines
    assert (report.skipped, report.findings) == (1, ())
    assert (pipeline.calls, pipeline.failed, pipeline.latency.count) == (1, 0, 1)


def test_there_is_advice_for_every_error() -> None:
    """No class of error leaves the reader without a next step."""
    abstract = {"RageError", "RejectedError"}
    assert set(ADVICE) == {name for name in errors.__all__ if name.endswith("Error")} - abstract
