"""How the benchmarks show what they measured: the bar beside each figure."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Row(NamedTuple):
    """One measure; `met` is None for a figure that has no bar."""

    measure: str
    bar: str
    figure: str
    met: bool | None


def show(rows: list[Row]) -> int:
    """Print the rows; the exit status is 1 when a bar is missed."""
    head = Row("measure", "bar", "measured", None)
    measures = max(len(row.measure) for row in [head, *rows])
    bars = max(len(row.bar) for row in [head, *rows])
    figures = max(len(row.figure) for row in [head, *rows])
    for row in [head, *rows]:
        verdict = {True: "met", False: "MISSED", None: ""}[row.met]
        print(f"{row.measure:{measures}}  {row.bar:{bars}}  {row.figure:{figures}}  {verdict}".rstrip())
    return int(any(row.met is False for row in rows))


def smoke_asked(description: str) -> bool:
    """Whether `--smoke` was given: a small run that shows that the benchmark works, not what the code can do."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small, quick run")
    return bool(parser.parse_args().smoke)


def tabled(description: str | None, rows: Callable[[bool], list[Row]]) -> int:
    """Measure, briefly where `--smoke` was given, and print the table; 1 when a bar is missed."""
    assert description is not None
    return show(rows(smoke_asked(description)))
