"""Every test of a policy runs twice: in blocking code and in asyncio, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from rage_retrievers._flow import Flow, adrive, drive
from rage_retrievers.testing.world import AsyncVirtualWorld, Outcome, Script, VirtualWorld

World = VirtualWorld | AsyncVirtualWorld


@dataclass(frozen=True)
class Run:
    """One of the two ways of running a flow."""

    kind: type[World]
    runner: asyncio.Runner

    def world(
        self, script: Script = (), *, then: Outcome = 200, random: Callable[[], float] | None = None, seed: int = 0
    ) -> World:
        """A fresh world of this kind."""
        return self.kind(script, then=then, random=random, seed=seed)

    def __call__(self, flow: Flow[Any], world: World) -> Any:
        """Drive one flow to its end."""
        if isinstance(world, VirtualWorld):
            return drive(flow, world)
        return self.runner.run(adrive(flow, world))

    def all(self, flows: list[Flow[Any]], world: World) -> list[Any]:
        """Drive flows side by side; what each returned or raised."""
        if isinstance(world, VirtualWorld):
            return world.gather(flows)
        return self.runner.run(_gather(flows, world))


async def _gather(flows: list[Flow[Any]], world: AsyncVirtualWorld) -> list[Any]:
    return await asyncio.gather(*(adrive(flow, world) for flow in flows), return_exceptions=True)


@pytest.fixture(params=[VirtualWorld, AsyncVirtualWorld], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """How the flows of a test are run."""
    with asyncio.Runner() as runner:
        yield Run(request.param, runner)


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_event(self, event: Any, /) -> None:
        """Keep it."""
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        """The names of the events, in order."""
        return [event.name for event in self.events]


@pytest.fixture
def heard() -> Heard:
    """A listener that keeps what it hears."""
    return Heard()
