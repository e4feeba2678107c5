"""The command `rage`: ask, serve, try and operate. Needs the extra `cli`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import NoReturn

__all__ = ["main"]

_PARTS = ("typer", "rich")
STOPPED = 130
"""The exit code after Ctrl-C: 128 and the signal's number, as shells have it."""


def main() -> None:
    """Run `rage` with the arguments of the process; always ends in SystemExit (0, 1, 2 or 130; see `rage --help`)."""
    if any(find_spec(part) is None for part in _PARTS):
        sys.stderr.write('The rage command needs the extra "cli": pip install "rage-retrievers[cli]"\n')
        raise SystemExit(2)
    try:
        from .app import app

        app()
    except KeyboardInterrupt:  # so soon that no command has begun
        stopped()


def stopped() -> NoReturn:
    """End the process as Ctrl-C does."""
    sys.stderr.write("rage: stopped by Ctrl-C\n")
    raise SystemExit(STOPPED)
