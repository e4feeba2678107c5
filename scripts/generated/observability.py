"""The tables of records, metrics, span attributes, audit fields, redactions, advice and errors."""

from __future__ import annotations

import inspect
import logging
import re
from importlib import import_module
from typing import Any

from rage_retrievers import Document, Query, Retrieval, ServerError, Target
from rage_retrievers import errors as errors_module
from rage_retrievers.observability import events as kinds
from rage_retrievers.observability import metrics as numbers
from rage_retrievers.observability import tracing
from rage_retrievers.observability.audit import Audit
from rage_retrievers.observability.log_analysis import ADVICE
from rage_retrievers.observability.logs import FIELDS
from rage_retrievers.observability.prometheus import ATTEMPT_LABELS, CALL_LABELS, CIRCUIT_LABELS, prometheus_name
from rage_retrievers.observability.redaction import DEFAULT_REDACTOR

from .tables import code, table

_TARGET = Target("https://api.vectorize.io/v1", "organization", "pipeline")
_QUERY = Query(question="?")
_ERROR = ServerError("The service failed.", status=503, request_id="r-1")
_STALE = Retrieval(documents=(Document(text="", id="d"),)).with_facts(stale=True, degraded="stale")
_SAMPLES: tuple[kinds.Event, ...] = (
    kinds.CallStarted("c", _TARGET, "retrieve", _QUERY),
    kinds.AttemptStarted("c", _TARGET, 1),
    kinds.AttemptSucceeded("c", _TARGET, 1, 0.1),
    kinds.AttemptFailed("c", _TARGET, 1, 0.1, _ERROR),
    kinds.RetryScheduled("c", _TARGET, 1, 0.1, _ERROR),
    kinds.CircuitChanged("c", _TARGET, "closed", "open"),
    kinds.Rejected("c", _TARGET, "retry", _ERROR),
    kinds.Hedged("c", _TARGET, 0.1),
    kinds.CacheHit("c", _TARGET, 0.1, True),
    kinds.Degraded("c", _TARGET, "empty", _ERROR),
    kinds.CallCompleted("c", _TARGET, "retrieve", _QUERY, 2, 0.2, _STALE, _ERROR),
)
"""One of each event, with everything it can hold."""


def fields_of(event: type[kinds.Event]) -> list[str]:
    """The fields that a record of this event can have, beside those of every record."""
    sample = next(one for one in _SAMPLES if type(one) is event)
    return list(FIELDS[event][1](sample, DEFAULT_REDACTOR))


def events(_: str) -> str:
    """Every event: its record, level, fields and meaning."""
    rows = []
    for event, (level, _fields) in FIELDS.items():
        names, levels = [event.name], [logging.getLevelName(level)]
        if event is kinds.CallStarted:
            names = ["retrieve.started"]
        if event is kinds.CallCompleted:
            names = ["retrieve.completed", "retrieve.failed", "retrieve.cancelled"]
            levels = ["INFO", "ERROR", "INFO"]
        said = _first_sentence(event)
        rows.append([", ".join(map(code, names)), ", ".join(levels), ", ".join(map(code, fields_of(event))), said])
    return table(["record", "level", "fields", "when"], rows)


def _first_sentence(thing: object) -> str:
    text = " ".join((inspect.getdoc(thing) or "").split())
    return text.split(". ", maxsplit=1)[0].rstrip(".")


_INSTRUMENTS = (
    (numbers.CALL_DURATION, "histogram", "seconds", "duration of logical calls, all attempts and pauses included"),
    (numbers.ATTEMPT_DURATION, "histogram", "seconds", "duration of HTTP requests"),
    (numbers.POLICY_EVENTS, "counter", "total", "what the policies did: `event` names it, `detail` says more"),
    (numbers.DOCUMENTS, "counter", "total", "documents returned"),
    (numbers.ACTIVE_CALLS, "gauge", "", "logical calls under way"),
    (numbers.CIRCUIT_STATE, "gauge", "", "1 for the state the circuit is in, else 0"),
)


def metrics(_: str) -> str:
    """Every metric, by its OpenTelemetry name and as Prometheus writes it."""
    return table(
        ["metric", "in Prometheus", "kind", "what it counts"],
        ([code(name), code(prometheus_name(name, unit)), kind, said] for name, kind, unit, said in _INSTRUMENTS),
    )


def labels(_: str) -> str:
    """What each metric is told apart by, and the bounds of the histograms."""
    own = {"gen_ai_data_source_id": "the pipeline's id"}
    rows = [
        [code(prometheus_name(numbers.CALL_DURATION, "seconds")), _codes(CALL_LABELS), _bounds(numbers.CALL_BUCKETS)],
        [
            code(prometheus_name(numbers.ATTEMPT_DURATION, "seconds")),
            _codes(ATTEMPT_LABELS),
            _bounds(numbers.ATTEMPT_BUCKETS),
        ],
        [code(prometheus_name(numbers.POLICY_EVENTS, "total")), _codes([*own, "event", "detail"]), ""],
        [code(prometheus_name(numbers.CIRCUIT_STATE)), _codes(CIRCUIT_LABELS), ""],
        ["the others", _codes(own), ""],
    ]
    return table(["metric", "labels", "buckets, in seconds"], rows)


def _codes(names: Any) -> str:
    return ", ".join(map(code, names))


def _bounds(bounds: tuple[float, ...]) -> str:
    return " ".join(f"{bound:g}" for bound in bounds)


_ATTRIBUTES = {
    "OPERATION": ("call", "`retrieval`, or the name of another operation"),
    "PROVIDER_NAME": ("call", f"`{tracing.PROVIDER}`"),
    "DATA_SOURCE": ("call", "the pipeline's id"),
    "TOP_K": ("call", "how many passages were asked for"),
    "QUESTION": ("call", "the redacted question, with `question=True`"),
    "DOCUMENTS": ("call", "ids and scores as JSON, with `documents=True`"),
    "ERROR_TYPE": ("both", "the class of the error; on a request, the status where there was one"),
    "ADDRESS": ("both", "the service's host"),
    "PORT": ("both", "its port"),
    "METHOD": ("request", "the HTTP method"),
    "RESEND_COUNT": ("request", "which repetition this is; absent on the first request"),
    "STATUS_CODE": ("request", "the HTTP status, where one arrived"),
    "URL": ("request", "the address, without its query string"),
    "RERANK": ("call", "whether reranking was asked for"),
    "ATTEMPTS": ("call", "requests sent"),
    "DOCUMENT_COUNT": ("call", "passages returned"),
    "CORRELATION": ("call", "the correlation id"),
    "STALE": ("call", "true when the answer is an old one; else absent"),
    "DEGRADED": ("call", "the fallback that answered; else absent"),
}


def attributes(_: str) -> str:
    """Every attribute of our spans; a constant of the module that is not described here is an error."""
    source = inspect.getsource(tracing)
    constants = re.findall(r"^([A-Z][A-Z_]+): Final = \"", source, re.MULTILINE)
    if constants != list(_ATTRIBUTES):
        raise KeyError(f"The tracing module has {constants}, and described are {list(_ATTRIBUTES)}.")
    return table(
        ["attribute", "on the span of", "what it holds"],
        ([code(getattr(tracing, name)), *said] for name, said in _ATTRIBUTES.items()),
    )


def points(_: str) -> str:
    """Every event on the span of a call, with what it holds."""
    told = ((type(sample), tracing.point(sample)) for sample in _SAMPLES)
    rows = ([code(kind.name), _codes(held), _first_sentence(kind)] for kind, held in told if held)
    return table(["event", "attributes", "when"], rows)


_AUDITED = {
    "correlation_id": "ties the record to logs, traces and the service's own records",
    "call_id": "the logical call",
    "at": "when it ended, UTC",
    "who": "the labels of the scope, or what `who` says",
    "operation": "`retrieve`, or another operation",
    "organization": "whose pipeline",
    "pipeline": "which pipeline",
    "filter_fields": "names of the metadata fields that filtered, never their values",
    "question_hash": "HMAC-SHA256 of the question under `key`",
    "document_ids": "ids of the documents given, best first",
    "outcome": "answered, stale, degraded, failed or cancelled",
    "error_type": "the class of the error, or null",
    "attempts": "requests sent; 0 for an answer from the cache",
    "elapsed_ms": "how long the call took",
}


def audit(_: str) -> str:
    """Every field of an audit record."""
    ended = _SAMPLES[-1]
    assert isinstance(ended, kinds.CallCompleted)
    fields = list(Audit(sink=lambda record: None).record(ended))
    if fields != list(_AUDITED):
        raise KeyError(f"An audit record has {fields}, and described are {list(_AUDITED)}.")
    return table(["field", "what it holds"], ([code(name), _AUDITED[name]] for name in fields))


_EXAMPLES = (
    ("a JSON web token", "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJvcmcifQ.c2lnbmF0dXJl"),
    ("a bearer header", "Authorization: Bearer 9f8e7d6c5b4a"),
    ("a field named like a secret", 'api_key="s3cr3t-value"'),
    ("user and password in a URL", "postgres://reader:hunter22@db.example.com/x"),
    ("an e-mail address", "write to ada@example.com"),
    ("a card number that passes the Luhn check", "card 4111 1111 1111 1111"),
    ("an IBAN that passes the mod-97 check", "DE89 3704 0044 0532 0130 00"),
    ("a phone number", "call +44 20 7946 0958"),
)


def redaction(_: str) -> str:
    """Examples of what is redacted, before and after."""
    rows = ([what, code(text), code(DEFAULT_REDACTOR.text(text))] for what, text in _EXAMPLES)
    return table(["what", "before", "after"], rows)


def advice(_: str) -> str:
    """What to do about each class of error."""
    return table(["error", "what to do"], ([code(name), said] for name, said in ADVICE.items()))


def members(module: str) -> str:
    """A reference to each public name of a module whose docstring is drawn for a terminal."""
    home = import_module(module)
    options = "    options: {show_root_heading: true, show_root_toc_entry: true, show_root_full_path: false}"
    return "\n\n".join(f"::: {module}.{name}\n{options}" for name in home.__all__)


def errors(_: str) -> str:
    """The tree of errors, as the module draws it."""
    drawn = (errors_module.__doc__ or "").split("\n\n")
    tree = next(part for part in drawn if part.startswith("RageError"))
    return f"```text\n{tree}\n```"
