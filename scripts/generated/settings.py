"""The configuration page and `.env.example`, from `VectorizeSettings`."""

from __future__ import annotations

from typing import Any

from rage_retrievers._variables import allowed
from rage_retrievers.settings import PROFILES, documented


def shown(value: Any) -> str:
    """A default as it would be written in the environment."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def configuration() -> str:
    """The configuration page."""
    rows = []
    for name, variables, field in documented():
        default = f"`{shown(field.default)}`" if shown(field.default) else "none"
        more = ", ".join(f"`{variable}`" for variable in variables[1:])
        said = f"{field.description}." + (f" Also read: {more}." if more else "")
        rows.append(f"| `{variables[0]}` | `{name}` | {allowed(field)} | {default} | {said} |")
    profiles = [
        f"| `{name}` | {', '.join(f'`{key} = {shown(value)}`' for key, value in values.items())} |"
        for name, values in PROFILES.items()
    ]
    return "\n".join(
        [
            "# Configuration",
            "",
            "<!-- Generated from rage_retrievers/settings.py by `make generate`. -->",
            "",
            "What is nearer wins: an argument of a call, an argument of the constructor, an environment variable,",
            "`.env` in the working directory, a profile, the default. An empty variable counts as not set. A wrong",
            "value is a `ConfigurationError` of one line. `rage validate-config` shows what is in force, and why.",
            "",
            "| variable | setting | value | default | what it does |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "## Profiles",
            "",
            "`RAGE_CONFIG_PROFILE` names a set of defaults; whatever is given elsewhere wins over it.",
            "",
            "| profile | sets |",
            "|---|---|",
            *profiles,
            "",
        ]
    )


def environment() -> str:
    """`.env.example`: every variable, commented out, with its default."""
    lines = [
        "# Generated from rage_retrievers/settings.py by `make generate`. Copy to .env and uncomment what you set."
    ]
    for _, variables, field in documented():
        lines += ["", f"# {field.description}.", f"# {variables[0]}={shown(field.default)}"]
    return "\n".join([*lines, ""])
