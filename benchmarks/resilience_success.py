"""How many calls are answered when 5 % of the attempts fail at random: the default pipeline in virtual time.

    python benchmarks/resilience_success.py [--smoke]

An attempt takes 20 ms and fails by a seeded coin: a 503, a 500 or a broken connection. Five failures in a row by chance
(about 1 in 3 million attempts) open the default circuit for 30 s, which costs the more calls the more are made; the
rows at 20 calls a second show that, and what ten in a row would cost.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from typing import Any

from _table import Row, tabled

from rage_retrievers._flow import WireRequest, drive
from rage_retrievers.errors import ConnectionFailedError, RageError
from rage_retrievers.resilience import CircuitBreaker, Pipeline, default_pipeline
from rage_retrievers.testing.world import Reply, VirtualWorld

SEED = 2024
FAILURES = (
    Reply(503, after=0.02),
    Reply(500, after=0.02),
    Reply(after=0.02, error=ConnectionFailedError("The connection was reset.")),
)
ANSWER = Reply(after=0.02)


class Trips:
    """Counts how often the circuit opened."""

    def __init__(self) -> None:
        self.count = 0

    def on_event(self, event: Any, /) -> None:
        """Count it."""
        self.count += event.name == "circuit.changed" and event.after == "open"


class Nothing(list[Any]):
    """A list that stays empty, so that a million calls need no memory."""

    def append(self, _: object) -> None:
        """Keep nothing."""


def measure(name: str, pipeline: Pipeline, calls: int, every: float, *, bar: bool) -> list[Row]:
    chance = random.Random(SEED)

    def reply(_: WireRequest) -> Reply:
        return chance.choice(FAILURES) if chance.random() < 0.05 else ANSWER

    world, trips = VirtualWorld(reply, seed=SEED), Trips()
    world.trace, world.sent = Nothing(), Nothing()
    failed: Counter[str] = Counter()
    for number in range(calls):
        world.now = max(world.now, number * every)
        try:
            drive(world.call(pipeline, listeners=(trips,)), world)
        except RageError as error:
            failed[type(error).__name__] += 1
    answered = 1 - sum(failed.values()) / calls
    by_kind = ", ".join(f"{kind} {number}" for kind, number in failed.most_common())
    return [
        Row(
            f"{name}: answered",
            ">= 99.98 %" if bar else "",
            f"{100 * answered:.4f} %",
            answered >= 0.9998 if bar else None,
        ),
        Row(f"  circuit opened {trips.count} times; not answered", "", by_kind or "none", None),
    ]


def rows(smoke: bool) -> list[Row]:
    """How many calls are answered when 5 % of attempts fail; the ideal for 3 attempts is 99.9875 %."""
    calls = 20_000 if smoke else 1_000_000
    default = default_pipeline()
    patient = default.with_policies(CircuitBreaker(in_a_row=10))
    return [
        *measure(f"5 % of attempts fail, {calls:,} calls, one a second", default, calls, 1.0, bar=True),
        *measure("  20 a second", default, calls, 0.05, bar=False),
        *measure("  20 a second, circuit at 10 in a row", patient, calls, 0.05, bar=False),
    ]


if __name__ == "__main__":
    sys.exit(tabled(__doc__, rows))
