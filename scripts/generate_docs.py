"""Write what is generated from the code: `docs/configuration.md`, `.env.example`, and the regions of pages between

    <!-- generated: NAME -->
    <!-- end of generated -->

Run by `make generate`; `--check` only says what is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generated import observability, policies, settings  # the line above makes them importable

ROOT = Path(__file__).parents[1]

PAGES: dict[str, Callable[[], str]] = {
    "docs/configuration.md": settings.configuration,
    ".env.example": settings.environment,
}
"""Whole files."""

REGIONS: dict[str, Callable[[str], str]] = {
    "defaults": policies.defaults,
    "records": policies.records,
    "events": observability.events,
    "metrics": observability.metrics,
    "labels": observability.labels,
    "attributes": observability.attributes,
    "points": observability.points,
    "audit": observability.audit,
    "secrets": observability.redaction,
    "advice": observability.advice,
    "errors": observability.errors,
    "members": observability.members,
}
"""Parts of pages, by the first word of their name; the rest of the name is the argument."""

_REGION = re.compile(r"(<!-- generated: (\w+)(?: ([^\n]+?))? -->\n).*?(<!-- end of generated -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with its regions as they are today."""
    return _REGION.sub(lambda found: f"{found[1]}\n{REGIONS[found[2]](found[3] or '')}\n\n{found[4]}", page)


def wanted() -> dict[Path, str]:
    """Every generated file, and what it should hold."""
    found = {ROOT / name: make() for name, make in PAGES.items()}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        if "<!-- generated: " in page:
            found[path] = filled(page)
    return found


def main() -> int:
    """Write what is out of date; with `--check`, only name it."""
    stale = {path: text for path, text in wanted().items() if not _same(path, text)}
    for path, text in stale.items():
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} is out of date: run make generate")
        else:
            path.write_text(text, encoding="utf-8")
    return len(stale) if "--check" in sys.argv else 0


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
