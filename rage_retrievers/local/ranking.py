"""Which passages answer a question, best first.

First stage, by mode: BM25 (`text`), cosine (`vector`), or both (`hybrid`); its score is the passage's `similarity`.
Second stage: `relevancy`, 0 to 1, comparable between questions: a weighted sum of BM25 over its upper bound, cosine,
and the share of the question's word pairs that the passage holds. It is filled in always and orders the list only when
`rerank` is asked for. Weights are from six public collections, see the benchmark of ranking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from rage_retrievers._frozen import frozen
from rage_retrievers.local import analysis
from rage_retrievers.local.embedding import Embedding, Vectors
from rage_retrievers.local.filters import Filter
from rage_retrievers.local.snapshot import Rows, Snapshot
from rage_retrievers.local.text_index import TextQuery, TextView, weigh

POOL = 100
PAIR_WEIGHT = 0.1
BACKGROUND_WEIGHT = 0.4
# Naming an admitted passage in a query takes as long as passing over eight hits that are not admitted.
_HITS_PER_NAME = 8
# As many hits of the words are looked at before any vector is: the more there are, the less is left for the others.
_REACH = 400
# Of fewer passages it takes less to pass over all vectors.
_MANY = 20_000
# The best of a longer list than this are seldom told apart from the rest without looking at every vector.
_FEW = 32
# What rounding may take from a sum of two scores.
_ROUNDING = 1e-5
# Each pair of words costs a search, so of a question that long only the first pairs count.
_MAX_PAIRS = 256
Reranker = Callable[[str, list[str]], list[float]]


@frozen
class Ask:
    """A retrieval request, understood. `background` holds what the conversation before it is about."""

    question: str
    limit: int
    background: str = ""
    mode: str = "vector"
    rerank: bool = True
    match: str = "match"
    fields: tuple[tuple[str, float], ...] = ()
    text_boost: float = 1.0
    condition: Filter | None = None


@frozen
class Ranked:
    """A passage with its two scores."""

    n: int
    similarity: float
    relevancy: float


def rank(snapshot: Snapshot, embedding: Embedding, ask: Ask, reranker: Reranker | None = None) -> list[Ranked]:
    """At most `ask.limit` passages, best first by relevancy when `ask.rerank`, else by similarity."""
    if snapshot.text is None or not snapshot.count or ask.limit < 1:
        return []
    search = _Search(snapshot, snapshot.text, embedding, ask)
    if not ask.rerank:
        found = search.first_stage(ask.limit)
        best = found.at(_descending(found.similarities, found.numbers)[: ask.limit])
        return _ranked(best, search.relevancies(best))
    found = search.first_stage(max(POOL, ask.limit))
    if reranker is None:
        relevancies = search.relevancies(found)
    else:
        found, relevancies = _ask_reranker(snapshot, ask, reranker, found)
    order = _descending(relevancies, found.numbers)[: ask.limit]
    return _ranked(found.at(order), relevancies[order])


@frozen
class _Found:
    """Passages that the first stage found: where they are, their similarity, and what else is known of them.

    `text` holds their scores by the words of the question as it stands, `cosines` those by its vector; None where they
    were not worked out.
    """

    numbers: Rows
    rows: Rows
    similarities: Vectors
    text: Vectors | None = None
    cosines: Vectors | None = None

    def at(self, places: Rows) -> _Found:
        """Those at these places, in that order."""
        text = None if self.text is None else self.text[places]
        cosines = None if self.cosines is None else self.cosines[places]
        return _Found(self.numbers[places], self.rows[places], self.similarities[places], text, cosines)


def _ranked(found: _Found, relevancies: Vectors) -> list[Ranked]:
    columns = (found.numbers.tolist(), found.similarities.tolist(), relevancies.tolist())
    return [Ranked(*row) for row in zip(*columns, strict=True)]


@frozen
class _Hits:
    """Passages that hold words of the question, best first; no other passage scores more than `elsewhere`."""

    numbers: Rows
    rows: Rows
    scores: Vectors
    elsewhere: float


class _Search:
    """One search: the question's terms and vector, and the rows admitted."""

    def __init__(self, snapshot: Snapshot, text: TextView, embedding: Embedding, ask: Ask) -> None:
        self._snapshot = snapshot
        self._text = text
        self._ask = ask
        said = analysis.terms(ask.question)
        weights = weigh(said)
        for term, weight in weigh(analysis.terms(ask.background), BACKGROUND_WEIGHT).items():
            weights[term] += weight
        self._plain = TextQuery(tuple(weights.items()))
        self._bound = text.bound(self._plain)
        self._pairs = list(dict.fromkeys(pairwise(said)))[:_MAX_PAIRS]
        self._admitted = snapshot.admitted(ask.condition)
        self._vector = _vector(embedding, ask)
        snapshot.check_width(len(self._vector))
        self._vector_weight = embedding.weight
        self._text_weight = 1 - embedding.weight

    def first_stage(self, pool: int) -> _Found:
        """Candidates, in no order."""
        if self._ask.mode == "text":
            return self._by_text(pool)
        if self._ask.mode == "vector":
            return self._by_vector(pool)
        return self._by_both(max(pool, POOL), pool)

    def relevancies(self, found: _Found) -> Vectors:
        """The second-stage score of each candidate."""
        if not len(found.numbers):
            return np.zeros(0, dtype=np.float32)
        cosines = found.cosines if found.cosines is not None else self._cosines(found.rows)
        score = self._vector_weight * np.maximum(cosines, 0)
        if self._bound:
            text = found.text if found.text is not None else self._text_scores(self._plain, found.numbers)
            score = score + self._text_weight * (text / self._bound)
        whole = 1.0
        if self._pairs:
            held = self._text.pairs(self._pairs, found.numbers.tolist())
            score = score + PAIR_WEIGHT * held / len(self._pairs)
            whole += PAIR_WEIGHT
        return np.minimum(np.maximum(score / whole, 0), 1).astype(np.float32, copy=False)

    def _by_text(self, pool: int) -> _Found:
        query = self._query()
        hits = self._matching(query, pool)
        scores = hits.scores[:pool]
        similarities = _over(scores, self._bound_of(query))
        return _Found(hits.numbers[:pool], hits.rows[:pool], similarities, scores if query is self._plain else None)

    def _by_vector(self, pool: int) -> _Found:
        rows, cosines = self._snapshot.near(self._vector, self._admitted, pool, -math.inf)
        return _Found(self._snapshot.numbers[rows], rows, cosines, cosines=cosines)

    def _by_both(self, pool: int, wanted: int) -> _Found:
        """The best `wanted` by the weighted sum, and more.

        Those that the words find come first. Of all others it is known how much their words can score at most, hence
        how near the question they must be to be among the best `wanted`: only those are looked for. For a long list
        and a vague question they may be many; then the `pool` nearest stand for them.
        """
        query = self._query()
        bound = self._bound_of(query)
        weight = self._text_weight * self._ask.text_boost
        few = wanted <= _FEW
        hits = self._matching(query, pool, _REACH if few and self._snapshot.count >= _MANY else 0)
        known = self._cosines(hits.rows)
        fused = self._fuse(weight, _over(hits.scores, bound), known)
        least = self._least_cosine(weight, fused, min(hits.elsewhere / bound, 1) if bound else 0, wanted)
        rows, cosines = self._snapshot.near(self._vector, self._admitted, pool, least if few else -math.inf)
        held = np.zeros(self._snapshot.count, dtype=np.bool_)
        held[hits.rows] = True
        new = (cosines >= least) & ~held[rows]
        rows, cosines = rows[new], cosines[new]
        numbers = self._snapshot.numbers[rows]
        scores = np.zeros(len(rows), dtype=np.float32) if hits.elsewhere <= 0 else self._text_scores(query, numbers)
        return _Found(
            np.concatenate([hits.numbers, numbers]),
            np.concatenate([hits.rows, rows]),
            np.concatenate([fused, self._fuse(weight, _over(scores, bound), cosines)]),
            np.concatenate([hits.scores, scores]) if query is self._plain else None,
            np.concatenate([known, cosines]),
        )

    def _least_cosine(self, weight: float, fused: Vectors, text: float, wanted: int) -> float:
        """What a passage whose words score at most `text` must reach to be among the best `wanted`."""
        needed = _least_of_best(fused, wanted) * (weight + self._vector_weight)
        least = (needed - weight * text) / self._vector_weight - _ROUNDING
        return least if least > 0 else -math.inf  # a cosine below 0 counts as 0

    def _fuse(self, weight: float, text: Vectors, cosines: Vectors) -> Vectors:
        fused = weight * text + self._vector_weight * np.maximum(cosines, 0)
        return (fused / (weight + self._vector_weight)).astype(np.float32)

    def _query(self) -> TextQuery:
        ask = self._ask
        if not ask.fields and ask.match != "match_phrase":
            return self._plain
        phrase = tuple(analysis.phrase(ask.question)) if ask.match == "match_phrase" else ()
        return TextQuery(self._plain.terms, ask.fields or (("text", 1.0),), ask.match, phrase)

    def _matching(self, query: TextQuery, pool: int, reach: int = 0) -> _Hits:
        """The best `pool` admitted passages by their words at least, and whatever else the best `reach` hits hold."""
        wanted = max(pool, reach)
        if self._admitted is None:
            return self._hits(self._text.search(query, wanted), wanted)
        allowed = int(np.count_nonzero(self._admitted))
        enough = min(2 * pool * self._snapshot.count // max(allowed, 1) + 1, self._snapshot.count)
        if enough <= _HITS_PER_NAME * allowed:
            enough = max(enough, reach)
            hits = self._hits(self._text.search(query, enough), enough)
            if len(hits.numbers) >= pool or hits.elsewhere == 0:
                return hits
        within = self._snapshot.numbers[self._admitted].tolist()
        return self._hits(self._text.search(query, wanted, within), wanted)

    def _hits(self, found: tuple[Rows, Vectors], asked: int) -> _Hits:
        numbers, scores = found
        rows = self._snapshot.rows_of(numbers)
        seen = rows >= 0
        if self._admitted is not None:
            seen &= self._admitted[rows]
        return _Hits(numbers[seen], rows[seen], scores[seen], float(scores[-1]) if len(scores) == asked else 0.0)

    def _bound_of(self, query: TextQuery) -> float:
        return self._bound if query is self._plain else self._text.bound(query)

    def _text_scores(self, query: TextQuery, numbers: Rows) -> Vectors:
        """BM25 of each passage named."""
        return _aligned(self._text.search(query, len(numbers), numbers.tolist()), numbers)

    def _cosines(self, rows: Rows) -> Vectors:
        return self._snapshot.vectors.scores_of(self._vector, rows)


def _vector(embedding: Embedding, ask: Ask) -> Vectors:
    vector = embedding.question(ask.question)
    if ask.background:
        vector = vector + BACKGROUND_WEIGHT * embedding.question(ask.background)
        length = float(np.linalg.norm(vector))
        vector = vector / length if length else vector
    return vector.astype(np.float32)


def _ask_reranker(snapshot: Snapshot, ask: Ask, reranker: Reranker, found: _Found) -> tuple[_Found, Vectors]:
    numbers = found.numbers.tolist()
    passages = snapshot.passages(numbers)
    kept = [place for place, n in enumerate(numbers) if n in passages]
    scores = reranker(ask.question, [passages[numbers[place]].text for place in kept])
    if len(scores) != len(kept):
        raise ValueError(f"the reranker gave {len(scores)} scores for {len(kept)} texts; one per text is needed")
    finite = [float(score) if math.isfinite(score) else -math.inf for score in scores]
    usable = [place for place, score in zip(kept, finite, strict=True) if score > -math.inf]
    usable_scores = np.asarray([score for score in finite if score > -math.inf], dtype=np.float32)
    return found.at(np.asarray(usable, dtype=np.int64)), usable_scores


def _least_of_best(scores: Vectors, count: int) -> float:
    return float(np.partition(scores, len(scores) - count)[len(scores) - count]) if count <= len(scores) else -math.inf


def _descending(scores: Vectors, numbers: Rows) -> Rows:
    """Best first; equal scores in the order in which the passages were stored."""
    return np.lexsort((numbers, -scores))


def _over(scores: Vectors, bound: float) -> Vectors:
    if bound <= 0:
        return np.zeros_like(scores)
    shares: Vectors = np.minimum(np.maximum(scores / np.float32(bound), 0), 1)
    return shares


def _aligned(hits: tuple[Rows, Vectors], numbers: Rows) -> Vectors:
    scores = np.zeros(len(numbers), dtype=np.float32)
    if len(hits[0]):
        order = np.argsort(numbers)
        scores[order[np.searchsorted(numbers, hits[0], sorter=order)]] = hits[1]
    return scores


def quality(relevancies: Sequence[float]) -> tuple[float, float]:
    """(average_relevancy, ndcg) of a list in its order; the ideal order is that of the same relevancies."""
    if not relevancies:
        return 0.0, 0.0
    ideal = _gain(sorted(relevancies, reverse=True))
    ndcg = _gain(relevancies) / ideal if ideal > 0 else 1.0
    return math.fsum(relevancies) / len(relevancies), min(max(ndcg, 0.0), 1.0)


def _gain(relevancies: Sequence[float]) -> float:
    return math.fsum(score / math.log2(place + 2) for place, score in enumerate(relevancies))
