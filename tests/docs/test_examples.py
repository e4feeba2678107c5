"""Every Python block in the README and the documentation runs as it is written, in the order of its page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[tuple[int, str]]:
    """(line, code) of each Python block of a page."""
    text = page.read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)), match.group(1)) for match in found]


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the documents that the examples ask, and a cache that the examples share."""
    cache = tmp_path_factory.getbasetemp() / "examples-cache"
    monkeypatch.setenv("RAGE_CACHE_DIR", str(cache))
    work = tmp_path_factory.getbasetemp() / "examples"
    if not work.exists():
        shutil.copytree(ROOT / "docs", work / "docs", ignore=shutil.ignore_patterns("*.html"))
    monkeypatch.chdir(work)
    return work


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_documented_code_runs(page: Path, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that is shown to a reader fails when it is pasted into a file and run."""
    names: dict[str, object] = {"__name__": "__main__"}
    for line, code in blocks(page):
        # The line numbers of the page, so that a failure points at it.
        exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file that exists."""
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_generated_pages_are_up_to_date() -> None:
    """The configuration page and .env.example say what the settings are today."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "")
