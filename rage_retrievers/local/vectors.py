"""The vectors of a collection in memory: append-only blocks, searched exactly.

At 100,000 vectors of 256 dimensions one exact search takes about 4 ms, quicker to build than any approximate index and
with nothing missed. Rows are never overwritten, so a reader that knows how many rows it may see needs no lock.

A search is as fast as the memory is read, which is twice as fast in four places at once as in one. And BLAS starts a
thread per core for any product but a small one, and where another process keeps the cores busy those threads wait for
each other (48 ms instead of 4 on a loaded machine of two cores). So a block is multiplied four rows at a time, each
from another quarter of it.

Most searches need not read all rows: the few that can reach a bound are told by a `Sketch`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rage_retrievers.local.embedding import Vectors
from rage_retrievers.local.sketch import DIRECTIONS, Sketch

BLOCK_ROWS = 16_384
_PLACES = 4
_GROUP = 64
# Picking a row out takes as long as passing over this many.
_PASSED = 8
# From here on the sketch saves more than it costs.
_SKETCHED = 8_192
_SAMPLE = 4_096
_UNSKETCHED = 1_024
# Stored as half floats, unit vectors are a little longer or shorter than 1.
_HIGHEST_COSINE = 1.01
_Rows = NDArray[np.int64]


class VectorRows:
    """Rows of unit vectors; one writer at a time, any number of readers."""

    def __init__(self) -> None:
        self._blocks: list[Vectors] = []
        self.count = 0
        self._sketch: Sketch | None = None
        self._sketching = threading.Lock()

    def keep(self, count: int) -> None:
        """Forget the rows after the first `count`: what was added for a snapshot that was never made."""
        self.count = count

    def append(self, rows: Vectors) -> None:
        """Add rows after those present; all rows have one width."""
        while len(rows):
            used = self.count % BLOCK_ROWS
            if used == 0 and self.count == len(self._blocks) * BLOCK_ROWS:
                self._blocks.append(np.zeros((BLOCK_ROWS, rows.shape[1]), dtype=np.float32))
            taken = rows[: BLOCK_ROWS - used]
            self._blocks[-1][used : used + len(taken)] = taken
            self.count += len(taken)
            rows = rows[len(taken) :]

    def near(
        self,
        question: Vectors,
        count: int,
        most: int,
        *,
        least: float = -math.inf,
        among: NDArray[np.bool_] | None = None,
    ) -> tuple[_Rows, Vectors]:
        """(rows, cosines), in no order, of those whose cosine is `least` or more; the best `most` where more are.

        Looks at the first `count` rows, at those that are true in `among` when it is given.
        """
        if least > _HIGHEST_COSINE:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        rows = self._possible(question, count, least, among)
        if rows is not None:
            cosines = self.scores_of(question, rows)
            reached = np.flatnonzero(cosines >= least)
        else:
            cosines = self.scores(question, count)
            reached = np.flatnonzero(cosines >= least if among is None else among & (cosines >= least))
        best = reached[_top(cosines[reached], most)]
        return best if rows is None else rows[best], cosines[best]

    def scores(self, question: Vectors, count: int) -> Vectors:
        """The cosine of `question` with each of the first `count` rows."""
        even = -(-count // _PLACES) * _PLACES  # a block has room for the rows that this adds
        scores = np.empty(even, dtype=np.float32)
        for first in range(0, even, BLOCK_ROWS):
            last = min(first + BLOCK_ROWS, even)
            rows = self._blocks[first // BLOCK_ROWS][: last - first]
            places = rows.reshape(_PLACES, len(rows) // _PLACES, -1).transpose(1, 0, 2)
            scores[first:last].reshape(_PLACES, -1)[:] = np.matmul(places, question).T
        return scores[:count]

    def scores_of(self, question: Vectors, rows: _Rows) -> Vectors:
        """The cosine of `question` with each of the rows named."""
        scores = np.empty(len(rows), dtype=np.float32)
        order = np.argsort(rows)
        ordered = rows[order]
        starts = np.arange(len(self._blocks)) * BLOCK_ROWS
        ends = np.searchsorted(ordered, starts + BLOCK_ROWS).tolist()
        for held, start, first, end in zip(self._blocks, starts.tolist(), [0, *ends], ends, strict=False):
            if end > first:
                scores[order[first:end]] = np.vecdot(held.take(ordered[first:end] - start, axis=0), question)
        return scores

    def _possible(self, question: Vectors, count: int, least: float, among: NDArray[np.bool_] | None) -> _Rows | None:
        """The rows that alone can reach `least`; None where it is quicker to pass over all."""
        few = count // _PASSED
        if among is not None and np.count_nonzero(among) <= few:
            return np.flatnonzero(among)
        if least <= 0 or count < _SKETCHED or len(question) < 2 * DIRECTIONS:
            return None
        sketch = self._sketched(count)
        rows = np.concatenate([sketch.may_reach(question, least), np.arange(sketch.count, count)])
        rows = rows[rows < count]
        rows = rows if among is None else rows[among[rows]]
        return rows if len(rows) <= few else None

    def _sketched(self, count: int) -> Sketch:
        """A sketch of nearly the first `count` rows, or of more."""
        with self._sketching:
            sketch = self._sketch or Sketch.of(self._sample(count))
            if count - sketch.count > _UNSKETCHED:
                sketch = sketch.extended(self._parts(sketch.count, Sketch.whole(count)))
            self._sketch = sketch
            return sketch

    def _sample(self, count: int) -> Vectors:
        step = max(count // _SAMPLE, 1)
        return np.concatenate([block[::step] for block in self._blocks])

    def _parts(self, first: int, last: int) -> Iterator[Vectors]:
        while first < last:
            block, place = divmod(first, BLOCK_ROWS)
            part = self._blocks[block][place : place + last - first]
            yield part
            first += len(part)


def _top(scores: Vectors, count: int) -> _Rows:
    """Where the highest `count` scores are, in no order."""
    if count >= len(scores):
        return np.arange(len(scores))
    rows = (
        np.arange(len(scores)) if len(scores) < 2 * _GROUP * count else np.flatnonzero(scores >= _floor(scores, count))
    )
    return rows[np.argpartition(scores[rows], len(rows) - count)[len(rows) - count :]]


def _floor(scores: Vectors, count: int) -> np.float32:
    """A bound that at least `count` scores reach and few others do: the count-th highest of the maxima of groups."""
    maxima = scores[: len(scores) // _GROUP * _GROUP].reshape(-1, _GROUP).max(axis=1)
    return np.float32(np.partition(maxima, len(maxima) - count)[len(maxima) - count])
