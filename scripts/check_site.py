"""Check the built documentation: it loads nothing from elsewhere, links lead somewhere, pages are two clicks away.

python scripts/check_site.py site
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """Where a page leads, what it loads, and which anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag refers to."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in _LOADED and _LOADED[tag] in found:
            self.loads.append(found[_LOADED[tag]])


def problems(site: Path) -> list[str]:
    """What is wrong with the site; an empty list for nothing."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    content = [path for path in pages if path.name == "index.html"]
    found = [
        f"{path.relative_to(site)} loads {loaded} from another machine"
        for path, page in pages.items()
        for loaded in page.loads
        if urlsplit(loaded).netloc
    ]
    for style in site.rglob("*.css"):
        foreign = re.findall(r"url\(['\"]?(https?://[^)'\"]+)", style.read_text(encoding="utf-8"))
        found += [f"{style.relative_to(site)} loads {url} from another machine" for url in foreign]
    for path in content:
        for link in pages[path].links:
            target, anchor = _target(path, link)
            if target is None:
                continue
            if not target.exists():
                found.append(f"{path.relative_to(site)} links to {link}, which is not there")
            elif anchor and target in pages and anchor not in pages[target].anchors | {"__top"}:
                found.append(f"{path.relative_to(site)} links to {link}, which has no such place")
    near = _near(site, pages)
    return found + [f"{path.relative_to(site)} is more than two clicks away" for path in content if path not in near]


def _target(page: Path, link: str) -> tuple[Path | None, str]:
    """The file that a link of a page leads to, and the place in it; None for another machine."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None, ""
    path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    return path / "index.html" if path.is_dir() else path, unquote(parts.fragment)


def _near(site: Path, pages: dict[Path, Page]) -> set[Path]:
    reached = {site / "index.html"}
    for _ in range(2):
        targets = {_target(path, link)[0] for path in reached for link in pages[path].links}
        reached |= {path for path in targets if path in pages}
    return reached


def main() -> int:
    """Say what is wrong."""
    site = Path(sys.argv[1]).resolve()
    found = problems(site)
    print(
        "\n".join(found)
        or f"{sum(1 for _ in site.rglob('index.html'))} pages, each within two clicks, none loads from elsewhere"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
