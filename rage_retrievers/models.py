"""What goes in and what comes out: `Query`, `Retrieval`, `Document`, `Pipeline`, `Research`.

Every model is frozen. `Query` is strict: what the service could misread is refused before anything is sent.
`Document` is lenient: real services drift, and a passage must reach the user whatever its scores look like.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, TypeAlias, TypedDict

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import ConfigurationError

__all__ = [
    "AdvancedQuery",
    "Document",
    "Message",
    "PipelineStatus",
    "Query",
    "Research",
    "ResearchEvent",
    "Retrieval",
    "ScoreName",
    "Target",
]

ScoreName: TypeAlias = Literal["relevancy", "similarity"]

_set = object.__setattr__


class Target(NamedTuple):
    """Which pipeline of which service a call goes to; circuit, budget and permits are shared per target."""

    base_url: str
    organization: str
    pipeline_id: str


class Message(TypedDict):
    """One turn of the conversation that `context` holds."""

    role: str
    content: str


def _finite(value: Any) -> float | None:
    """A number the service sent, or None where it sent none: null, text that is no number, NaN and infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text_or_none(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


if TYPE_CHECKING:
    Score: TypeAlias = float | None
    Label: TypeAlias = str | None
else:
    # Tried left to right: the Python functions run only for what the service should not have sent.
    _Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
    _Text = Annotated[str, Field(strict=True)]
    Score = Annotated[_Number | Annotated[Any, AfterValidator(_finite)] | None, Field(union_mode="left_to_right")]
    Label = Annotated[_Text | Annotated[Any, AfterValidator(_text_or_none)] | None, Field(union_mode="left_to_right")]


class Document(BaseModel):
    """One passage, with everything the service said of it.

    `relevancy` (the reranker's) and `similarity` (the vector's) live on different scales; either is None when the
    service sent no finite number. The user's own upload metadata is `metadata`. Fields this version does not know are
    kept and are in `fields()`.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    text: str
    id: Label = None
    relevancy: Score = None
    similarity: Score = None
    chunk_id: Label = None
    total_chunks: Label = None
    origin: Label = None
    origin_id: Label = None
    source: Label = None
    unique_source: Label = None
    source_display_name: Label = None
    pipeline_id: Label = None
    org_id: Label = None
    metadata: Any = None

    def fields(self) -> dict[str, Any]:
        """Every field the service sent, known or not, but for `text`; fields it did not send are left out."""
        found, sent, extra = self.__dict__.copy(), self.__pydantic_fields_set__, self.__pydantic_extra__
        del found["text"]
        if not sent >= _OPTIONAL:
            for name in _OPTIONAL - sent:
                del found[name]
        if extra:
            found.update(extra)
        return found

    def score(self, ordered_by: ScoreName) -> float | None:
        """The number that ordered the list this document came in."""
        return self.relevancy if ordered_by == "relevancy" else self.similarity

    def _repr_html_(self) -> str:
        from ._html import document_html

        return document_html(self)


_OPTIONAL = frozenset(Document.model_fields) - {"text"}


class Facts(NamedTuple):
    """What a call knows of its answer beside what the service said; see `Retrieval`."""

    ordered_by: ScoreName = "similarity"
    attempts: int = 1
    elapsed: float = 0.0
    stale: bool = False
    degraded: str | None = None


_NO_FACTS = Facts()


class Retrieval(BaseModel):
    """The answer to one question: `documents`, best first, and what the service says of the whole list.

    `average_relevancy` and `ndcg` are None when absent. `attempts` counts the requests sent for this answer (0 from a
    cache), `elapsed` is the seconds the call took. `stale` says that the answer is an old one, served because the
    service is down; `degraded` names the fallback that gave it.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    # A list of a million wrong documents would otherwise leave a million errors.
    documents: Annotated[tuple[Document, ...], FailFast()]
    question: Label = None
    average_relevancy: Score = None
    ndcg: Score = None

    @property
    def facts(self) -> Facts:
        """All that the call knows of this answer, in one."""
        # Where pydantic keeps private attributes, copies and compares them; a declared one it sets up in Python, which
        # takes a tenth of the time that reading an answer does.
        private = self.__pydantic_private__
        return _NO_FACTS if private is None else private["facts"]

    @property
    def ordered_by(self) -> ScoreName:
        """Which score ordered `documents`: relevancy when reranked, else similarity."""
        return self.facts.ordered_by

    @property
    def attempts(self) -> int:
        """Requests sent for this answer."""
        return self.facts.attempts

    @property
    def elapsed(self) -> float:
        """Seconds from the call to the answer."""
        return self.facts.elapsed

    @property
    def stale(self) -> bool:
        """Whether this is an old answer, served because the service is down."""
        return self.facts.stale

    @property
    def degraded(self) -> str | None:
        """The name of the fallback that gave this answer, or None."""
        return self.facts.degraded

    def with_facts(
        self,
        *,
        documents: tuple[Document, ...] | None = None,
        ordered_by: ScoreName | None = None,
        attempts: int | None = None,
        elapsed: float | None = None,
        stale: bool | None = None,
        degraded: str | None = None,
    ) -> Retrieval:
        """A copy that says so; what is not given stays as it is."""
        known, told = self.facts, self.__dict__.copy()
        if documents is not None:
            told["documents"] = documents
        copy = type(self).__new__(type(self))
        _set(copy, "__dict__", told)
        _set(copy, "__pydantic_fields_set__", self.__pydantic_fields_set__.copy())
        _set(copy, "__pydantic_extra__", None if self.__pydantic_extra__ is None else self.__pydantic_extra__.copy())
        copy.learn(
            Facts(
                known.ordered_by if ordered_by is None else ordered_by,
                known.attempts if attempts is None else attempts,
                known.elapsed if elapsed is None else elapsed,
                known.stale if stale is None else stale,
                known.degraded if degraded is None else degraded,
            )
        )
        return copy

    def learn(self, facts: Facts) -> None:
        """Take these facts for its own; for whoever has just made it, as an answer does not change."""
        _set(self, "__pydantic_private__", {"facts": facts})

    def __len__(self) -> int:
        return len(self.documents)

    def _repr_html_(self) -> str:
        from ._html import retrieval_html

        return retrieval_html(self)


MatchType: TypeAlias = Literal["match", "match_phrase", "multi_match"]


class AdvancedQuery(BaseModel):
    """How to search: `mode` text, vector or hybrid, and what text search looks at.

    Works with the service's built-in database and Elasticsearch; any other database answers an error. Keys this version
    does not know pass through.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    mode: Literal["text", "vector", "hybrid"] | None = None
    text_fields: list[str] | None = Field(default=None, alias="text-fields")
    match_type: MatchType | None = Field(default=None, alias="match-type")
    text_boost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(default=None, alias="text-boost")
    filters: Any = None

    @model_validator(mode="after")
    def _has_no_near_miss(self) -> Self:
        # The service passes over a key it does not know, and `filter` for `filters` would return unfiltered data.
        for key in self.model_extra or {}:
            near = difflib.get_close_matches(_snake(key), list(AdvancedQuery.model_fields), n=1, cutoff=0.8)
            if near:
                raise ValueError(f"it holds {key!r}; did you mean {near[0]!r}?")
        return self

    def wire(self) -> dict[str, Any]:
        """The object as the service reads it; what was not set, or set to None, is left out."""
        known = {field.alias or name: getattr(self, name) for name, field in AdvancedQuery.model_fields.items()}
        return {key: value for key, value in known.items() if value is not None} | (self.model_extra or {})


def _whole(value: Any) -> Any:
    """A whole number of another library, such as numpy's, as Python's own."""
    if isinstance(value, bool | int | float | str):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return value


class Query(BaseModel):
    """One question with everything that shapes its answer. Frozen; what is None is not sent.

    `metadata_filters` is a list of one-key objects, each with a list of values: AND across objects, OR inside a list.
    `min_score` applies to the score that ordered the list. `timeout` is the whole call's budget in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    question: str
    num_results: Annotated[int, Field(ge=1), BeforeValidator(_whole)] = 5
    rerank: bool = False
    metadata_filters: list[dict[str, Any]] | None = None
    context: dict[str, Any] | None = None
    advanced_query: dict[str, Any] | None = None
    min_score: Annotated[float, Field(allow_inf_nan=False)] | None = None
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @field_validator("question")
    @classmethod
    def _asks_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is empty")
        return value

    @field_validator("metadata_filters", mode="before")
    @classmethod
    def _one_mapping_is_a_list_of_one(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return [{key: inner} for key, inner in value.items()]
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return [dict(item) if isinstance(item, Mapping) else item for item in value]
        return value

    @field_validator("context", mode="before")
    @classmethod
    def _messages(cls, value: Any) -> Any:
        if value is None:
            return None
        messages = value.get("messages", None if value else []) if isinstance(value, Mapping) else value
        if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
            raise ValueError('it needs {"messages": [{"role": ..., "content": ...}]}')
        for message in messages:
            if not isinstance(message, Mapping) or not all(
                isinstance(message.get(key), str) for key in ("role", "content")
            ):
                raise ValueError("each message needs a role and a content, both text")
        rest = dict(value) if isinstance(value, Mapping) else {}
        return {**rest, "messages": [dict(message) for message in messages]}

    @field_validator("advanced_query", mode="before")
    @classmethod
    def _advanced(cls, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, AdvancedQuery):
            return value.wire()
        if not isinstance(value, Mapping):
            raise ValueError("it needs a mapping or an AdvancedQuery")
        return AdvancedQuery.model_validate(dict(value)).wire()

    @property
    def ordered_by(self) -> ScoreName:
        """The score that orders the answer to this query."""
        return "relevancy" if self.rerank else "similarity"

    @classmethod
    def make(cls, values: Mapping[str, Any]) -> Query:
        """A checked query. Raises ConfigurationError naming field, value and remedy; TypeError for an unknown name."""
        try:
            return cls.model_validate(values)
        except ValidationError as invalid:
            error = _explain(values, invalid)
        raise error


_REMEDIES = {
    "question": "ask with a text that is not empty",
    "num_results": "use a whole number of at least 1",
    "rerank": "use True or False",
    "metadata_filters": 'use a list of mappings, such as [{"year": [2023, 2024]}]',
    "context": 'use {"messages": [{"role": "user", "content": "…"}]}',
    "advanced_query": 'use a mapping such as {"mode": "hybrid"}; mode is text, vector or hybrid',
    "min_score": "use a finite number, on the scale of the score that orders the list",
    "timeout": "use a number of seconds above 0",
}
_PRIVATE_TEXT = {"question", "context"}


def _explain(values: Mapping[str, Any], invalid: ValidationError) -> Exception:
    for problem in invalid.errors(include_url=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else "query"
        if problem["type"] == "extra_forbidden":
            return unknown_keyword(name, Query.model_fields)
        if problem["type"] == "missing":
            return ConfigurationError(f"{name} is missing; {_REMEDIES.get(name, 'give it a value')}.")
        # A question or a conversation may hold personal data, so errors name only its type.
        value = values.get(name)
        shown = f"of type {type(value).__name__}" if name in _PRIVATE_TEXT else f"= {_short(value)}"
        reason = str(problem["msg"]).removeprefix("Value error, ")
        return ConfigurationError(f"{name} {shown} cannot be used: {reason}; {_REMEDIES.get(name, 'correct it')}.")
    return ConfigurationError("The query cannot be used.")


def _short(value: object, most: int = 80) -> str:
    shown = repr(value)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def unknown_keyword(name: str, known: Mapping[str, object] | Sequence[str]) -> TypeError:
    """The error for a keyword nobody reads: silently dropping `metadataFilters` would return unfiltered data."""
    near = difflib.get_close_matches(_snake(name), list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}."
    return TypeError(f"unknown keyword {name!r}{hint}")


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).replace("-", "_")


class PipelineStatus(BaseModel):
    """A pipeline as the service describes it: `id`, `name`, `status` (IDLE, LISTENING, DEPLOYING, …) and the rest."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow")

    id: str
    name: str | None = None
    status: str | None = None
    document_count: float | None = Field(default=None, alias="documentCount")

    @property
    def answers(self) -> bool:
        """Whether a retrieval can be expected to be answered in this status."""
        return self.status not in {
            "CREATED", "DEPLOYING", "ERROR_DEPLOYING", "OVERQUOTA", "HIBERNATING", "SHUTDOWN", "STOPPED", "TERMINATED",
        }  # fmt: skip


class ResearchEvent(BaseModel):
    """Where a deep research stands: polls made so far, seconds since its start, and whether it is ready."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    research_id: str
    polls: int
    elapsed: float
    ready: bool


class Research(BaseModel):
    """A finished deep research: its report as `markdown`, and the service's own `events`."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow")

    research_id: str
    markdown: str
    events: Any = None
