"""The Vectorize protocol, pure: a query becomes a `WireRequest`, a `WireResponse` becomes a model or a typed error.

Sources: the service's OpenAPI document (v0.1.2), its documentation and its published clients. What is our reading and
not a documented fact is marked *inferred*.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Generic, TypeVar, get_args
from urllib.parse import quote

from pydantic import ValidationError

from ._checks import typed
from ._flow import Headers, WireRequest, WireResponse
from ._frozen import frozen
from ._json import mend_text, read_json
from ._status import raise_for_status
from ._weight import check_weight
from .errors import ConfigurationError, InvalidResponseError, ResearchFailedError, ResponseTooLargeError
from .models import Document, Facts, PipelineStatus, Query, Research, Retrieval, ScoreName, Target

T = TypeVar("T")

ENVIRONMENTS = {
    "prod": "https://api.vectorize.io/v1",
    "staging": "https://api-staging.vectorize.io/v1",
    "dev": "https://api-dev.vectorize.io/v1",
    "local": "http://localhost:3000/api",
}
DEFAULT_MAX_DOCUMENTS = 10_000
DEFAULT_MAX_BYTES = 16 * 1024 * 1024


@frozen
class Operation(Generic[T]):
    """One thing the service can be asked: how to write the request and how to read the answer."""

    name: str
    build: Callable[..., WireRequest]
    """From the token, and headers that go beside the usual ones, to the request."""
    read: Callable[[WireResponse], T]


@frozen
class Address:
    """Where and how a pipeline is reached. `retrieval_url` is the older gateway's full address, else None."""

    target: Target
    retrieval_url: str | None = None
    lambda_key: bool = False
    """Whether the token is sent as `x-lambda-api-key` too, as the vendor's clients do on the local environment."""
    user_agent: str = "rage-retrievers"

    def headers(self, token: str) -> Headers:
        """The headers of every request. The older gateway takes the bare token, without `Bearer`."""
        bearer = token if self.retrieval_url is not None else f"Bearer {token}"
        base = (
            ("accept", "application/json"),
            ("authorization", bearer),
            ("content-type", "application/json"),
            ("user-agent", self.user_agent),
        )
        return (*base, ("x-lambda-api-key", token)) if self.lambda_key else base

    def url(self, tail: str) -> str:
        """The URL of an operation on the pipeline; `tail` starts with a slash or is empty."""
        return _pipeline_url(self.target) + tail


@lru_cache(maxsize=1024)
def _pipeline_url(target: Target) -> str:
    base, organization, pipeline = target
    return f"{base}/org/{quote(organization, safe='')}/pipelines/{quote(pipeline, safe='')}"


def retrieve(
    address: Address,
    query: Query,
    *,
    max_documents: int = DEFAULT_MAX_DOCUMENTS,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Operation[Retrieval]:
    """Ask for passages. `rerank` is always sent, because the documentation disagrees on what leaving it out means."""
    body = encode_query(query)
    url = address.retrieval_url or address.url("/retrieval")

    def build(token: str, more: Headers = ()) -> WireRequest:
        return WireRequest("POST", url, address.headers(token) + more, body)

    def read(response: WireResponse) -> Retrieval:
        return read_retrieval(response, query, max_documents, max_bytes)

    return Operation("retrieve", build, read)


def encode_query(query: Query) -> bytes:
    """The body of a retrieval; what is empty and would change the meaning, or nothing, is left out."""
    more: dict[str, Any] = {}
    if query.metadata_filters:
        more["metadata-filters"] = query.metadata_filters
    if query.context and query.context.get("messages"):
        more["context"] = query.context
    if query.advanced_query:
        more["advanced-query"] = query.advanced_query
    if more:
        return _dump({"question": query.question, "numResults": query.num_results, "rerank": query.rerank, **more})
    # As `_dump` writes it: json makes an encoder for each mapping, and none for a text.
    question, rerank = _encode(query.question), "true" if query.rerank else "false"
    return mend_text(f'{{"question":{question},"numResults":{query.num_results:d},"rerank":{rerank}}}').encode()


# Made once: `json.dumps` with options makes an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def _dump(body: dict[str, Any]) -> bytes:
    try:
        return mend_text(_text(body)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error).split(": ")[0]
    culprit = next((name for name, value in body.items() if not _is_json(value)), "query").replace("-", "_")
    raise ConfigurationError(
        f"{culprit} cannot be written as JSON: {problem}; use texts, finite numbers, True, False, None, and lists and "
        "mappings of these."
    )


def _text(value: Any) -> str:
    return _encode(value)


def _is_json(value: Any) -> bool:
    try:
        _text(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


_ORDERED = {name: Facts(ordered_by=name) for name in get_args(ScoreName)}


def read_retrieval(
    response: WireResponse, query: Query, max_documents: int, max_bytes: int = DEFAULT_MAX_BYTES
) -> Retrieval:
    """Read a retrieval's answer, wrapped by the older gateway or not."""
    raise_for_status(response)
    check_weight(response.body, max_bytes)
    retrieval = _read_quickly(response.body)
    if retrieval is None:
        retrieval = _read_slowly(response.body, max_bytes)
    if len(retrieval.documents) > max_documents:
        raise ResponseTooLargeError(
            f"The answer has {len(retrieval.documents)} documents; the limit is {max_documents}."
        )
    retrieval.learn(_ORDERED[query.ordered_by])
    if query.min_score is not None:
        retrieval = retrieval.with_facts(documents=_at_least(query.min_score, retrieval))
    return retrieval


# What `model_validate_json` calls in the end; its own checks of its options take a microsecond.
_validate: Callable[[bytes], Retrieval] = Retrieval.__pydantic_validator__.validate_json


def _read_quickly(body: bytes) -> Retrieval | None:
    """What the fast parser makes of the body; None, with nothing of its long error kept, when it refuses."""
    if b'"documents"' not in body:
        return None
    try:
        return _validate(body)
    except ValidationError:
        return None


# The body's text and its mended copy, or what is wrapped and its bytes, stand beside the values.
_SLOW_COPIES = 3


def _at_least(minimum: float, retrieval: Retrieval) -> tuple[Document, ...]:
    scored = ((document, document.score(retrieval.ordered_by)) for document in retrieval.documents)
    return tuple(document for document, score in scored if score is not None and score >= minimum)


def _read_slowly(body: bytes, max_bytes: int) -> Retrieval:
    """Read what the fast parser refused: wrapped answers, lone surrogates; or say what is wrong with the answer."""
    check_weight(body, max_bytes, copies=_SLOW_COPIES)
    data = _unwrap(read_json(body), max_bytes)
    if not isinstance(data, dict):
        raise InvalidResponseError(f"The answer's JSON is {typed(data)}, not an object.")
    documents = data.get("documents")
    if not isinstance(documents, list):
        state = "missing" if "documents" not in data else f"{typed(documents)}, not a list"
        raise InvalidResponseError(f"The answer cannot be used: its field 'documents' is {state}.")
    for position, document in enumerate(documents):
        if not isinstance(document, dict) or not isinstance(document.get("text"), str):
            raise InvalidResponseError(
                f"The answer cannot be used: document {position} has no field 'text' that is a text."
            )
    try:
        return Retrieval.model_validate(data)
    except ValidationError as invalid:
        where = ".".join(str(part) for part in invalid.errors()[0]["loc"])
    raise InvalidResponseError(f"The answer cannot be used: its field '{where}' has an unexpected form.")


def _unwrap(data: Any, max_bytes: int) -> Any:
    """Older answers may be wrapped: `{"record": {"value": "<JSON>"}}`."""
    if isinstance(data, dict) and "documents" not in data and isinstance(data.get("record"), dict):
        value = data["record"].get("value")
        if not isinstance(value, str):
            return value
        inner = value.encode("utf-8", "surrogatepass")
        del data, value  # as large as the answer, and read in its new form only
        check_weight(inner, max_bytes, copies=_SLOW_COPIES)
        return read_json(inner)
    return data


def pipeline_status(address: Address) -> Operation[PipelineStatus]:
    """Ask for the pipeline's status: the cheap probe, as the service has no health endpoint."""

    def read(response: WireResponse) -> PipelineStatus:
        data = _object(response)
        return _model(PipelineStatus, data.get("data", data))

    return Operation("pipeline", partial(_get, address, ""), read)


def start_research(
    address: Address, query: str, *, web_search: bool, schema: str | None, n8n: Mapping[str, Any] | None = None
) -> Operation[str]:
    """Start a deep research; the answer is its id."""
    fields: dict[str, Any] = {"query": query, "webSearch": web_search}
    if schema is not None:
        fields["schema"] = schema
    if n8n is not None:
        fields["n8n"] = dict(n8n)
    body = _dump(fields)

    def build(token: str, more: Headers = ()) -> WireRequest:
        headers = address.headers(token) + more
        return WireRequest("POST", address.url("/deep-research"), headers, body, repeatable=False)

    def read(response: WireResponse) -> str:
        research_id = _object(response).get("researchId")
        if not isinstance(research_id, str) or not research_id:
            raise InvalidResponseError("The answer cannot be used: it has no field 'researchId'.")
        return research_id

    return Operation("start_research", build, read)


def poll_research(address: Address, research_id: str) -> Operation[Research | None]:
    """Ask how a deep research stands; the answer is None until it is ready."""
    tail = f"/deep-research/{quote(research_id, safe='')}"

    def read(response: WireResponse) -> Research | None:
        answer = _object(response)
        if answer.get("ready") is not True:
            return None
        data = answer.get("data")
        if not isinstance(data, dict):
            raise InvalidResponseError("The answer cannot be used: the research is ready and has no 'data'.")
        if data.get("success") is not True:
            reason = data.get("error")
            said = reason if isinstance(reason, str) and reason else "it gave no reason"
            raise ResearchFailedError(f"The deep research failed; the service says: {said}", research_id=research_id)
        markdown = data.get("markdown")
        return _model(
            Research,
            {**data, "research_id": research_id, "markdown": "" if markdown is None else markdown},
        )

    return Operation("poll_research", partial(_get, address, tail), read)


def _get(address: Address, tail: str, token: str, more: Headers = ()) -> WireRequest:
    headers = tuple(pair for pair in address.headers(token) if pair[0] != "content-type")
    return WireRequest("GET", address.url(tail), headers + more, b"")


def _object(response: WireResponse) -> dict[str, Any]:
    raise_for_status(response)
    check_weight(response.body, DEFAULT_MAX_BYTES, copies=_SLOW_COPIES)
    data = read_json(response.body)
    if not isinstance(data, dict):
        raise InvalidResponseError(f"The answer's JSON is {typed(data)}, not an object.")
    return data


M = TypeVar("M", PipelineStatus, Research)


def _model(kind: type[M], data: Any) -> M:
    try:
        return kind.model_validate(data)
    except ValidationError as invalid:
        where = ".".join(str(part) for part in invalid.errors()[0]["loc"])
    raise InvalidResponseError(f"The answer cannot be used: its field '{where}' is missing or malformed.")
