"""Every Python block in the README and the documentation runs as it is written, in the order of its page.

A `text` block that follows a Python block is what it prints; ids, instants and durations may differ.
"""

from __future__ import annotations

import gc
import logging
import re
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: where it begins, and what it prints where the page says so."""

    line: int
    code: str
    output: str | None


def named(page: Path) -> str:
    """The page's path below the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Each Python block of a page."""
    text = page.read_text()
    return [Block(text.count("\n", 0, found.start(1)), found[1], found[2]) for found in _BLOCK.finditer(text)]


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the documents that the examples ask, and a cache that the examples share."""
    cache = tmp_path_factory.getbasetemp() / "examples-cache"
    monkeypatch.setenv("RAGE_CACHE_DIR", str(cache))
    work = tmp_path_factory.getbasetemp() / "examples"
    if not work.exists():
        shutil.copytree(ROOT / "docs", work / "docs", ignore=shutil.ignore_patterns("*.html"))
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    """Examples may configure logging; the next test finds it as it was."""
    loggers = [logging.getLogger(name) for name in ("rage_retrievers", "rage_retrievers.audit")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def open_sockets() -> list[socket.socket]:
    """This process's sockets that are connected to somebody; of what `gc.freeze` was called on, none."""
    gc.collect()
    found = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() != -1]
    return [one for one in found if one.type == socket.SOCK_STREAM and peer(one)]


def peer(one: socket.socket) -> object:
    """Who is at the other end, if anybody."""
    try:
        return one.getpeername()
    except OSError:
        return None


@pytest.fixture
def _sockets_closed() -> Iterator[None]:
    """Examples close what they open, for readers do as the examples do."""
    gc.freeze()  # what was there before is not looked through for each page
    try:
        yield
        assert open_sockets() == []
    finally:
        gc.unfreeze()


@pytest.mark.usefixtures("_logging_as_before", "_sockets_closed", "checkout")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=named)
def test_documented_code_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is shown to a reader runs when it is pasted into a file, prints what is shown, and warns of nothing."""
    names: dict[str, object] = {"__name__": "__main__"}
    for line, code, output in blocks(page):
        capsys.readouterr()
        # The line numbers of the page, so that a failure points at it.
        exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), names)
        if output is not None:
            assert settled(capsys.readouterr().out) == settled(output), f"{named(page)}:{line}"


def settled(output: str) -> list[str]:
    """The lines without what another machine or another minute would change: ids, instants and durations."""
    plain = re.sub(r"\b[0-9a-f]{16,}\b", "ID", output.strip())
    plain = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.,]+Z?", "TIME", plain)
    plain = re.sub(r"(elapsed_ms|age_ms|pause_ms)(\"?[=:] ?)\d+\.\d+", r"\1\2MS", plain)
    return re.sub(r"\d[\d,]*\.\d+ (m?s)\b", r"N \1", plain).splitlines()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file that exists."""
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_generated_pages_are_up_to_date() -> None:
    """What the pages say of settings, defaults, records, metrics and spans is what the code says today."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_every_generated_region_has_one_end_and_every_table_a_place() -> None:
    """No region swallows another's markers, and everything that can be generated stands on some page."""
    regions: list[str] = []
    for page in PAGES:
        marks = re.findall(r"^<!-- (generated: \w+|end of generated)\b.*-->$", page.read_text(), re.MULTILINE)
        assert [mark == "end of generated" for mark in marks] == [False, True] * (len(marks) // 2), named(page)
        regions += [mark.removeprefix("generated: ") for mark in marks[::2]]
    generator = runpy.run_path(str(ROOT / "scripts" / "generate_docs.py"))
    assert set(regions) == set(generator["REGIONS"])
