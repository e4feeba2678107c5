"""What an answer may weigh: tiny values in their millions are refused before they are made, real answers are not."""

from __future__ import annotations

import json

import pytest

from rage_retrievers import _endpoint
from rage_retrievers._flow import WireResponse
from rage_retrievers._weight import check_weight
from rage_retrievers.errors import ResponseTooLargeError
from rage_retrievers.models import Query, Retrieval
from rage_retrievers.testing import FAULTS, answer_body

MIB = 2**20


def read(body: bytes, max_bytes: int = 16 * MIB) -> Retrieval:
    return _endpoint.read_retrieval(WireResponse(200, {}, body), Query(question="?"), 10_000, max_bytes)


def holding(item: bytes, size: int = 8 * MIB) -> bytes:
    return b'{"documents": [{"text": "a", "x": [' + item * (size // len(item)) + b"0]}]}"


@pytest.mark.parametrize(
    "item", [b"[],", b"{},", b'{"a":1},', b"[[[1]]],", b"0,", b"0.5,", b'"",', b'"a,b",', b'"\\"",'], ids=repr
)
def test_millions_of_tiny_values_are_refused_unread(item: bytes) -> None:
    """8 MiB of them would take hundreds of MiB; the answer says that fewer results, or a higher bound, would help."""
    with pytest.raises(ResponseTooLargeError, match="max_response_mib"):
        read(holding(item))


def test_so_are_those_inside_a_wrapped_answer() -> None:
    """The older gateway's text within the JSON is weighed as well."""
    inner = b'{\\"documents\\": [], \\"x\\": [' + b"[]," * (MIB // 3) + b"0]}"
    with pytest.raises(ResponseTooLargeError):
        read(b'{"record": {"value": "' + inner + b'"}}')


def test_marks_inside_texts_weigh_nothing() -> None:
    """A passage of commas, braces, quotes and backslashes is a text."""
    text = '{[,:"\\' * 200_000
    body = json.dumps({"documents": [{"text": text}]}).encode()
    assert len(body) > MIB
    assert read(body).documents[0].text == text


def test_as_many_whole_documents_as_may_come_are_read() -> None:
    """10,000 documents with all their fields are no attack."""
    assert len(read(answer_body(10_000))) == 10_000


def test_a_large_plain_text_is_read() -> None:
    """15 MiB in one passage."""
    assert len(read(b'{"documents": [{"text": "' + b"a" * (15 * MIB) + b'"}]}')) == 1


def test_wide_characters_weigh_what_they_take() -> None:
    """One character beyond U+FFFF makes four bytes of each of the others."""
    with pytest.raises(ResponseTooLargeError):
        read(b'{"documents": [{"text": "' + b"a" * (13 * MIB) + "😀".encode() + b'"}]}')


def test_a_higher_bound_on_the_body_lets_more_values_in() -> None:
    """Who raises `max_response_mib` means it."""
    body = holding(b"0,", 2 * MIB)
    with pytest.raises(ResponseTooLargeError):
        check_weight(body, 16 * MIB)
    check_weight(body, 64 * MIB)


def test_a_million_wrong_documents_leave_one_error() -> None:
    """The reader stops at the first; a list of errors would weigh more than the answer."""
    with pytest.raises(ValueError, match="1 validation error"):
        Retrieval.model_validate({"documents": [1] * 1000})


def test_the_catalogue_of_faults_has_them() -> None:
    """So that every engine and both frameworks meet them."""
    assert {"size/values-lists", "size/values-documents", "size/values-wrapped"} <= FAULTS.keys()
