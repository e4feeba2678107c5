"""What is asked: `Query`, with `AdvancedQuery` and `Message`, checked before anything is sent."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ._checks import shown
from ._keywords import nearest, unknown_keyword
from .errors import ConfigurationError

__all__ = ["AdvancedQuery", "Message", "Query", "ScoreName"]

ScoreName: TypeAlias = Literal["relevancy", "similarity"]
MatchType: TypeAlias = Literal["match", "match_phrase", "multi_match"]


class Message(TypedDict):
    """One turn of the conversation that `context` holds."""

    role: str
    content: str


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
            near = nearest(key, AdvancedQuery.model_fields, 0.8)
            if near:
                raise ValueError(f"it holds {key!r}; did you mean {near!r}?")
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
        name, *within = map(str, problem["loc"] or ("query",))
        if problem["type"] == "extra_forbidden":
            return unknown_keyword(name, Query.model_fields)
        if problem["type"] == "missing":
            return ConfigurationError(f"{name} is missing; {_REMEDIES.get(name, 'give it a value')}.")
        reason = str(problem["msg"]).removeprefix("Value error, ")
        if name == "advanced_query" and within:  # named as the retrievers' own options are, which are put there
            option = ".".join(within).replace("-", "_")
            return ConfigurationError(
                f"{option} = {shown(problem['input'])} cannot be used: {reason} (advanced_query)."
            )
        # A question or a conversation may hold personal data, so errors name only its type.
        value = values.get(name)
        said = f"of type {type(value).__name__}" if name in _PRIVATE_TEXT else f"= {shown(value)}"
        return ConfigurationError(f"{name} {said} cannot be used: {reason}; {_REMEDIES.get(name, 'correct it')}.")
    return ConfigurationError("The query cannot be used.")
