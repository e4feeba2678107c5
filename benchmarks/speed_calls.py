"""Throughput and processor time of a retrieval, against the vendor's packages and plain HTTP clients.

    python benchmarks/speed_calls.py [--smoke]

Each contender is a process of its own, pinned to another core than the server; the rounds of those that are compared
take turns, and each figure is the median of its rounds.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import _answers
from _contenders import Contender, Took, at_work
from _table import Row, tabled

ENGINES = ("httpx", "httptools")


class Entrant(NamedTuple):
    """One contender of a comparison: which one, with which engine, and how many calls make a round."""

    name: str
    engine: str
    calls: int
    at_once: int = 1

    @property
    def label(self) -> str:
        """How the table calls it."""
        return f"{self.name} ({self.engine})" if self.engine else self.name


class Measured(NamedTuple):
    """What an entrant's rounds came to."""

    rate: float
    """Calls a second."""
    micros: float
    """Microseconds of processor time a call."""


@contextmanager
def all_at_work(entrants: Sequence[Entrant], url: str) -> Iterator[list[Contender]]:
    """The entrants' processes, each having made some calls already."""
    with ExitStack() as stack:
        contenders = [stack.enter_context(at_work(one.name, url, one.engine or "httpx")) for one in entrants]
        for contender, entrant in zip(contenders, entrants, strict=True):
            contender.run(min(entrant.calls, 2 * entrant.at_once + 20), entrant.at_once)
        yield contenders


def compared(entrants: Sequence[Entrant], rounds: int, delay: float = 0.0) -> list[Measured]:
    """Every entrant's medians; `delay` seconds pass before the server answers."""
    took: list[list[Took]] = [[] for _ in entrants]
    with _answers.running(delay) as url, all_at_work(entrants, url) as contenders:
        for _ in range(rounds):
            for contender, entrant, found in zip(contenders, entrants, took, strict=True):
                found.append(contender.run(entrant.calls, entrant.at_once))
    return [
        Measured(statistics.median(one.rate for one in found), statistics.median(one.micros for one in found))
        for found in took
    ]


Judge = Callable[[Measured, Measured], Row]


def faster(measure: str, bar: float | None) -> Judge:
    """How many times the throughput of the second one the first one has."""

    def judge(ours: Measured, theirs: Measured) -> Row:
        ratio = ours.rate / theirs.rate
        figure = f"{ratio:.1f}x ({ours.rate:,.0f} against {theirs.rate:,.0f} calls/s)"
        return Row(measure, "" if bar is None else f">= {bar:g}x", figure, None if bar is None else ratio >= bar)

    return judge


def cheaper(measure: str, bar: float) -> Judge:
    """How many times the processor time of the second one the first one takes."""

    def judge(ours: Measured, theirs: Measured) -> Row:
        ratio = ours.micros / theirs.micros
        figure = f"{ratio:.2f}x ({ours.micros:,.0f} against {theirs.micros:,.0f} µs)"
        return Row(measure, f"<= {bar:g}x", figure, ratio <= bar)

    return judge


def ainvoke(calls: int, rounds: int) -> list[Row]:
    """LangChain, 128 at once, on a server that answers at once."""
    entrants = [
        Entrant("langchain ainvoke", "httptools", calls, 128),
        Entrant("langchain ainvoke", "httpx", calls, 128),
        Entrant("langchain-vectorize ainvoke", "", calls, 128),
        Entrant("langchain-vectorize ainvoke, no debug", "", calls, 128),
    ]
    fast, default, theirs, quiet = compared(entrants, rounds)
    return [
        faster("LangChain ainvoke, 128 at once, fast engine / langchain-vectorize", 3.5)(fast, theirs),
        faster("  / the same with its debug printing off", None)(fast, quiet),
        faster("LangChain ainvoke, 128 at once, default engine / langchain-vectorize", 1.2)(default, theirs),
        faster("  / the same with its debug printing off", None)(default, quiet),
    ]


def aretrieve(calls: int, rounds: int) -> list[Row]:
    """LlamaIndex, 128 at once; the existing one blocks the loop, so its calls come one after the other."""
    name, theirs = "llama_index aretrieve", "llama-index-retrievers-vectorize aretrieve"
    slow = [
        Entrant(name, "httpx", calls, 128),
        Entrant(name, "httptools", calls, 128),
        Entrant(theirs, "", max(4, calls // 80), 128),
    ]
    default, fast, existing = compared(slow, max(1, rounds // 2), delay=0.1)
    found = [
        faster("LlamaIndex aretrieve, 128 at once, 100 ms server, default engine / existing", 50)(default, existing),
        faster("  with the fast engine", None)(fast, existing),
    ]
    quick = [
        Entrant(name, "httptools", calls, 128),
        Entrant(name, "httpx", calls, 128),
        Entrant(theirs, "", calls, 128),
    ]
    fast, default, existing = compared(quick, rounds)
    return [
        *found,
        faster("LlamaIndex aretrieve, 128 at once, 0 ms server, fast engine / existing", 3)(fast, existing),
        faster("  with the default engine", None)(default, existing),
    ]


def invoke(calls: int, rounds: int) -> list[Row]:
    """LangChain, one call at a time, in processor time."""
    entrants = [
        Entrant("langchain invoke", "httptools", calls),
        Entrant("langchain invoke", "httpx", calls),
        Entrant("langchain-vectorize invoke, no debug", "", calls),
    ]
    fast, default, theirs = compared(entrants, rounds)
    return [
        cheaper("LangChain invoke, one at a time, CPU, fast engine / langchain-vectorize, no debug", 0.7)(fast, theirs),
        cheaper("  default engine", 1.0)(default, theirs),
    ]


def batch(calls: int, rounds: int) -> list[Row]:
    """One blocking batch, on a server that takes 20 ms."""
    entrants = [
        Entrant("langchain batch", "httpx", calls),
        Entrant("langchain batch", "httptools", calls),
        Entrant("langchain-vectorize batch", "", calls),
    ]
    default, fast, theirs = compared(entrants, rounds, delay=0.02)
    return [
        faster(f"LangChain batch of {calls:,}, 20 ms server, default engine / langchain-vectorize", 10)(
            default, theirs
        ),
        faster("  with the fast engine", 10)(fast, theirs),
    ]


def alone(calls: int, rounds: int) -> list[Row]:
    """Every other way to ask, for comparison; no bar."""
    blocking = [Entrant("http.client", "", calls), *(Entrant("client", engine, calls) for engine in ENGINES)]
    together = [
        Entrant("plain httpx", "", calls, 128),
        *(Entrant("async client", engine, calls, 128) for engine in ENGINES),
    ]
    entrants = [*blocking, *together]
    return [
        Row(
            f"  {entrant.label}, {'one at a time' if entrant.at_once == 1 else f'{entrant.at_once} at once'}",
            "",
            f"{one.rate:,.0f} calls/s, {one.micros:,.0f} µs of CPU a call",
            None,
        )
        for entrant, one in zip(entrants, compared(entrants, rounds), strict=True)
    ]


def rows(smoke: bool) -> list[Row]:
    """Every comparison."""
    calls, rounds = (128, 1) if smoke else (2000, 5)
    return [
        *ainvoke(calls, rounds),
        *aretrieve(calls, rounds),
        *invoke(calls, rounds),
        *batch(100 if smoke else 1000, max(1, rounds // 2)),
        *alone(calls, rounds),
    ]


if __name__ == "__main__":
    sys.exit(tabled(__doc__, rows))
