"""The house: which room may know which, and which library belongs to which room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rage_retrievers

ROOT = Path(rage_retrievers.__file__).parent
PACKAGE = "rage_retrievers"

CORE = {"_aside", "_checks", "errors", "models", "queries", "_closing", "_flow", "_frozen", "_json", "_keywords",
        "_lazy", "_mold", "_secrets", "_version", "_weight"}  # fmt: skip
EVENTS = {"observability.events"}
LAZY = {"observability.redaction"}
LIGHT = {"observability.correlation", "observability.secrets"}
BELOW_CLIENT = CORE | EVENTS | LIGHT | {"_endpoint", "_world", "engines", "resilience", "settings"}
CLIENT = {"_calls", "_connection", "_credential", "_listeners", "_options", "_policies", "client"}
BELOW_FACES = BELOW_CLIENT | CLIENT | {"_face", "filters", "scope", "context", "observability"}

ALLOWED: dict[str, set[str]] = {
    "_secrets": set(),
    "errors": {"_secrets"},
    "_aside": set(),
    "_checks": set(),
    "_closing": set(),
    "_flow": {"_frozen"},
    "_frozen": set(),
    "_keywords": {"_secrets"},
    "_version": set(),
    "_json": {"errors"},
    "_lazy": set(),
    "_mold": set(),
    "_weight": {"errors"},
    "queries": {"errors", "_checks", "_keywords"},
    "models": {"queries", "_html", "_mold"},
    "_html": set(),
    "tokens": {"_checks", "errors"},
    "_status": {"_flow", "_json", "errors"} | LAZY,
    "_endpoint": CORE | {"_status"},
    "_world": {"_aside", "_flow"},
    "observability": CORE | EVENTS | {"observability", "scope", "settings"},
    "resilience": CORE | EVENTS | {"resilience"},
    # The embedded engine is the one door to `local`.
    "engines": CORE | {"_world", "engines", "local"},
    "settings": CORE | {"observability.secrets", "_profiles", "_setting_kinds", "_variables"},
    "_profiles": set(),
    "_setting_kinds": set(),
    "_variables": set(),
    "filters": CORE | {"filters"},
    "scope": CORE | {"filters"},
    "context": CORE | {"context"},
    "_credential": {"_checks", "_flow", "errors", "observability.secrets"},
    "_connection": BELOW_CLIENT | {"_credential", "local"},
    "_listeners": CORE | {"observability", "settings"},
    "_policies": {"resilience", "settings"},
    "_options": CORE | EVENTS | {"_credential", "engines", "resilience", "settings"},
    "_calls": BELOW_CLIENT | {"_connection", "_credential", "_listeners", "_options", "_policies"} | LAZY,
    "client": BELOW_CLIENT | {"_calls", "_connection", "_options"},
    # `local` knows the wire protocol and nothing of the clients.
    "local": {"_aside", "_checks", "_frozen", "errors", "local"},
    # What the faces share.
    "_face": BELOW_FACES,
    "langchain": BELOW_FACES | {"_face", "langchain"},
    "llama_index": BELOW_FACES | {"_face", "llama_index"},
    "asgi": BELOW_FACES,
    "testing": BELOW_FACES | {"local", "testing"},
}
OPEN_ROOMS = {"cli", "__init__"}
"""The command line stands on everything; the package's front shows everything."""

LIBRARIES: dict[str, set[str]] = {
    "langchain_core": {"langchain", "cli"},
    "langchain": {"langchain"},
    "langgraph": {"langchain"},
    "llama_index": {"llama_index", "cli"},
    "httpx": {"engines", "client", "cli", "_face"},
    "httpcore": {"engines"},
    "tantivy": {"local"},
    "starlette": {"local", "asgi", "cli"},
    "uvicorn": {"local", "cli"},
    "typer": {"cli"},
    "rich": {"cli"},
    "matplotlib": {"cli"},
    "opentelemetry": {"observability"},
    "prometheus_client": {"observability"},
    "tenacity": {"resilience"},
    "pybreaker": {"resilience"},
    "cachetools": {"resilience"},
}


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name below the package, file) of every module."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        yield name, path


def imports(name: str, path: Path) -> Iterator[str]:
    """Absolute names of what the module imports."""
    package = [PACKAGE, *name.split(".")] if path.name == "__init__.py" else [PACKAGE, *name.split(".")[:-1]]
    if name == "__init__":
        package = [PACKAGE]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            whole = {f"{PACKAGE}.{one}" for one, _ in modules()}
            for alias in node.names:
                yield f"{stem}.{alias.name}" if f"{stem}.{alias.name}" in whole else stem


def room_of(name: str) -> str:
    """The room of a module."""
    return name.split(".", maxsplit=1)[0] or "__init__"


def allowed(importer: str, imported: str) -> bool:
    """Whether the module may know the other."""
    room = room_of(importer)
    if room in OPEN_ROOMS:
        return True
    return any(imported == one or imported.startswith(f"{one}.") for one in ALLOWED[room])


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_run_one_way(name: str, path: Path) -> None:
    """A module knows only what its room may know, and a library is used only where it belongs."""
    strangers = []
    for target in imports(name, path):
        if target == PACKAGE or target.startswith(f"{PACKAGE}."):
            inner = target.removeprefix(PACKAGE).removeprefix(".") or "__init__"
            if not allowed(name, inner):
                strangers.append(target)
        elif (library := target.split(".")[0]) in LIBRARIES and room_of(name) not in LIBRARIES[library]:
            strangers.append(target)
    assert strangers == []


def test_every_public_name_exists() -> None:
    """What the package says it offers can be had, once each; what it does not say is an AttributeError."""
    assert all(getattr(rage_retrievers, name) is not None for name in rage_retrievers.__all__)
    assert len(set(rage_retrievers.__all__)) == len(rage_retrievers.__all__)
    with pytest.raises(AttributeError):
        _ = rage_retrievers.NoSuchName
