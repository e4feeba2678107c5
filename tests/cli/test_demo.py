"""`rage demo`: real documents through both frameworks, without an account."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rage_retrievers.cli.project_documents import project_documents
from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local.documents import _READERS

from .conftest import Run

Start = Callable[..., subprocess.Popen[str]]


def test_both_frameworks_answer_from_the_folder(start: Start, folder: Path) -> None:
    """As a user runs it: passages with scores, sources and timings from a chain and a query engine, in 80 columns."""
    running = start("demo", "--docs", str(folder), "--question", "Where are the flowers?", COLUMNS="80")
    shown, remarks = running.communicate(timeout=60)
    assert running.returncode == 0, remarks
    langchain, _, llama_index = shown.partition("LlamaIndex")
    for part in (langchain, llama_index):
        assert "bees.txt" in part
        assert "Honey bees dance" in part
        assert "3 passages in " in part
    assert "3 files, 3 passages, indexed in" in langchain
    assert "so the chain ends in the assembled prompt" in langchain
    assert "Answer from the context alone." in langchain
    assert "No model is configured" in llama_index
    assert max(map(len, shown.splitlines())) <= 80


def test_one_document_is_told_as_one(run: Run, folder: Path) -> None:
    """A number of one has no plural."""
    for name in ("engines.txt", "tomatoes.md", "tomatoes.md.metadata.json"):
        (folder / name).unlink()
    shown = run("demo", "--docs", str(folder), "-q", "Where are the flowers?").out
    assert "1 file, 1 passage, indexed in" in shown
    assert shown.count("1 passage in ") == 2


def test_json_holds_everything(run: Run, folder: Path) -> None:
    """Both frameworks give the same passages in the same order, with the same scores; the prompt holds them."""
    said = run("demo", "--docs", str(folder), "-q", "Where are the flowers?", "--json").json()
    langchain, llama_index = said["answers"]
    assert langchain["passages"] == llama_index["passages"]
    assert langchain["passages"][0]["source"] == "bees.txt"
    assert langchain["passages"][0]["text"] in langchain["prompt"]
    assert langchain["first_ms"] > 0
    assert said["files"] == 3
    assert not said["reused"]


def test_a_second_run_reuses_the_index(run: Run, folder: Path) -> None:
    """Nothing is read again when nothing has changed."""
    run("demo", "--docs", str(folder), "--json")
    assert run("demo", "--docs", str(folder), "--json").json()["reused"]


def test_a_folder_that_cannot_be_used_is_bad_input(run: Run, tmp_path: Path) -> None:
    """One line, exit code 2."""
    ended = run("demo", "--docs", str(tmp_path / "nowhere"))
    assert ended.code == 2
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(("module", "extra"), [("langchain_core", "langchain"), ("llama_index", "llama-index")])
def test_a_missing_framework_is_named_before_anything_is_indexed(start: Start, module: str, extra: str) -> None:
    """Without a framework one line says which extra to install."""
    hidden = f"import sys; sys.modules[{module!r}] = None; from rage_retrievers.cli import main; main()"
    running = start("demo", program=hidden)
    shown, remarks = running.communicate(timeout=60)
    assert (running.returncode, shown, remarks.count("\n")) == (2, "", 1)
    assert f"rage-retrievers[{extra}]" in remarks


def test_a_folder_without_documents_is_bad_input(run: Run, tmp_path: Path) -> None:
    """Nothing is asked of a folder that holds nothing to read."""
    (tmp_path / "photo.png").write_bytes(b"png")
    ended = run("demo", "--docs", str(tmp_path))
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "holds no .md" in ended.err


def test_what_could_not_be_read_is_told_before_that_there_is_nothing(run: Run, tmp_path: Path) -> None:
    """The reason is the user's only hint."""
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    ended = run("demo", "--docs", str(tmp_path))
    assert ended.code == 2
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["skipped broken.pdf", "rage"]


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_help_names_every_kind_of_document(run: Run, command: str) -> None:
    """Whatever kind of file is read is named, as it is where a folder holds none."""
    shown = run(command, "--help").out
    assert [kind for kind in _READERS if kind not in shown] == []


def test_the_projects_own_documents_are_readme_and_docs(tmp_path: Path) -> None:
    """README and docs lie beside each other in the copy, and nothing else of the checkout does."""
    project = _checkout(tmp_path)
    copies = project_documents(tmp_path / "home", project)
    assert _files(copies) == ["README.md", "docs/deep/b.txt", "docs/guide.md"]
    assert (copies / "README.md").read_text() == "hello"


def test_the_copies_follow_the_checkout(tmp_path: Path) -> None:
    """A changed file is copied again, a deleted one disappears, an untouched copy is left alone."""
    project = _checkout(tmp_path)
    copies = project_documents(tmp_path / "home", project)
    untouched = (copies / "README.md").stat()
    (project / "docs/guide.md").write_text("a longer guide")
    (project / "docs/deep/b.txt").unlink()
    project_documents(tmp_path / "home", project)
    assert _files(copies) == ["README.md", "docs/guide.md"]
    assert (copies / "docs/guide.md").read_text() == "a longer guide"
    assert (copies / "README.md").stat() == untouched


def test_outside_a_checkout_the_folder_must_be_named(tmp_path: Path) -> None:
    """An installed package has no documents of its own, and says to name --docs."""
    with pytest.raises(ConfigurationError, match="--docs"):
        project_documents(tmp_path / "home", tmp_path)


def _checkout(home: Path) -> Path:
    project = home / "project"
    (project / "docs/deep").mkdir(parents=True)
    (project / "pyproject.toml").write_text("[project]")
    (project / "README.md").write_text("hello")
    (project / "CHANGELOG.md").write_text("not a guide")
    (project / "docs/guide.md").write_text("guide")
    (project / "docs/deep/b.txt").write_text("b")
    (project / "docs/logo.png").write_bytes(b"png")
    return project


def _files(home: Path) -> list[str]:
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())
