"""From an error to what the user sees of it: one line, and an exit code."""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, RageError

OK, FAILED, BAD_INPUT = 0, 1, 2

EXIT_CODES = "Exit codes: 0 done, 1 the service or a call failed, 2 bad input or configuration, 130 stopped by Ctrl-C."


class CommandFailedError(Exception):
    """The command did its work and the news is bad; what it had to say is on the screen already. Exit code 1."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One line for people, the error's type for programs, and the exit code."""

    kind: str
    line: str
    exit_code: int

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What to say of an error; never a traceback, and of an error that is not ours only where it came from."""
        kind = type(error).__name__
        if isinstance(error, ConfigurationError):
            return cls(kind, _one_line(error.message), BAD_INPUT)
        if isinstance(error, RageError):
            return cls(kind, _one_line(error.message), FAILED)
        if isinstance(error, ImportError):
            return cls(kind, _one_line(str(error)), BAD_INPUT)
        if hasattr(error, "format_message"):  # the command line itself cannot be understood
            return cls(kind, _one_line(error.format_message()), int(getattr(error, "exit_code", BAD_INPUT)))
        # An unknown error's text may quote anything, a token included, so it is not shown.
        return cls(kind, f"internal error ({kind} at {_place(error)}); RAGE_DEBUG=true shows where it arose.", FAILED)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"error": {"type": self.kind, "message": self.line, "exit_code": self.exit_code}}


def places(error: Exception) -> str:
    """The lines of code the error passed through, without its message; empty unless RAGE_DEBUG is on."""
    if os.environ.get("RAGE_DEBUG", "").lower() not in ("1", "true", "yes", "on"):
        return ""
    return "".join(traceback.format_tb(error.__traceback__))


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"


def _one_line(text: str) -> str:
    """The text without line breaks and without the credentials in use: a service may quote the token it refuses."""
    from ..observability.redaction import DEFAULT_REDACTOR

    return " ".join(DEFAULT_REDACTOR.credentials(text).split())
