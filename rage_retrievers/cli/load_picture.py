"""A load test as one picture, for a ticket or a chat. Needs matplotlib, which no extra brings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE, _ROW, _AXIS = 0.17, 0.3, 0.7
"""Inches of a line of words, of a bar, and of the axis below the bars."""
_COLUMNS = 96
"""Characters of a line of words."""


def png_report(plan: str, target: str, measured: dict[str, Any], when: datetime) -> bytes:
    """The picture. `measured` is `Measured.as_dict()`; no question and no token is in it."""
    check_drawing()
    from matplotlib.figure import Figure

    rows = measured["histogram_ms"]
    facts = _facts(plan, target, measured, when)
    heights = [_LINE * len(facts), _AXIS + _ROW * len(rows)] if rows else [_LINE * len(facts)]
    figure = Figure(figsize=(9, sum(heights)), dpi=120, layout="constrained")
    words, *bars = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    words.axis("off")
    # Without mathtext: a dollar sign in a name is a dollar sign.
    words.text(0, 1, "\n".join(facts), va="top", family="monospace", fontsize=9, parse_math=False)
    for axes in bars:
        _draw(axes, rows)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def check_drawing() -> None:
    """Raise ConfigurationError where pictures cannot be drawn."""
    try:
        import matplotlib  # noqa: F401  # asked for before the test, not after it
    except ImportError:
        raise ConfigurationError(
            "A PNG report needs matplotlib: pip install matplotlib, or name an .html file."
        ) from None


def _facts(plan: str, target: str, measured: dict[str, Any], when: datetime) -> list[str]:
    calls = f"{measured['calls']:,}: {measured['answered']:,} answered, {measured['failed']:,} failed"
    latency = "  ".join(f"{name} {value:,.1f}" for name, value in measured["latency_ms"].items())
    found = [
        f"when      {when:%Y-%m-%d %H:%M:%S %Z}",
        f"service   {target}",
        f"plan      {plan}{' (interrupted)' if measured['interrupted'] else ''}",
        f"calls     {calls}, {measured['empty_answers']:,} without passages",
        f"requests  {measured['requests_sent']:,} sent, those of failed calls too",
        f"time      {measured['elapsed_s']:,} s, {measured['answers_per_s'] or 0:,} answers/s",
        f"ms        {latency or '-'}",
    ]
    found += [f"{count:>8,}  {name}" for name, count in measured["errors"].items()]
    return [line for fact in found for line in wrap(fact, _COLUMNS, subsequent_indent=" " * 10)]


def _draw(bars: Axes, rows: Sequence[dict[str, Any]]) -> None:
    labels = [f"{row['from']:,.1f} to {row['to']:,.1f}" for row in rows]
    drawn = bars.barh(range(len(rows)), [row["count"] for row in rows], color="#3a6ea5")
    bars.bar_label(drawn, [f"{row['count']:,}" for row in rows], padding=3)
    bars.set_yticks(range(len(rows)), labels)
    bars.set_ylim(len(rows) - 0.5, -0.5)  # the fastest above, and no margin over it
    bars.set_xlabel("answers")
    bars.set_ylabel("latency, ms")
    bars.spines[["top", "right"]].set_visible(False)
