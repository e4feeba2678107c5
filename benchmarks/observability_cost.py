"""What observing one successful call costs, in microseconds: no listener, JSON logging at INFO, a recording span.

    python benchmarks/observability_cost.py [--smoke]

Each figure is the best of several rounds of the events that the client emits for a call with one attempt, less an empty
loop, in processor time, so that neighbours count for less. The bars are 1, 20 and 45 µs. The floors beside them are
what the libraries take by themselves: the standard library's logger with a JSON formatter and the same fields, and
OpenTelemetry's SDK with a span of the same attributes.
"""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import time
import timeit
from collections.abc import Callable, Mapping

from _table import smoke_asked
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from rage_retrievers._world import BlockingWorld
from rage_retrievers.models import Document, Query, Retrieval, Target
from rage_retrievers.observability import (
    AttemptStarted,
    AttemptSucceeded,
    Audit,
    CallCompleted,
    CallStarted,
    EventLog,
    Listener,
    Metrics,
    Tracing,
    configure_logging,
)
from rage_retrievers.observability.events import sending, tell
from rage_retrievers.observability.tracing import (
    ADDRESS,
    ATTEMPTS,
    CORRELATION,
    DATA_SOURCE,
    DOCUMENT_COUNT,
    OPERATION,
    PORT,
    PROVIDER,
    PROVIDER_NAME,
    RERANK,
    TOP_K,
)
from rage_retrievers.resilience.pipeline import Call, Home

TARGET = Target("https://api.vectorize.io/v1", "org-1", "aip-1")
QUERY = Query(question="How are passages ranked?")
ANSWER = Retrieval(documents=tuple(Document(text="passage", id=f"doc-{n}", similarity=0.5) for n in range(5)))
URL = "https://api.vectorize.io/v1/org/org-1/pipelines/aip-1/retrieval"


class Devourer(io.StringIO):
    """A stream that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)


def one_call(listeners: tuple[Listener, ...]) -> Callable[[], None]:
    """The events of a call with one attempt, as the client emits them."""
    clock = BlockingWorld(None)  # type: ignore[arg-type]  # only its clock is used
    call = Call("retrieve", TARGET, clock, Home(), query=QUERY, call_id="0123456789abcdef", listeners=listeners)

    def run() -> None:
        call.emit(CallStarted, "retrieve", QUERY)
        if call.listeners:
            started = AttemptStarted(call.call_id, TARGET, 1, "POST", URL)
            tell(call.listeners, started)
            with sending(call.listeners, started):
                pass
            call.emit(AttemptSucceeded, 1, 0.04)
        call.emit(CallCompleted, "retrieve", QUERY, 1, 0.041, ANSWER, None)

    return run


FIELDS = {
    "correlation_id": "0123456789abcdef",
    "call_id": "0123456789abcdef",
    "pipeline": "aip-1",
    "attempts": 1,
    "elapsed_ms": 41.0,
    "documents": 5,
}
PLACE = {ADDRESS: "api.vectorize.io", PORT: 443}
SAMPLED = {OPERATION: "retrieval", PROVIDER_NAME: PROVIDER, DATA_SOURCE: "aip-1", **PLACE}
TOLD = {CORRELATION: "0123456789abcdef", TOP_K: 5, RERANK: False, ATTEMPTS: 1, DOCUMENT_COUNT: 5}


class BareJSON(logging.Formatter):
    """The shortest formatter that writes these fields as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"at": record.created, "event": record.msg, **{name: vars(record)[name] for name in FIELDS}})


def bare_log() -> Callable[[], None]:
    """What the standard library takes for one line."""
    logger, handler = logging.getLogger("bare"), logging.StreamHandler(Devourer())
    handler.setFormatter(BareJSON())
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel("INFO")
    return lambda: logger.info("retrieve.completed", extra=FIELDS)


def bare_span() -> Callable[[], None]:
    """What the SDK takes for one span with what is known before and what is known after."""
    tracer = TracerProvider().get_tracer("bare")

    def run() -> None:
        span = tracer.start_span("retrieval aip-1", kind=SpanKind.CLIENT, attributes=SAMPLED)
        span.set_attributes(TOLD)
        span.end()

    return run


_AT_A_TIME = 5


def microseconds(runs: Mapping[str, Callable[[], None]], rounds: int, number: int = 100) -> dict[str, float]:
    """The best round's cost of one run of each, above that of a run of nothing.

    Rounds are short, so that one of them has the core to itself. Each takes its turn with a few of them at a time, for
    the machine's speed changes from one second to the next, and the first round after another's is slow.
    """
    timed = {name: timeit.Timer(run, timer=time.thread_time) for name, run in {"": lambda: None, **runs}.items()}
    best = dict.fromkeys(timed, math.inf)
    for _ in range(rounds // _AT_A_TIME):
        for name, timer in timed.items():
            best[name] = min(best[name], *(cost / number * 1e6 for cost in timer.repeat(_AT_A_TIME, number)))
    empty = best.pop("")
    return {name: round(cost - empty, 2) for name, cost in best.items()}


def main() -> None:
    """Measure, print, and say with the exit code whether the bars hold."""
    assert __doc__ is not None
    rounds = 5 if smoke_asked(__doc__) else 400
    configure_logging(json=True, level="INFO", stream=Devourer())
    cases: dict[str, tuple[tuple[Listener, ...], float | None]] = {
        "no listener": ((), 1.0),
        "JSON logging at INFO": ((EventLog(),), 20.0),
        "recording span": ((Tracing(TracerProvider(), http_spans=False),), 45.0),
        "recording spans of call and request": ((Tracing(TracerProvider()),), None),
        "span not recording": ((Tracing(TracerProvider(sampler=ALWAYS_OFF)),), None),
        "metrics": ((Metrics(),), None),
        "audit to the log": ((Audit(),), None),
        "all of them": ((EventLog(), Tracing(TracerProvider()), Metrics(), Audit()), None),
    }
    runs = {name: one_call(listeners) for name, (listeners, _) in cases.items()}
    floors = {"(the standard library's line)": bare_log(), "(the SDK's span, same attributes)": bare_span()}
    measured = microseconds(runs | floors, rounds)
    for name, cost in measured.items():
        bar = cases[name][1] if name in cases else None
        verdict = "" if bar is None else f"   bar {bar:g}: {'held' if cost <= bar else 'MISSED'}"
        print(f"{name:40}{cost:8.2f} µs{verdict}")
    print(json.dumps(measured, ensure_ascii=False))
    sys.exit(any(bar is not None and measured[name] > bar for name, (_, bar) in cases.items()))


if __name__ == "__main__":
    main()
