"""The README: nothing claimed without a test that holds it, no page left out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """A part of the README, by its heading."""
    return README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_each_row_of_the_comparison_names_a_test_that_exists() -> None:
    """`file::function`, or a whole file; a row may lean on the rows above it."""
    rows = [line.strip("| ").split(" | ") for line in section("Compared with the vendor's packages").splitlines()]
    held = [cells[-1] for cells in rows if len(cells) == 4 and not cells[0].startswith("---")]
    assert len(held) >= 10
    for cell in held:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", cell)
        assert named or cell == "the same two"
        for file, function in named:
            text = (ROOT / file).read_text()
            assert not function or re.search(rf"^(async )?def {function}\(", text, re.MULTILINE), cell


def test_every_page_and_notebook_can_be_reached_from_the_readme() -> None:
    """Directly; the pages of the reference from its index."""
    linked = set(re.findall(r"\]\(([\w./-]+)\)", README))
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages -= {page for page in pages if page.startswith("docs/reference/")} | {"docs/index.md", "docs/changelog.md"}
    notebooks = {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert (pages | notebooks) - linked == set()
