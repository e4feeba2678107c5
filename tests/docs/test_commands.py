"""The commands shown in the documentation print what is shown."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from rage_retrievers.cli.app import app

from .test_examples import PAGES, ROOT, named

PAGES_WITH_COMMANDS = [named(page) for page in PAGES if "```console\n" in page.read_text()]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_documented_commands_print_what_is_shown(page: str) -> None:
    """Numbers, ids and instants apart; `python scripts/record_console.py PAGE` writes what is printed today."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "record_console.py", "--check", page],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_every_command_is_shown_with_what_it_prints() -> None:
    """The page of the command runs each of them; the test above holds what they print."""
    shown = re.findall(r"^\$ .*?\brage ([a-z-]+)", (ROOT / "docs" / "command.md").read_text(), re.MULTILINE)
    assert "docs/command.md" in PAGES_WITH_COMMANDS
    assert {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands} == set(
        shown
    )


def lines(kind: str) -> list[tuple[str, str]]:
    """The lines of the blocks of one kind, each with its page."""
    block = re.compile(rf"^```{kind}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    texts = [(named(page), text) for page in PAGES for text in block.findall(page.read_text())]
    return [
        (page, line.partition(" #")[0].strip()) for page, text in texts for line in text.splitlines() if line.strip()
    ]


@pytest.mark.parametrize(("page", "line"), lines("bash"))
def test_what_a_reader_is_told_to_type_exists(page: str, line: str) -> None:
    """What installs or needs an account is not run here: the extras, targets, settings and commands are there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if line.startswith("pip install"):
        name, _, extras = line.removeprefix("pip install ").strip('"').rstrip("]").partition("[")
        assert name == project["name"]
        assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])
    elif line.startswith("make "):
        assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif line.startswith("export "):
        assert f"`{line.split()[1].partition('=')[0]}`" in (ROOT / "docs" / "configuration.md").read_text()
    else:
        assert line == "rage validate-config", "say in this test how the line is checked"


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, line in lines("diff") if line.startswith("+")])
def test_the_line_of_a_migration_works(page: str, line: str) -> None:
    """The import that replaces the vendor's is one."""
    exec(line.removeprefix("+"), {})


def test_every_block_is_of_a_kind_that_a_test_looks_at() -> None:
    """A block in another language, or one without any, would be checked by nobody."""
    kinds = {kind for page in PAGES for kind in re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)}
    assert kinds == {"", "python", "text", "console", "bash", "diff"}
