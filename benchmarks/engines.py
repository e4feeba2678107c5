"""HTTP libraries that could be an engine, bare, beside our engines: 128 requests at once, the answer read and no more.

    python benchmarks/engines.py [--smoke]

What is not installed is left out. Rounds take turns in one process, on another core than the server's.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import Any

import _answers
from _contenders import BODY, HEADERS, PATH
from _table import Row, show, smoke_asked

AT_ONCE = 128
Ask = Callable[[], Awaitable[object]]


async def ours(url: str, name: str) -> Ask:
    """An engine of ours, to the whole answer as plain data."""
    from rage_retrievers._flow import WireRequest
    from rage_retrievers.engines import engines_named

    engine = engines_named(name).asyncio()
    request = WireRequest("POST", url + PATH, tuple(HEADERS.items()), BODY)
    return lambda: engine.send(request, 10.0, 16 * 1024 * 1024)


async def through_httpx(url: str, stack: AsyncExitStack, module: Any, **options: Any) -> Ask:
    """A client with httpx's interface, its limits out of the way."""
    limits = module.Limits(max_connections=None, max_keepalive_connections=None)
    client = await stack.enter_async_context(module.AsyncClient(limits=limits, **options))

    async def ask() -> bytes:
        response = await client.post(url + PATH, content=BODY, headers=HEADERS)
        content: bytes = response.content
        return content

    return ask


async def through_aiohttp(url: str, stack: AsyncExitStack) -> Ask:
    """aiohttp's own client."""
    import aiohttp

    session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))

    async def ask() -> bytes:
        async with session.post(url + PATH, data=BODY, headers=HEADERS) as response:
            return await response.read()

    return ask


async def through_pyreqwest(url: str, stack: AsyncExitStack) -> Ask:
    """pyreqwest's own client, the body read at once."""
    from pyreqwest.client import ClientBuilder

    client = await stack.enter_async_context(ClientBuilder().build())

    async def ask() -> bytes:
        response = await client.post(url + PATH).headers(HEADERS).body_bytes(BODY).build().send()
        return bytes(await response.bytes())

    return ask


async def candidates(url: str, stack: AsyncExitStack) -> dict[str, Ask]:
    """Whatever is installed."""
    import httpx

    found = {"our default engine (httpx)": await ours(url, "httpx")}
    if find_spec("httptools"):
        found["our fast engine (httptools)"] = await ours(url, "httptools")
    if find_spec("pyreqwest"):
        found["pyreqwest"] = await through_pyreqwest(url, stack)
    if find_spec("aiohttp"):
        found["aiohttp"] = await through_aiohttp(url, stack)
    if find_spec("httpx_aiohttp"):
        import httpx_aiohttp

        transport = httpx_aiohttp.AiohttpTransport()
        found["httpx with httpx-aiohttp"] = await through_httpx(url, stack, httpx, transport=transport)
    found["httpx"] = await through_httpx(url, stack, httpx)
    if find_spec("httpx2"):
        import httpx2

        found["httpx2"] = await through_httpx(url, stack, httpx2)
    return found


async def measured(calls: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Microseconds of the clock and of processor time a request, medians."""
    took: dict[str, list[tuple[float, float]]] = {}
    with _answers.running() as url:
        async with AsyncExitStack() as stack:
            asks = await candidates(url, stack)
            for _ in range(rounds + 1):
                for name, ask in asks.items():
                    took.setdefault(name, []).append(await _round(ask, calls))
    # The first round opens the connections.
    return {
        name: (statistics.median(wall for wall, _ in found[1:]), statistics.median(cpu for _, cpu in found[1:]))
        for name, found in took.items()
    }


async def _round(ask: Ask, calls: int) -> tuple[float, float]:
    left = iter(range(calls))

    async def asker() -> None:
        for _ in left:
            await ask()

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(asker() for _ in range(AT_ONCE)))
    return (time.perf_counter() - wall) / calls * 1e6, (time.process_time() - cpu) / calls * 1e6


def rows(smoke: bool) -> list[Row]:
    """One row each, quickest first."""
    _answers.pin(0)
    calls, rounds = (AT_ONCE, 1) if smoke else (2000, 7)
    found = sorted(asyncio.run(measured(calls, rounds)).items(), key=lambda entry: entry[1])
    return [Row(name, "", f"{wall:,.0f} µs, {cpu:,.0f} µs of CPU", None) for name, (wall, cpu) in found]


def main() -> int:
    """Print the table."""
    assert __doc__ is not None
    return show(rows(smoke_asked(__doc__)))


if __name__ == "__main__":
    sys.exit(main())
