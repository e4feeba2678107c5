"""The command `rage`: ask, serve, try and operate. Needs the extra `cli`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]

_PARTS = ("typer", "rich")


def main() -> None:
    """Run `rage` with the arguments of the process; always ends in SystemExit (0, 1 or 2; see `rage --help`)."""
    if any(find_spec(part) is None for part in _PARTS):
        sys.stderr.write('The rage command needs the extra "cli": pip install "rage-retrievers[cli]"\n')
        raise SystemExit(2)
    from .app import app

    app()
