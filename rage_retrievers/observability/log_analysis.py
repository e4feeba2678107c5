"""What failed, since when, how often, in which pipeline and what to do: read from the JSON logs this package writes.

Logs are read line by line, whatever their size, in bounded memory: groups, pipelines and examples have limits, and a
line longer than a mebibyte is passed over. `.gz` files are read as they are. Lines of other programs are counted and
left alone.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from ..errors import ConfigurationError
from .metrics import CALL_BUCKETS, Histogram, Latency
from .redaction import DEFAULT_REDACTOR

_LONGEST_LINE = 1 << 20
_REPORT_EVERY = 4 << 20
_MOST_GROUPS = 1_000
_MOST_EXAMPLES = 3
_OTHER = "other"
_CALL_ENDS = ("completed", "failed")

ADVICE = {
    "ConfigurationError": "A setting or a query is wrong and nothing was sent; the message names the field and remedy.",
    "UnauthorizedError": "The token is missing, mistyped or expired: run `rage validate-config` and renew it.",
    "ForbiddenError": "The token may not use this pipeline: check that both belong to the same organization.",
    "NotFoundError": "No such organization or pipeline here: check both ids and the environment.",
    "QuotaExceededError": "The plan's quota is spent; rerank, context and filters draw on the advanced quota.",
    "RateLimitedError": "Too many requests: lower the concurrency, add a cache, or raise the plan's limit.",
    "BadRequestError": "The service does not accept these queries: its words in the example say what it misses.",
    "ServerError": "The service failed: retries cover short outages; if it lasts, write to support with a request id.",
    "StatusError": "An unexpected status: check that base_url is a Vectorize API, with no proxy in between.",
    "ConnectionFailedError": "No whole answer arrived: check network, proxy and DNS between here and the service.",
    "DeadlineExceededError": "Answers took longer than the deadline: raise timeout, ask for fewer results, or hedge.",
    "InvalidResponseError": "An answer that is none: check base_url, and whether a proxy answered instead.",
    "ResponseTooLargeError": "Answers pass the size limit: ask for fewer results, or raise max_response_mib.",
    "CircuitOpenError": "Calls were refused while the circuit was open: look at the failures that opened it.",
    "BulkheadFullError": "More calls at once than allowed: raise the bulkhead's limit, or spread the load.",
    "RateLimitExceededError": "Your own rate limit refused calls: raise it, or spread the load.",
    "ThrottledError": "The service rejected most calls, so a share was refused here: lower the load until it recovers.",
    "RetryBudgetExhaustedError": "Too many calls needed retries: look at the failures under this one.",
    "AuditError": "Audit records could not be kept: check where they go (disk, permissions, log handler).",
    "ResearchFailedError": "The service gave up on a deep research: its words in the example say why.",
}
"""What to do about each class of error."""

_FALLBACK = "See the example's message; the correlation id finds everything else about the call."


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of failure in one pipeline.

    `fatal` tells failed calls from failed attempts, whatever became of the call. `since` is the beginning of the
    failures that no success followed, None when the pipeline has answered after the last of them. Times are as logged.
    """

    pipeline: str
    operation: str
    error_type: str
    status: int | None
    fatal: bool
    count: int
    share: float
    """Of the pipeline's calls, for failed calls; of its failed attempts, for attempts."""
    first: str
    last: str
    since: str | None
    message: str
    correlation_ids: tuple[str, ...]
    advice: str


@dataclass(frozen=True, slots=True)
class PipelineSummary:
    """One pipeline: calls ended, failed, repeated; answers that were stale or a fallback's; latency of the answers."""

    pipeline: str
    calls: int
    failed: int
    cancelled: int
    attempts: int
    stale: int
    degraded: int
    rejected: int
    circuit_opened: int
    latency: Latency
    first: str
    last: str

    @property
    def failure_rate(self) -> float:
        """Failed calls among those that ended, cancelled ones left out."""
        ended = self.calls - self.cancelled
        return self.failed / ended if ended else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What the logs say. `findings` has failed calls first, then the most frequent; `skipped` counts foreign lines."""

    findings: tuple[Finding, ...]
    pipelines: tuple[PipelineSummary, ...]
    lines: int
    skipped: int
    bytes_read: int
    first: str
    last: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


Progress = Callable[[int, int], object]
"""Called with the bytes read so far and the bytes there are; those of streams and pipes are not among them."""


def analyse(logs: Iterable[str | PathLike[str] | BinaryIO], progress: Progress | None = None) -> Report:
    """Read the logs, files or streams of bytes, in the order given.

    Raises ConfigurationError for a log that cannot be read. Nothing of the logs but ids, counts and redacted messages
    gets into the report.
    """
    sources = [Path(fspath(log)) if isinstance(log, str | PathLike) else log for log in logs]
    analysis = _Analysis()
    done, total = 0, sum(map(_size, sources))
    for source in sources:
        for read in _read(source, analysis):
            if progress is not None:
                progress(min(total, done + read), total)
        done += _size(source)
    if progress is not None:
        progress(total, total)
    return analysis.report()


class _Readable(Protocol):
    def readline(self, size: int, /) -> bytes: ...


def _size(source: Path | BinaryIO) -> int:
    """Bytes; 0 for what has no size, such as a pipe."""
    try:
        return source.stat().st_size if isinstance(source, Path) else 0
    except OSError as error:
        raise ConfigurationError(f"{source} cannot be read: {error.strerror}; name log files that exist.") from None


def _read(source: Path | BinaryIO, analysis: _Analysis) -> Iterator[int]:
    """Feed the lines to the analysis; gives the position every 4 MiB, 0 where there is none."""
    name = source if isinstance(source, Path) else "the stream"
    try:
        with open(source, "rb") if isinstance(source, Path) else nullcontext(source) as raw:
            packed = isinstance(source, Path) and source.suffix == ".gz"
            for _ in _lines(gzip.GzipFile(fileobj=raw) if packed else raw, analysis):
                yield raw.tell() if raw.seekable() else 0
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(f"{name} cannot be read: {reason}; name log files, plain or .gz.") from None


def _lines(stream: _Readable, analysis: _Analysis) -> Iterator[None]:
    add, readline = analysis.add, stream.readline
    since_report = 0
    while line := readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            line = _rest_of_line(stream)
        else:
            add(line)
        since_report += len(line)
        if since_report >= _REPORT_EVERY:
            since_report = 0
            yield
    yield


def _rest_of_line(stream: _Readable) -> bytes:
    """Pass over what is left of a line that is too long."""
    while (part := stream.readline(_LONGEST_LINE)) and not part.endswith(b"\n"):
        pass
    return part


class _Key(NamedTuple):
    pipeline: str
    operation: str
    error_type: str
    status: int | None
    fatal: bool


@dataclass(slots=True)
class _Group:
    """Failures of one kind."""

    first: str
    last: str
    since: str
    answered: int
    """How many answers the pipeline had given when the latest run of failures began."""
    count: int = 0
    message: str = ""
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Pipeline:
    first: str
    last: str
    calls: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    failed_attempts: int = 0
    stale: int = 0
    degraded: int = 0
    rejected: int = 0
    opened: int = 0
    latency: Histogram = field(default_factory=lambda: Histogram(CALL_BUCKETS))


class _Analysis:
    """Everything kept while reading; its size has nothing to do with the size of the logs."""

    def __init__(self) -> None:
        self._groups: dict[_Key, _Group] = {}
        self._pipelines: dict[str, _Pipeline] = {}
        self._lines = 0
        self._skipped = 0
        self._bytes = 0
        self._parse = json.JSONDecoder().decode

    def add(self, line: bytes) -> None:
        """Take one line into account."""
        self._lines += 1
        self._bytes += len(line)
        try:
            record = self._parse(line.decode())
            event, pipeline = record["event"], record["pipeline"]
            operation, _, what = event.partition(".")
            self._record(record, str(pipeline), operation, what)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            if line.strip():
                self._skipped += 1

    def _record(self, record: dict[str, Any], name: str, operation: str, what: str) -> None:
        at = str(record.get("timestamp", ""))
        # Everything that a broken record lacks is read before anything is counted.
        attempts = int(record["attempts"]) if what in _CALL_ENDS and "attempts" in record else 0
        hash(record.get("status"))
        elapsed = record["elapsed_ms"] / 1000 if what == "completed" else 0.0
        pipeline = self._pipeline(name, at)
        if what == "completed":
            pipeline.latency.observe(elapsed)
            pipeline.attempts += attempts
            pipeline.calls += 1
            pipeline.answered += 1
            if "stale" in record:
                pipeline.stale += 1
            if "degraded" in record:
                pipeline.degraded += 1
        elif what == "failed" and operation == "attempt":
            pipeline.failed_attempts += 1
            self._failure(record, name, "attempt", at, fatal=False)
        elif what == "failed" and "attempts" in record:
            pipeline.calls += 1
            pipeline.failed += 1
            pipeline.attempts += attempts
            self._failure(record, name, operation, at, fatal=True)
        elif what == "cancelled":
            pipeline.calls += 1
            pipeline.cancelled += 1
        elif what == "rejected":
            pipeline.rejected += 1
        elif what == "changed" and record.get("after") == "open":
            pipeline.opened += 1

    def _pipeline(self, name: str, at: str) -> _Pipeline:
        found = self._pipelines.get(name)
        if found is None:
            if len(self._pipelines) >= _MOST_GROUPS:
                name = _OTHER
            found = self._pipelines.setdefault(name, _Pipeline(at, at))
        if at > found.last:
            found.last = at
        elif at < found.first:
            found.first = at
        return found

    def _failure(self, record: dict[str, Any], name: str, operation: str, at: str, *, fatal: bool) -> None:
        name = name if name in self._pipelines else _OTHER
        key = _Key(name, operation, str(record.get("error_type", "unknown")), record.get("status"), fatal)
        answered = self._pipelines[name].answered
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= _MOST_GROUPS:
                key = _Key(name, _OTHER, _OTHER, None, fatal)
            group = self._groups.setdefault(key, _Group(at, at, at, answered))
        group.count += 1
        if group.answered != answered:
            group.answered, group.since = answered, at
        group.first, group.last = min(group.first, at), max(group.last, at)
        if len(group.examples) < _MOST_EXAMPLES:
            group.examples.append(DEFAULT_REDACTOR.identifier(str(record.get("correlation_id", "")))[:200])
            group.message = group.message or DEFAULT_REDACTOR.text(str(record.get("error", "")))[:500]

    def report(self) -> Report:
        """What was read so far."""
        findings = sorted(
            (self._finding(key, group) for key, group in self._groups.items()),
            key=lambda finding: (not finding.fatal, -finding.count, finding.pipeline, finding.error_type),
        )
        summaries = sorted((_summary(name, found) for name, found in self._pipelines.items()), key=lambda s: -s.failed)
        return Report(
            findings=tuple(findings),
            pipelines=tuple(summaries),
            lines=self._lines,
            skipped=self._skipped,
            bytes_read=self._bytes,
            first=min((found.first for found in self._pipelines.values()), default=""),
            last=max((found.last for found in self._pipelines.values()), default=""),
        )

    def _finding(self, key: _Key, group: _Group) -> Finding:
        pipeline = self._pipelines[key.pipeline]
        whole = pipeline.calls if key.fatal else pipeline.failed_attempts
        pipeline_id, operation, error_type = DEFAULT_REDACTOR.identifiers(key[:3])
        return Finding(
            pipeline_id,
            operation,
            error_type,
            key.status,
            key.fatal,
            count=group.count,
            share=group.count / whole if whole else 0.0,
            first=group.first,
            last=group.last,
            since=group.since if group.answered == pipeline.answered else None,
            message=group.message,
            correlation_ids=tuple(group.examples),
            advice=ADVICE.get(key.error_type, _FALLBACK),
        )


def _summary(name: str, found: _Pipeline) -> PipelineSummary:
    return PipelineSummary(
        pipeline=DEFAULT_REDACTOR.identifier(name),
        calls=found.calls,
        failed=found.failed,
        cancelled=found.cancelled,
        attempts=found.attempts,
        stale=found.stale,
        degraded=found.degraded,
        rejected=found.rejected,
        circuit_opened=found.opened,
        latency=Latency.of(found.latency),
        first=found.first,
        last=found.last,
    )
