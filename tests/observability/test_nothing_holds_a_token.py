"""What is kept of a call, an error or a setting, for whoever dumps it: variables of frames, pickles, notes, groups."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from rich.pretty import pretty_repr

from rage_retrievers.client import AsyncVectorizeClient, VectorizeClient
from rage_retrievers.errors import RageError, ServerError
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndexRetriever
from rage_retrievers.observability import Redactor, correlation, register_secret
from rage_retrievers.observability.log_analysis import analyse
from rage_retrievers.observability.log_records import JSONFormatter, RedactingFilter
from rage_retrievers.observability.secrets import Secrets
from rage_retrievers.settings import VectorizeSettings
from rage_retrievers.testing import FaultServer, ReceivedRequest, status
from rage_retrievers.testing.faults import Fault, Hang, Reset, Script, Write, http

TOKEN = "planted-token/with+odd=characters-4711-and-long"
EMAIL = "ada.lovelace@example.org"


def blocking(**options: Any) -> None:
    with VectorizeClient(**options) as client:
        client.retrieve("q")


def in_tasks(**options: Any) -> None:
    async def ask() -> None:
        async with AsyncVectorizeClient(**options) as client:
            await client.retrieve("q")

    asyncio.run(ask())


CALLERS: list[Callable[..., Any]] = [
    blocking,
    in_tasks,
    lambda **options: LangChainRetriever(**options).invoke("q"),
    lambda **options: asyncio.run(LangChainRetriever(**options).ainvoke("q")),
    lambda **options: LlamaIndexRetriever(**options).retrieve("q"),
    lambda **options: asyncio.run(LlamaIndexRetriever(**options).aretrieve("q")),
]


@pytest.mark.parametrize("script", [status(401), status(503), Fault((Reset(),)), Fault((Hang(),))], ids=str)
@pytest.mark.parametrize("engine", ["httpx", "httptools"])
@pytest.mark.parametrize(
    "ask", CALLERS, ids=["blocking", "async", "LangChain", "aLangChain", "LlamaIndex", "aLlamaIndex"]
)
def test_no_variable_of_a_traceback_shows_the_token(ask: Callable[..., Any], engine: str, script: Script) -> None:
    """As rich, Sentry and pytest show them: by their repr, containers and dataclasses taken apart."""
    with FaultServer(script) as server, pytest.raises(RageError) as raised:
        ask(base_url=server.url, organization="o", pipeline_id="p", api_key=TOKEN, engine=engine, timeout=0.2)
    link: BaseException | None = raised.value
    looked = 0
    while link is not None:
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if "rage_retrievers" in frame.f_code.co_filename:
                looked += 1
                for name, value in frame.f_locals.items():
                    if name not in ("options", "given"):  # the caller's own arguments, which its frame has as well
                        assert TOKEN not in repr(value) + pretty_repr(value), (frame.f_code.co_qualname, name)
        link = link.__cause__ or link.__context__
    assert looked > 3


@pytest.mark.parametrize(
    "kind", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.TooManyRedirects]
)
@pytest.mark.parametrize(("ask", "client"), [(blocking, httpx.Client), (in_tasks, httpx.AsyncClient)])
def test_what_your_own_client_raised_holds_no_request(
    kind: type[httpx.RequestError], ask: Callable[..., Any], client: Callable[..., Any]
) -> None:
    """httpx hangs the request on its errors, and the token stands in its headers; a pickle of the chain has none."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise kind("no answer", request=request) from kind("before", request=request)

    own = client(transport=httpx.MockTransport(fail))
    with pytest.raises(RageError) as raised:
        ask(organization="o", pipeline_id="p", api_key=TOKEN, http_client=own)
    link: BaseException | None = raised.value
    while link is not None:
        assert TOKEN.encode() not in pickle.dumps(link)
        assert not any(isinstance(value, httpx.Request) for value in vars(link).values())
        link = link.__cause__ or link.__context__


def test_a_cancelled_call_s_traceback_shows_no_token() -> None:
    """What was written to the connection is let go of."""

    async def ask(**options: Any) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                try:
                    await AsyncVectorizeClient(**options).retrieve("q")
                except asyncio.CancelledError as error:
                    kept.append(error)
                    raise

    kept: list[BaseException] = []
    with FaultServer(Fault((Hang(),))) as server:
        where = {"base_url": server.url, "organization": "o", "pipeline_id": "p"}
        asyncio.run(ask(**where, api_key=TOKEN, engine="httptools"))
    _look_at(kept[0])


def test_nor_does_that_of_a_call_ended_by_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in blocking code."""

    def interrupted(self: object, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rage_retrievers.engines._http1.Reader.feed", interrupted)
    with FaultServer(status(200)) as server, pytest.raises(KeyboardInterrupt) as raised:
        blocking(base_url=server.url, organization="o", pipeline_id="p", api_key=TOKEN, engine="httptools")
    _look_at(raised.value)


def _look_at(error: BaseException) -> None:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert any("httptools" in frame.f_code.co_filename for frame in frames)
    for frame in frames:
        for name, value in frame.f_locals.items():
            if name not in ("options", "given"):  # the caller's own arguments, which its frame has as well
                assert TOKEN not in repr(value) + pretty_repr(value), (frame.f_code.co_qualname, name)


def test_a_token_in_use_is_known_however_many_came_since() -> None:
    """The last ones are remembered, and the token of the call under way is always one of them."""

    def echo(request: ReceivedRequest) -> bytes:
        return http(400, json.dumps({"error": request.headers["authorization"]}).encode())

    with FaultServer(Fault((Write(echo),))) as server:
        client = VectorizeClient(base_url=server.url, organization="o", pipeline_id="p", api_key=TOKEN)
        for number in range(70):
            register_secret(f"another-token-{number:04}")
        with client, pytest.raises(RageError) as raised:
            client.retrieve("q")
    assert TOKEN not in str(raised.value)


def test_a_pickle_of_the_settings_has_no_secret() -> None:
    """The rest is kept; whoever unpickles them has a token of its own. A copy within the process keeps everything."""
    settings = VectorizeSettings.load(api_key=TOKEN, audit_key=TOKEN, num_results=7)
    packed = pickle.dumps(settings)
    assert TOKEN.encode() not in packed
    assert (pickle.loads(packed).num_results, pickle.loads(packed).api_key) == (7, None)
    copied = settings.model_copy(update={"num_results": 8})
    assert copied.api_key is not None
    assert copied.api_key.get_secret_value() == TOKEN


def test_all_that_hangs_on_an_error_is_redacted() -> None:
    """Notes, arguments that are no texts, a cause and a context, and the errors of a group."""
    redactor = Redactor(secrets=Secrets())
    redactor.secrets.register(TOKEN)
    error = ServerError("HTTP 500", status=500)
    error.add_note(f"asked with {TOKEN}")
    error.__cause__ = ExceptionGroup("two", [ValueError({"token": TOKEN}), KeyError(TOKEN.encode())])
    error.__context__ = OSError(5, f"while {EMAIL} waited")
    assert redactor.error(error) is error
    shown = "".join(traceback.format_exception(error)) + repr(error.__context__) + repr(error.__cause__)
    assert (TOKEN in shown, EMAIL in shown) == (False, False)
    assert shown.count("[redacted]") >= 3


def test_an_id_that_is_a_secret_or_an_address_is_not_taken() -> None:
    """What came in as `X-Request-ID` stands in every record, so it is looked at as well."""
    register_secret(TOKEN)
    for given in (TOKEN, EMAIL, f"user:{EMAIL}"):
        with correlation(given) as chosen:
            assert chosen.startswith("rage-")
    with correlation("4111-1111-1111-1111") as chosen:  # digits in ids only look like cards
        assert chosen == "4111-1111-1111-1111"


class Named:
    def __str__(self) -> str:
        return f"user {EMAIL}"


@pytest.mark.parametrize(
    "said",
    [
        {"msg": "m", "extra": {"event": f"signed in {EMAIL}"}},
        {"msg": "m", "extra": {"body": EMAIL.encode()}},
        {"msg": "m", "extra": {"users": {EMAIL}}},
        {"msg": "m", "extra": {"user": Named()}},
        {"msg": f"%d {EMAIL}", "args": (EMAIL,)},
        {"msg": "m", "stack": f"Stack: {EMAIL}"},
        {"msg": "m", "formatted": f"Traceback: {EMAIL}"},
    ],
    ids=["event", "bytes", "set", "object", "misfit", "stack", "formatted before"],
)
def test_the_filter_looks_into_every_corner_of_a_record(
    said: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the application's own records too, whatever they hold, in text and in JSON."""
    for formatter in (JSONFormatter(), logging.Formatter("%(message)s")):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.addFilter(RedactingFilter())
        handler.setFormatter(formatter)
        record = logging.LogRecord("app", logging.INFO, "f.py", 1, said["msg"], said.get("args"), None)
        vars(record).update(said.get("extra", {}))
        record.stack_info, record.exc_text = said.get("stack"), said.get("formatted")
        handler.handle(record)
        out, err = capsys.readouterr()
        assert "lovelace" not in stream.getvalue() + out + err
        assert stream.getvalue()


def test_an_object_of_the_application_stays_where_it_hides_nothing() -> None:
    """A handler may need it: Django's take the request from the record."""
    record = logging.makeLogRecord({"msg": "m", "request": (request := SimpleNamespace(path="/"))})
    assert RedactingFilter().filter(record)
    assert vars(record)["request"] is request


@pytest.mark.parametrize("place", ["error", "details", "x-request-id"])
@pytest.mark.parametrize("planted", [EMAIL, "4111 1111 1111 1111", "4111111111111111", TOKEN])
def test_half_of_what_must_be_hidden_is_not_shown_where_long_words_are_cut(
    place: str, planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A card number short of its last digit is recognized by nobody, but known to everybody."""
    planted = planted.replace(" ", "-") if place.startswith("x-") else planted
    most = 100 if place.startswith("x-") else 300
    for shown in range(12, len(planted) + 1):
        said = "x" * (most - shown - 1) + " " + planted + " and more" * 20
        head = (("x-request-id", said),) if place.startswith("x-") else ()
        body = b"{}" if head else json.dumps({place: said}).encode()
        with (
            FaultServer(Fault((Write(http(400, body, *head)),))) as server,
            caplog.at_level(logging.DEBUG, "rage_retrievers"),
            pytest.raises(RageError) as refused,
        ):
            blocking(base_url=server.url, api_key=TOKEN, organization="o", pipeline_id="p")
        assert planted[:12] not in str(vars(refused.value)) + str(refused.value) + caplog.text


def test_an_analysed_log_is_redacted_before_it_is_cut(tmp_path: Path) -> None:
    """Whoever wrote it may have had no redaction."""
    said = "x" * 480 + f" {EMAIL} 4111111111111111"
    record = {"event": "retrieve.failed", "timestamp": "2026-01-01T00:00:00Z", "pipeline": "p", "attempts": 1}
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(record | {"error": said}))
    (finding,) = analyse([log]).findings
    assert finding.message.endswith("x [email] [card]")
