"""What goes in and what comes out: `Query`, `Retrieval`, `Document`, `PipelineStatus`, `Research`.

Every model is frozen. `Query` is strict: what the service could misread is refused before anything is sent.
`Document` is lenient: real services drift, and a passage must reach the user whatever its scores look like.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from ._mold import set_extra, set_given, set_private, set_values
from .queries import AdvancedQuery, Message, Query, ScoreName

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


class Target(NamedTuple):
    """Which pipeline of which service a call goes to; circuit, budget and permits are shared per target."""

    base_url: str
    organization: str
    pipeline_id: str


def _finite(value: Any) -> float | None:
    """A number the service sent, or None where it sent none: null, text that is no number, NaN and infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class _LabelSchema:
    """A text; a number becomes its digits, and what is neither becomes None, without a step through Python."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.nullable_schema(core_schema.str_schema(coerce_numbers_to_str=True))
        return core_schema.with_default_schema(text, default=None, on_error="default")


if TYPE_CHECKING:
    Score: TypeAlias = float | None
    Label: TypeAlias = str | None
else:
    # Tried left to right: the Python function runs only for what the service should not have sent.
    _Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
    Score = Annotated[_Number | Annotated[Any, AfterValidator(_finite)] | None, Field(union_mode="left_to_right")]
    Label = Annotated[str | None, _LabelSchema]


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
        fields = len(found)
        del found["text"]
        if extra:
            found.update(extra)
        # Counted, for a comparison of the sets takes longer than the copy.
        if len(sent) - len(extra or ()) < fields:
            for name in _OPTIONAL - sent:
                del found[name]
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
        extra = self.__pydantic_extra__
        set_values(copy, told)
        set_given(copy, self.__pydantic_fields_set__)  # nothing changes it in a frozen model
        set_extra(copy, None if extra is None else extra.copy())
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
        set_private(self, {"facts": facts})

    def __len__(self) -> int:
        return len(self.documents)

    def _repr_html_(self) -> str:
        from ._html import retrieval_html

        return retrieval_html(self)


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
