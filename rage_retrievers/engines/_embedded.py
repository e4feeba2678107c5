"""The engine that answers from the embedded pipeline in this process: the same protocol, and no socket."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from .._aside import aside
from .._flow import WireRequest, WireResponse, is_async
from ..errors import ConfigurationError, ConnectionFailedError, DeadlineExceededError
from . import Engines
from ._answer import deadline_passed, too_large

if TYPE_CHECKING:
    from ..local.service import LocalService

T = TypeVar("T")
_THREADS = 32
_services: weakref.WeakValueDictionary[tuple[Any, ...], LocalService] = weakref.WeakValueDictionary()
_openings: dict[tuple[Any, ...], Future[LocalService]] = {}
_lock = threading.Lock()
_threads: list[ThreadPoolExecutor] = []


def _pooled(work: Callable[[], T]) -> Future[T]:
    """Begin `work` in a thread: an embedding or a reranker cannot be interrupted, but left behind."""
    if not _threads:
        _threads.append(ThreadPoolExecutor(_THREADS, thread_name_prefix="rage-embedded"))
    return _threads[0].submit(contextvars.copy_context().run, work)


def _begin_afresh() -> None:
    """In a forked process none of the threads lives on, so what they were doing is begun again."""
    _threads.clear()
    _openings.clear()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_begin_afresh)


class _Opening:
    """A service that is opened at the first request, once for everybody who asks for the same folder."""

    def __init__(self, key: tuple[Any, ...], make: Callable[[], LocalService]) -> None:
        self._key = key
        self._make = make
        self.service: LocalService | None = None

    def begin(self) -> Future[LocalService]:
        """The service to come; one request's deadline does not end an opening that others wait for."""
        with _lock:
            under_way = _openings.get(self._key)
            if under_way is None:
                # Not in the pool, for whose threads the end of the process would wait.
                context = contextvars.copy_context()
                under_way = _openings[self._key] = aside(lambda: context.run(self._open))
            return under_way

    def _open(self) -> LocalService:
        try:
            service = _services.get(self._key) or self._make()
        except OSError as error:
            raise ConnectionFailedError(f"The embedded pipeline cannot start: {error}.") from error
        else:
            self.service = _services[self._key] = service
            return service
        finally:
            with _lock:
                _openings.pop(self._key, None)

    def forget(self) -> None:
        """Let the service go; its files are freed with its last user."""
        self.service = None


def _handle(service: LocalService, request: WireRequest, max_bytes: int) -> WireResponse:
    url = urlsplit(request.url)
    answer = service.handle(request.method, url.path, dict(request.headers), request.body)
    if len(answer.body) > max_bytes:
        raise too_large(max_bytes)
    return WireResponse(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.body)


def _still_indexing(timeout: float) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"The folder is still being indexed after the {max(timeout, 0):.3g} s left for this attempt; that goes on, so"
        " ask again later, or raise timeout=."
    )


class EmbeddedEngine:
    """Blocking requests to the embedded pipeline."""

    def __init__(self, opening: _Opening) -> None:
        self._opening = opening

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer. The first one indexes the folder, which goes on when `timeout` has passed."""
        end = time.monotonic() + timeout
        service = self._opening.service
        if service is None:
            opening = self._opening.begin()
            service = self._opening.service = _result(opening, end, lambda: _still_indexing(timeout))
        work = _pooled(lambda: _handle(service, request, max_bytes))
        try:
            return _result(work, end, lambda: deadline_passed(request, timeout))
        finally:
            work.cancel()

    def close(self) -> None:
        """Let the index go."""
        self._opening.forget()


def _result(work: Future[T], end: float, late: Callable[[], DeadlineExceededError]) -> T:
    try:
        return work.result(max(end - time.monotonic(), 0))
    except TimeoutError:
        raise late() from None


class AsyncEmbeddedEngine:
    """Async requests to the embedded pipeline, which works in threads so that the loop never waits."""

    def __init__(self, opening: _Opening) -> None:
        self._opening = opening

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer. The first one indexes the folder, which goes on when `timeout` has passed."""
        service = self._opening.service
        try:
            async with asyncio.timeout(timeout):
                if service is None:
                    opening = asyncio.wrap_future(self._opening.begin())
                    service = self._opening.service = await asyncio.shield(opening)
                return await asyncio.wrap_future(_pooled(lambda: _handle(service, request, max_bytes)))
        except TimeoutError:
            raise (deadline_passed(request, timeout) if service else _still_indexing(timeout)) from None

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
    if reranker is not None and (not callable(reranker) or is_async(reranker)):
        raise ConfigurationError("reranker cannot be used; give a plain function from a question and texts to scores.")
    ids = (organization or LOCAL_ORGANIZATION, pipeline_id or LOCAL_PIPELINE)

    def make() -> LocalService:
        return LocalService.open(root, organization=ids[0], pipeline_id=ids[1], embedding=embedding, reranker=reranker)

    opening = _Opening((root, ids, id(embedding), id(reranker)), make)
    identity = hashlib.sha256(repr((str(root), id(embedding), id(reranker))).encode()).hexdigest()[:16]
    return Engines("embedded", lambda: EmbeddedEngine(opening), lambda: AsyncEmbeddedEngine(opening), identity)
