"""A local Vectorize: the service's wire protocol over a folder of the user's own documents.

    from rage_retrievers.local import LocalServer, LocalService

    with LocalService.open("./docs") as service, LocalServer(service) as server:
        print(server.url)

Importing this package is cheap; its parts are loaded when first used and need the extra `local`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local._names import LOCAL_ORGANIZATION, LOCAL_PIPELINE
from rage_retrievers.local.progress import Progress
from rage_retrievers.local.wire import LocalResponse

if TYPE_CHECKING:
    from rage_retrievers.local.asgi import asgi_app
    from rage_retrievers.local.server import LocalServer
    from rage_retrievers.local.service import LocalService, Stats

__all__ = [
    "LOCAL_ORGANIZATION",
    "LOCAL_PIPELINE",
    "LocalResponse",
    "LocalServer",
    "LocalService",
    "Progress",
    "Stats",
    "asgi_app",
]

_HOMES = {"LocalServer": "server", "asgi_app": "asgi", "LocalService": "service", "Stats": "service"}
_PARTS = (
    "tantivy", "numpy", "tokenizers", "safetensors", "wordllama", "starlette", "uvicorn", "pypdf", "docx2txt", "bs4",
    "semchunk",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    from importlib.util import find_spec

    missing = [part for part in _PARTS if find_spec(part) is None]
    if missing:
        raise ConfigurationError(
            f'the embedded pipeline needs {", ".join(missing)}: pip install "rage-retrievers[local]"'
        )
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
