"""What the fakes refuse: where it is written, and not in a thread of a server or at a later effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rage_retrievers import ConfigurationError, Pipeline
from rage_retrievers._flow import drive
from rage_retrievers.testing import (
    AsyncVirtualWorld,
    Drip,
    Fault,
    FaultCase,
    FaultServer,
    Flood,
    Reply,
    VectorizeServer,
    VirtualWorld,
    Wait,
    Write,
    answer,
    answer_body,
    chunk,
    delay,
    fail_then,
    fraction,
    http,
    status,
    vectorize_server,
)

OUTAGE = status(503)


async def later(_: Any) -> Any: ...


def refuses(make: Callable[[Any], object], *wrong: Any) -> None:
    """Each of these is refused, in words."""
    for one in wrong:
        with pytest.raises(ConfigurationError, match=r"cannot be used; give "):
            make(one)


def test_steps() -> None:
    """Times are not negative, bytes are bytes, and nothing is written for ever without a byte."""
    times = (-1, float("nan"), float("inf"), "1", None, True)
    refuses(Write, 5, None, "text", later, bytes)
    refuses(Wait, *times)
    refuses(lambda wrong: Drip(b"x", every=wrong), *times)
    refuses(Drip, 5, "text", None)
    refuses(lambda wrong: Drip(wrong, forever=True), b"")
    refuses(lambda wrong: Drip(b"x", forever=wrong), 1, "yes")
    refuses(lambda wrong: Flood(wrong, 5), b"", "text", 5)
    refuses(lambda wrong: Flood(b"x", wrong), -1, 1.5, True, "5")


def test_faults() -> None:
    """A fault is a tuple of steps; a step alone, its class, or a fault in a fault is none."""
    refuses(Fault, 5, None, "reset", Wait(1), (5,), ("reset",), (Wait,), (OUTAGE,), [None])
    refuses(lambda wrong: Fault((), on_accept=wrong), 1, "yes")
    refuses(lambda wrong: delay(wrong, OUTAGE), -1, "1")
    refuses(lambda wrong: delay(1, wrong), None, 503)
    refuses(lambda wrong: fail_then(wrong, OUTAGE), -1, 1.5, "2", True)
    refuses(lambda wrong: fail_then(1, wrong), 503, None)
    refuses(lambda wrong: fail_then(1, OUTAGE, wrong), 200)
    refuses(lambda wrong: fraction(wrong, OUTAGE), -0.1, 1.1, "half", None)
    refuses(lambda wrong: fraction(0.5, wrong), 503)
    refuses(lambda wrong: fraction(0.5, OUTAGE, wrong), 200)


def test_answers() -> None:
    """A status is a number, a body bytes, and documents are counted."""
    refuses(http, "200", None, -1, 1.5)
    refuses(lambda wrong: http(200, wrong), "text", None)
    refuses(lambda wrong: http(200, b"", wrong), "Retry-After: 1", ("Retry-After", 1), ("Retry-After",))
    refuses(status, "503", None, True)
    refuses(answer, -1, "5", 1.5)
    refuses(answer_body, -1, None)
    refuses(lambda wrong: answer_body(1, wrong), 5, b"What?")
    refuses(chunk, "text", 5)


def test_cases() -> None:
    """An outcome names an error of this package."""
    refuses(lambda wrong: FaultCase(wrong, OUTAGE, "answer"), "", 5)
    refuses(lambda wrong: FaultCase("a/b", wrong, "answer"), 5, None, [])
    refuses(lambda wrong: FaultCase("a/b", OUTAGE, wrong), "OutageError", "", (), 5, ("answer", "KeyError"))
    refuses(lambda wrong: FaultCase("a/b", OUTAGE, "answer", wrong), "yes", 1)


@pytest.mark.parametrize("make", [FaultServer, FaultServer(OUTAGE).play, lambda one: VectorizeServer({}, [one])])
def test_scripts(make: Callable[[Any], object]) -> None:
    """A script is a fault, some, or a plain function."""
    refuses(make, 5, None, "503", b"503", [], [503], [OUTAGE, None], Fault, later)


def test_what_a_script_gives_is_told() -> None:
    """What a function will give is known only when it is asked; its server tells at the end of the block."""
    server = FaultServer(lambda index: 503)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigurationError, match="What the script gave = 503"):
        server._on_accept()


def test_servers() -> None:
    """Documents are a folder or texts, and a fixture is refused where it is written."""
    refuses(lambda wrong: FaultServer(OUTAGE, tls=wrong), True, "cert.pem")
    for make in (VectorizeServer, vectorize_server):
        refuses(make, 5, None, ["hours.md"], {"hours.md": b"nine"}, {"": "nine"}, {5: "nine"})
    refuses(lambda wrong: vectorize_server("docs", scope=wrong), "test", None)
    refuses(lambda wrong: vectorize_server("docs", wrong), 5, [])


@pytest.mark.parametrize("world", [VirtualWorld, AsyncVirtualWorld])
def test_worlds(world: Any) -> None:
    """What could not be played is refused before time begins; time does not run back."""
    refuses(world, 5, None, "503", ["503"], [Reply, 200], [503, None])
    refuses(lambda wrong: world(then=wrong), "200", None)
    refuses(lambda wrong: world(random=wrong), 0.5, later)
    refuses(lambda wrong: world(seed=wrong), "x", None)
    refuses(world().pass_time, -1, float("nan"), "1")
    refuses(lambda wrong: drive(world().call(wrong), VirtualWorld()), [], None)
    refuses(lambda wrong: drive(world().call(Pipeline([]), timeout=wrong), VirtualWorld()), -1, "1")
    refuses(lambda wrong: drive(VirtualWorld(lambda _: wrong).call(Pipeline([])), VirtualWorld(lambda _: wrong)), "200")


def test_replies() -> None:
    """Silence lasts for ever; nothing else does, and nothing comes before it is asked for."""
    refuses(Reply, "200", None, True)
    refuses(lambda wrong: Reply(body=wrong), "{}", None)
    refuses(lambda wrong: Reply(headers=wrong), [("a", "b")], None)
    refuses(lambda wrong: Reply(after=wrong), -1, float("nan"), "1", None)
    refuses(lambda wrong: Reply(error=wrong), "refused", ValueError)
