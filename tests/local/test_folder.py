"""The folder: what is read, followed, refused, and how an index outlives its process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import LocalService, Progress, feed
from rage_retrievers.local.documents import UnreadableDocumentError
from rage_retrievers.local.folder import Folder

from .conftest import Asker


class Place:
    """A path of another library's, as pytest's own `tmpdir` is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def test_a_folder_may_be_any_path(folder: Path, open_service: Any) -> None:
    """Whatever the system can open."""
    assert open_service(Place(folder)).stats.files == open_service(folder).stats.files


def test_a_second_start_reads_nothing(folder: Path, open_service: Any) -> None:
    """The index of the first start is reused and answers the same."""
    first: LocalService = open_service(folder)
    assert (first.stats.files, first.stats.chunks, first.stats.reused) == (6, 6, False)
    before = Asker(first)("bees", num_results=6)
    first.close()
    second: LocalService = open_service(folder)
    assert second.stats.reused
    assert Asker(second)("bees", num_results=6) == before


def test_changes_in_the_folder_are_followed(folder: Path, ask: Asker) -> None:
    """Added, changed and removed files show in the next answer."""
    (folder / "new.txt").write_text("Glaciers carve valleys")
    assert ask.sources("glaciers")[0] == "new.txt"
    (folder / "new.txt").write_text("Submarines dive below the waves")
    knobs: Any = {"mode": "text"}
    assert ask.sources("glaciers", advanced=knobs) == []
    assert ask.sources("submarines", advanced=knobs) == ["new.txt"]
    (folder / "new.txt").unlink()
    assert ask.sources("submarines", advanced=knobs) == []
    assert ask.service.stats.files == 6


def test_what_the_looks_did_is_not_all_kept_where_nobody_asks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, open_service: Any
) -> None:
    """A folder that changes for months fills no memory with its changes."""
    monkeypatch.setattr(feed, "_KEPT_RUNS", 3)
    asking = Asker(open_service(folder))
    for number in range(5):
        (folder / f"new-{number}.txt").write_text("Glaciers carve valleys")
        asking.sources("glaciers")
    own = asking.service._operations.own
    assert own is not None
    assert [run.added for run in own.feed.take_runs()] == [1, 1, 1]
    assert own.feed.take_runs() == []


def test_a_changed_sidecar_is_followed(folder: Path, ask: Asker) -> None:
    """Metadata beside a file is part of the file."""
    (folder / "letter.docx.metadata.json").write_text('{"year": 1999}')
    assert ask.sources("rent", metadata_filters=[{"year": [1999]}]) == ["letter.docx"]


def test_a_file_that_cannot_be_read_is_named_and_the_rest_indexed(folder: Path, open_service: Any) -> None:
    """Broken, empty, binary and hostile files are skipped with a reason."""
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nonsense")
    (folder / "broken.docx").write_bytes(b"PK nonsense")
    (folder / "empty.md").write_text("   ")
    (folder / "binary.txt").write_bytes(b"\x00\x01\x02" * 99)
    (folder / "ok.txt").write_text("fine")
    (folder / "ok.txt.metadata.json").write_text("[1]")
    service: LocalService = open_service(folder)
    assert [path for path, _ in service.skipped] == ["binary.txt", "broken.docx", "broken.pdf", "empty.md", "ok.txt"]
    assert all(reason for _, reason in service.skipped)
    assert service.stats.files == 6


@pytest.mark.parametrize(
    ("sidecar", "reason"),
    [
        ('{"year": NaN}', "number"),
        ('{"year": 1e999}', "number"),
        ('{"year": %s}' % ("9" * 400), "number"),
        ('{"name": "\\ud800"}', "Unicode"),
        ('{"\\ud800": 1}', "Unicode"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested"),
        ('{"a":' + "[" * 900 + "]" * 900 + "}", "nested"),
        ('{"a": "%s"}' % ("x" * 70_000), "bytes"),
    ],
)
def test_metadata_that_cannot_be_kept_costs_one_file(
    folder: Path, open_service: Any, sidecar: str, reason: str
) -> None:
    """The file is named with the reason; the rest is indexed, filtered and answered."""
    (folder / "tax.pdf.metadata.json").write_text(sidecar)
    service: LocalService = open_service(folder)
    assert reason in dict(service.skipped)["tax.pdf"]
    ask = Asker(service)
    assert len(ask("anything", num_results=9)["documents"]) == 5
    assert ask.sources("tomatoes", metadata_filters=[{"year": [2024]}]) == ["guide.md"]


def test_front_matter_that_cannot_be_kept_costs_one_file(folder: Path, open_service: Any) -> None:
    """Half of a character pair in a Markdown file's head."""
    (folder / "guide.md").write_text('---\ntitle: "\\ud800"\n---\nTomatoes')
    assert "Unicode" in dict(open_service(folder).skipped)["guide.md"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_name_that_is_not_text_is_skipped(folder: Path, open_service: Any) -> None:
    """It is named in a form that can be printed."""
    (folder / os.fsdecode(b"\xff.txt")).write_text("x")
    service: LocalService = open_service(folder)
    assert dict(service.skipped) == {"\\udcff.txt": "its name is not UTF-8"}
    assert service.stats.files == 6


def test_a_link_that_leads_to_itself_is_skipped(folder: Path, open_service: Any) -> None:
    """It costs nobody else anything."""
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    service: LocalService = open_service(folder)
    assert list(dict(service.skipped)) == ["loop.txt"]
    assert service.stats.files == 6


def test_a_sidecar_may_be_a_link_inside_the_folder_and_no_other(
    folder: Path, tmp_path: Path, open_service: Any
) -> None:
    """One that leads outside is named and left out."""
    (tmp_path / "secret.json").write_text('{"year": 1}')
    (folder / "shared.json").write_text('{"year": 2}')
    (folder / "letter.docx.metadata.json").symlink_to(folder / "shared.json")
    (folder / "page.html.metadata.json").symlink_to(tmp_path / "secret.json")
    service: LocalService = open_service(folder)
    ask = Asker(service)
    assert ask.sources("rent", metadata_filters=[{"year": [2]}]) == ["letter.docx"]
    assert ask.sources("lava", metadata_filters=[{"year": [1]}]) == []
    assert "outside" in dict(service.skipped)["page.html.metadata.json"]


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path, open_service: Any) -> None:
    """Neither files nor directories outside are readable; a link inside is."""
    (tmp_path / "secret.txt").write_text("the password is swordfish")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "inside.txt").symlink_to(folder / "notes" / "bees.txt")
    service: LocalService = open_service(folder)
    assert "outside" in dict(service.skipped)["link.txt"]
    ask = Asker(service)
    assert ask.sources("password swordfish", advanced={"mode": "text"}) == []
    assert set(ask.sources("honey bees dance", advanced={"mode": "text"})) == {"notes/bees.txt", "inside.txt"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_directory_that_becomes_a_link_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    """Swapped after it was listed and before its file is opened, it is refused; nothing outside is read."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "bees.txt").write_text("the password is swordfish")
    entries = {entry.key: entry for entry in Folder(folder).scan().entries}
    (folder / "notes").rename(folder / ".notes")
    (folder / "notes").symlink_to(outside)
    with pytest.raises(OSError, match=r"ot a directory|ymbolic link"):
        entries["notes/bees.txt"].load()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_without_descriptors_of_directories_a_link_leads_nowhere_either(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where paths cannot be opened step by step, what was opened is looked at."""
    monkeypatch.setattr(os, "supports_dir_fd", frozenset())
    entries = {entry.key: entry for entry in Folder(folder).scan().entries}
    assert "hive" in entries["notes/bees.txt"].load().reading.text
    (folder / "notes").rename(tmp_path / "outside")
    (folder / "notes").symlink_to(tmp_path / "outside")
    with pytest.raises(UnreadableDocumentError, match="outside"):
        entries["notes/bees.txt"].load()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_file_that_becomes_a_pipe_hangs_nobody(folder: Path) -> None:
    """It is opened without waiting for a writer, and refused."""
    entries = {entry.key: entry for entry in Folder(folder).scan().entries}
    (folder / "guide.md").unlink()
    os.mkfifo(folder / "guide.md")
    with pytest.raises(UnreadableDocumentError, match="not a regular file"):
        entries["guide.md"].load()


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_a_folder_that_cannot_be_used_is_a_configuration_error(tmp_path: Path, name: str) -> None:
    """The error names the folder and the remedy."""
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(ConfigurationError, match=f"{name}.*give the path"):
        LocalService.open(tmp_path / name, cache_dir=tmp_path / "cache")


def test_both_places_may_be_named_as_text(folder: Path, tmp_path: Path) -> None:
    """As a setting and a command line name them."""
    with LocalService.open(str(folder), cache_dir=str(tmp_path / "cache")) as service:
        assert service.stats.files == 6
    assert list((tmp_path / "cache").iterdir())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_is_a_configuration_error(tmp_path: Path) -> None:
    """The error says which permission is missing."""
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(ConfigurationError, match="permission"):
        LocalService.open(tmp_path / "closed", cache_dir=tmp_path / "cache")


def test_a_file_whose_permission_was_given_is_read(
    folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else of it has changed; until then nobody tries it again and again."""
    tried: list[str] = []
    load = Folder._bytes

    def refused(self: Folder, path: str, *most: int) -> bytes:
        if path.endswith("bees.txt") and os.stat(path).st_mode & 0o777 == 0o200:
            tried.append(path)
            raise PermissionError(errno.EACCES, "Permission denied")
        return load(self, path, *most)

    monkeypatch.setattr(Folder, "_bytes", refused)
    bees = folder / "notes" / "bees.txt"
    bees.chmod(0o200)
    service: LocalService = open_service(folder)
    assert service.skipped == [("notes/bees.txt", "Permission denied")]
    assert "notes/bees.txt" not in Asker(service).sources("honey bees")
    assert len(tried) == 1
    bees.chmod(0o600)
    assert Asker(service).sources("honey bees")[0] == "notes/bees.txt"
    assert service.skipped == []


def test_a_file_that_could_not_be_opened_for_want_of_room_is_tried_again(
    folder: Path, open_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many files were open: that says nothing of the file, which has not changed since."""
    load = Folder._bytes
    wanting = [True]

    def refused(self: Folder, path: str, *most: int) -> bytes:
        if wanting and path.endswith("bees.txt"):
            raise OSError(errno.EMFILE, "Too many open files")
        return load(self, path, *most)

    monkeypatch.setattr(Folder, "_bytes", refused)
    service: LocalService = open_service(folder)
    assert service.skipped == [("notes/bees.txt", "Too many open files")]
    wanting.clear()
    assert Asker(service).sources("honey bees")[0] == "notes/bees.txt"
    assert service.skipped == []


def test_a_file_that_was_written_under_its_old_time_is_read_again(folder: Path, open_service: Any) -> None:
    """Same length, same time of writing, other words."""
    service: LocalService = open_service(folder)
    bees = folder / "notes" / "bees.txt"
    seen = bees.stat()
    bees.write_text(bees.read_text().replace("Honey bees", "Magic bees"))
    os.utime(bees, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert Asker(service)("magic bees")["documents"][0]["text"].startswith("Magic bees")


def test_metadata_without_end_is_not_parsed(folder: Path, open_service: Any) -> None:
    """Two megabytes of brackets beside a file cost that file, whatever they would be in memory."""
    (folder / "guide.md.metadata.json").write_text('{"a": [' + "[], " * 500_000 + "1]}")
    service: LocalService = open_service(folder)
    assert service.skipped == [("guide.md", "guide.md.metadata.json is larger than 1 MiB")]


def test_progress_is_told(folder: Path, open_service: Any) -> None:
    """Each file once, in order, up to the total."""
    heard: list[Progress] = []
    open_service(folder, progress=heard.append)
    read = [event for event in heard if event.stage == "read"]
    assert [event.done for event in read] == [1, 2, 3, 4, 5, 6]
    assert {event.total for event in read} == {6}


def test_importing_the_package_is_cheap() -> None:
    """No part of the extra is loaded before it is used."""
    code = "import sys, rage_retrievers.local; print([m for m in ('numpy', 'tantivy', 'bs4') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_extra_is_named() -> None:
    """Without a part of the extra the error says what to install."""
    code = (
        "import sys; sys.modules['tantivy'] = None\n"
        "import rage_retrievers.local as local\n"
        "try: local.LocalService\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ConfigurationError")
    assert 'pip install "rage-retrievers[local]"' in done.stdout
