"""The wire contract, located: each cassette through both clients and both frameworks, with no network at all."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from vcr.errors import CannotOverwriteExistingCassetteException

from rage_retrievers import AsyncVectorizeClient, VectorizeClient
from rage_retrievers.errors import ConnectionFailedError
from rage_retrievers.testing import FaultServer, answer

from .asking import Face, asynchronous, blocking, langchain, llama_index, located, outcome, settings
from .promises import PROMISES, PUBLISHED, Promise, answers
from .scrub import findings
from .tape import CASSETTES, UntapedError, header_of, record, replay

FACES: dict[str, Face] = {"client": blocking, "async client": asynchronous, "LangChain": langchain,
                          "LlamaIndex": llama_index}  # fmt: skip
FILES = sorted(CASSETTES.iterdir())
PLAIN = PROMISES["retrieve"]


def path(promise: Promise) -> Path:
    return CASSETTES / f"{promise.name}.yaml"


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", PROMISES)
def test_each_promise_holds_on_replay_through_every_face(name: str, face: str) -> None:
    """What was recorded is asked for again, byte for byte in meaning, and comes to the same outcome."""
    promise = PROMISES[name]
    if promise.operation != "retrieve" and face not in ("client", "async client"):
        pytest.skip("the frameworks' retrievers only retrieve")
    with replay(path(promise)) as tape:
        options = settings(promise, tape, **located(promise))
        promise.check(outcome(lambda: FACES[face](promise, options), tape))
        assert tape.cassette.all_played


def test_every_cassette_is_used() -> None:
    """A cassette that no promise replays is dead weight; one that is missing is a promise not kept."""
    assert [file.name for file in FILES] == sorted(f"{name}.yaml" for name in PROMISES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_cassette_says_what_it_is(file: Path) -> None:
    """The header names the promise, what it was recorded against, and when."""
    header = header_of(file)
    assert header["promise"] == PROMISES[file.stem].says
    assert header["recorded on"].startswith("20")
    named = ("the embedded pipeline", "the fault server", "the real service", "the service at", "a published answer")
    assert header["recorded against"].startswith(named)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_cassette_holds_a_secret(file: Path) -> None:
    """No token, no organization, no key-shaped string; the ids of the published answer are public and quoted."""
    text = file.read_text("utf-8")
    if PROMISES[file.stem].quoted:
        found = [one for one in findings(text) if one not in PUBLISHED.decode()]
    else:
        found = findings(text)
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJvcmcifQ.c2lnbmF0dXJl",
        '"org_id": "acme-holding"',
        "organizationId: acme-holding",
        "{'organization': 'acme-holding'}",
        "https://api.vectorize.io/v1/org/acme-holding/pipelines/p/retrieval",
        "https://client.app.vectorize.io/api/gateways/service/acme-holding/p/retrieve",
        "582893ba-291c-4ec7-a6ee-e85c26888817",
        "authorization: Bearer 0123456789abcdef",
        "sk-abcdefghijklmnop1234",
        "d41d8cd98f00b204e9800998ecf8427e",
        "Zk3vQ9xT7bLw2PqR8sYc5NdF1hJm6GaE",
        "password=correct-horse",
    ],
)
def test_the_scan_finds_what_is_planted(planted: str) -> None:
    """A scan that finds nothing in a clean file means something."""
    assert findings(f"      string: {planted}\n")


TOKEN = "tok-4711-secret-value"
ORGANIZATION = "582893ba-291c-4ec7-a6ee-e85c26888817"
CONNECTOR = "cdfa4981-1111-4222-8333-aaaabbbbcccc"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJvcmcifQ.c2lnbmF0dXJl"


def test_secrets_are_removed_at_record_time(tmp_path: Path) -> None:
    """A service that echoes the token, ids, an address and a JWT leaves none of them in the file."""
    document = {
        "text": "Write to ada@example.org.",
        "org_id": ORGANIZATION,
        "source": f"{ORGANIZATION}/{CONNECTOR}/a.pdf",
        "metadata": {"apiKey": "whatever it is", "note": f"token={TOKEN}", "jwt": JWT},
    }
    promise = Promise("echo", "", lambda _: None)
    file = tmp_path / "echo.yaml"
    names = {"acme-pipeline": "aip-recorded"}
    script = answers({"documents": [document]})
    with FaultServer(script) as server, record(file, "# promise: none", names) as tape:
        where = {"base_url": server.url, "organization": ORGANIZATION, "pipeline_id": "acme-pipeline"}
        options = settings(promise, tape, **where, api_key=TOKEN)
        assert len(blocking(promise, options).documents) == 1
    text = file.read_text("utf-8")
    secrets = (TOKEN, ORGANIZATION, CONNECTOR, JWT, "acme-pipeline", "ada@example.org", "whatever it is")
    assert [secret for secret in secrets if secret in text] == []


def test_another_question_is_not_answered_from_the_cassette() -> None:
    """Matching includes the body: question B does not replay answer A."""
    with replay(path(PLAIN)) as tape, VectorizeClient(**settings(PLAIN, tape, **located(PLAIN))) as client:
        with pytest.raises(CannotOverwriteExistingCassetteException):
            client.retrieve("What is a cargo bicycle?")
        with pytest.raises(CannotOverwriteExistingCassetteException):
            client.retrieve(PLAIN.question, rerank=True)
        with pytest.raises(CannotOverwriteExistingCassetteException):
            client.retrieve(PLAIN.question, pipeline_id="aip-other")
        tape.sent = 0


def test_replay_opens_no_connection() -> None:
    """Not even to this machine, where something does listen."""
    with FaultServer(answer()) as server, replay(path(PLAIN)):
        with pytest.raises(UntapedError):
            socket.create_connection(("127.0.0.1", server.port))
        with pytest.raises(UntapedError):
            socket.getaddrinfo("localhost", server.port)
        assert server.connections == 0


@pytest.mark.parametrize("world", ["blocking", "async"])
@pytest.mark.parametrize("mode", ["replay", "record"])
def test_the_fast_engine_fails_under_a_cassette(mode: str, world: str, tmp_path: Path) -> None:
    """vcrpy cannot see it, so it may not slip by: neither unrecorded, nor to the network on replay."""
    tapes = {"replay": lambda: replay(path(PLAIN)), "record": lambda: record(tmp_path / "c.yaml", "# a: b", None)}
    ask = blocking if world == "blocking" else asynchronous
    with FaultServer(answer()) as server:
        with tapes[mode]() as tape:
            options = settings(PLAIN, tape, base_url=server.url, engine="httptools")
            with pytest.raises(UntapedError, match="httptools"):
                ask(PLAIN, options)
            tape.sent = 0
        assert server.requests == []


class Foreign(httpx.BaseTransport):
    """A transport that vcrpy has never heard of."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"documents": []})


def test_a_transport_that_vcrpy_does_not_know_is_noticed(tmp_path: Path) -> None:
    """A request that the cassette has not seen fails the recording."""
    taping = record(tmp_path / "c.yaml", "# a: b", None)
    tape = taping.__enter__()
    with httpx.Client(transport=Foreign()) as own:
        options = settings(PLAIN, tape, base_url="https://a.invalid/v1")
        assert VectorizeClient(**options, http_client=own).retrieve("What?").documents == ()
    with pytest.raises(UntapedError, match="1 requests were sent and the cassette saw 0"):
        taping.__exit__(None, None, None)


def test_a_missing_cassette_is_an_error(tmp_path: Path) -> None:
    """Replay never turns into recording."""
    with pytest.raises(FileNotFoundError), replay(tmp_path / "none.yaml"):
        pass


def test_a_replay_needs_no_service_in_asyncio_either() -> None:
    """The async engine is closed to the network as well: what is not on the tape is an error, not a connection."""
    with replay(path(PLAIN)) as tape:

        async def ask() -> Any:
            async with AsyncVectorizeClient(**settings(PLAIN, tape, **located(PLAIN))) as client:
                await client.retrieve(PLAIN.question)
                return await client.retrieve(PLAIN.question)

        with pytest.raises(CannotOverwriteExistingCassetteException):
            asyncio.run(ask())
        tape.sent = 1


def test_recorded_requests_are_valid_json() -> None:
    """Bodies are laid out to be read, and still are what was sent."""
    with replay(path(PLAIN)) as tape:
        (request,) = tape.requests
        assert json.loads(request.body) == {"question": PLAIN.question, "numResults": 5, "rerank": False}
        tape.sent = tape.cassette.play_count


def test_refused_network_is_not_mistaken_for_an_outage() -> None:
    """UntapedError is no RageError, so that no retry, circuit or fallback hides it."""
    assert not issubclass(UntapedError, (ConnectionFailedError, OSError))
