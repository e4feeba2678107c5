"""Where an answer's statements come from: numbered for the reader, with ids that stay the same from turn to turn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._checks import typed
from ..errors import ConfigurationError
from ..models import Retrieval, ScoreName
from .passages import passages


@dataclass(frozen=True, slots=True)
class Citation:
    """One source of an answer.

    `number` is its place in the list, as `render` numbers it, from 1. `id` is the passage's own: the same document has
    the same id in both frameworks, after a checkpoint and in another order. `dataclasses.asdict` makes it JSON.
    """

    number: int
    id: str
    title: str | None = None
    source: str | None = None
    score: float | None = None
    ordered_by: ScoreName | None = None
    chunk_id: str | None = None
    text: str = field(default="", repr=False)


def cite(documents: Iterable[Any] | Retrieval, *, ordered_by: ScoreName | None = None) -> list[Citation]:
    """A citation for each document, node, dict or passage, in the order given."""
    return [
        Citation(
            number=number,
            id=one.id,
            title=one.title,
            source=one.source,
            score=one.score,
            ordered_by=one.ordered_by,
            chunk_id=None if (chunk := one.fields.get("chunk_id")) is None else str(chunk),
            text=one.text,
        )
        for number, one in enumerate(passages(documents, ordered_by=ordered_by), 1)
    ]


def cited(answer: str, citations: Sequence[Citation]) -> list[Citation]:
    """The citations that an answer refers to, as `[1]` or `[1, 3]`, in the order of their first mention.

    A number that no citation has is passed over: a model made it up. Raises ConfigurationError for other things than a
    text and citations.
    """
    for one in citations:
        if not isinstance(one, Citation):
            raise ConfigurationError(f"citations holds {typed(one)}; give what cite(documents) returned.")
    if not isinstance(answer, str):
        raise ConfigurationError(f"answer is {typed(answer)}; give the text that the model wrote.")
    known = {citation.number: citation for citation in citations}
    numbers = [int(number) for group in _REFERENCE.findall(answer) for number in re.findall(r"[0-9]+", group)]
    return [known[number] for number in dict.fromkeys(numbers) if number in known]


_REFERENCE = re.compile(r"[\[【]\s*([0-9]{1,6}(?:\s*[,;]\s*[0-9]{1,6}){0,99})\s*[\]】]")
