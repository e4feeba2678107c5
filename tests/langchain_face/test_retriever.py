"""What the retriever sends and what it gives back, in all four entry points."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from blockbuster import BlockingError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from rage_retrievers import ConfigurationError, F, ServerError, default_pipeline
from rage_retrievers.langchain import CallOptions, VectorizeRetriever
from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer

from .conftest import ENTRIES, IDS, TOKEN, WIRE, Ask, Recorder, reply


def test_answers_from_real_documents_over_http(ask: Ask, server: LocalServer) -> None:
    """Every entry point answers a question from the folder, best passage first."""
    retriever = VectorizeRetriever(
        api_key="any", base_url=server.url, organization=LOCAL_ORGANIZATION, pipeline_id=LOCAL_PIPELINE, k=2
    )
    documents = ask(retriever, "What is molten rock called?")
    assert len(documents) == 2
    assert "volcano" in documents[0].page_content
    assert documents[0].metadata["source"] == "volcanoes.md"


def test_documents_keep_every_field(ask: Ask, service: Recorder) -> None:
    """Nothing the service says is lost, the user's own metadata stays nested, and the document is a plain one."""
    (document,) = ask(service.retriever(), "q")
    assert type(document) is Document
    assert document.id == WIRE["id"]
    assert document.page_content == WIRE["text"]
    kept = {name: value for name, value in document.metadata.items() if name not in ("score", "ordered_by")}
    assert kept == {name: value for name, value in WIRE.items() if name != "text"}


@pytest.mark.parametrize(("rerank", "kind"), [(True, "relevancy"), (False, "similarity")])
def test_score_is_the_number_that_ordered_the_list(ask: Ask, service: Recorder, rerank: bool, kind: str) -> None:
    """`score` is the relevancy of a reranked list and the similarity of any other."""
    (document,) = ask(service.retriever(), "q", rerank=rerank)
    assert document.metadata["score"] == WIRE[kind]
    assert document.metadata["ordered_by"] == kind


def test_absent_score_stays_absent(ask: Ask, service: Recorder) -> None:
    """A document without scores has a score of None, and a source where it has any name at all."""
    service.documents = [{"text": "t", "source_display_name": "a/b.pdf"}]
    (document,) = ask(service.retriever(), "q")
    assert document.metadata["score"] is None
    assert document.metadata["source"] == "a/b.pdf"
    assert "similarity" not in document.metadata


FALSY = [
    ({"rerank": True}, {"rerank": False}, ("rerank", False)),
    ({"metadata_filters": [{"a": [1]}]}, {"metadata_filters": []}, ("metadata-filters", None)),
    ({"metadata_filters": [{"a": [1]}]}, {"metadata_filters": None}, ("metadata-filters", None)),
    ({"advanced_query": {"mode": "text"}}, {"advanced_query": None}, ("advanced-query", None)),
    ({"text_boost": 2.0}, {"text_boost": 0.0}, ("advanced-query", {"text-boost": 0.0})),
    ({"context": [HumanMessage("hi")]}, {"context": []}, ("context", None)),
]  # fmt: skip


@pytest.mark.parametrize(("made", "called", "expected"), FALSY)
def test_falsy_values_per_call_win(
    ask: Ask, service: Recorder, made: Any, called: Any, expected: tuple[str, Any]
) -> None:
    """False, 0.0, [] and None given to a call mean what they say."""
    ask(service.retriever(**made), "q", **called)
    assert service.body.get(expected[0]) == expected[1]


def test_min_score_of_zero_is_a_value(ask: Ask, service: Recorder) -> None:
    """`min_score=0.0` in a call replaces the constructor's bar, and None takes it away."""
    retriever = service.retriever(min_score=0.9)
    assert ask(retriever, "q") == []
    assert len(ask(retriever, "q", min_score=0.0)) == 1
    service.documents = [{"text": "t", "similarity": -1.0}]
    assert ask(retriever, "q", min_score=0.0) == []
    assert len(ask(retriever, "q", min_score=None)) == 1


def test_k_and_num_results_are_one_thing(ask: Ask, service: Recorder) -> None:
    """Both names work in the constructor and per call; two different values are an error."""
    ask(service.retriever(k=7), "q")
    assert service.body["numResults"] == 7
    ask(service.retriever(num_results=7), "q", k=3)
    assert service.body["numResults"] == 3
    ask(service.retriever(k=7), "q", num_results=2)
    assert service.body["numResults"] == 2
    with pytest.raises(ConfigurationError, match="num_results"):
        service.retriever(k=1, num_results=2)
    with pytest.raises(ConfigurationError, match="num_results"):
        ask(service.retriever(), "q", k=1, num_results=2)


@pytest.mark.parametrize("name", ["metadataFilters", "filter", "top_k", "num_result", "search_kwargs"])
def test_unknown_keyword_is_a_type_error(ask: Ask, service: Recorder, name: str) -> None:
    """A keyword nobody reads is refused before anything is sent, in every entry point."""
    with pytest.raises(TypeError, match=name):
        ask(service.retriever(), "q", **{name: 1})
    assert service.requests == []


def test_unknown_keyword_is_raised_by_a_batch_that_returns_exceptions(service: Recorder) -> None:
    """`return_exceptions` is for the questions, not for a mistake of the caller's."""
    with pytest.raises(TypeError, match="filter"):
        service.retriever().batch(["q", "r"], return_exceptions=True, filter={})  # type: ignore[call-arg]


def test_unknown_constructor_keyword_is_a_type_error() -> None:
    """A mistyped option of the constructor is named, with the nearest known one."""
    with pytest.raises(TypeError, match="metadata_filters"):
        VectorizeRetriever(**{"api_key": "t", **IDS, "metadataFilters": []})


BAD: list[tuple[dict[str, Any], str]] = [
    ({"num_results": 0}, "num_results"), ({"num_results": 1.5}, "num_results"), ({"rerank": "yes"}, "rerank"),
    ({"metadata_filters": "year"}, "metadata_filters"), ({"mode": "fuzzy"}, "^mode = 'fuzzy'"),
    ({"min_score": float("nan")}, "min_score"), ({"timeout": 0}, "timeout"), ({"context": 3}, "context"),
    ({"advanced_query": 3}, "advanced_query"), ({"pipeline_id": "a b"}, "pipeline_id"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "named"), BAD)
def test_bad_values_are_refused_before_anything_is_sent(
    ask: Ask, service: Recorder, options: dict[str, Any], named: str
) -> None:
    """A value the service could misread is a ConfigurationError, in the constructor and in a call."""
    with pytest.raises(ConfigurationError, match=named):
        service.retriever(**options)
    with pytest.raises(ConfigurationError, match=named):
        ask(service.retriever(), "q", **options)
    assert service.requests == []


def test_a_client_that_is_none_is_told_by_its_name() -> None:
    """A retriever has one for each world."""
    for name in ("http_client", "async_http_client"):
        own: Any = {name: 5}
        with pytest.raises(ConfigurationError, match=rf"^{name} is an int; an httpx\."):
            VectorizeRetriever(api_key="t", **IDS, **own)


def test_empty_question_is_refused(ask: Ask, service: Recorder) -> None:
    """A question without a word is not sent."""
    with pytest.raises(ConfigurationError, match="question"):
        ask(service.retriever(), "  ")


def test_an_error_is_never_an_empty_list(ask: Ask, service: Recorder) -> None:
    """An outage raises the typed error."""
    service.answer = lambda _: reply({}, 501)
    with pytest.raises(ServerError):
        ask(service.retriever(resilience=default_pipeline().without("retry", "circuit breaker")), "q")


def test_arguments_of_the_existing_integration(ask: Ask, service: Recorder) -> None:
    """A migration is one import line: the old arguments work, ids named per call included."""
    clients: Any = {"http_client": service.client, "async_http_client": service.async_client}
    retriever = VectorizeRetriever(
        api_token="old", environment="staging", num_results=4, rerank=True, metadata_filters=[{"y": [1]}], **clients
    )
    ask(retriever, "q", organization="org-2", pipeline_id="aip-2", num_results=3, rerank=False, metadata_filters=[])
    request = service.requests[-1]
    assert str(request.url) == "https://api-staging.vectorize.io/v1/org/org-2/pipelines/aip-2/retrieval"
    assert request.headers["authorization"] == "Bearer old"
    assert service.body == {"question": "q", "numResults": 3, "rerank": False}
    with pytest.raises(ConfigurationError, match="organization is missing"):
        ask(retriever, "q", pipeline_id="aip-2")


def test_typed_search_options(ask: Ask, service: Recorder) -> None:
    """Modes, fields, match type and boost are said one by one, and a call changes only the ones it names."""
    retriever = service.retriever(mode="hybrid", text_fields=["title"], text_boost=2.5)
    ask(retriever, "q", match_type="match_phrase", text_boost=1.0)
    assert service.body["advanced-query"] == {
        "mode": "hybrid", "text-fields": ["title"], "text-boost": 1.0, "match-type": "match_phrase",
    }  # fmt: skip
    ask(retriever, "q", text_fields=None)
    assert service.body["advanced-query"] == {"mode": "hybrid", "text-boost": 2.5}


def test_filters_in_both_languages(ask: Ask, service: Recorder) -> None:
    """What `metadata-filters` can say goes there, the rest to `advanced-query`; what neither can is an error."""
    retriever = service.retriever(filters=F("type") == "pdf", mode="hybrid")
    ask(retriever, "q")
    assert service.body["metadata-filters"] == [{"type": ["pdf"]}]
    ask(retriever, "q", filters=(F("year") >= 2024) & F("type").in_(["pdf", "html"]))
    assert service.body["metadata-filters"] == [{"type": ["pdf", "html"]}]
    assert service.body["advanced-query"] == {"mode": "hybrid", "filters": {"range": {"year": {"gte": 2024}}}}
    with pytest.raises(ConfigurationError, match="exists"):
        ask(retriever, "q", filters=F("year").exists())


def test_raw_filters_pass_untouched(ask: Ask, service: Recorder) -> None:
    """A raw filter is sent as it was written."""
    raw = [{"document_metadata.type": ["pdf", "html"]}, {"year": 2024, "b": {"$or": [1]}}]
    ask(service.retriever(), "q", metadata_filters=raw)
    assert service.body["metadata-filters"] == raw


def test_chat_history_becomes_context(ask: Ask, service: Recorder) -> None:
    """LangChain messages reach the service as roles and texts; tool messages and empty ones do not."""
    history = [
        SystemMessage("be kind"),
        HumanMessage([{"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": "data:"}}]),
        AIMessage("", tool_calls=[{"name": "t", "args": {}, "id": "1"}]),
        ToolMessage("42", tool_call_id="1"),
        ("ai", "hi"),
        {"role": "user", "content": "and now?"},
    ]
    ask(service.retriever(), "q", context=history)
    assert service.body["context"] == {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": "and now?"},
        ]
    }


def test_async_uses_no_thread(service: Recorder) -> None:
    """`ainvoke` and `abatch` run in the caller's thread from end to end."""
    import httpx

    threads: set[int] = set()

    def answer(_: httpx.Request) -> httpx.Response:
        threads.add(threading.get_ident())
        return reply({"documents": [WIRE]})

    service.answer = answer
    retriever = service.retriever()
    before = threading.active_count()

    async def main() -> None:
        await retriever.ainvoke("q")
        await retriever.abatch(["q"] * 5)
        assert threading.active_count() == before

    asyncio.run(main())
    assert threads == {threading.get_ident()}


def test_what_blocks_the_loop_is_seen_here(service: Recorder) -> None:
    """Every test of this folder runs under blockbuster, so async code that blocks fails it."""

    def slow(_: Any) -> Any:
        time.sleep(0.0001)
        return reply({"documents": [WIRE]})

    service.answer = slow
    service.retriever().invoke("q")
    with pytest.raises(BlockingError):
        asyncio.run(service.retriever().ainvoke("q"))


KNOBS: dict[str, st.SearchStrategy[Any]] = {
    "k": st.integers(1, 10**6),
    "num_results": st.integers(1, 10**6),
    "rerank": st.booleans(),
    "metadata_filters": st.lists(
        st.dictionaries(st.text(max_size=8), st.lists(st.integers() | st.text(max_size=5) | st.booleans()), max_size=2)
    ),
    "filters": st.sampled_from([None, F("a") == "b", F("a") > 3, (F("a") == 1) | (F("b") == 2), ~(F("c") == "é")]),
    "context": st.none() | st.lists(st.builds(HumanMessage, st.text(max_size=10)), max_size=3),
    "advanced_query": st.none() | st.just({"mode": "text", "new-option": [1]}),
    "mode": st.sampled_from(["text", "vector", "hybrid", None]),
    "text_fields": st.none() | st.lists(st.text(max_size=5), max_size=2),
    "match_type": st.sampled_from(["match", "match_phrase", "multi_match", None]),
    "text_boost": st.none() | st.floats(0, 100),
    "min_score": st.none() | st.floats(-1, 1),
    "timeout": st.none() | st.floats(5, 100),
    "pipeline_id": st.sampled_from(["aip-2", "aip/3", "ä"]),
    "organization": st.sampled_from(["org-2", "o"]),
}
GATEWAY = "https://client.app.vectorize.io/api/gateways/service/org-9/aip-9/retrieve"
ADDRESSES: list[dict[str, Any]] = [
    {}, {"environment": "staging"}, {"environment": "local"}, {"base_url": "http://localhost:9/v1/"},
    {"base_url": "http://elsewhere/v1", "allow_insecure": True}, {"user_agent": "mine/1.0", "max_response_mib": 0.5},
    {"retrieval_url": GATEWAY, "organization": None, "pipeline_id": None},
]  # fmt: skip


def drawn(leave_out: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    optional = {name: values for name, values in KNOBS.items() if name not in leave_out}
    return st.fixed_dictionaries({}, optional=optional)


def test_every_parameter_of_a_call_is_drawn() -> None:
    """The next test draws whatever a call takes."""
    assert set(KNOBS) == set(CallOptions.__annotations__)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    question=st.text(min_size=1).filter(str.strip),
    made=drawn(leave_out=("k",)),
    where=st.sampled_from(ADDRESSES),
    called=drawn(("k",)) | drawn(("num_results",)),
)
def test_all_entry_points_send_the_same_bytes(question: str, made: Any, where: Any, called: Any) -> None:
    """Whatever is asked, the four entry points send byte-identical requests, or all refuse."""
    recorder = Recorder()
    retriever = recorder.retriever(**{**made, **where})
    outcomes = []
    for entry in ENTRIES.values():
        recorder.requests.clear()
        try:
            entry(retriever, question, **called)
        except ConfigurationError as error:
            outcomes.append(str(error))
        else:
            assert len(recorder.requests) == 1
            outcomes.append(repr(recorder.seen))
    assert len(set(outcomes)) == 1
    recorder.client.close()


def test_retrieve_gives_the_whole_answer(service: Recorder) -> None:
    """`retrieve` and `aretrieve` keep what a list of documents cannot hold."""
    retriever = service.retriever()
    answer = retriever.retrieve("q", k=2)
    assert (answer.ndcg, answer.attempts, len(answer.documents)) == (1, 1, 1)
    assert asyncio.run(retriever.aretrieve("q", k=2)).ndcg == 1
    assert service.seen[0] == service.seen[1]


def test_importing_without_the_extra_says_which() -> None:
    """Without langchain-core the import fails with the command that installs it."""
    code = (
        "import sys; sys.modules['langchain_core'] = None\n"
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'langchain_core' else real(name, *a)\n"
        "try:\n import rage_retrievers.langchain\nexcept ImportError as e: print(e)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert 'pip install "rage-retrievers[langchain]"' in said


def test_importing_loads_no_breaker() -> None:
    """pybreaker loads Tornado where that is installed: the first retriever does it, and no call in an event loop."""
    code = (
        "import sys; from rage_retrievers.langchain import VectorizeRetriever as Retriever\n"
        "print('pybreaker' in sys.modules)\n"
        "Retriever(api_key='t', organization='o', pipeline_id='p'); print('pybreaker' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.split() == ["False", "True"]


def test_the_token_is_sent(ask: Ask, service: Recorder) -> None:
    """The token reaches the service, as a bearer."""
    ask(service.retriever(), "q")
    assert service.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
