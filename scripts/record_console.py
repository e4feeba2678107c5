"""Run the commands of the `console` blocks in the documentation, and write what they print into the page.

    python scripts/record_console.py docs/command.md            # rewrites the outputs
    python scripts/record_console.py --check docs/command.md    # says which outputs are another; numbers may differ

A page's commands run one after the other in an empty folder. A Python block that begins with `# NAME.py` is a file
there. A command that ends in `&` is a server: it has started once it says how to end it, and it ends with the page.
"""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PORT = "8931"
"""The port that pages show; a free one is used in its place."""
STARTED = "Ctrl-C ends it."
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Shell:
    """Runs commands in one folder, with the `rage` of this Python, no settings, and 80 columns."""

    def __init__(self, folder: Path, until: ExitStack) -> None:
        self._until = until
        self._folder = folder
        self._port = _free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAGE_", "VECTORIZE_"))}
        kept |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "80", "TERM": "dumb"}
        self._environment = kept | {"RAGE_CACHE_DIR": str(folder / ".cache"), "PYTHONWARNINGS": "ignore"}

    def run(self, command: str) -> str:
        """What the command prints, errors included."""
        said = command.replace(PORT, self._port)
        printed = self._serve(said[:-1]) if said.endswith("&") else self._finish(said)
        lines = [line.rstrip() for line in printed.replace(self._port, PORT).splitlines()]
        return "".join(f"{line}\n" for line in lines)

    def _finish(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout

    def _serve(self, command: str) -> str:
        server = self._until.enter_context(
            subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._folder,
                env=self._environment | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        self._until.callback(server.terminate)
        assert server.stdout is not None  # asked for above
        lines = []
        for line in server.stdout:
            lines.append(line)
            if STARTED in line:
                break
        return "".join(lines)


def _free_port() -> str:
    """The port that pages show if it is free, else another of as many digits: tables are as wide then."""
    for port in (int(PORT), *random.sample(range(5000, 9999), 50)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)
    raise OSError("No free port was found.")


@contextmanager
def shell(page: str) -> Iterator[Shell]:
    """A shell in an empty folder that holds the files of the page."""
    with ExitStack() as until:
        folder = Path(until.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        for name, text in _FILE.findall(page):
            (folder / name).write_text(text, encoding="utf-8")
        yield Shell(folder, until)


def recorded(page: str) -> str:
    """The page with what its commands print now."""
    with shell(page) as open_shell:
        return _BLOCK.sub(lambda block: f"```console\n{_transcript(block[1], open_shell)}```", page)


def _transcript(block: str, open_shell: Shell) -> str:
    commands = re.findall(r"^\$ (.*(?:\\\n.*)*)\n", block, re.MULTILINE)
    return "".join(f"$ {command}\n{open_shell.run(command)}" for command in commands)


def settled(page: str) -> list[str]:
    """The lines of the page's blocks without numbers, bars and widths, which another machine would change."""
    text = "".join(_BLOCK.findall(page))
    text = re.sub(r"\b[0-9a-f]{12,}\b", "#", text)
    text = re.sub(r"\d[\d,.:TZ-]*", "#", text)
    return [" ".join(re.sub("[█▏▎▍▌▋▊▉]+", "", line).split()) for line in text.splitlines()]


def main() -> int:
    """Record or check the pages named."""
    checking = "--check" in sys.argv
    differing = 0
    for path in map(Path, (name for name in sys.argv[1:] if name != "--check")):
        page = path.read_text(encoding="utf-8")
        now = recorded(page)
        if not checking:
            path.write_text(now, encoding="utf-8")
            continue
        for was, became in zip(settled(page), settled(now), strict=False):
            if was != became:
                print(f"{path}: it says {was!r} and the command prints {became!r}")
                differing += 1
        if len(settled(page)) != len(settled(now)):
            print(f"{path}: {len(settled(page))} lines are shown and {len(settled(now))} printed")
            differing += 1
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
