"""The metadata block at the head of a Markdown file: the plain `key: value` lines that authors write.

A line that needs a whole YAML parser (nested maps, multi-line strings) is left out rather than misread.
"""

from __future__ import annotations

import json
import re
from typing import Any

_BLOCK = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# Spaces at the end are taken off after: to look for them here would begin anew at each space in the middle of a line.
_LINE = re.compile(r"^([A-Za-z_][\w.-]*):(.*)$")
_ITEM = re.compile(r"^\s*-\s(.*)$")
_NUMBER = re.compile(r"^-?(?:0|[1-9]\d*)(?:\.\d+)?$")


def split(text: str) -> tuple[dict[str, Any], str]:
    """The metadata and the text after it; `({}, text)` when there is no block."""
    block = _BLOCK.match(text)
    if block is None:
        return {}, text
    found: dict[str, Any] = {}
    key = ""
    for line in block.group(1).splitlines():
        if (item := _ITEM.match(line)) and isinstance(found.get(key), list):
            found[key].append(_value(item.group(1).strip()))
        elif pair := _LINE.match(line):
            key = pair.group(1)
            written = pair.group(2).strip(" \t")
            found[key] = _value(written) if written else []
    return {name: value for name, value in found.items() if value != []}, text[block.end() :]


def _value(written: str) -> Any:
    if written.startswith("[") and written.endswith("]"):
        return [_value(item.strip()) for item in written[1:-1].split(",") if item.strip()]
    if written.startswith('"') and written.endswith('"'):
        try:
            return json.loads(written)
        except ValueError:
            return written.strip('"')
    if len(written) > 1 and written.startswith("'") and written.endswith("'"):
        return written[1:-1]
    if written in ("true", "false"):
        return written == "true"
    if _NUMBER.match(written):
        return float(written) if "." in written else int(written)
    return written
