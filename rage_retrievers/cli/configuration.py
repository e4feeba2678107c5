"""The settings in force, where each of them comes from, and what is wrong with them."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from .._connection import LOCAL, connect
from .._variables import ENV_FILE, set_by, written
from ..errors import ConfigurationError
from ..observability.audit import consequence
from ..observability.redaction import DEFAULT_REDACTOR
from ..settings import PROFILES, VectorizeSettings, mistyped_variables
from ..tokens import judge

MASK = "***"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is shown: a secret is masked, and `source` names what set it."""

    name: str
    value: Any
    source: str
    variable: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings and what is to be said of them: `problems` keep calls from being made, `notes` do not."""

    settings: tuple[Setting, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"valid": not self.problems, **asdict(self)}


def configuration(profile: str | None, now: float) -> Configuration:
    """The configuration of this environment and working directory; `now` is seconds since 1970.

    Raises ConfigurationError for a setting whose value cannot be used at all.
    """
    settings = VectorizeSettings.load(config_profile=profile)
    in_file = written()
    problems: list[str] = []
    notes: list[str] = []
    try:
        connect(settings)
    except ConfigurationError as error:
        problems.append(error.message)
    for found in (_token(settings, now), _audit_file(settings)):
        if found is not None:
            problem, message = found
            (problems if problem else notes).append(message)
    for name, near in [*mistyped_variables(os.environ), *mistyped_variables(in_file)]:
        notes.append(f"{name} is not a setting; did you mean {near}?")
    shown = tuple(_settings(settings, in_file, profile))
    return Configuration(shown, tuple(problems), tuple(dict.fromkeys(notes)))


def _token(settings: VectorizeSettings, now: float) -> tuple[bool, str] | None:
    """(whether it is a problem, what to say) of the token; None where there is none."""
    if settings.api_key is None:
        return None
    verdict = judge(settings.api_key.get_secret_value(), organization=settings.organization, now=now)
    if verdict.problem is None:
        return False, verdict.message
    if _on_this_machine(settings):
        return False, f"{verdict.message} A service on this machine may take it all the same."
    return True, verdict.message


def _on_this_machine(settings: VectorizeSettings) -> bool:
    base_url = settings.base_url or ""
    host = urlsplit(base_url).hostname or ""
    return base_url.startswith(LOCAL) or host in ("localhost", "127.0.0.1", "::1") or host.endswith(".localhost")


def _audit_file(settings: VectorizeSettings) -> tuple[bool, str] | None:
    """(whether it is a problem, what to say) of an audit file that cannot be written; None where there is none such."""
    if not settings.enable_audit_log or settings.audit_file is None:
        return None
    reason = _unwritable(settings.audit_file)
    if reason is None:
        return None
    file, so = DEFAULT_REDACTOR.identifier(settings.audit_file), consequence(required=settings.audit_required)
    return settings.audit_required, f"audit_file {file!r} cannot be written ({reason}), so {so}."


def _unwritable(file: str) -> str | None:
    """Why nothing could be appended to the file; None where it could. It is neither made nor changed."""
    try:
        # Without O_CREAT; and a pipe that nobody reads is told at once.
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)))
    except FileNotFoundError as error:
        folder = Path(file).resolve().parent
        if not folder.is_dir():
            return error.strerror
        return None if os.access(folder, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    except OSError as error:
        return error.strerror
    return None


def _settings(settings: VectorizeSettings, written: Mapping[str, str], profile: str | None) -> list[Setting]:
    preset = PROFILES.get(settings.config_profile or "", {})
    found = []
    for name, variables in VectorizeSettings.variables().items():
        source = f"profile {settings.config_profile}" if name in preset else "default"
        if (from_file := set_by(variables, written)) is not None:
            source = f"{ENV_FILE}: {from_file[0]}"
        if (from_environment := set_by(variables, os.environ)) is not None:
            source = from_environment[0]
        if name == "config_profile" and profile is not None:
            source = "--profile"
        found.append(Setting(name, _shown(getattr(settings, name)), source, variables[0]))
    return found


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    return DEFAULT_REDACTOR.identifier(value) if isinstance(value, str) else value
