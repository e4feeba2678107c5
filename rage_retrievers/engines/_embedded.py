"""The engine that answers from the embedded pipeline in this process: the same protocol, and no socket."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._flow import WireRequest, WireResponse
from ..errors import ConnectionFailedError
from . import Engines
from ._answer import too_large

if TYPE_CHECKING:
    from ..local.service import LocalService

_services: weakref.WeakValueDictionary[tuple[Any, ...], LocalService] = weakref.WeakValueDictionary()
_lock = threading.Lock()


class _Opening:
    """A service that is opened at the first request, once for everybody who asks for the same folder."""

    def __init__(self, key: tuple[Any, ...], make: Callable[[], LocalService]) -> None:
        self._key = key
        self._make = make
        self._service: LocalService | None = None

    def handle(self, request: WireRequest, max_bytes: int) -> WireResponse:
        """Answer the request."""
        service = self._service or self._open()
        url = urlsplit(request.url)
        answer = service.handle(request.method, url.path, dict(request.headers), request.body)
        if len(answer.body) > max_bytes:
            raise too_large(max_bytes)
        return WireResponse(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.body)

    def _open(self) -> LocalService:
        with _lock:
            service = _services.get(self._key)
            if service is None:
                try:
                    service = self._make()
                except OSError as error:
                    raise ConnectionFailedError(f"The embedded pipeline cannot start: {error}.") from error
                _services[self._key] = service
        self._service = service
        return service

    def forget(self) -> None:
        """Let the service go; its files are freed with its last user."""
        self._service = None


class EmbeddedEngine:
    """Blocking requests to the embedded pipeline."""

    def __init__(self, opening: _Opening) -> None:
        self._opening = opening

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer. The first one indexes the folder, however long that takes."""
        return self._opening.handle(request, max_bytes)

    def close(self) -> None:
        """Let the index go."""
        self._opening.forget()


class AsyncEmbeddedEngine:
    """Async requests to the embedded pipeline, which works in a thread so that the loop never waits."""

    def __init__(self, opening: _Opening) -> None:
        self._opening = opening

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer. The first one indexes the folder, however long that takes."""
        return await asyncio.to_thread(self._opening.handle, request, max_bytes)

    async def aclose(self) -> None:
        """Let the index go."""
        self._opening.forget()


def open_embedded(
    folder: str,
    *,
    organization: str | None,
    pipeline_id: str | None,
    embedding: object | None,
    reranker: Callable[[str, list[str]], list[float]] | None,
) -> Engines:
    """The engines of a folder; see `rage_retrievers.engines.embedded`."""
    from ..local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalService
    from ..local.folder import checked

    root = checked(folder)
    ids = (organization or LOCAL_ORGANIZATION, pipeline_id or LOCAL_PIPELINE)

    def make() -> LocalService:
        return LocalService.open(root, organization=ids[0], pipeline_id=ids[1], embedding=embedding, reranker=reranker)

    opening = _Opening((root, ids, id(embedding), id(reranker)), make)
    identity = hashlib.sha256(repr((str(root), id(embedding), id(reranker))).encode()).hexdigest()[:16]
    return Engines("embedded", lambda: EmbeddedEngine(opening), lambda: AsyncEmbeddedEngine(opening), identity)
