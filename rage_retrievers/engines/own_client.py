"""The engine that uses the caller's own `httpx.Client` or `httpx.AsyncClient`, which is never closed here."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from typing import Any

import httpx

from .._aside import aside
from .._flow import WireRequest, WireResponse
from ..errors import ConfigurationError, RageError
from ._answer import Body, answer, check_length, deadline_passed
from ._failures import failure_of
from .httpx import acollect, headers_of


class OwnClientEngine:
    """Blocking requests through the caller's client.

    The client's transport is the caller's, so its reads cannot be given a deadline one by one. Each request runs in a
    thread, and the call returns at the deadline even when headers drip in.
    """

    name = "own client"

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        _check_open(self._client)
        context = contextvars.copy_context()
        # What grows in the worker's part of the heap, glibc would keep beside what this thread's part takes: 15 MiB.
        body = Body(max_bytes)
        body.begin()
        outcome = aside(lambda: context.run(self._perform, request, timeout, max_bytes, body))
        if not wait([outcome], timeout + 0.05).done:
            raise deadline_passed(request, timeout)
        error = outcome.exception()
        if error is None:
            status, headers = outcome.result()
            return answer(status, headers, body.whole(), max_bytes)
        raise failure_of(error, request, timeout) or error

    def _perform(self, request: WireRequest, timeout: float, max_bytes: int, body: Body) -> tuple[int, dict[str, str]]:
        """Read the answer into `body`; gives its status and headers."""
        deadline = time.monotonic() + timeout
        try:
            response = self._client.send(_through(self._client, request, timeout), stream=True, follow_redirects=False)
        except httpx.HTTPStatusError as raised:
            return raised.response.status_code, headers_of(raised.response)
        try:
            headers = headers_of(response)
            check_length(headers, max_bytes)
            # Not iter_raw(): a transport may give a response that is read already, as fakes do.
            assert isinstance(response.stream, httpx.SyncByteStream)
            for chunk in _until(deadline, iter(response.stream), request, timeout):
                body.add(chunk)
            _spoil_if_more_came(response)
        finally:
            response.close()
        return response.status_code, headers

    def close(self) -> None:
        """Nothing: the client is the caller's."""


def _through(client: httpx.Client | httpx.AsyncClient, request: WireRequest, timeout: float) -> httpx.Request:
    """The request as the client builds it, with the headers and cookies that its owner gave it; ours win."""
    headers = [("accept-encoding", "gzip"), *request.headers]
    return client.build_request(
        request.method, request.url, headers=headers, content=request.body or None, timeout=timeout
    )


def _check_open(client: httpx.Client | httpx.AsyncClient) -> None:
    if client.is_closed:
        raise ConfigurationError("Your own http_client is closed; keep it open for as long as it is used here.")


def _refused_by_a_hook(raised: httpx.HTTPStatusError) -> WireResponse:
    """The answer whose status a hook of the owner's raised for; httpx has closed its body unread."""
    return WireResponse(raised.response.status_code, headers_of(raised.response), b"")


def _spoil_if_more_came(response: httpx.Response) -> None:
    """Let a connection end that brought more than its answer; httpcore takes such bytes for the next call's answer."""
    found: Any = response.stream
    for name in ("_stream", "_httpcore_stream", "_stream", "_connection", "_h11_state"):
        found = getattr(found, name, None)
    if found is not None and found.trailing_data[0]:
        found.send_failed()


def _until(deadline: float, chunks: Iterable[bytes], request: WireRequest, timeout: float) -> Iterator[bytes]:
    for chunk in chunks:
        if time.monotonic() > deadline:
            raise deadline_passed(request, timeout)
        yield chunk


class AsyncOwnClientEngine:
    """Async requests through the caller's client."""

    name = "own client"

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        """One request, one whole answer."""
        _check_open(self._client)
        try:
            async with asyncio.timeout(timeout):
                return await self._perform(request, timeout, max_bytes)
        except BaseException as error:
            failure: RageError | None = failure_of(error, request, timeout)
            if failure is None:
                raise
        raise failure

    async def _perform(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        sent = _through(self._client, request, timeout)
        try:
            response = await self._client.send(sent, stream=True, follow_redirects=False)
        except httpx.HTTPStatusError as raised:
            return _refused_by_a_hook(raised)
        try:
            headers = headers_of(response)
            check_length(headers, max_bytes)
            assert isinstance(response.stream, httpx.AsyncByteStream)
            body = await acollect(response.stream, max_bytes)
            _spoil_if_more_came(response)
        finally:
            await response.aclose()
        return answer(response.status_code, headers, body, max_bytes)

    async def aclose(self) -> None:
        """Nothing: the client is the caller's."""
