"""Every way to ask a Vectorize pipeline that the speed benchmark compares, each in a process of its own.

A contender's process is pinned to the first core. It is told a line such as `2000 128` (calls, at once), makes them and
tells the seconds they took, by the clock and of processor time. What a contender prints goes nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import _answers

QUESTION = "What brings the passages that answer a question best?"
PATH = "/org/org-1/pipelines/aip-1/retrieval"
HEADERS = {"authorization": "Bearer token", "content-type": "application/json"}
BODY = json.dumps({"question": QUESTION, "numResults": 5, "rerank": False}).encode()
PIPELINE: dict[str, Any] = {"organization": "org-1", "pipeline_id": "aip-1"}

Ask = Callable[[], Any]
Run = Callable[[int, int], None]


class Took(NamedTuple):
    """What some calls took, in seconds."""

    calls: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.wall

    @property
    def micros(self) -> float:
        """Microseconds of processor time a call."""
        return self.cpu / self.calls * 1e6


def one_by_one(ask: Ask) -> Run:
    """Blocking calls, one after the other."""

    def run(calls: int, at_once: int) -> None:
        for _ in range(calls):
            ask()

    return run


def together(ask: Ask) -> Run:
    """Async calls, so many at once; one event loop serves every round."""
    runner = asyncio.Runner()

    async def main(calls: int, at_once: int) -> None:
        left = iter(range(calls))

        async def asker() -> None:
            for _ in left:
                await ask()

        await asyncio.gather(*(asker() for _ in range(at_once)))

    return lambda calls, at_once: runner.run(main(calls, at_once))


def bare(url: str, engine: str) -> Run:
    """The standard library's HTTP client, which reads the answer and does nothing with it."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def ask() -> bytes:
        connection.request("POST", urlsplit(url).path + PATH, BODY, HEADERS)
        return connection.getresponse().read()

    return one_by_one(ask)


def plain_httpx(url: str, engine: str) -> Run:
    """One `httpx.AsyncClient`, as its documentation has it, with its limits out of the way; nothing is parsed."""
    import httpx

    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=None))

    async def ask() -> bytes:
        response = await client.post(url + PATH, content=BODY, headers=HEADERS)
        return response.content

    return together(ask)


def raised(options: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """The default policies, with the bulkhead's size changed where a limit is given."""
    from rage_retrievers import default_pipeline
    from rage_retrievers.resilience import Bulkhead

    return options if limit is None else {**options, "resilience": default_pipeline().with_policies(Bulkhead(limit))}


def our_client(url: str, engine: str) -> Run:
    """`VectorizeClient`, blocking."""
    from rage_retrievers import VectorizeClient

    client = VectorizeClient(api_key="token", base_url=url, engine=engine, **PIPELINE)
    return one_by_one(lambda: client.retrieve(QUESTION))


def our_async_client(url: str, engine: str, limit: int | None = None) -> Run:
    """`AsyncVectorizeClient`."""
    from rage_retrievers import AsyncVectorizeClient

    client = AsyncVectorizeClient(api_key="token", base_url=url, engine=engine, **raised(PIPELINE, limit))
    return together(lambda: client.retrieve(QUESTION))


def our_thousand(url: str, engine: str) -> Run:
    """`AsyncVectorizeClient` with default settings, but for a bulkhead that admits a thousand."""
    return our_async_client(url, engine, limit=1000)


def our_langchain(url: str, engine: str) -> Any:
    """Our LangChain retriever."""
    from rage_retrievers.langchain import VectorizeRetriever

    return VectorizeRetriever(api_key="token", base_url=url, engine=engine, **PIPELINE)


def their_langchain(url: str, *, debug: bool) -> Any:
    """The existing LangChain retriever; it has no option for the address and none for its debug printing."""
    from langchain_vectorize.retrievers import VectorizeRetriever

    retriever = VectorizeRetriever(api_token="token", **PIPELINE)
    configuration = retriever._pipelines.api_client.configuration
    configuration._base_path = url
    configuration.debug = debug
    return retriever


def batch(retriever: Any) -> Run:
    """Every question in one blocking batch, as concurrent as the retriever makes it by itself."""
    return lambda calls, at_once: retriever.batch([QUESTION] * calls)


def our_llama_index(url: str, engine: str) -> Any:
    """Our LlamaIndex retriever."""
    from rage_retrievers.llama_index import VectorizeRetriever

    return VectorizeRetriever(api_key="token", base_url=url, engine=engine, **PIPELINE)


def their_llama_index(url: str) -> Any:
    """The existing LlamaIndex retriever, in the same way."""
    from llama_index.retrievers.vectorize import VectorizeRetriever

    retriever = VectorizeRetriever(api_token="token", **PIPELINE)
    retriever._pipelines.api_client.configuration._base_path = url
    return retriever


def _invoke(retriever: Any) -> Run:
    return one_by_one(lambda: retriever.invoke(QUESTION))


def _ainvoke(retriever: Any) -> Run:
    return together(lambda: retriever.ainvoke(QUESTION))


def _aretrieve(retriever: Any) -> Run:
    return together(lambda: retriever.aretrieve(QUESTION))


CONTENDERS: dict[str, Callable[[str, str], Run]] = {
    "http.client": bare,
    "plain httpx": plain_httpx,
    "client": our_client,
    "async client": our_async_client,
    "async client, bulkhead of 1,000": our_thousand,
    "langchain invoke": lambda url, engine: _invoke(our_langchain(url, engine)),
    "langchain ainvoke": lambda url, engine: _ainvoke(our_langchain(url, engine)),
    "langchain batch": lambda url, engine: batch(our_langchain(url, engine)),
    "llama_index aretrieve": lambda url, engine: _aretrieve(our_llama_index(url, engine)),
    "langchain-vectorize invoke, no debug": lambda url, engine: _invoke(their_langchain(url, debug=False)),
    "langchain-vectorize ainvoke": lambda url, engine: _ainvoke(their_langchain(url, debug=True)),
    "langchain-vectorize ainvoke, no debug": lambda url, engine: _ainvoke(their_langchain(url, debug=False)),
    "langchain-vectorize batch": lambda url, engine: batch(their_langchain(url, debug=True)),
    "llama-index-retrievers-vectorize aretrieve": lambda url, engine: _aretrieve(their_llama_index(url)),
}


class Contender:
    """A contender at work in its process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, calls: int, at_once: int = 1) -> Took:
        """Make the calls; RuntimeError when the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{calls} {at_once}\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        if not told:
            raise RuntimeError(f"a contender has ended: {self._process.args}")
        wall, cpu = json.loads(told)
        return Took(calls, wall, cpu)


@contextmanager
def at_work(name: str, url: str, engine: str = "httpx") -> Iterator[Contender]:
    """The contender, ready to make calls to that base URL."""
    command = [sys.executable, __file__, name, "--url", url, "--engine", engine]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Contender(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def main() -> None:
    """Make the calls that the standard input asks for, until it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--engine", default="httpx")
    options = parser.parse_args()
    _answers.pin(0)
    told = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    run = CONTENDERS[options.name](options.url, options.engine)
    for line in sys.stdin:
        calls, at_once = map(int, line.split())
        wall, cpu = time.perf_counter(), time.process_time()
        run(calls, at_once)
        took = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps(took), file=told, flush=True)


if __name__ == "__main__":
    main()
