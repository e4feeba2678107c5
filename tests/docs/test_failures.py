"""The README's table of failures: each row is made to happen, and what it says is what a caller sees."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import pytest

from docs.test_readme import section
from rage_retrievers import AsyncVectorizeClient, RageError, Retrieval, Retry, VectorizeClient, default_pipeline
from rage_retrievers.resilience import Bulkhead, CircuitBreaker, Deadline, Policy
from rage_retrievers.testing import (
    FAULTS,
    Close,
    Fault,
    FaultServer,
    Hang,
    Reset,
    Script,
    answer,
    delay,
    fail_then,
    refused_url,
    status,
)

ROWS = dict(
    line.strip("| ").split(" | ", 1) for line in section("What happens when …").splitlines() if line.startswith("| ")
)
del ROWS["the service …"]
QUICK = Retry(attempts=3, base=0.001, cap=0.001)
SHORT = Deadline(0.4)


def client(server: FaultServer | str, *policies: Policy, **options: Any) -> VectorizeClient:
    """The default policies but for these, and pauses that take no time."""
    return VectorizeClient(
        base_url=server if isinstance(server, str) else server.url,
        resilience=default_pipeline().with_policies(QUICK, *policies),
        **{"api_key": "any", "organization": "o", "pipeline_id": "p", **options},
    )


def outcome(script: Script, *policies: Policy, **options: Any) -> tuple[Retrieval | RageError, int]:
    """What one call comes to, and how many requests it sent."""
    with FaultServer(script) as server, client(server, *policies, **options) as own:
        try:
            found: Retrieval | RageError = own.retrieve("What?")
        except RageError as error:
            found = error
        return found, len(server.requests)


def names(found: Iterable[tuple[object, int]]) -> set[str]:
    """The errors among the outcomes."""
    return {type(one).__name__ for one, _ in found if not isinstance(one, Retrieval)}


def recovers(script: Script, attempts: int) -> None:
    found, _ = outcome(script)
    assert isinstance(found, Retrieval)
    assert found.attempts == attempts


def limited() -> set[str]:
    started = time.monotonic()
    recovers(fail_then(1, status(429, None, ("Retry-After", "1"))), 2)
    assert time.monotonic() - started >= 1.0
    found = [outcome(status(429, None, ("Retry-After", "3600")))]
    assert isinstance(found[0][0], RageError)
    assert found[0][0].retry_after == 3600
    return names(found)


def failing() -> set[str]:
    found = []
    for code in (503, 500, 502, 504, 408, 425):
        recovers(fail_then(2, status(code)), 3)
        found.append(outcome(status(code)))
        assert type(found[-1][0]).__name__ == ("StatusError" if code < 500 else "ServerError")
        assert found[-1][1] == 3
    return names(found)


def silent() -> set[str]:
    started = time.monotonic()
    found = [outcome(FAULTS[case].script, SHORT) for case in ("time/silent", "time/dripping-body")]
    assert time.monotonic() - started < 2 * (0.4 + 0.6)
    assert all(isinstance(one, TimeoutError) for one, _ in found)
    assert Deadline().timeout == 10.0
    assert Deadline() in default_pipeline().policies
    return names(found) | {"TimeoutError"}


def unreachable() -> set[str]:
    found = []
    for fault in (Fault((Close(),)), Fault((Reset(),))):
        recovers(fail_then(2, fault), 3)
        found.append(outcome(fault))
        assert found[-1][1] == 3
    with pytest.raises(RageError) as caught, client(refused_url()) as own:
        own.retrieve("What?")
    return names([*found, (caught.value, 0)])


def outage() -> set[str]:
    assert CircuitBreaker().reset_after == 30.0
    with FaultServer(status(503)) as server, client(server) as own:
        for _ in range(2):
            with pytest.raises(RageError):
                own.retrieve("What?")
        sent = len(server.requests)
        with pytest.raises(RageError) as caught:
            own.retrieve("What?")
        assert len(server.requests) == sent == 5
    assert 0 < (caught.value.retry_after or 0) <= 30
    return names([(caught.value, 0)])


def crowded() -> set[str]:
    assert Bulkhead() == Bulkhead(limit=64, max_wait=None)

    async def together(script: Script, patience: float) -> Any:
        with FaultServer(script) as server:
            options = {"api_key": "any", "organization": "o", "pipeline_id": "p", "base_url": server.url}
            pipeline = default_pipeline().with_policies(Bulkhead(limit=1), Deadline(1.0))
            async with AsyncVectorizeClient(**options, resilience=pipeline) as own:  # type: ignore[arg-type]
                first, second = own.retrieve("What?"), own.retrieve("Why?", timeout=patience)
                return await asyncio.gather(first, second, return_exceptions=True)

    waited = asyncio.run(together(delay(0.05, answer()), 10.0))
    assert all(isinstance(one, Retrieval) for one in waited)
    first, second = asyncio.run(together(Fault((Hang(),)), 0.1))
    assert type(first).__name__ == "DeadlineExceededError"
    return names([(second, 0)])


def refused() -> set[str]:
    asked: list[str] = []

    def key() -> str:
        asked.append("asked")
        return f"key-{len(asked)}"

    found, _ = outcome(fail_then(1, status(401)), api_key=key)
    assert isinstance(found, Retrieval)
    assert len(asked) == 2
    return names([outcome(status(401))])


def forbidden() -> set[str]:
    found = [outcome(status(code, b'{"error": "its own words"}')) for code in (403, 404, 402)]
    assert all(isinstance(one, RageError) and "its own words" in str(one) and sent == 1 for one, sent in found)
    return names(found)


def not_accepted() -> set[str]:
    found = [outcome(status(400))]
    with FaultServer(answer()) as server, client(server) as own, pytest.raises(RageError) as caught:
        own.retrieve("What?", num_results=0)
    assert server.requests == []
    return names([*found, (caught.value, 0)])


def redirected() -> set[str]:
    found = [
        outcome(case.script) for name, case in FAULTS.items() if name.startswith("redirect/30") and "bad" not in name
    ]
    assert {sent for _, sent in found} == {1}
    return names(found)


def oversized() -> set[str]:
    cases = ("size/body-300mb", "size/gzip-bomb", "size/values-numbers", "size/values-documents")
    return names(outcome(FAULTS[case].script) for case in cases)


def no_answer() -> set[str]:
    cases = ("status/200-html", "content/documents-missing", "content/text-missing", "content/cut-short")
    found = [outcome(FAULTS[case].script) for case in cases]
    assert all(sent == 1 and str(one) for one, sent in found)
    return names(found)


CASES: dict[str, Callable[[], set[str]]] = {
    "answers 429": limited,
    "answers 503, 500, 502, 504, 408, 425": failing,
    "is silent, or drips one byte at a time": silent,
    "cannot be reached, drops or resets the connection": unreachable,
    "keeps failing": outage,
    "is asked by more than 64 calls at once": crowded,
    "refuses the key (401)": refused,
    "forbids (403), does not know (404), wants money (402)": forbidden,
    "does not accept the request (400)": not_accepted,
    "redirects": redirected,
    "sends 300 MB, a compressed bomb, or millions of tiny values": oversized,
    "sends something that is no answer": no_answer,
}


@pytest.mark.parametrize("row", sorted({*ROWS, *CASES}))
def test_each_row_of_the_failure_table_happens_as_it_says(row: str) -> None:
    """A row without a case fails, and so does a case without a row; the errors named are those that are raised."""
    assert CASES[row]() == set(re.findall(r"`(\w+Error)`", ROWS[row]))


def test_the_table_names_every_error_that_a_service_can_cause() -> None:
    """Nothing that can be raised is left for a reader to find out."""
    named = set(chain.from_iterable(re.findall(r"`(\w+Error)`", row) for row in ROWS.values()))
    assert {outcome for case in FAULTS.values() for outcome in case.outcomes} - {"answer"} <= named
