"""The site: every page is in its menu, and what a built site must not do is found."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
problems = runpy.run_path(str(ROOT / "scripts" / "check_site.py"))["problems"]


def test_every_page_is_in_the_menu_once() -> None:
    """No page can be found by search alone, and no entry leads nowhere."""
    menu = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(menu) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))


def test_a_site_is_checked_for_broken_links_foreign_scripts_and_far_pages(tmp_path: Path) -> None:
    """Each of the three is named with its page; a sound page is not."""
    for name, text in {
        "index.html": '<a href="one/">1</a> <a href="nowhere/">?</a> <script src="https://elsewhere.example/x.js">',
        "one/index.html": '<a href="../two/#place">2</a> <a href="#missing">?</a>',
        "two/index.html": '<p id="place"> <a href="../far/">3</a>',
        "far/index.html": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert problems(tmp_path) == [
        "index.html loads https://elsewhere.example/x.js from another machine",
        "index.html links to nowhere/, which is not there",
        "one/index.html links to #missing, which has no such place",
        "far/index.html is more than two clicks away",
    ]
