"""Which passages reach the prompt, and in which order: small frozen policies, applied one after the other.

A policy takes passages and gives some of them back, in the order it was given (but for `Order`). Policies that prefer
one passage to another go by `rank`: "score", each kind of score for itself, or "position", the order of the list, for
lists that another tool has put in order without writing scores (LangChain's EnsembleRetriever).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, get_args

from .._checks import is_count, is_number, shown, typed
from ..errors import ConfigurationError
from ..models import Retrieval, ScoreName
from .formats import STYLES, Style, block, render
from .passages import Passage, passages

Rank: TypeAlias = Literal["score", "position"]


class Policy(Protocol):
    """Any function from passages to fewer passages, or to the same in another order, serves as well."""

    def __call__(self, given: Sequence[Passage], /) -> Sequence[Passage]:
        """The passages to go on with."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A passage that did not get through, and the name of the policy that stopped it."""

    passage: Passage
    by: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The passages that got through, in their final order, and those that did not."""

    passages: tuple[Passage, ...]
    dropped: tuple[Dropped, ...] = ()

    @property
    def originals(self) -> list[Any]:
        """The documents, nodes or dicts that the passages were made of."""
        return [one.original for one in self.passages]


def checked(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    """The policies; ConfigurationError for what is none, before there are passages for it."""
    if not isinstance(policies, Iterable):
        raise ConfigurationError(f"policies is {typed(policies)}; give a list, such as [Deduplicate()].")
    several = tuple(policies)
    for policy in several:
        if isinstance(policy, type):
            raise ConfigurationError(f"{policy.__name__} is a class; give a policy, such as {policy.__name__}(...).")
        if not callable(policy):
            raise ConfigurationError(
                f"policies holds {typed(policy)}, which is no policy; give one of rage_retrievers.context, or a "
                "function from passages to passages."
            )
    return several


def select(documents: Iterable[Any] | Retrieval, *policies: Policy, ordered_by: ScoreName | None = None) -> Selection:
    """Apply the policies, first one first; `ordered_by` says which score ordered the list where the list does not."""
    found = passages(documents, ordered_by=ordered_by)
    kept: Sequence[Passage] = [replace(one, position=position) for position, one in enumerate(found)]
    dropped: list[Dropped] = []
    for policy in checked(policies):
        left = policy(kept)
        stayed = {one.position for one in left}
        name = getattr(policy, "__name__", type(policy).__name__)
        dropped += [Dropped(one, name) for one in kept if one.position not in stayed]
        kept = left
    return Selection(tuple(kept), tuple(dropped))


def ranked(given: Sequence[Passage], rank: Rank = "score") -> list[Passage]:
    """Best first. Each kind of score is put in order within the places it holds; absent scores stay where they are."""
    _one_of("ranked", "rank", rank, get_args(Rank))
    for one in given:
        if not isinstance(one, Passage):
            raise ConfigurationError(f"ranked needs passages(documents), and was given {typed(one)}.")
    return [given[place] for place in _places(given, rank)]


def _places(given: Sequence[Passage], rank: Rank) -> list[int]:
    """The places of the passages, best first."""
    best_first = list(range(len(given)))
    if rank == "position":
        return best_first
    held: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(given):
        held[one.kind].append(place)  # those without a score are equal among themselves, so they stay
    for places in held.values():
        for place, best in zip(places, sorted(places, key=lambda at: -(given[at].score or 0.0)), strict=True):
            best_first[place] = best
    return best_first


def _in_order(given: Sequence[Passage], kept: set[int]) -> list[Passage]:
    return [one for place, one in enumerate(given) if place in kept]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Keep passages whose `score` reaches the bar for its own kind; a kind without a bar passes.

    `relevancy` and `similarity` live on different scales, so each has a bar of its own; `score` is the bar for numbers
    of another tool. `absent` says what happens to a passage without a score.
    """

    relevancy: float | None = None
    similarity: float | None = None
    score: float | None = None
    absent: Literal["keep", "drop"] = "keep"

    def __post_init__(self) -> None:
        for name in ("relevancy", "similarity", "score"):
            bar = getattr(self, name)
            if bar is not None and not is_number(bar):
                raise ConfigurationError(f"Threshold {name} = {shown(bar)} cannot be used; use a finite number.")
        _one_of("Threshold", "absent", self.absent, ("keep", "drop"))

    def __call__(self, given: Sequence[Passage], /) -> list[Passage]:
        return [one for one in given if self._passes(one)]

    def _passes(self, one: Passage) -> bool:
        if one.score is None:
            return self.absent == "keep"
        bar: float | None = getattr(self, one.kind)
        return bar is None or one.score >= bar


@dataclass(frozen=True, slots=True)
class Deduplicate:
    """Of passages with the same text, keep the best; letter case, width and white space make no difference.

    With `near` (above 0, up to 1), so do passages that share that part of their runs of `shingle` words (Jaccard).
    """

    near: float | None = None
    shingle: int = 3
    rank: Rank = "score"

    def __post_init__(self) -> None:
        if self.near is not None and not (is_number(self.near) and 0 < self.near <= 1):
            raise ConfigurationError(
                f"Deduplicate near = {shown(self.near)} cannot be used; use a number above 0, up to 1."
            )
        _positive("Deduplicate", "shingle", self.shingle)
        _one_of("Deduplicate", "rank", self.rank, ("score", "position"))

    def __call__(self, given: Sequence[Passage], /) -> list[Passage]:
        kept: dict[str, frozenset[tuple[str, ...]]] = {}
        stay: set[int] = set()
        for place in _places(given, self.rank):
            one = given[place]
            text = _normalized(one.text)
            shingles = _shingles(text, self.shingle) if self.near is not None else frozenset()
            if text not in kept and not self._near_any(shingles, kept.values()):
                kept[text] = shingles
                stay.add(place)
        return _in_order(given, stay)

    def _near_any(self, one: frozenset[Any], others: Iterable[frozenset[Any]]) -> bool:
        return self.near is not None and any(_alike(one, other, self.near) for other in others)


@dataclass(frozen=True, slots=True)
class PerSource:
    """Keep at most the `most` best of each source; passages whose source is unknown are not counted together."""

    most: int
    rank: Rank = "score"

    def __post_init__(self) -> None:
        _positive("PerSource", "most", self.most)
        _one_of("PerSource", "rank", self.rank, ("score", "position"))

    def __call__(self, given: Sequence[Passage], /) -> list[Passage]:
        held: dict[str, int] = defaultdict(int)
        stay: set[int] = set()
        for place in _places(given, self.rank):
            one = given[place]
            if one.source is not None:
                held[one.source] += 1
            if one.source is None or held[one.source] <= self.most:
                stay.add(place)
        return _in_order(given, stay)


def estimate_tokens(text: str) -> int:
    """About how many tokens a model makes of the text: one for four ASCII characters, one for every other character.

    A cheap estimate, meant to be on the high side for prose in most languages; code and numbers can need more. Where
    the bound is hard, give `Budget` the counter of your model.
    """
    plain = len(text.encode("ascii", "ignore"))
    return -(-plain // 4) + len(text) - plain


@dataclass(frozen=True, slots=True)
class Budget:
    """Keep whole passages, best first, while they fit into `tokens`; the first that does not fit ends it.

    A smaller, worse passage never takes the place of a better one that was too large, so nothing at all is kept where
    the best alone is too large. `count` counts the tokens of a text. With `style`, what is counted is the rendering in
    that style, delimiters included; passages are counted one by one, and their sum is held to the budget.
    """

    tokens: int
    count: Callable[[str], int] = estimate_tokens
    style: Style | None = None
    rank: Rank = "score"

    def __post_init__(self) -> None:
        _positive("Budget", "tokens", self.tokens)
        if not callable(self.count):
            raise ConfigurationError(
                "Budget count cannot be used; give a function from a text to its number of tokens."
            )
        if self.style is not None:
            _one_of("Budget", "style", self.style, STYLES)
        _one_of("Budget", "rank", self.rank, ("score", "position"))

    def __call__(self, given: Sequence[Passage], /) -> list[Passage]:
        left = self.tokens - (self.count(render([], self.style)) if self.style else 0)
        stay: set[int] = set()
        for place in _places(given, self.rank):
            one = given[place]
            # The highest number has the most digits, so whatever number it gets, the passage fits.
            left -= self.count(block(one, len(given), self.style) + "\n" if self.style else one.text)
            if left < 0:
                break
            stay.add(place)
        return _in_order(given, stay)


@dataclass(frozen=True, slots=True)
class Order:
    """Put the passages "best_first", or at "both_ends": the best first, the second best last, the weakest in between.

    Models read the ends of a long context better than its middle.
    """

    arrangement: Literal["best_first", "both_ends"] = "best_first"
    rank: Rank = "score"

    def __post_init__(self) -> None:
        _one_of("Order", "arrangement", self.arrangement, ("best_first", "both_ends"))
        _one_of("Order", "rank", self.rank, ("score", "position"))

    def __call__(self, given: Sequence[Passage], /) -> list[Passage]:
        best = ranked(given, self.rank)
        return best if self.arrangement == "best_first" else best[::2] + best[1::2][::-1]


def _normalized(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


# A letter of a script that does without spaces counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def _shingles(text: str, length: int) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text)
    return frozenset(tuple(words[at : at + length]) for at in range(max(1, len(words) - length + 1)) if words)


def _alike(one: frozenset[Any], other: frozenset[Any], near: float) -> bool:
    few, many = sorted((len(one), len(other)))
    if few == 0 or few < near * many:
        return False
    common = len(one & other)
    return common >= near * (few + many - common)


def _positive(policy: str, name: str, value: Any) -> None:
    if not is_count(value):
        raise ConfigurationError(f"{policy} {name} = {shown(value)} cannot be used; use a whole number of at least 1.")


def _one_of(policy: str, name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigurationError(
            f"{policy} {name} = {shown(value)} cannot be used; use {' or '.join(map(repr, known))}."
        )
