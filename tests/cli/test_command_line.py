"""What holds for every command: help, exit codes, one-line errors, JSON, secrets."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rage_retrievers.cli import main
from rage_retrievers.cli.app import app
from rage_retrievers.cli.failure import Failure
from rage_retrievers.errors import ConfigurationError, ConnectionFailedError
from rage_retrievers.observability import register_secret

from .conftest import TOKEN, Run

Start = Callable[..., subprocess.Popen[str]]

COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_exit_codes_and_json(run: Run, command: str) -> None:
    """Every command's help ends in examples of itself and the exit codes, and names --json."""
    shown = run(command, "--help")
    assert shown.code == 0
    assert f"rage {command}" in shown.out.partition("Examples")[2]
    assert "Exit codes: 0 done, 1 the service" in shown.out
    assert "--json" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_without_arguments_help_is_shown(run: Run) -> None:
    """`rage` alone explains itself and is no error."""
    shown = run()
    assert shown.code == 0
    assert "demo" in shown.out


def test_the_module_is_the_command() -> None:
    """`python -m rage_retrievers.cli` says what `rage` says and ends as it ends."""
    for words, code, said in ((["--version"], 0, "rage-retrievers "), (["nonsense"], 2, "No such command 'nonsense'")):
        done = subprocess.run(
            [sys.executable, "-m", "rage_retrievers.cli", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == code
        assert said in done.stdout + done.stderr


def test_the_version_is_told(run: Run) -> None:
    """--version names package and version."""
    from rage_retrievers import __version__

    assert run("--version").out == f"rage-retrievers {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [("ask",), ("ask", "q", "--num-result", "3"), ("nonsense",), ("ask", "q", "-k", "many"), ("ask", "q")],
    ids=["missing argument", "unknown option", "unknown command", "no number", "no token"],
)
def test_bad_input_is_one_line_and_exit_code_2(run: Run, words: tuple[str, ...]) -> None:
    """Whatever is wrong with what the user typed or configured is said in one line on stderr."""
    ended = run(*words)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("rage: ")
    assert ended.err.count("\n") == 1


def test_json_errors_are_objects_on_stdout(run: Run) -> None:
    """With --json a program reads type, message and exit code of a failure from stdout."""
    ended = run("ask", "q", "--json")
    assert ended.code == 2
    assert ended.json()["error"]["type"] == "ConfigurationError"
    assert ended.json()["error"]["exit_code"] == 2


def test_a_failed_call_is_exit_code_1(run: Run) -> None:
    """A service that cannot be reached is no mistake of the user's."""
    ended = run("ask", "q", "--base-url", "http://127.0.0.1:9/v1", "--organization", "o", "--pipeline", "p",
                "--api-key", TOKEN, "--timeout", "0.5")  # fmt: skip
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert TOKEN not in ended.out + ended.err


def test_a_mistyped_variable_is_a_warning_and_the_command_goes_on(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that looks like ours and is not is named once, with the nearest name."""
    monkeypatch.setenv("RAGE_TIMOUT_MS", "5")
    ended = run("ask", "bees", "--base-url", f"local:{folder}")
    assert ended.code == 0
    assert ended.err == "warning: RAGE_TIMOUT_MS is not a setting; did you mean RAGE_TIMEOUT_MS?\n"


def test_without_the_extra_one_line_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without typer the command names the extra to install and exits 2."""
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert 'pip install "rage-retrievers[cli]"' in capsys.readouterr().err


def test_an_unknown_error_never_shows_its_text() -> None:
    """The text of an error that is not ours may quote a token, so only its type and place are shown."""
    try:
        raise ValueError(f"Bearer {TOKEN}")
    except ValueError as error:
        failure = Failure.of(error)
    assert failure.exit_code == 1
    assert TOKEN not in failure.line
    assert "test_command_line.py" in failure.line


def test_our_errors_are_told_apart_by_exit_code() -> None:
    """Configuration is 2, a failed call 1; line breaks of a message do not break the line."""
    assert Failure.of(ConfigurationError("a\nb")).exit_code == 2
    assert Failure.of(ConfigurationError("a\nb")).line == "a b"
    assert Failure.of(ConnectionFailedError("refused")).exit_code == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("words", [("ask", "bees"), ("ask", "bees", "--json"), ("ask", "", "--json"), ("ask", "-h")])
def test_output_that_cannot_be_written_is_one_line(folder: Path, words: tuple[str, ...]) -> None:
    """A full disk, under an answer, an error or help, is told with its reason and is exit code 1."""
    program = "from rage_retrievers.cli import main; main()"
    where = ("--base-url", f"local:{folder}")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program, *words, *where], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    reason = "No space left on device"
    assert (ended.returncode, ended.stderr) == (1, f"rage: the output could not be written ({reason}).\n")


def test_a_process_without_output_answers_all_the_same(folder: Path) -> None:
    """Where stdout is closed, what would be said there is said to nobody."""
    program = "import sys; sys.stdout = None; from rage_retrievers.cli import main; main()"
    words = ("ask", "bees", "--base-url", f"local:{folder}")
    ended = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_document_of_any_character_reaches_a_terminal_of_few(start: Start, folder: Path) -> None:
    """A terminal that cannot show a character shows a question mark, and the command goes on."""
    (folder / "bees.txt").write_text("Bees say \u86ee and \u266b in the hive.", encoding="utf-8")
    running = start("ask", "bees hive", "--base-url", f"local:{folder}", "-k", "1", PYTHONIOENCODING="ascii")
    shown, remarks = running.communicate(timeout=60)
    assert running.returncode == 0, remarks
    assert "Bees say ? and ? in the hive." in shown


def test_help_loads_no_framework_and_no_model(start: Start) -> None:
    """Starting `rage` is quick: what a command needs is imported by the command."""
    heavy = {"langchain_core", "llama_index", "tantivy", "numpy", "httpx", "pydantic_settings", "starlette"}
    listing = f"import sys; import rage_retrievers.cli.app; print(sorted({heavy} & set(sys.modules)))"
    shown, _ = start(program=listing).communicate(timeout=60)
    assert shown == "[]\n"


def test_a_token_in_an_error_of_ours_is_hidden() -> None:
    """Should a message hold the token in use all the same, it does not reach the screen."""
    register_secret(TOKEN)
    assert TOKEN not in Failure.of(ConnectionFailedError(f"refused {TOKEN}")).line


@pytest.mark.parametrize(
    ("variable", "value", "shown", "hidden"),
    [
        ("RAGE_DEBUG", "1", "DEBUG rage_retrievers.calls attempt.started", None),
        ("RAGE_LOG_LEVEL", "INFO", "INFO rage_retrievers.calls retrieve.completed", "attempt.started"),
        ("RAGE_LOG_LEVEL", "", None, "rage_retrievers.calls"),
    ],
)
def test_the_log_that_the_environment_asks_for_is_on_stderr(
    run: Run,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    shown: str | None,
    hidden: str | None,
) -> None:
    """RAGE_DEBUG and RAGE_LOG_LEVEL show the records of a call, and stdout stays the result alone."""
    monkeypatch.setenv(variable, value)
    logger = logging.getLogger("rage_retrievers")
    before = logger.handlers[:], logger.level, logger.propagate
    ended = run("ask", "bees", "--base-url", f"local:{folder}", "--json")
    assert ended.json()["attempts"] == 1
    assert shown is None or shown in ended.err
    assert hidden is None or hidden not in ended.err
    assert (logger.handlers, logger.level, logger.propagate) == before
