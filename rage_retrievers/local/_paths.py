"""Where the embedded pipeline keeps what it makes."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path


def cache_root(given: str | Path | None) -> Path:
    """The cache directory: `given`, else RAGE_CACHE_DIR, else the user's cache directory of the platform."""
    if given is not None:
        return Path(given)
    if named := os.environ.get("RAGE_CACHE_DIR"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif xdg := os.environ.get("XDG_CACHE_HOME"):
        base = Path(xdg)
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "rage-retrievers"


def folder_home(root: Path, folder: Path | None) -> Path:
    """The directory of one folder's state, named after its last part and keyed by its real path."""
    if folder is None:
        return root / "without-folder"
    return root / f"{folder.name or 'root'}-{digest(str(folder))}"


def digest(text: str) -> str:
    """Twelve hex digits that name a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
