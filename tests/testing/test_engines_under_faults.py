"""Every fault in the catalogue against every HTTP engine in both worlds: one attempt, one outcome, in time, no secret
told, and the next call is answered. What callers of a face see of each fault is tried in `test_faces_under_faults`."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from rage_retrievers._endpoint import Address, Operation, start_research
from rage_retrievers._flow import WireResponse
from rage_retrievers.engines import engines_named
from rage_retrievers.errors import ConnectionFailedError, DeadlineExceededError, RageError
from rage_retrievers.models import Target
from rage_retrievers.testing import FAULTS, Close, Fault, FaultCase, FaultServer, Hang, Reset, answer, refused_url
from testing.engines import MAX_BYTES, OURS, QUESTION, TOKEN, WORLDS, Ask, operation

GRACE = 0.25


@pytest.fixture(params=sorted(WORLDS))
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    with WORLDS[request.param]() as one:
        yield one


def attempt(ask: Ask, url: str, timeout: float) -> RageError | None:
    """Ask once; give the typed error, or None for the right answer. Anything else fails the test."""
    started = time.monotonic()
    error: RageError | None = None
    try:
        retrieval = ask(url, timeout)
    except RageError as raised:
        error = raised
    else:
        assert all(isinstance(document.text, str) for document in retrieval.documents)
    assert time.monotonic() - started <= timeout + GRACE
    return error


def ends_its_connection(case: FaultCase) -> bool:
    assert isinstance(case.script, Fault)
    return isinstance(case.script.steps[-1], Close | Reset)


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_outcome_and_poisons_no_other_call(
    ask: Ask, case: FaultCase, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The right answer or the right typed error, within the deadline, without the token, at one origin alone.

    Whatever the fault left on the connection, the next call to a healthy service gets its own right answer.
    """
    caplog.set_level("DEBUG")
    timeout = 0.2 if "DeadlineExceededError" in case.outcomes else 3.0
    with FaultServer(case.script) as server:
        error = attempt(ask, server.url, timeout)
        assert case.allows(error), f"{error!r}, transient={getattr(error, 'transient', None)}"
        assert {request.port for request in server.requests} <= {server.port}
        assert len(server.requests) <= 1
        if ends_its_connection(case):
            assert server.wait_until_idle()
        server.play(answer(documents=3))
        retrieval = ask(server.url, 3.0)
    assert (retrieval.question, len(retrieval)) == (QUESTION, 3)
    shown = repr(error) + repr(error.__dict__) if error is not None else ""
    told = shown + "".join(traceback.format_exception(error)) + caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in told
    assert QUESTION not in told


def test_a_server_that_closes_idle_connections_is_answered_each_time(ask: Ask) -> None:
    """A connection that the server has closed is noticed before it is used."""
    with FaultServer(FAULTS["connection/closes-when-idle"].script) as server:
        for _ in range(3):
            assert len(ask(server.url)) == 5
            assert server.wait_until_idle()
        assert server.connections == 3


def test_a_call_that_failed_closes_its_connection_whoever_keeps_the_error(ask: Ask) -> None:
    """Its traceback holds the frames of the call; the connection is not left to the collector."""
    with FaultServer(Fault((Hang(),))) as server:
        with pytest.raises(DeadlineExceededError) as kept:
            ask(server.url, 0.2)
        assert server.wait_until_idle()
        assert kept.tb is not None


@pytest.mark.parametrize("world", OURS)
def test_a_connection_that_dies_as_it_is_used_again_repeats_no_start_of_a_research(world: str) -> None:
    """A question is asked once more over another connection; a research, which is paid for, may have begun."""
    name, _, kind = world.partition("-")
    engines, dead = engines_named(name), Fault((Close(),))
    with FaultServer([answer(), dead, answer(), dead, answer()]) as server, asyncio.Runner() as runner:

        def send(operation: Operation[Any]) -> WireResponse:
            request = operation.build(TOKEN)
            if kind == "blocking":
                return engines.blocking().send(request, 3.0, MAX_BYTES)
            return runner.run(engines.asyncio().send(request, 3.0, MAX_BYTES))

        for _ in range(2):
            assert send(operation(server.url)).status == 200
        with pytest.raises(ConnectionFailedError):
            send(start_research(Address(Target(server.url, "org-1", "aip-1")), QUESTION, web_search=False, schema=None))
        asked = [request.path.rpartition("/")[2] for request in server.requests]
        assert asked == ["retrieval", "retrieval", "retrieval", "deep-research"]


def test_healthy_calls_share_a_connection(ask: Ask) -> None:
    """A right answer leaves its connection to the next call."""
    with FaultServer(answer()) as server:
        for _ in range(5):
            ask(server.url)
        assert (server.connections, len(server.requests)) == (1, 5)


def test_a_refused_connection_is_a_connection_that_failed(ask: Ask) -> None:
    """Nothing listens: the error says so, and trying again may help."""
    error = attempt(ask, refused_url(), 3.0)
    assert type(error) is ConnectionFailedError
    assert error.transient
