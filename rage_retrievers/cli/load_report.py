"""A load test as one HTML file that needs nothing beside it: no script, no style sheet, no image, no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Any

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem 1rem .25rem 0;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr{border-bottom:1px solid #ddd}
td{overflow-wrap:anywhere}td.n{white-space:nowrap}
.bars{width:100%}.bars tr{border:0}.bars td{padding:.1rem .75rem .1rem 0}.bars td:last-child{width:100%}
.bars div{height:1rem;background:#3a6ea5}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}tr{border-color:#444}}
"""


def html_report(plan: str, target: str, measured: dict[str, Any], when: datetime) -> str:
    """The page. `measured` is `Measured.as_dict()`; no question and no token is in it."""
    facts = [
        ("when", f"{when:%Y-%m-%d %H:%M:%S %Z}"),
        ("service", target),
        ("plan", plan + (" (interrupted)" if measured["interrupted"] else "")),
        ("calls", f"{measured['calls']:,}: {measured['answered']:,} answered, {measured['failed']:,} failed"),
        ("answers without passages", f"{measured['empty_answers']:,}"),
        ("requests sent, those of failed calls too", f"{measured['requests_sent']:,}"),
        ("time", f"{measured['elapsed_s']:,} s, {measured['answers_per_s'] or 0:,} answers/s"),
    ]
    latency = [(name, f"{value:,.2f}") for name, value in measured["latency_ms"].items()]
    errors = [(name, f"{count:,}") for name, count in measured["errors"].items()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Load test</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>Load test</h1>{_table(facts)}"
        f"<h2>Latency of the answers, ms</h2>{_table(latency, numbers=True)}{_bars(measured['histogram_ms'])}"
        f"<h2>Errors</h2>{_table(errors, numbers=True) if errors else '<p>None.</p>'}</body></html>\n"
    )


def _table(rows: Iterable[tuple[str, str]], *, numbers: bool = False) -> str:
    kind = ' class="n"' if numbers else ""
    cells = "".join(f"<tr><th>{escape(name)}</th><td{kind}>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _bars(rows: Sequence[dict[str, Any]]) -> str:
    most = max((row["count"] for row in rows), default=0)
    drawn = "".join(
        f'<tr><td class="n">{row["from"]:,.1f} to {row["to"]:,.1f}</td><td class="n">{row["count"]:,}</td>'
        f'<td><div style="width:{100 * row["count"] / most:.1f}%"></div></td></tr>'
        for row in rows
    )
    return f'<table class="bars">{drawn}</table>' if rows else ""
