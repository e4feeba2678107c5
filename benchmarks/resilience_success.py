"""How many calls are answered when 5 % of the attempts fail at random: the default pipeline in virtual time.

    python benchmarks/resilience_success.py [--smoke]

A call begins every 50 ms; an attempt takes 20 ms and fails by a seeded coin: a 503, a 500 or a broken connection.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from typing import Any

from resilience_table import Row, show, smoke_asked

from rage_retrievers._flow import WireRequest, drive
from rage_retrievers.errors import ConnectionFailedError, RageError
from rage_retrievers.resilience import default_pipeline
from rage_retrievers.testing.world import Reply, VirtualWorld

SEED = 2024
FAILURES = (
    Reply(503, after=0.02),
    Reply(500, after=0.02),
    Reply(after=0.02, error=ConnectionFailedError("The connection was reset.")),
)
ANSWER = Reply(after=0.02)


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    assert __doc__ is not None
    calls = 20_000 if smoke_asked(__doc__) else 1_000_000
    chance = random.Random(SEED)

    def reply(_: WireRequest) -> Reply:
        return chance.choice(FAILURES) if chance.random() < 0.05 else ANSWER

    world = VirtualWorld(reply, seed=SEED)
    world.trace = _Nothing()
    world.sent = _Nothing()
    pipeline = default_pipeline()
    failed: Counter[str] = Counter()
    for number in range(calls):
        world.now = max(world.now, number * 0.05)
        try:
            drive(world.call(pipeline), world)
        except RageError as error:
            failed[type(error).__name__] += 1
    answered = 1 - sum(failed.values()) / calls
    by_kind = ", ".join(f"{kind} {number}" for kind, number in failed.most_common())
    return show(
        [
            Row(f"{calls:,} calls, 5 % of attempts fail", ">= 99.98 %", f"{answered:.4%} answered", answered >= 0.9998),
            Row("  ideal for 3 attempts", "", "99.9875%", None),
            Row("  not answered", "", by_kind or "none", None),
        ]
    )


class _Nothing(list[Any]):
    """A list that stays empty, so that a million calls need no memory."""

    def append(self, _: object) -> None:
        """Keep nothing."""


if __name__ == "__main__":
    sys.exit(main())
