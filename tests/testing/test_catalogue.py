"""The catalogue of faults, and what the pure half of the library makes of every whole answer in it."""

from __future__ import annotations

import http.client
import math
import subprocess
import sys

import pytest

from rage_retrievers import errors
from rage_retrievers._flow import WireRequest, WireResponse
from rage_retrievers.errors import RageError, StatusError
from rage_retrievers.models import Retrieval
from rage_retrievers.testing import FAULTS, FaultCase, FaultServer
from testing import raw
from testing.engines import TOKEN, operation

WHOLE = [
    case
    for case in FAULTS.values()
    if case.group in {"status", "retry-after", "redirect", "content"}
    and not case.name.endswith("-then-answer")
    and case.name != "status/101"
]


def exchange(request: WireRequest) -> WireResponse:
    """One request over a bare socket."""
    with raw.connected(request.url) as connection:
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
        path = "/" + request.url.split("/", 3)[3]
        connection.sendall(
            f"{request.method} {path} HTTP/1.1\r\n{head}Content-Length: {len(request.body)}\r\n\r\n".encode()
            + request.body
        )
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return WireResponse(response.status, headers, response.read())


def outcome_of(case: FaultCase) -> Retrieval | RageError:
    with FaultServer(case.script) as server:
        retrieve = operation(server.url)
        try:
            return retrieve.read(exchange(retrieve.build(TOKEN)))
        except RageError as error:
            return error


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_each_whole_answer_is_read_as_the_catalogue_says(case: FaultCase) -> None:
    """No HTTP library between the bytes and the reader: status and body alone decide."""
    outcome = outcome_of(case)
    assert case.allows(outcome if isinstance(outcome, RageError) else None), repr(outcome)


@pytest.mark.parametrize("case", [case for case in WHOLE if case.group == "content"], ids=lambda case: case.name)
def test_what_is_read_can_be_written_again(case: FaultCase) -> None:
    """Texts can be encoded and scores are finite or absent, whatever the service sent."""
    outcome = outcome_of(case)
    if isinstance(outcome, Retrieval):
        for document in outcome.documents:
            document.text.encode()
            assert all(score is None or math.isfinite(score) for score in (document.relevancy, document.similarity))
        outcome.model_dump_json()


WISHES = {
    "seconds": (1.0, 1.0),
    "zero": (0.0, 0.0),
    "fraction": (0.5, 0.5),
    "date": (0.0, 2.0),
    "past-date": (0.0, 0.0),
    "absurd": (31_536_000_000.0, 31_536_000_000.0),
    "far-date": (1e9, 1e12),
    "unix": (1_893_456_000.0, 1_893_456_000.0),
}


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("form", [name.partition("-")[2] for name in FAULTS if name.startswith("retry-after/429-")])
def test_each_form_of_retry_after_is_seconds_or_nothing(code: int, form: str) -> None:
    """What can be read is a finite number of seconds; what cannot is None, never an exception."""
    form = form.removeprefix("after/429-")
    error = outcome_of(FAULTS[f"retry-after/{code}-{form}"])
    assert isinstance(error, StatusError)
    if form in WISHES:
        least, most = WISHES[form]
        assert error.retry_after is not None
        assert least <= error.retry_after <= most
    else:
        assert error.retry_after is None


def test_every_outcome_names_an_error_of_the_library() -> None:
    """A typing error in the catalogue would let a wrong outcome pass for a right one."""
    for case in FAULTS.values():
        for outcome in case.outcomes:
            assert outcome == "answer" or outcome in errors.__all__
        assert case.name.partition("/")[0] == case.group


def test_a_case_allows_its_outcome_and_no_other() -> None:
    """The class is exact, and so is whether the error is transient."""
    case = FAULTS["status/503-json"]
    allowed = errors.ServerError("m", status=503)
    assert case.allows(allowed)
    assert not case.allows(None)
    assert not case.allows(errors.ServerError("m", status=501))
    assert not case.allows(errors.RateLimitedError("m", status=429))
    assert not case.allows(RuntimeError())
    assert FAULTS["status/201-answer"].allows(None)
    assert not FAULTS["status/201-answer"].allows(allowed)


def test_the_catalogue_covers_what_the_library_promises_to_survive() -> None:
    """Removing a kind of fault is a decision, not an accident."""
    kinds = {
        **dict.fromkeys(f"status/{code}-{form}" for code in (400, 401, 402, 403, 404, 408, 422, 425, 429, 500, 501,
                         502, 503, 504, 505) for form in ("json", "html", "empty")),
        **dict.fromkeys(f"retry-after/{code}-{form}" for code in (429, 503)
                         for form in ("seconds", "date", "absurd", "garbage")),
        **dict.fromkeys(f"connection/{way}-{place}" for way in ("dropped", "reset")
                         for place in ("before-answer", "in-head", "in-body")),
    }  # fmt: skip
    others = {
        "status/204-empty", "status/200-empty", "status/100-then-answer", "redirect/302-other-origin",
        "redirect/302-itself", "connection/dropped-after-answer", "connection/closes-when-idle", "time/silent",
        "time/dripping-headers", "time/dripping-body", "framing/length-too-long", "framing/length-too-short",
        "framing/chunk-size-not-hex", "framing/garbage-bytes", "framing/http10", "size/body-300mb", "size/gzip-bomb",
        "size/header-300kb", "size/headers-300kb", "size/values-lists",
        "size/values-documents", "content/invalid-utf8", "content/cut-short", "content/text-number",
        "content/nulls", "content/nan-scores", "content/documents-missing", "content/text-only",
        "content/unknown-fields", "content/lone-surrogates",
    }  # fmt: skip
    assert set(kinds) | others <= FAULTS.keys()


def test_importing_the_package_loads_none_of_its_parts() -> None:
    """The fakes cost nothing until one is used."""
    code = (
        "import sys, rage_retrievers.testing as t; "
        "assert not [m for m in sys.modules if m.startswith('rage_retrievers.testing.')]; "
        "assert all(getattr(t, name) is not None for name in t.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
