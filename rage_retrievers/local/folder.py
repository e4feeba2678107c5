"""The user's folder as a source of documents. Nothing outside it is ever read.

Hidden files and directories, `node_modules` and `__pycache__` are left out. A symbolic link is read when it leads to a
file inside the folder; one that leads outside is named among the skipped, and links to directories are not followed.
Beside `NAME` a file `NAME.metadata.json` may hold the user's metadata, a JSON object.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rage_retrievers._checks import shown, typed
from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import apart, documents
from rage_retrievers.local._paths import digest
from rage_retrievers.local.documents import UnreadableDocumentError
from rage_retrievers.local.sources import Entry, Loaded, Scan

SIDECAR = ".metadata.json"
# What is kept of it is less (`metadata.MAX_BYTES`), however it is written; beyond this it is not even parsed.
MAX_SIDECAR_BYTES = 1024 * 1024
_LEFT_OUT = frozenset({"node_modules", "__pycache__"})


def checked(folder: str | Path) -> Path:
    """The real path of a folder; raises `ConfigurationError` saying what is wrong with one that cannot be used."""
    if not isinstance(folder, str | os.PathLike) or not str(folder).strip():
        told = "empty" if isinstance(folder, str) else typed(folder)
        raise ConfigurationError(f"folder is {told}: give the path of a folder of documents")
    try:
        path = Path(folder).expanduser()
        there = path.exists()
    except (OSError, RuntimeError, ValueError):  # a name too long, a user that there is not
        there = False
    if not there:
        raise ConfigurationError(
            f"folder {shown(str(folder), 1_000)} does not exist: give the path of a folder of documents"
        )
    if not path.is_dir():
        raise ConfigurationError(f"folder {str(folder)!r} is a file: give the path of the folder that holds it")
    try:
        with os.scandir(path):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"folder {str(folder)!r} cannot be read ({error.strerror}): grant this user read and search permission"
        ) from error
    return path.resolve()


_Seen = tuple[str, str]
"""The real path of a file and its stamp."""


class Folder:
    """One folder, by its real path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root_length = len(str(root))

    def scan(self) -> Scan:
        """Look at every file's size and time, and read none; raises `ConfigurationError` when the folder is gone."""
        if not self.root.is_dir():
            raise ConfigurationError(f"folder {str(self.root)!r} is no longer there: restore it or choose another")
        found: dict[str, _Seen] = {}
        refused: list[tuple[str, str]] = []
        sidecars: dict[str, _Seen] = {}
        for entry in self._walk(str(self.root), refused):
            sidecar = entry.name.endswith(SIDECAR)
            if not sidecar and not documents.supported(entry.name):
                continue
            relative = self._relative(entry.path)
            try:
                seen = self._look(entry, relative)
            except UnicodeEncodeError:
                refused.append((relative.encode("utf-8", "backslashreplace").decode(), "its name is not UTF-8"))
            except OSError as error:
                refused.append((relative, error.strerror or str(error)))
            except RuntimeError:  # so Python before 3.13 tells of a link that leads to itself
                refused.append((relative, "a link that leads to itself"))
            except UnreadableDocumentError as error:
                refused.append((relative, str(error)))
            else:
                if seen is not None:
                    (sidecars if sidecar else found)[relative.removesuffix(SIDECAR)] = seen
        return Scan([self._entry(name, found[name], sidecars.get(name)) for name in sorted(found)], refused)

    def _relative(self, path: str) -> str:
        return path[self._root_length :].lstrip(os.sep).replace(os.sep, "/")

    def _walk(self, directory: str, refused: list[tuple[str, str]]) -> Iterator[os.DirEntry[str]]:
        pending = [directory]
        while pending:
            current = pending.pop()
            try:
                with os.scandir(current) as inside:
                    for entry in inside:
                        if entry.name[0] == "." or entry.name in _LEFT_OUT:
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        else:
                            yield entry
            except OSError as error:
                refused.append((self._relative(current), error.strerror or str(error)))

    def _look(self, entry: os.DirEntry[str], relative: str) -> _Seen | None:
        """Where a file is and its stamp, None for a directory; `UnreadableDocumentError` for what is no file inside."""
        relative.encode()
        path = entry.path  # a Path for each of ten thousand files would take most of the time
        if entry.is_symlink():
            target = Path(path).resolve(strict=True)
            if not target.is_relative_to(self.root):
                raise UnreadableDocumentError("a link that leads outside the folder")
            if target.is_dir():
                return None
            path = str(target)
        seen = os.stat(path, follow_symlinks=False)
        if not stat.S_ISREG(seen.st_mode):
            raise UnreadableDocumentError("not a regular file")
        # The time of its last change of any kind: of its permissions, or under a time of writing that was put back.
        return path, f"{seen.st_size}:{seen.st_mtime_ns}:{seen.st_ctime_ns}:{seen.st_ino}"

    def _entry(self, name: str, seen: _Seen, sidecar: _Seen | None) -> Entry:
        path, stamp = seen
        if sidecar is None:
            return Entry(name, stamp, partial(self._load, name, path, None), apart.is_apart(name))
        load = partial(self._load, name, path, sidecar[0])
        return Entry(name, f"{stamp}+{sidecar[1]}", load, apart.is_apart(name))

    def _load(self, name: str, path: str, sidecar: str | None) -> Loaded:
        reading = apart.read(name, self._bytes(path))
        given = {} if sidecar is None else _object(self._bytes(sidecar, MAX_SIDECAR_BYTES), name)
        return Loaded(
            reading, file_fields(name, digest(str(self.root))), {**reading.facts, **reading.metadata, **given}
        )

    def _bytes(self, path: str, most: int = documents.MAX_FILE_BYTES) -> bytes:
        handle = _open_inside(self.root, Path(path))
        with os.fdopen(handle, "rb") as file:
            seen = os.fstat(handle)
            if not stat.S_ISREG(seen.st_mode):
                raise UnreadableDocumentError("not a regular file")
            if seen.st_size > most:
                raise UnreadableDocumentError(f"{Path(path).name} is larger than {most // 2**20} MiB")
            data = file.read(most + 1)
            if len(data) > most:
                raise UnreadableDocumentError(f"{Path(path).name} grew beyond {most // 2**20} MiB while it was read")
            return data


def file_fields(name: str, home: str) -> dict[str, str]:
    """The protocol's fields of a document from a folder; `home` names the folder."""
    origin_id = f"{home}-{digest(name)}"
    return {
        "origin": "local-folder",
        "origin_id": origin_id,
        "source": name,
        "unique_source": origin_id,
        "source_display_name": name,
    }


def _open_inside(root: Path, path: Path) -> int:
    """A descriptor of a regular file below `root`, whatever has become a link since it was looked at."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if os.open not in os.supports_dir_fd:
        handle = os.open(path, flags)
        found = path.resolve()
        if not found.is_relative_to(root) or not os.path.samestat(os.fstat(handle), os.stat(found)):
            os.close(handle)
            raise UnreadableDocumentError("a link that leads outside the folder")
        return handle
    *above, name = path.relative_to(root).parts
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in above:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        return os.open(name, flags, dir_fd=directory)
    finally:
        os.close(directory)


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableDocumentError(f"{name}{SIDECAR} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableDocumentError(f"{name}{SIDECAR} is not a JSON object")
    return value
