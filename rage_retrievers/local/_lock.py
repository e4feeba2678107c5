"""A lock between processes, held on a file and freed by the operating system when its holder dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[bool]:
    """Yield True while this process alone holds `path`; yield False when `wait` is False and another holds it.

    Its directory is made where there is none: whoever empties a cache directory does not ask who uses it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        held = _acquire(handle, wait)
        try:
            yield held
        finally:
            if held:
                _release(handle)
    finally:
        os.close(handle)


def _acquire(handle: int, wait: bool) -> bool:
    if sys.platform == "win32":
        while True:
            try:
                # LK_LOCK gives up by itself after ten seconds, so a patient caller asks again.
                msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError:
                if not wait:
                    return False
            else:
                return True
    else:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _release(handle: int) -> None:
    if sys.platform == "win32":
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_UN)
