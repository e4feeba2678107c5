"""One record for each call, that says who asked and never what."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import logging
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from rage_retrievers import VectorizeSettings, scope
from rage_retrievers._listeners import listeners_of
from rage_retrievers.errors import AuditError, ConfigurationError
from rage_retrievers.models import Document, Query, Retrieval
from rage_retrievers.observability import Audit, configure_logging, correlation
from rage_retrievers.observability import audit as module
from rage_retrievers.observability.audit import AUDIT, SHORTEST_KEY, filter_fields, to_file
from rage_retrievers.settings import ConfigurationWarning

from .conftest import ANSWER, Story


@pytest.fixture(autouse=True)
def _nothing_lost_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_first_loss", threading.Lock())


FILTERED = Query(
    question="Who is ada@example.org?",
    metadata_filters=[{"tenant": ["t-1"]}, {"year": [2024]}],
    advanced_query={"filters": {"bool": {"must": [{"term": {"lang": "en"}}, {"range": {"year": {"gte": 1}}}]}}},
)


def records(**options: Any) -> tuple[Audit, list[dict[str, Any]]]:
    kept: list[dict[str, Any]] = []
    return Audit(sink=kept.append, key=b"k" * 32, clock=lambda: 1_700_000_000.5, **options), kept


def test_a_call_leaves_one_record() -> None:
    """Who, when, which pipeline, filters' names, a keyed hash, ids, outcome, attempts; no question, no values."""
    audit, kept = records(who=lambda: {"user": "u-17", "token": "abc"})
    with correlation("request-7"):
        Story((audit,), query=FILTERED).answered_at_second()
    assert kept == [
        {
            "correlation_id": "request-7",
            "call_id": "call-1",
            "at": "2023-11-14T22:13:20.500Z",
            "who": {"user": "u-17", "token": "[redacted]"},
            "operation": "retrieve",
            "organization": "org-1",
            "pipeline": "aip-1",
            "filter_fields": ["lang", "tenant", "year"],
            "question_hash": "hmac-sha256:e65a0410cf3fdc9729b7172422445d16e88daa2e143e1369b3ab1909c7a8db57",
            "document_ids": ["doc-1", "doc-2"],
            "outcome": "answered",
            "error_type": None,
            "attempts": 2,
            "elapsed_ms": 410.0,
        }
    ]
    assert "example.org" not in str(kept)
    assert "t-1" not in str(kept)


def test_who_is_the_scope_unless_said_otherwise() -> None:
    """Labels of the scope are who asked; an application may know better."""
    kept: list[dict[str, Any]] = []
    with scope(user="u-17", tenant="acme"):
        Story((Audit(kept.append),)).answered()
        Story((Audit(kept.append, who=lambda: {"service": "batch"}),)).answered()
    Story((Audit(kept.append),)).answered()
    assert [record["who"] for record in kept] == [{"user": "u-17", "tenant": "acme"}, {"service": "batch"}, {}]


def test_the_hash_depends_on_question_and_key() -> None:
    """Equal questions can be found with the key, and guessed by nobody without it."""
    audit, kept = records()
    other = Audit(sink=kept.append)
    for listener, question in ((audit, "a"), (audit, "a"), (audit, "b"), (other, "a")):
        Story((listener,), query=Query(question=question)).end()
    hashes = [record["question_hash"] for record in kept]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert "k" * 8 not in repr(audit)


@pytest.mark.parametrize(
    ("story", "outcome"),
    [
        (lambda story: story.end(), "answered"),
        (lambda story: story.end(ANSWER.with_facts(stale=True)), "stale"),
        (lambda story: story.end(ANSWER.with_facts(degraded="local", stale=True)), "degraded"),
        (lambda story: story.failed(), "failed"),
        (lambda story: story.failed(asyncio.CancelledError()), "cancelled"),
    ],
)
def test_every_ending_has_its_outcome(story: Any, outcome: str) -> None:
    """A refused, failed or cancelled call is on record like any other."""
    audit, kept = records()
    story(Story((audit,)))
    assert [record["outcome"] for record in kept] == [outcome]


def test_a_call_of_strange_texts_has_its_record_too() -> None:
    """Half a character in the question and a document without an id are no reason to lose one."""
    audit, kept = records(required=True)
    strange = Retrieval(documents=(*ANSWER.documents, Document(text="of no id")))
    Story((audit,), query=Query(question="who \ud83d?")).end(strange)
    assert kept[0]["document_ids"] == ["doc-1", "doc-2", ""]
    assert kept[0]["question_hash"].startswith("hmac-sha256:")


@pytest.mark.parametrize("kind", ["term", "terms", "range", "match", "prefix", "wildcard"])
def test_every_clause_that_names_a_field_is_read(kind: str) -> None:
    """By the field's name, and never by what it must be."""
    filters = {"bool": {"must_not": [{kind: {"tenant": {"value": "t-1"}}}]}}
    assert filter_fields(Query(question="q", advanced_query={"filters": filters})) == ["tenant"]


def test_filters_of_any_depth_are_named_but_not_quoted() -> None:
    """Nested clauses are read, a stranger's endless nesting is not followed."""
    clause: Any = {"term": {"deep": 1}}
    for _ in range(10):
        clause = {"bool": {"should": [clause]}}
    assert filter_fields(Query(question="q", advanced_query={"filters": clause})) == ["deep"]
    for _ in range(100):
        clause = {"bool": {"should": [clause]}}
    assert filter_fields(Query(question="q", advanced_query={"filters": clause})) == []


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError("no space left for this record")


def audit_to(stream: io.StringIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    logging.getLogger(AUDIT).addHandler(handler)
    return handler


def test_failing_open_logs_that_a_record_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    """By default the call goes on; the log says which call has no record."""
    logging.getLogger(AUDIT).propagate = False
    audit_to(FullDisk())
    with pytest.warns(ConfigurationWarning):
        Story((Audit(),)).answered()
    assert caplog.messages == ["audit.failed call_id=call-1 error_type=OSError"]


def test_a_handler_that_leaves_the_record_out_keeps_none() -> None:
    """Records are of level INFO: with a handler for errors alone none would be kept, and each is required."""
    logging.getLogger(AUDIT).propagate = False
    audit_to(io.StringIO()).setLevel(logging.ERROR)
    with pytest.raises(AuditError, match="withheld"):
        Story((Audit(required=True),)).answered()


def test_a_handler_whose_filter_drops_the_record_keeps_none() -> None:
    """Its level lets records pass and its filter does not; another handler's filter is its own affair."""
    logging.getLogger(AUDIT).propagate = False
    audit_to(io.StringIO()).addFilter(lambda record: record.levelno >= logging.ERROR)
    with pytest.raises(AuditError, match="withheld"):
        Story((Audit(required=True),)).answered()
    audit_to(kept := io.StringIO())
    Story((Audit(required=True),)).answered()
    assert kept.getvalue().count("audit.call") == 1


def test_a_record_that_a_filter_replaced_may_fail_as_well() -> None:
    """From Python 3.12 on a filter may hand on a copy, which the handler then fails to write."""

    class Replacing(logging.StreamHandler[io.StringIO]):
        def handle(self, record: logging.LogRecord) -> Any:
            changed = copy.copy(record)
            self.emit(changed)
            return changed

    logger = logging.getLogger(AUDIT)
    logger.propagate = False
    logger.addHandler(Replacing(FullDisk()))
    with pytest.raises(AuditError, match="withheld"):
        Story((Audit(required=True),)).answered()


@pytest.mark.parametrize("stream", [FullDisk(), None], ids=["the write fails", "nobody listens"])
def test_failing_closed_withholds_the_answer(stream: io.StringIO | None) -> None:
    """`required=True`: a record that cannot be kept fails the call with an AuditError."""
    audit = Audit(required=True)
    logging.getLogger(AUDIT).propagate = False
    if stream is not None:
        audit_to(stream)
    with pytest.raises(AuditError, match="withheld") as failure:
        Story((audit,)).answered()
    assert not failure.value.transient
    assert failure.value.attempts == 1


@pytest.mark.parametrize(
    ("required", "consequence"), [(False, "audit records are lost"), (True, "every call will raise AuditError")]
)
def test_a_trail_that_nobody_keeps_is_told_of_when_it_is_made(required: bool, consequence: str) -> None:
    """Records do not vanish in silence: the warning says what will happen and names three remedies."""
    logger = logging.getLogger(AUDIT)
    logger.propagate = False
    with pytest.warns(ConfigurationWarning, match=f"{consequence}; set RAGE_AUDIT_FILE"):
        Audit(required=required)
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Audit(required=required)
        Audit(sink=lambda record: None)


def test_a_handler_that_keeps_nothing_is_none() -> None:
    """A `NullHandler`, which libraries add for good manners, is nobody who listens."""
    logger = logging.getLogger(AUDIT)
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    with pytest.warns(ConfigurationWarning, match="every call will raise AuditError"):
        audit = Audit(required=True)
    with pytest.raises(AuditError, match="withheld"):
        Story((audit,)).answered()


def test_a_handler_is_watched_once_and_other_records_fail_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many audit records went to it, its own way with a failure is one step away."""
    logger = logging.getLogger(AUDIT)
    logger.propagate = False
    stream, failed = io.StringIO(), list[str]()
    handler = audit_to(stream)
    monkeypatch.setattr(handler, "handleError", lambda record: failed.append(record.getMessage()))
    story = Story((Audit(),))
    for _ in range(1_500):
        story.end()
    monkeypatch.setattr(handler, "stream", FullDisk())
    logger.warning("of another kind")
    assert failed == ["of another kind"]


def test_an_audit_log_switched_on_by_a_variable_is_told_of_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that wants a trail, in a service without logging: the client's maker hears of it."""
    logging.getLogger(AUDIT).propagate = False
    monkeypatch.setenv("RAGE_CONFIG_PROFILE", "production")
    with pytest.warns(ConfigurationWarning, match="audit records are lost"):
        listeners_of(VectorizeSettings.load())


def test_failing_closed_keeps_the_calls_own_error_as_context() -> None:
    """A failed call without a record raises the AuditError; the reason it failed is not lost to a debugger."""
    with pytest.raises(AuditError):
        Story((Audit(sink=lambda _: 1 / 0, required=True),)).failed()  # type: ignore[arg-type]


def test_watching_a_handler_changes_nothing_for_other_records(capsys: pytest.CaptureFixture[str]) -> None:
    """A handler shared with other loggers reports their failures as it did before."""
    logging.getLogger(AUDIT).propagate = False
    handler = audit_to(FullDisk())
    with pytest.warns(ConfigurationWarning):
        Story((Audit(),)).answered()
    handler.handle(logging.makeLogRecord({"msg": "another record"}))
    assert "another record" in capsys.readouterr().err


def test_records_pass_every_level() -> None:
    """An audit trail does not end because somebody turned the log down to ERROR."""
    stream = io.StringIO()
    configure_logging(json=True, level="ERROR", stream=stream)
    Story((Audit(),)).answered()
    record = json.loads(stream.getvalue())
    assert (record["logger"], record["event"], record["pipeline"]) == (AUDIT, "audit.call", "aip-1")


def test_a_file_gets_one_line_a_record(tmp_path: Path) -> None:
    """`to_file` appends JSON lines, written out before the answer is given, and raises when it cannot."""
    path = tmp_path / "audit.jsonl"
    for _ in range(2):
        Story((Audit(sink=to_file(path), required=True),)).answered()
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["audit.call"] * 2
    with pytest.raises(AuditError):
        Story((Audit(sink=to_file(tmp_path / "none" / "audit.jsonl"), required=True),)).answered()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Who asked what is nobody else's business; but a file that is there keeps the mode it was given."""
    new, shared = tmp_path / "new.jsonl", tmp_path / "shared.jsonl"
    shared.touch()
    shared.chmod(0o640)
    before = os.umask(0)
    try:
        for path in (new, shared):
            Story((Audit(to_file(path), required=True),)).answered()
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (new, shared)] == [0o600, 0o640]


class NeverAwaited:
    async def __call__(self, record: object) -> None: ...


async def never_awaited(*given: object) -> None:
    """What a listener's caller would leave behind."""


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"sink": "/tmp/trail.jsonl"}, "type str; give a function"),
        ({"sink": 5}, "type int; give a function"),
        ({"sink": io.StringIO()}, "type StringIO; give a function"),
        ({"key": "planted-" * 5}, "type str; give at least 16 bytes"),
        ({"key": None}, "type NoneType; give at least"),
        ({"key": b"planted-planted"}, "short; give at least 16 bytes"),
        ({"sink": "planted-" * 5}, "type str; give"),
        ({"sink": never_awaited}, "sink is an async function.*give a plain one"),
        ({"who": {"user": "planted"}}, "type dict; give a function that returns a mapping"),
        ({"who": never_awaited}, "who is an async function.*give a plain one"),
        ({"sink": NeverAwaited()}, "sink is an async function.*give a plain one"),
        ({"redactor": str.upper}, "redactor cannot be of type method_descriptor; give a Redactor"),
    ],
)
def test_a_trail_that_could_keep_nothing_is_refused_when_it_is_made(options: dict[str, Any], remedy: str) -> None:
    """A path for a sink, a text for a key: one line says what to give, and shows no key."""
    with pytest.raises(ConfigurationError, match=remedy) as refused:
        Audit(**{"sink": print, **options})
    assert "\n" not in str(refused.value)
    assert "planted" not in str(refused.value)
    Audit(print, key=b"k" * 16)


def test_the_first_record_lost_in_a_process_is_told_without_logging(tmp_path: Path) -> None:
    """A file that cannot be written: one warning in all, whatever the number of calls and of clients."""
    unwritable = to_file(tmp_path / "none" / "audit.jsonl")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            trail = Audit(unwritable)
            Story((trail,)).answered()
            Story((trail,)).answered()
    assert [(warning.category, str(warning.message).partition(",")[0]) for warning in seen] == [
        (ConfigurationWarning, "The audit record of a call could not be kept (FileNotFoundError)")
    ]
    assert "RAGE_AUDIT_FILE" in str(seen[0].message)


@pytest.mark.filterwarnings("error")
def test_no_loss_is_told_twice() -> None:
    """A required trail raises instead; one without a handler was told of when it was made."""
    logging.getLogger(AUDIT).propagate = False
    with pytest.raises(AuditError):
        Story((Audit(sink=lambda _: 1 / 0, required=True),)).answered()  # type: ignore[arg-type]
    with pytest.warns(ConfigurationWarning, match="No handler") as seen:
        Story((Audit(),)).answered()
    assert len(seen) == 1
    assert module._first_loss.acquire(blocking=False)


def test_a_key_by_setting_may_be_as_short_as_one_by_argument() -> None:
    """One bound for both; below it a key could be guessed."""
    key = "k" * SHORTEST_KEY
    Audit(lambda record: None, key=key.encode())
    assert VectorizeSettings.load(audit_key=key).audit_key is not None
    with pytest.raises(ConfigurationError):
        VectorizeSettings.load(audit_key=key[1:])
