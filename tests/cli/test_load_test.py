"""`rage load-test`: bounded, measured from when a request was due, honest about errors."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from rage_retrievers.cli.load_picture import png_report
from rage_retrievers.cli.load_plan import LoadPlan, Measured, histogram, quantile
from rage_retrievers.cli.load_run import run as run_load
from rage_retrievers.errors import ConfigurationError, RateLimitedError, RetryBudgetExhaustedError, ServerError
from rage_retrievers.local import LocalServer, LocalService
from rage_retrievers.models import Document, Retrieval
from rage_retrievers.testing import FaultServer, status

from .conftest import TOKEN, Run

ANSWER = Retrieval(documents=(Document(text="t"),)).with_facts(attempts=2)


class Time:
    """A clock that only sleeping and asking move on."""

    def __init__(self, *durations: float) -> None:
        self.now = 100.0
        self.asked: list[tuple[float, str]] = []
        self._durations = list(durations)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def ask(self, question: str) -> Retrieval:
        self.asked.append((round(self.now - 100, 6), question))
        self.now += self._durations.pop(0)
        return ANSWER


def test_the_command_measures_a_real_service(run: Run, where: LocalServer) -> None:
    """As many calls as asked for, with percentiles, a histogram and errors, in 80 columns."""
    ended = run("load-test", "bees", "tomatoes", "-n", "20", "-c", "3")
    assert ended.code == 0, ended.err
    assert "20 answered, 0 failed" in ended.out
    assert re.search(r"p50 +p90 +p95 +p99", ended.out)
    assert "█" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


def test_json_and_report_hold_the_same_numbers(run: Run, where: LocalServer, tmp_path: Path) -> None:
    """The report is one HTML file that loads nothing; neither token nor question is in it."""
    report = tmp_path / "load.html"
    ended = run("load-test", "bees<b>", "-n", "7", "--raw", "--report", str(report), "--json")
    found = ended.json()
    assert (found["calls"], found["answered"], found["requests_sent"]) == (7, 7, 7)
    assert sum(row["count"] for row in found["histogram_ms"]) == 7
    page = report.read_text(encoding="utf-8")
    assert "7: 7 answered, 0 failed" in page
    assert f"{found['latency_ms']['p95']:,.2f}" in page
    assert page.count("<div ") == len(found["histogram_ms"])
    assert not re.search(r"https?://(?!127\.0\.0\.1)|<script|<link|src=", page)
    assert TOKEN not in page + ended.out
    assert "bees" not in page


def test_a_report_can_be_a_picture(run: Run, where: LocalServer, tmp_path: Path) -> None:
    """A file named .png is one, drawn from the same numbers; it holds the plan and no question."""
    report = tmp_path / "load.PNG"
    ended = run("load-test", "bees?", "-n", "5", "--report", str(report))
    assert ended.code == 0
    assert report.read_bytes().startswith(b"\x89PNG\r\n")


def test_a_picture_of_nothing_but_errors_is_drawn() -> None:
    """A test without an answer has no histogram, and its errors are told all the same."""
    measured = Measured(errors=Counter({"ServerError 503": 3, "Odd $error_": 1}), interrupted=True)
    picture = png_report("4 at once", "p", measured.as_dict(), datetime.now(UTC))
    assert picture.startswith(b"\x89PNG")
    assert _blank_edges(picture) < 30


def test_a_picture_has_no_blank_edge() -> None:
    """Words above, bars below, and no gap around them; of a long name nothing runs out of the picture."""
    measured = Measured(latencies=[0.001 * number for number in range(1, 300)])
    for pipeline in ("p", "a-long-name-of-a-pipeline " * 8):
        assert _blank_edges(png_report("4 at once", pipeline, measured.as_dict(), datetime.now(UTC))) < 30


def _blank_edges(picture: bytes) -> int:
    """The blank lines of pixels above and below what is drawn; nothing may touch the right edge."""
    from matplotlib.image import imread

    ink = imread(io.BytesIO(picture))[:, :, :3].min(axis=2) < 0.9
    rows = [number for number, row in enumerate(ink) if row.any()]
    assert not ink[:, -1].any()
    return int(ink.shape[0]) - (rows[-1] - rows[0])


@pytest.mark.parametrize("name", ["load", "load.pdf", "load.png.txt"])
def test_a_report_of_another_kind_is_refused_before_the_test(run: Run, where: LocalServer, name: str) -> None:
    """Nothing is asked when what is asked for could not be written."""
    ended = run("load-test", "bees?", "-n", "5", "--report", name)
    assert (ended.code, ".html or a .png" in ended.err) == (2, True)
    assert not Path(name).exists()


def test_ctrl_c_keeps_what_was_measured(run: Run, folder: Path, tmp_path: Path) -> None:
    """An interrupted test shows its numbers and says that it was interrupted; exit code 130."""
    asked = iter(range(1_000))

    def interrupting(question: str, texts: list[str]) -> list[float]:
        if next(asked) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return [1.0] * len(texts)

    service = LocalService.open(folder, cache_dir=tmp_path / "server-cache", reranker=interrupting)
    with service, LocalServer(service) as server:
        where = ("--base-url", server.url, "--organization", service.organization, "--pipeline", service.pipeline_id)
        ended = run("load-test", "bees", "-n", "500", "-c", "1", "--rerank", "--json", "--api-key", TOKEN, *where)
    found = ended.json()
    assert (ended.code, ended.err) == (130, "rage: stopped by Ctrl-C\n")
    assert found["interrupted"]
    assert 4 <= found["answered"] < 500


def test_what_no_repetition_cures_ends_the_test_at_once(run: Run, where: LocalServer) -> None:
    """An unknown pipeline fails the first question: one line, exit code 1, nothing measured."""
    ended = run("load-test", "bees", "-n", "5", "--pipeline", "nobody")
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("failures", ["1", "5"])
def test_a_circuit_that_opens_is_told_with_the_failure_that_opened_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, failures: str
) -> None:
    """Whether the first question, which is not measured, or the test has opened it: the 503 is in every line."""
    monkeypatch.setenv("RAGE_CIRCUIT_FAILURES", failures)
    monkeypatch.setenv("RAGE_RETRY_DELAY_MS", "1")
    with FaultServer(status(503)) as server:
        where = ("--base-url", server.url, "--api-key", "any", "--organization", "o", "--pipeline", "p")
        ended = run("load-test", "bees?", "-n", "20", *where, "--json")
    assert ended.code == 1
    errors = ended.json()["errors"]
    assert all(name.endswith("ServerError 503") for name in errors)
    assert errors["CircuitOpenError after ServerError 503"] >= 12


def test_failed_calls_are_counted_by_type_and_are_exit_code_1(run: Run) -> None:
    """A service that is down gives errors by type, a hint, and exit code 1."""
    ended = run("load-test", "q", "-n", "6", "--base-url", "http://127.0.0.1:9/v1", "--organization", "o",
                "--pipeline", "p", "--api-key", TOKEN, "--raw", "--json")  # fmt: skip
    assert ended.code == 1
    assert ended.json()["errors"] == {"ConnectionFailedError": 6}
    assert ended.json()["latency_ms"] == {}


@pytest.mark.parametrize(
    "words",
    [(), ("q", "-n", "0"), ("q", "-n", "100001"), ("q", "-c", "513"), ("q", "--rate", "0"), ("q", "--duration", "4000"),
     ("--questions", "missing.txt"), ("q", "--report", "missing/load.html"), ("q", "--rate", "nan")],
)  # fmt: skip
def test_the_test_is_bounded(run: Run, where: LocalServer, words: tuple[str, ...]) -> None:
    """What is out of bounds or cannot be read is bad input before anything is sent."""
    ended = run("load-test", *words)
    assert ended.code == 2
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "allowed"),
    [(("--rate", "0"), "above 0 and up to 5000"), (("--duration", "0"), "above 0 and up to 3600"),
     (("-c", "0"), "from 1 to 512"), (("-n", "100001"), "from 1 to 100000")],
)  # fmt: skip
def test_what_is_refused_is_not_said_to_be_allowed(
    run: Run, where: LocalServer, words: tuple[str, ...], allowed: str
) -> None:
    """Bounds are told with whether they belong to what is allowed."""
    assert run("load-test", "q", *words).err.endswith(f"; use a number {allowed}.\n")


def test_questions_of_a_file_are_asked_in_turn(run: Run, where: LocalServer, tmp_path: Path) -> None:
    """One question a line, empty lines left out; those that find nothing are counted."""
    file = tmp_path / "questions.txt"
    file.write_text("bees\n\ntomatoes\n")
    found = run("load-test", "--questions", str(file), "-n", "4", "--mode", "text", "--json").json()
    assert (found["answered"], found["empty_answers"]) == (4, 0)


def test_a_rate_spreads_requests_evenly() -> None:
    """Request n is sent n/rate seconds after the start, and questions take turns."""
    time = Time(0.01, 0.01, 0.01, 0.01)
    measured = _run(time, LoadPlan(("a", "b"), concurrency=1, requests=4, rate=2))
    assert time.asked == [(0.0, "a"), (0.5, "b"), (1.0, "a"), (1.5, "b")]
    assert measured.latencies == pytest.approx([0.01] * 4)
    assert measured.sent == 8


def test_a_request_that_had_to_wait_is_measured_from_when_it_was_due() -> None:
    """A service slower than the rate shows its queue, instead of looking fast because it was asked less."""
    time = Time(1.0, 1.0, 1.0)
    measured = _run(time, LoadPlan(("a",), concurrency=1, requests=3, rate=10))
    assert measured.latencies == pytest.approx([1.0, 1.9, 2.8])


def test_without_a_rate_latency_is_that_of_the_call() -> None:
    """Each call is asked when the one before has ended, and measured from then."""
    measured = _run(Time(1.0, 2.0), LoadPlan(("a",), concurrency=1, requests=2))
    assert measured.latencies == pytest.approx([1.0, 2.0])
    assert measured.elapsed == pytest.approx(3.0)


def test_a_duration_ends_the_test() -> None:
    """No request is sent at or after the end, with a rate or without."""
    assert len(_run(Time(*[0.4] * 9), LoadPlan(("a",), concurrency=1, seconds=1)).latencies) == 3
    assert len(_run(Time(*[0.0] * 9), LoadPlan(("a",), concurrency=1, seconds=2, rate=2)).latencies) == 4


def test_errors_are_told_by_type_status_and_cause() -> None:
    """Statuses are told apart, and a spent retry budget says what it was spent on."""
    spent = RetryBudgetExhaustedError("spent")
    spent.__cause__ = ServerError("down", status=503)
    errors = [RateLimitedError("slow down", status=429), ServerError("down", status=503), spent]
    for error in errors:
        error.attempts = 2

    async def fail(question: str) -> Retrieval:
        raise errors.pop()

    measured = Measured()
    asyncio.run(run_load(fail, LoadPlan(("a",), concurrency=1, requests=3), measured))
    assert measured.errors == {
        "RetryBudgetExhaustedError after ServerError 503": 1,
        "ServerError 503": 1,
        "RateLimitedError 429": 1,
    }
    assert (measured.failed, measured.ended, measured.sent) == (3, 3, 6)


def test_percentiles_are_nearest_rank() -> None:
    """A percentile is a value that was measured."""
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.95, 0.99)] == [50, 95, 99]
    assert quantile([7.0], 0.99) == 7.0


def test_the_histogram_counts_every_value_once() -> None:
    """Rows touch, cover everything, and add up, for one value and for many decades."""
    for values in ([0.5], [0.5, 0.5], [0.001 * 1.5**n for n in range(30)], [0.0, 1.0]):
        rows = histogram(sorted(values))
        assert sum(count for *_, count in rows) == len(values)
        assert all(a[1] == b[0] for a, b in pairwise(rows))
        assert len(rows) <= 16
    assert histogram([]) == []


def test_a_plan_without_an_end_is_refused() -> None:
    """Requests or a duration must bound the test."""
    with pytest.raises(ConfigurationError, match="so that it ends"):
        LoadPlan(("a",))


def _run(time: Time, plan: LoadPlan) -> Measured:
    measured = Measured()
    asyncio.run(run_load(time.ask, plan, measured, clock=time.clock, sleep=time.sleep))
    return measured


@pytest.mark.parametrize("former", [b"the report of last week", None])
def test_a_test_that_fails_leaves_the_report_of_before(run: Run, tmp_path: Path, former: bytes | None) -> None:
    """A token that is refused ends the test: a former report stays, and no empty one is left."""
    report = tmp_path / "load.html"
    if former is not None:
        report.write_bytes(former)
    with FaultServer(status(401)) as server:
        where = ("--base-url", server.url, "--api-key", "any", "--organization", "o", "--pipeline", "p")
        assert run("load-test", "bees?", "-n", "2", *where, "--report", str(report)).code == 1
    assert (report.read_bytes() if report.exists() else None) == former
