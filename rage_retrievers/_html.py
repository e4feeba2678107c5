"""How an answer looks in a notebook: score bars, sources, and the question's words marked in the passages.

Pure, and without knowing the models. Passages come from anywhere, so everything is escaped, nothing becomes a link, an
attribute or a style, and there is neither script nor style sheet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Literal, Protocol, TypeAlias

ScoreName: TypeAlias = Literal["relevancy", "similarity"]

MOST_DOCUMENTS = 50
MOST_CHARACTERS = 2_000
_MOST_FACTS = 8
_MOST_OF_A_FACT = 80

_STOP_WORDS = frozenset(
    """a about after all an and any are as at be been before but by can could did do does for from had has have her his
    how i if in into is it its may more most much my no not of on or our out over own shall should so such than that the
    their them then there these they this to under until up very was we were what when where which while who whom whose
    why will with would you your""".split()  # noqa: SIM905  # readable as a list of words
)
_ENDINGS = ("", "s", "es", "d", "ed", "ing", "r", "er")
_WORD = re.compile(r"\w+")
# Characters that would reorder or hide what stands around the passage, and controls that HTML does not allow.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

_BOX = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45;max-width:60em;text-align:left"
_FAINT = "opacity:.65"
_CARD = "border-top:1px solid rgba(128,128,128,.35);padding:8px 0"
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:12em;overflow:auto;margin-top:4px"
_MARK = "background:rgba(255,200,0,.4);color:inherit;padding:0 1px;border-radius:2px"
_TRACK = "display:inline-block;width:120px;height:8px;border-radius:4px;background:rgba(128,128,128,.25)"
_BAR = "display:block;height:8px;border-radius:4px"
_COLOURS: Mapping[ScoreName, str] = {"relevancy": "#3b82c4", "similarity": "#5a9e6f"}


class Passage(Protocol):
    """What is shown of a `Document`."""

    @property
    def text(self) -> str: ...
    @property
    def id(self) -> str | None: ...
    @property
    def relevancy(self) -> float | None: ...
    @property
    def similarity(self) -> float | None: ...
    @property
    def chunk_id(self) -> str | None: ...
    @property
    def total_chunks(self) -> str | None: ...
    @property
    def source(self) -> str | None: ...
    @property
    def unique_source(self) -> str | None: ...
    @property
    def source_display_name(self) -> str | None: ...
    @property
    def metadata(self) -> Any: ...


class Answer(Protocol):
    """What is shown of a `Retrieval`."""

    @property
    def documents(self) -> Sequence[Passage]: ...
    @property
    def question(self) -> str | None: ...
    @property
    def ordered_by(self) -> ScoreName: ...
    @property
    def average_relevancy(self) -> float | None: ...
    @property
    def ndcg(self) -> float | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def stale(self) -> bool: ...
    @property
    def degraded(self) -> str | None: ...


def retrieval_html(retrieval: Answer) -> str:
    """An answer: what was asked, how the list is ordered, and at most `MOST_DOCUMENTS` of its documents."""
    question = retrieval.question or ""
    shown = retrieval.documents[:MOST_DOCUMENTS]
    ordered_by = retrieval.ordered_by
    cards = "".join(_card(one, ordered_by, question, f"{place}. ") for place, one in enumerate(shown, 1))
    left = len(retrieval.documents) - len(shown)
    more = f'<div style="{_CARD};{_FAINT}">and {left} more</div>' if left else ""
    asked = f"<div><b><bdi>{_shown(question)}</bdi></b></div>" if question else ""
    facts = " · ".join(_facts(retrieval))
    return f'<div style="{_BOX}">{asked}<div style="{_FAINT};padding-bottom:8px">{facts}</div>{cards}{more}</div>'


def document_html(document: Passage) -> str:
    """One passage with its scores, its source and the user's own metadata."""
    ordered_by: ScoreName = "similarity" if document.relevancy is None else "relevancy"
    return f'<div style="{_BOX}">{_card(document, ordered_by, "", "")}</div>'


def _facts(retrieval: Answer) -> Iterable[str]:
    count = len(retrieval.documents)
    yield f"{count} passage{'' if count == 1 else 's'} ordered by {retrieval.ordered_by}" if count else "no passages"
    if retrieval.average_relevancy is not None:
        yield f"average relevancy {retrieval.average_relevancy:.2f}"
    if retrieval.ndcg is not None:
        yield f"nDCG {retrieval.ndcg:.2f}"
    if retrieval.attempts > 1:
        yield f"{retrieval.attempts} attempts"
    if retrieval.stale:
        yield "<b>an old answer: the service is down</b>"
    if retrieval.degraded is not None:
        yield f"<b>degraded: {_shown(retrieval.degraded)}</b>"


def _card(document: Passage, ordered_by: ScoreName, question: str, place: str) -> str:
    relevancy = _score("relevancy", document.relevancy, ordered_by == "relevancy")
    scores = relevancy + _score("similarity", document.similarity, ordered_by == "similarity")
    source = document.source_display_name or document.source or document.unique_source or document.id or ""
    title = f'{place}<b><bdi title="{_shown(source)}">{_shown(_name(source))}</bdi></b>' if source else place
    chunk = _chunk(document)
    heading = f'<div>{title} <span style="{_FAINT}">{chunk}</span></div><div>{scores}</div>'
    text = f'<div dir="auto" style="{_TEXT}">{_marked(document.text, _terms(question))}</div>'
    return f'<div style="{_CARD}">{heading}{text}{_metadata(document.metadata)}</div>'


def _score(name: ScoreName, score: float | None, orders: bool) -> str:
    if score is None:
        return ""
    width = round(100 * min(1.0, max(0.0, score)))
    number = f"{score:.4g}"
    label = f"<b>{name} {number}</b>" if orders else f"{name} {number}"
    bar = f'<span style="{_TRACK}"><span style="{_BAR};width:{width}%;background:{_COLOURS[name]}"></span></span>'
    return f'<span style="margin-right:1.5em;{"" if orders else _FAINT}">{bar} {label}</span>'


def _name(source: str) -> str:
    """The last part of a path or an address: the file's name."""
    return source.rstrip("/").rpartition("/")[2] or source


def _chunk(document: Passage) -> str:
    if document.chunk_id is None:
        return ""
    of = f" of {_shown(document.total_chunks)}" if document.total_chunks is not None else ""
    return f"chunk {_shown(document.chunk_id)}{of}"


def _metadata(metadata: Any) -> str:
    if not isinstance(metadata, Mapping) or not metadata:
        return ""
    pairs = list(metadata.items())
    facts = [f"{_short(name)}: {_short(value)}" for name, value in pairs[:_MOST_FACTS]]
    if len(pairs) > _MOST_FACTS:
        facts.append("…")
    return f'<div style="{_FAINT};margin-top:4px"><bdi>{" · ".join(facts)}</bdi></div>'


def _short(value: object) -> str:
    text = str(value)
    return _shown(text if len(text) <= _MOST_OF_A_FACT else text[: _MOST_OF_A_FACT - 1] + "…")


def _terms(question: str) -> frozenset[str]:
    """The question's words that say what it is about, in lower case."""
    return frozenset(word for word in _WORD.findall(question[:MOST_CHARACTERS].casefold()) if word not in _STOP_WORDS)


def _marked(text: str, terms: frozenset[str]) -> str:
    """The text, escaped, with every word marked that the question holds, in whatever simple English form."""
    cut = text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
    stems = frozenset(stem for term in terms for stem in _stems(term))
    parts: list[str] = []
    end = 0
    for word in _WORD.finditer(cut) if terms else ():
        if stems.isdisjoint(_stems(word[0].casefold())):
            continue
        parts += [_shown(cut[end : word.start()]), f'<mark style="{_MARK}">{_shown(word[0])}</mark>']
        end = word.end()
    return "".join(parts) + _shown(cut[end:])


def _stems(word: str) -> frozenset[str]:
    """The word, and what is left of it without an ending, if that is three letters or more."""
    return frozenset(
        stem for ending in _ENDINGS if word.endswith(ending) and len(stem := word.removesuffix(ending)) >= 3
    ) | {word}


def _shown(text: str) -> str:
    return escape(_UNSHOWN.sub("\ufffd", text), quote=True)
