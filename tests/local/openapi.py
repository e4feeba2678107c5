"""The vendor's OpenAPI document (examples left out), and whether an answer is what it describes."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_DOCUMENT = Path(__file__).parent / "data" / "vectorize_api.json"


@cache
def document() -> dict[str, Any]:
    """The document, its `nullable` written as JSON Schema writes it."""
    loaded: dict[str, Any] = _nullable(raw())
    return loaded


@cache
def raw() -> dict[str, Any]:
    """The document as it is."""
    read: dict[str, Any] = json.loads(_DOCUMENT.read_text("utf-8"))
    return read


def check(method: str, path: str, status: int, body: Any) -> None:
    """Fail unless the document describes this answer; where jsonschema is missing only the operation is looked up."""
    schema = schema_of(method, path, status)
    if find_spec("jsonschema") is None:
        return
    whole = {**schema, "components": document()["components"]}
    import_module("jsonschema").Draft202012Validator(whole).validate(body)


def schema_of(method: str, path: str, status: int) -> dict[str, Any]:
    """The schema of an answer; the path is one that was called, below the base URL."""
    operation = next(
        methods[method.lower()]
        for template, methods in document()["paths"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in methods
    )
    found: dict[str, Any] = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    return found


def _nullable(node: Any) -> Any:
    if isinstance(node, list):
        return [_nullable(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: _nullable(value) for key, value in node.items() if key != "nullable"}
    if node.get("nullable") is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made
