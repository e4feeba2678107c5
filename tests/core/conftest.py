"""Both worlds by construction: a test that takes `side` runs in blocking code and in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from rage_retrievers._calls import Calls
from rage_retrievers._flow import Clock, Flow, WireRequest, adrive, drive
from rage_retrievers.resilience import Homes
from rage_retrievers.testing.world import AsyncVirtualWorld, Outcome, Reply, VirtualWorld

T = TypeVar("T")

ANSWER = Reply(body=b'{"documents":[{"text":"A passage.","id":"d-1","similarity":0.5,"relevancy":0.25}]}')
OPTIONS: dict[str, Any] = {"api_key": "planted-token", "organization": "org-1", "pipeline_id": "aip-1"}


class Side:
    """A scripted service in one of the two worlds, the requests it saw, and calls to it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.requests: list[WireRequest] = []
        self._script: list[Outcome | Callable[[WireRequest], Outcome]] = []
        world = VirtualWorld if kind == "sync" else AsyncVirtualWorld
        self.world = world(self._outcome, random=lambda: 0.5)

    def _outcome(self, request: WireRequest) -> Outcome:
        self.requests.append(request)
        chosen = self._script.pop(0) if self._script else ANSWER
        return chosen(request) if callable(chosen) else chosen

    def answers(self, *outcomes: Outcome | Callable[[WireRequest], Outcome]) -> None:
        """Answer the next requests so; every later one gets a right answer."""
        self._script = list(outcomes)

    def calls(self, **options: Any) -> Calls:
        """The operations of a client with these options; no state is shared with other tests."""
        from dataclasses import replace

        return replace(Calls.make({**OPTIONS, **options}), homes=Homes())

    def run(self, make: Callable[[Clock], Flow[T]]) -> T:
        """Drive a flow in this world."""
        world = self.world
        if isinstance(world, VirtualWorld):
            return drive(make(world), world)

        flow = make(world)  # here, for making calls reads the settings

        async def main() -> T:
            return await adrive(flow, world)

        return asyncio.run(main())

    def retrieve(self, calls: Calls, question: str = "What?", **options: Any) -> Any:
        """Ask for passages."""
        return self.run(lambda clock: calls.retrieve(clock, question, options))


@pytest.fixture(autouse=True)
def _nothing_blocks(nothing_blocks: None) -> None:
    """Every test of this folder."""


@pytest.fixture(params=["sync", "async"])
def side(request: pytest.FixtureRequest) -> Side:
    """The scripted service, in blocking code and then in asyncio."""
    return Side(request.param)
