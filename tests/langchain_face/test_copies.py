"""Clones are cheap and share everything; a token leaves the process in no copy, dump or message."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import traceback
import warnings
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import httpx
import pytest
from langchain_core.load import dumpd, dumps, loads
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rage_retrievers import AdvancedQuery, ConfigurationError, F, Query, RageError, VectorizeSettings, default_pipeline
from rage_retrievers.langchain import VectorizeRetriever
from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer
from rage_retrievers.observability import Tracing

from .conftest import ENTRIES, IDS, TOKEN, Ask, Recorder, reply


def configurable(retriever: VectorizeRetriever) -> Any:
    return retriever.configurable_fields(
        num_results=ConfigurableField(id="k"),
        pipeline_id=ConfigurableField(id="pipeline"),
        metadata_filters=ConfigurableField(id="where"),
        api_key=ConfigurableField(id="api_key"),
    )


def over(server: LocalServer, **options: Any) -> VectorizeRetriever:
    ids: Any = {"organization": LOCAL_ORGANIZATION, "pipeline_id": LOCAL_PIPELINE}
    return VectorizeRetriever(api_key="any", base_url=server.url, **ids, **options)


def test_configurable_fields(ask: Ask, service: Recorder) -> None:
    """A configured value is what the clone asks, False-like ones included; everything else is the original's."""
    retriever = configurable(service.retriever(k=5, rerank=True, metadata_filters=[{"a": [1]}]))
    config = {"configurable": {"k": 2, "pipeline": "aip-9", "where": []}}
    ask(retriever.with_config(config), "q")
    assert service.body == {"question": "q", "numResults": 2, "rerank": True}
    assert "/aip-9/" in str(service.requests[-1].url)
    ask(retriever, "q")
    assert service.body["metadata-filters"] == [{"a": [1]}]


def test_configured_token(ask: Ask, service: Recorder) -> None:
    """A token can be configured per call, and the original keeps its own."""
    retriever = configurable(service.retriever())
    ask(retriever.with_config({"configurable": {"api_key": "another"}}), "q")
    assert service.requests[-1].headers["authorization"] == "Bearer another"
    ask(retriever, "q")
    assert service.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"


def test_bind(ask: Ask, service: Recorder) -> None:
    """Bound options are a call's options; an unknown one is an error when it is called."""
    ask(service.retriever(k=5, rerank=True).bind(k=2, rerank=False), "q")
    assert (service.body["numResults"], service.body["rerank"]) == (2, False)
    with pytest.raises(TypeError, match="top"):
        ask(service.retriever().bind(top=2), "q")


@pytest.mark.parametrize("how", ["model_copy", "deep", "copy", "deepcopy"])
def test_copies_ask_the_same_and_share_the_link(ask: Ask, service: Recorder, how: str) -> None:
    """Every way to copy gives a retriever that sends the same bytes over the same clients."""
    retriever = service.retriever(k=2, filters=F("a") > 1, listeners=[], resilience=default_pipeline())
    if how == "copy":
        made = copy.copy(retriever)
    elif how == "deepcopy":
        made = copy.deepcopy(retriever)
    else:
        made = retriever.model_copy(deep=how == "deep")
    ask(retriever, "q")
    ask(made, "q")
    assert made is not retriever
    assert made.link is retriever.link
    assert service.seen[0] == service.seen[1]


def test_a_deep_copy_has_its_own_filters(service: Recorder) -> None:
    """Changing a copy's list leaves the original as it is."""
    retriever = service.retriever(metadata_filters=[{"a": [1]}])
    copy.deepcopy(retriever).metadata_filters.append({"b": [2]})
    retriever.invoke("q")
    assert service.body["metadata-filters"] == [{"a": [1]}]


def test_changed_fields_are_heeded(ask: Ask, service: Recorder) -> None:
    """What `model_copy(update=…)` or an assignment changes is what the next call asks, connection included."""
    retriever = service.retriever()
    ask(retriever.model_copy(update={"num_results": 3, "pipeline_id": "aip-7"}), "q")
    assert service.body["numResults"] == 3
    assert "/aip-7/" in str(service.requests[-1].url)
    retriever.k = 4
    retriever.api_key = "fresh"
    ask(retriever, "q")
    assert service.body["numResults"] == 4
    assert service.requests[-1].headers["authorization"] == "Bearer fresh"
    assert "fresh" not in repr(retriever) + repr(vars(retriever))


def test_clones_read_the_environment_once(service: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured clone makes no new settings, which would cost more than the call."""
    retriever = configurable(service.retriever())
    loaded: list[int] = []

    def load(**_: Any) -> Any:
        loaded.append(1)
        raise AssertionError

    monkeypatch.setattr(VectorizeSettings, "load", load)
    for number in range(1, 20):
        retriever.with_config({"configurable": {"k": number, "pipeline": f"aip-{number}"}}).invoke("q")
    assert loaded == []


def test_clones_ask_for_the_token_once(service: Recorder) -> None:
    """A token function is asked once for all clones, also for those of another pipeline."""
    asked: list[int] = []

    def token() -> str:
        asked.append(1)
        return "t"

    retriever = configurable(service.retriever(api_key=token))
    for number in range(1, 20):
        retriever.with_config({"configurable": {"k": number, "pipeline": f"aip-{number}"}}).invoke("q")
        copy.deepcopy(retriever).invoke("q")
    assert len(asked) == 1


def sockets() -> int:
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{entry}").startswith("socket:")
        except OSError:
            continue
    return found


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files as Linux shows them")
def test_sockets_stay_flat_over_a_thousand_clones(server: LocalServer) -> None:
    """1,000 clones, asked in blocking code and in asyncio, open no more sockets than the first of each did."""
    retriever = configurable(over(server))

    def clone(number: int) -> Any:
        return retriever.with_config({"configurable": {"k": 1 + number % 3}})

    with asyncio.Runner() as runner:

        def ask_both(number: int) -> None:
            clone(number).invoke("bees")
            runner.run(clone(number).ainvoke("bees"))

        ask_both(0)
        before = sockets()
        for number in range(500):
            ask_both(number)
        assert sockets() <= before


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files as Linux shows them")
def test_sockets_stay_flat_over_event_loops(server: LocalServer) -> None:
    """Each loop's connections end with it, though nobody closed the retriever."""
    retriever = over(server, k=1)
    asyncio.run(retriever.ainvoke("bees"))
    before = sockets()
    for _ in range(20):
        asyncio.run(copy.deepcopy(retriever).ainvoke("bees"))
    assert sockets() <= before


def test_two_event_loops_in_a_row(server: LocalServer) -> None:
    """One retriever serves one `asyncio.run` after the other, and blocking code in between."""
    retriever = over(server, k=1)
    answers = [asyncio.run(retriever.ainvoke("bees")), retriever.invoke("bees"), asyncio.run(retriever.ainvoke("bees"))]
    assert [len(answer) for answer in answers] == [1, 1, 1]


def test_fork(server: LocalServer) -> None:
    """Parent and child of a fork both get answers, each over its own connections."""
    code = f"""
        import asyncio, os
        from rage_retrievers.langchain import VectorizeRetriever
        ids = dict(organization={LOCAL_ORGANIZATION!r}, pipeline_id={LOCAL_PIPELINE!r})
        retriever = VectorizeRetriever(api_key="t", base_url={server.url!r}, k=1, **ids)
        assert len(retriever.invoke("bees")) == 1
        child = os.fork()
        for _ in range(20):
            assert "bees" in retriever.invoke("bees")[0].page_content
            assert "magma" in asyncio.run(retriever.ainvoke("magma"))[0].page_content
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "fine", done.stderr


def test_pickle_reads_the_token_again(ask: Ask, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle holds no token; where it is loaded, the environment gives one, and a missing one is named."""
    retriever = over(server, k=2, filters=F("a") != 1, tags=["t"])
    data = pickle.dumps(retriever)
    loaded = pickle.loads(data)
    with pytest.raises(ConfigurationError, match="api_key is missing"):
        loaded.invoke("bees")
    monkeypatch.setenv("VECTORIZE_API_KEY", "fresh")
    loaded = pickle.loads(data)
    assert [one.id for one in ask(loaded, "bees")] == [one.id for one in retriever.invoke("bees")]
    assert (loaded.k, loaded.tags) == (2, ["t"])


def test_pickle_keeps_the_users_settings(service: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings given by hand go along, without their token."""
    settings = VectorizeSettings.load(api_key=TOKEN, num_results=9, **IDS)
    data = pickle.dumps(VectorizeRetriever(settings=settings))
    assert TOKEN.encode() not in data
    monkeypatch.setenv("VECTORIZE_API_KEY", "fresh")
    loaded = pickle.loads(data)
    loaded.http_client = service.client
    loaded.invoke("q")
    assert service.body["numResults"] == 9
    assert service.requests[-1].headers["authorization"] == "Bearer fresh"


def test_own_client_is_not_pickled(service: Recorder) -> None:
    """A retriever with the user's own client says so instead of losing it."""
    with pytest.raises(TypeError, match="http_client"):
        pickle.dumps(service.retriever())


def test_dumps_and_loads(ask: Ask, server: LocalServer) -> None:
    """The round trip keeps what JSON can hold, and takes the token from the secrets map."""
    retriever = over(server, k=2, filters=(F("kind") != "x") & (F("year") != 1), mode="hybrid", engine="httpx")
    text = dumps(retriever)
    assert json.loads(text)["kwargs"]["api_key"] == {"lc": 1, "type": "secret", "id": ["VECTORIZE_API_KEY"]}
    loaded = loads(
        text,
        allowed_objects=[VectorizeRetriever],
        valid_namespaces=["rage_retrievers"],
        secrets_map={"VECTORIZE_API_KEY": "again"},
    )
    assert isinstance(loaded, VectorizeRetriever)
    assert [one.id for one in ask(loaded, "bees")] == [one.id for one in ask(retriever, "bees")]
    assert loaded.api_key.get_secret_value() == "again"
    asked = [one.link.calls and one._asked(one.link, {}) for one in (retriever, loaded)]
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    "options",
    [
        {"advanced_query": AdvancedQuery(mode="text", text_boost=2)},
        {"advanced_query": AdvancedQuery(mode="text"), "filters": F("a") > 1},
        {"context": [HumanMessage("hi"), ("ai", "hello")]},
        {"context": {"messages": [HumanMessage("hi")]}},
        {"filters": {"term": {"a": 1}}, "metadata_filters": {"b": [2]}},
        {"rerank": False, "min_score": 0.0, "timeout": 3.0, "text_fields": ["a"], "match_type": "match"},
    ],
)
def test_whatever_is_asked_survives_dumps_and_loads(options: dict[str, Any]) -> None:
    """The loaded retriever asks the same, and nothing but the class itself has to be allowed."""
    retriever = VectorizeRetriever(api_key=TOKEN, **IDS, **options)
    loaded = loads(
        dumps(retriever),
        allowed_objects=[VectorizeRetriever],
        valid_namespaces=["rage_retrievers"],
        secrets_map={"VECTORIZE_API_KEY": "again"},
    )
    one, other = (Query.make({"question": "q", **each.asked()}) for each in (loaded, retriever))
    assert one == other


def test_a_dump_without_its_runtime_filters_does_not_load(service: Recorder) -> None:
    """A lock that a dump cannot hold is not lost in silence, and no part of the function is in the dump."""
    text = dumps(service.retriever(runtime_filters=partial(lambda tenant, _: F("tenant") == tenant, "acme-secret")))
    assert "acme-secret" not in text
    secrets = {"VECTORIZE_API_KEY": "again"}
    with pytest.raises(ConfigurationError, match="runtime_filters"):
        loads(text, allowed_objects=[VectorizeRetriever], valid_namespaces=["rage_retrievers"], secrets_map=secrets)


def test_dumps_of_filters_is_json(service: Recorder) -> None:
    """An `F(...)` filter is dumped in the service's own languages, with nothing that cannot be loaded."""
    text = dumps(service.retriever(filters=(F("a") == 1) & (F("b") > 2)))
    assert "not_implemented" not in text
    assert json.loads(text)["kwargs"]["metadata_filters"] == [{"a": [1]}]


def test_close(service: Recorder, server: LocalServer) -> None:
    """A closed retriever answers no more and says so; its clones and the user's own client go on."""
    retriever = service.retriever()
    clone = retriever.model_copy()
    with retriever:
        retriever.invoke("q")
    with pytest.raises(ConfigurationError, match="closed"):
        retriever.invoke("q")
    clone.invoke("q")
    assert not service.client.is_closed

    other = over(server)

    async def main() -> None:
        async with other:
            await other.ainvoke("bees")
        with pytest.raises(ConfigurationError, match="closed"):
            await other.ainvoke("bees")

    asyncio.run(main())


class State(TypedDict):
    documents: list[Any]


def test_checkpoints_are_warning_free(service: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """Documents survive a checkpoint in LangGraph's strict mode, unchanged and without a warning."""
    retriever = service.retriever()
    graph: Any = StateGraph(State)
    graph.add_node("retrieve", lambda _: {"documents": retriever.invoke("q")})
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", END)
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    app = graph.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        app.invoke({"documents": []}, config)
        kept = app.get_state(config).values["documents"]
    assert kept == retriever.invoke("q")
    assert caplog.records == []


def test_the_token_is_nowhere(
    service: Recorder, server: LocalServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """No repr, dump, pickle, log, span, output or traceback holds the token, as a text or as a function's answer."""

    class Rotating:
        def __init__(self) -> None:
            self.held = TOKEN

        def __call__(self) -> str:
            return self.held

    service.answer = lambda request: reply({"error": f"no, {request.headers['authorization']}"}, 400)
    shown: list[str] = []
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracing = Tracing(provider, documents=True, question=True)
    ids: Any = {"organization": LOCAL_ORGANIZATION, "pipeline_id": LOCAL_PIPELINE}
    with caplog.at_level(logging.DEBUG):
        for key in (TOKEN, Rotating()):
            failing: Any = service.retriever(api_key=key, listeners=[tracing])
            for ask in ENTRIES.values():
                try:
                    ask(failing, "q")
                except RageError as error:
                    shown += [repr(error), "".join(traceback.format_exception(error)), repr(vars(error))]
            real = VectorizeRetriever(api_key=key, base_url=server.url, **ids)
            real.model_copy(update={"listeners": [tracing]}).invoke("bees")
            clone = configurable(real).with_config({"configurable": {"api_key": TOKEN, "k": 2}})
            clone.invoke("bees")
            for one in (failing, real, copy.deepcopy(real)):
                shown += [repr(one), str(one), dumps(one), repr(dumpd(one)), repr(one.model_dump()), repr(one.link)]
                shown += [one.model_dump_json(), json.dumps(one.get_input_jsonschema())]
            shown += [pickle.dumps(real).decode("latin-1"), real.get_graph().draw_mermaid()]
    output = capsys.readouterr()
    shown += [caplog.text, output.out, output.err, repr([vars(record) for record in caplog.records])]
    shown += [span.to_json() for span in spans.get_finished_spans()]
    assert len(spans.get_finished_spans()) > len(ENTRIES)
    assert output.out == ""
    assert not [text for text in shown if TOKEN in text]


def test_the_embedded_pipeline_needs_no_token(ask: Ask, folder: Path, tmp_path: Path) -> None:
    """`base_url="local:…"` answers in process, also from a copy and a pickle."""
    os.environ["RAGE_CACHE_DIR"] = str(tmp_path / "cache")
    try:
        retriever = VectorizeRetriever(base_url=f"local:{folder}", k=1)
        assert "queen" in ask(retriever, "How many queens are in a hive?")[0].page_content
        assert "queen" in ask(pickle.loads(pickle.dumps(retriever)), "How many queens in a hive?")[0].page_content
        retriever.close()
    finally:
        del os.environ["RAGE_CACHE_DIR"]


def test_own_clients_are_used_and_left_open(service: Recorder) -> None:
    """Requests go through the user's clients, which stay open."""
    retriever = service.retriever()
    asyncio.run(retriever.ainvoke("q"))
    asyncio.run(retriever.aclose())
    assert len(service.requests) == 1
    assert isinstance(service.async_client, httpx.AsyncClient)
    assert not service.async_client.is_closed
