"""How long reading a large log takes, and how much memory: writes one (1 GB unless told otherwise), then reads it.

Run: python benchmarks/log_analysis.py [MEGABYTES | --smoke]. The bar is 60 s of one core for 1 GB, in constant memory:
at most 20 MB more than before the reading began, whatever the size. The time is that of the processor, so that
neighbours do not count; the file lies in a temporary folder, and is gone at the end.
"""

from __future__ import annotations

import io
import resource
import sys
import tempfile
import time
from pathlib import Path

from rage_retrievers.errors import ServerError
from rage_retrievers.models import Document, Query, Retrieval, Target
from rage_retrievers.observability import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CallCompleted,
    CallStarted,
    EventLog,
    RetryScheduled,
    configure_logging,
)
from rage_retrievers.observability.log_analysis import analyse

ANSWER = Retrieval(documents=(Document(text="passage", id="doc"),) * 5)
QUERY = Query(question="Why?")


def sample() -> bytes:
    """The log of 1,000 calls at DEBUG, one in ten with a failed attempt, one in fifty failed."""
    stream = io.StringIO()
    configure_logging(json=True, level="DEBUG", stream=stream)
    log = EventLog()
    error = ServerError("HTTP 503; the service is unavailable, or a new pipeline is still deploying.", status=503)
    for number in range(1_000):
        target = Target("https://api.vectorize.io/v1", "org-1", f"aip-{number % 7}")
        call = (f"{number:016x}", target)
        log.on_event(CallStarted(*call, "retrieve", QUERY))
        log.on_event(AttemptStarted(*call, 1))
        if number % 10 == 0:
            log.on_event(AttemptFailed(*call, 1, 0.05, error))
            log.on_event(RetryScheduled(*call, 1, 0.2, error))
        log.on_event(AttemptSucceeded(*call, 1, 0.05))
        failed = number % 50 == 0
        log.on_event(
            CallCompleted(*call, "retrieve", QUERY, 1, 0.05, None if failed else ANSWER, error if failed else None)
        )
    return stream.getvalue().encode()


def main() -> None:
    """Write, read, print, and say with the exit code whether the bar holds."""
    asked = sys.argv[1] if len(sys.argv) > 1 else "1000"
    megabytes = 5 if asked == "--smoke" else int(asked)
    block = sample()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rage.log"
        with open(path, "wb") as file:
            file.writelines(block for _ in range(megabytes * 1_000_000 // len(block)))
        size = path.stat().st_size / 1e6
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, began_by_clock = time.process_time(), time.perf_counter()
        report = analyse([path])
        seconds, by_clock = time.process_time() - began, time.perf_counter() - began_by_clock
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown = (peak - memory) / 1024
    print(
        f"{size:,.0f} MB, {report.lines:,} lines: {seconds:.1f} s of one core ({by_clock:.1f} s by the clock), ", end=""
    )
    print(f"{size / seconds:.0f} MB/s; peak RSS {peak / 1024:.0f} MB, {grown:.1f} MB more than before")
    for finding in report.findings[:3]:
        print(f"  {finding.pipeline} {finding.operation} {finding.error_type} x{finding.count:,} since {finding.since}")
    sys.exit(seconds > 60 * size / 1_000 or grown > 20)


if __name__ == "__main__":
    main()
