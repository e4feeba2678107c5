"""What may be written into a cassette: no credential, no organization, no id that could be one, no personal data.

Scrubbing is stable (the same id becomes the same stand-in within one cassette, so that what belongs together still
does) and idempotent, because a cassette is scrubbed again whenever it is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rage_retrievers.observability.redaction import DEFAULT_REDACTOR, is_secret_field
from rage_retrievers.observability.secrets import REDACTED

ORGANIZATION = "org-recorded"
PIPELINE = "aip-recorded"

_STAND_IN = "00000000-0000-4000-8000-"
_OPAQUE = re.compile(r"\b(?:aip)?[0-9a-f]{5,8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{24,}\b", re.IGNORECASE)
_KEY_SHAPED = re.compile(r"(?<![\w/+=-])(?=[\w/+=-]*\d)(?=[\w/+=-]*[a-z])(?=[\w/+=-]*[A-Z])[\w/+=-]{32,}(?![\w/+=-])")
_NAMES = {"org_id": ORGANIZATION, "organization_id": ORGANIZATION, "organizationId": ORGANIZATION,
          "pipeline_id": PIPELINE, "pipelineId": PIPELINE}  # fmt: skip
_KEPT = {ORGANIZATION, PIPELINE}
_ACCOUNT = (
    (re.compile(r"/(?:org|gateways/service)/([^/\s\"']+)"), ORGANIZATION),
    (re.compile(r"[\"']?\b(?:org_id|organization(?:_?[iI]d)?)[\"']?: ?[\"']?([\w-]+)"), ORGANIZATION),
)
"""Where an organization stands, and what may stand there."""
_PROSE = {"text", "markdown", "question", "query", "content", "details", "error"}
_REQUEST_HEADERS = {"accept", "authorization", "content-type", "x-lambda-api-key"}
_RESPONSE_HEADERS = {"allow", "content-type", "location", "retry-after", "x-request-id"}
_SHORTEST_NAME = 4


class Scrubber:
    """Scrubs what one cassette holds. `names` maps known ids, such as the organization's, to their stand-ins."""

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = {name: stand_in for name, stand_in in (names or {}).items() if len(name) >= _SHORTEST_NAME}
        self._stand_ins: dict[str, str] = {}

    def request(self, request: Any) -> Any:
        """A request of vcrpy's, as it is recorded and matched."""
        host = re.match(r"https?://[^/]+", request.uri)
        path = request.uri[host.end() :] if host else request.uri
        request.uri = f"https://cassette.invalid{self.text(path)}"
        request.headers = self._headers(request.headers, _REQUEST_HEADERS)
        if request.body:
            request.body = self.body(bytes(request.body))
        return request

    def response(self, response: dict[str, Any]) -> dict[str, Any]:
        """A response of vcrpy's, as it is recorded."""
        response["headers"] = self._headers(response["headers"], _RESPONSE_HEADERS)
        response["body"] = {"string": self.body(response["body"]["string"])}
        return response

    def body(self, body: bytes) -> bytes:
        """A body: JSON value by value and laid out to be read, anything else as one text."""
        text = body.decode("utf-8", "replace")
        try:
            data = json.loads(text)
        except ValueError:
            return self.text(text).encode()
        if not isinstance(data, dict | list):
            return self.text(text).encode()
        self._learn(data)
        return json.dumps(self._value("", data), ensure_ascii=False, indent=1).encode()

    def text(self, text: str) -> str:
        """A text without credentials and ids."""
        parts = text.split(REDACTED)  # what is redacted already must not look like a value
        return REDACTED.join(self._part(part) for part in parts)

    def _part(self, text: str) -> str:
        for name, stand_in in sorted(self._names.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(name, stand_in)
        return _KEY_SHAPED.sub(REDACTED, _OPAQUE.sub(self._opaque, DEFAULT_REDACTOR.credentials(text)))

    def _opaque(self, found: re.Match[str]) -> str:
        if found[0].startswith(_STAND_IN):
            return found[0]
        return self._stand_ins.setdefault(found[0], f"{_STAND_IN}{len(self._stand_ins) + 1:012d}")

    def _learn(self, data: Any) -> None:
        """Organizations and pipelines that an answer names are replaced wherever they appear."""
        for name, value in _fields(data):
            if name in _NAMES and isinstance(value, str) and len(value) >= _SHORTEST_NAME and value not in _KEPT:
                self._names.setdefault(value, _NAMES[name])

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._value(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._value(name, inner) for inner in value]
        if not isinstance(value, str):
            return value
        if is_secret_field(name) and value:
            return REDACTED
        if value.startswith("{"):  # JSON inside of JSON, as the older gateway wraps it
            return self.body(value.encode()).decode()
        return DEFAULT_REDACTOR.passage(self.text(value), most=100_000) if name in _PROSE else self.text(value)

    def _headers(self, headers: Mapping[str, Any], kept: set[str]) -> dict[str, Any]:
        return {
            name.lower(): [self._header(name.lower(), one) for one in ([value] if isinstance(value, str) else value)]
            for name, value in headers.items()
            if name.lower() in kept
        }

    def _header(self, name: str, value: str) -> str:
        if not is_secret_field(name):
            return self.text(value)
        scheme = re.match(r"(?:Bearer|Basic) ", value)
        return (scheme[0] if scheme else "") + REDACTED


def _fields(data: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield str(name), value
            yield from _fields(value)
    elif isinstance(data, list):
        for value in data:
            yield from _fields(value)
    elif isinstance(data, str) and data.startswith("{"):
        try:
            yield from _fields(json.loads(data))
        except ValueError:
            return


def findings(text: str) -> list[str]:
    """What a cassette's text holds and must not: tokens, organizations, ids and key-shaped strings; empty for none."""
    shown = text.replace(REDACTED, "")
    found = [part for part in _OPAQUE.findall(shown) if not part.startswith(_STAND_IN)]
    found += _KEY_SHAPED.findall(shown)
    for pattern, stand_in in _ACCOUNT:
        found += [part for part in pattern.findall(shown) if part not in (stand_in, REDACTED)]
    found += re.findall(r"(?i)\b(?:bearer|basic) +\S+", shown)
    found += [line.strip()[:40] for line in shown.splitlines() if DEFAULT_REDACTOR.credentials(line) != line]
    return found
