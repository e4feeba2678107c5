"""One id for everything that one user asked for."""

from __future__ import annotations

import asyncio
import re

import pytest

from rage_retrievers.observability import correlation, correlation_id
from rage_retrievers.observability.correlation import current_or_new, new_id, safe_id


def test_an_id_holds_within_its_context_only() -> None:
    """Inner contexts win, and leaving one restores the outer."""
    with correlation("outer"):
        with correlation("inner") as inner:
            assert correlation_id.get() == inner == "inner"
        assert correlation_id.get() == "outer"
    assert correlation_id.get() is None


def test_made_ids_carry_the_prefix_and_differ() -> None:
    """64 random bits after the prefix; without a prefix, the bits alone."""
    assert re.fullmatch("shop-[0-9a-f]{16}", new_id("shop"))
    assert re.fullmatch("[0-9a-f]{16}", new_id(""))
    assert len({new_id() for _ in range(1000)}) == 1000
    with correlation(prefix="shop") as made:
        assert made.startswith("shop-")
        assert current_or_new() == made


@pytest.mark.parametrize(
    "forged", ["a\r\nAuthorization: x", "a b", "", "x" * 129, "ü", '"quoted"', "-dash", "a\n", None, "\x1b[31m"]
)
def test_an_id_that_could_forge_a_header_or_a_line_is_not_taken(forged: str | None) -> None:
    """What comes from outside is used only in the form that ids have; else a new id is made."""
    assert safe_id(forged) is None
    with correlation(forged) as made:
        assert re.fullmatch("rage-[0-9a-f]{16}", made)


def test_tasks_inherit_the_id_and_keep_theirs_apart() -> None:
    """Each request of a web service has its own, whatever runs beside it."""

    async def ask(name: str) -> str | None:
        with correlation(name):
            await asyncio.sleep(0)
            return await asyncio.to_thread(correlation_id.get)

    async def main() -> list[str | None]:
        return list(await asyncio.gather(ask("a"), ask("b")))

    assert asyncio.run(main()) == ["a", "b"]
