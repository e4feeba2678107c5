"""The command line itself: which commands there are, and how each of them ends."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text
from typer.core import TyperGroup

from . import STOPPED, screen, stopped
from .ask import ask
from .circuit_status import circuit_status
from .demo import demo
from .error_analysis import error_analysis
from .failure import EXIT_CODES, FAILED, OK, CommandFailedError, Failure, places
from .health import health
from .load_test import load_test
from .metrics import metrics
from .research import research
from .serve import serve
from .validate_config import validate_config

_PANELS_FROM = 72
"""Characters a screen needs to be wide, for the panels of --help to cut nothing."""


class Rage(TyperGroup):
    """Every command ends the same way: 0, or one line on stderr (an object on stdout with --json) and 1 or 2.

    Ctrl-C is one line on stderr and 130.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, say in one line what failed, and exit."""
        given = extra.pop("args", args[0] if args else None)
        words = list(sys.argv[1:] if given is None else given) or ["--help"]
        _tolerate_odd_encodings()
        width = screen.out().width
        if width < _PANELS_FROM:
            _help_without_panels(self)
            extra["terminal_width"] = width - 2  # as wide as click itself makes it where there is room
        try:
            with contextlib.redirect_stdout(screen.telling_of_loss(sys.stdout)):
                code = self._code(words, extra)
        except (BrokenPipeError, screen.OutputLostError) as error:
            with contextlib.suppress(OSError):
                sys.stdout = open("/dev/null", "w", encoding="utf-8")  # noqa: SIM115  # the process is about to end
            if not isinstance(error, BrokenPipeError):  # else the reader has seen enough, as in `rage ask … | head`
                screen.remark(f"rage: {error}", style="red")
            code = FAILED
        if code == STOPPED:  # what typer makes of a KeyboardInterrupt
            stopped()
        sys.exit(code if isinstance(code, int) else OK)

    def _code(self, words: list[str], extra: dict[str, Any]) -> Any:
        try:
            with screen.warnings_as_remarks(), screen.records_on_stderr():
                return super().main(args=words, **{**extra, "standalone_mode": False})
        except CommandFailedError:
            return FAILED
        except (BrokenPipeError, screen.OutputLostError):
            raise
        except Exception as error:
            return _fail(error, as_json="--json" in words)


def _fail(error: Exception, *, as_json: bool) -> int:
    failure = Failure.of(error)
    if as_json:
        screen.write_json(failure.as_dict())
    sys.stderr.write(places(error))
    screen.remark(f"rage: {failure.line}", style="red")
    return failure.exit_code


def _tolerate_odd_encodings() -> None:
    """Passages hold any character; a terminal that cannot show one shows a question mark."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # not every stream can


def _help_without_panels(group: TyperGroup) -> None:
    """Help for a narrow screen, where typer's panels would cut the options' names: click's own, which wraps."""
    for command in (group, *group.commands.values()):
        command.rich_markup_mode = None  # type: ignore[attr-defined]  # typer's commands have it
        command.short_help = (command.help or "").partition("\n\n")[0]  # else the list of commands cuts it
        if command.epilog:
            # After this mark click leaves the paragraph's lines as they are: an example is there to be copied.
            command.epilog = "\b\n" + Text.from_markup(command.epilog).plain


def _help(*examples: str) -> str:
    """What follows the options in --help: examples, and the exit codes."""
    lines = "\n".join(escape(f"  {example}") for example in examples)
    return f"[bold]Examples[/bold]\n{lines}\n\n{EXIT_CODES}"


app = typer.Typer(
    cls=Rage,
    name="rage",
    help="Ask Vectorize.io pipelines, or your own folder of documents, from the command line.",
    epilog=_help("rage demo", 'rage ask "How is a retry paused?" --base-url local:./docs', "rage serve ./docs"),
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"rage-retrievers {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Ask Vectorize.io pipelines, or your own folder of documents, from the command line."""


app.command(epilog=_help("rage demo", 'rage demo --docs ./manuals --question "Who may sign?"'))(demo)
app.command(
    epilog=_help(
        'rage ask "Who may sign?" -k 3',
        'rage ask "Who may sign?" --base-url local:./docs --mode hybrid',
        'rage ask "Who may sign?" --rerank --filter year=2023 --filter year=2024',
    )
)(ask)
app.command(
    epilog=_help(
        "rage serve ./docs",
        "rage serve ./docs --port 9000 --json",
        "rage serve ./docs --host 0.0.0.0 --api-key SECRET",
    )
)(serve)
app.command("validate-config", epilog=_help("rage validate-config", "rage validate-config --profile production"))(
    validate_config
)
app.command(
    epilog=_help("rage health", "rage health --base-url local:./docs", "rage health --url http://127.0.0.1:8000 --json")
)(health)
app.command(epilog=_help("rage metrics --url http://127.0.0.1:8000"))(metrics)
app.command("circuit-status", epilog=_help("rage circuit-status --url http://127.0.0.1:8000"))(circuit_status)
app.command(
    "error-analysis",
    epilog=_help(
        "rage error-analysis app.log",
        "rage error-analysis --json logs/*.log.gz",
        "rage error-analysis - < app.log",
    ),
)(error_analysis)
app.command(
    epilog=_help('rage research "How did revenue grow?"', 'rage research "Who may sign?" --timeout 600 > report.md')
)(research)
app.command(
    "load-test",
    epilog=_help(
        'rage load-test "Who may sign?" -n 200 -c 8',
        "rage load-test --questions questions.txt --duration 60 --rate 20 --report load.html",
        'rage load-test "Who may sign?" --base-url local:./docs --raw --json',
    ),
)(load_test)
