"""What `rage demo` indexes when no folder is named: this project's own README and docs."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import ConfigurationError

_PROJECT = Path(__file__).resolve().parents[2]
_SUFFIXES = frozenset({".md", ".txt", ".html", ".pdf"})


def project_documents(home: Path, project: Path = _PROJECT) -> Path:
    """A folder below `home` with copies of the checkout's README.md and docs/, brought up to date.

    README and docs lie side by side and the embedded pipeline reads one folder and nothing outside it, hence copies.
    They keep one place, so that a second run finds its index ready. Raises ConfigurationError outside a checkout.
    """
    if not (project / "pyproject.toml").is_file() or not (project / "README.md").is_file():
        raise ConfigurationError(
            "--docs is missing, and this is an installed package without documents of its own; "
            "name a folder, such as rage demo --docs ./docs."
        )
    target = home / "demo-documents"
    wanted = {path.relative_to(project): path for path in _found(project)}
    for stale in [path for path in target.rglob("*") if path.is_file() and path.relative_to(target) not in wanted]:
        stale.unlink()
    for name, path in wanted.items():
        _copy(path, target / name)
    return target


def _found(project: Path) -> list[Path]:
    docs = [path for path in (project / "docs").rglob("*") if path.suffix in _SUFFIXES and path.is_file()]
    return [project / "README.md", *sorted(docs)]


def _copy(source: Path, target: Path) -> None:
    """Copy unless the copy is fresh: an unchanged file keeps its place in the index."""
    seen = source.stat()
    if target.is_file():
        kept = target.stat()
        if (kept.st_size, kept.st_mtime_ns) == (seen.st_size, seen.st_mtime_ns):
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
