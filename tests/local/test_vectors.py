"""The vectors in memory: what a search looks at, and that it misses nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rage_retrievers.local.embedding import Vectors, unit
from rage_retrievers.local.vectors import VectorRows

ROWS = 20_000


class Counted(VectorRows):
    """Counts the rows that are read whole."""

    read = 0

    def scores(self, question: Vectors, count: int) -> Vectors:
        self.read += count
        return super().scores(question, count)

    def scores_of(self, question: Vectors, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Vectors:
        self.read += len(rows)
        return super().scores_of(question, rows)


def vectors(count: int, seed: int) -> Vectors:
    """Unit vectors of 256 dimensions that lean one way and differ more in some directions, as those of texts do."""
    random = np.random.default_rng(seed)
    spread = np.linspace(2, 0.2, 256) ** 2
    made = random.normal(size=(count, 256)) * spread + 3 * spread
    return unit(made[:, np.random.default_rng(0).permutation(256)].astype(np.float32))


def filled(rows: Vectors) -> Counted:
    held = Counted()
    held.append(rows)
    return held


@pytest.mark.parametrize("rank", [0, 3, 50, 2_000])
@pytest.mark.parametrize("filtered", [False, True])
def test_every_row_that_reaches_the_bound_is_found(rank: int, filtered: bool) -> None:
    """The same as reading all, for bounds that one row reaches and for such that thousands do, with a filter too."""
    rows = vectors(ROWS, 1)
    among = np.random.default_rng(2).random(ROWS) < 0.4 if filtered else None
    for question in [*vectors(3, 3), rows[77]]:
        cosines = rows @ question
        least = float(np.sort(cosines)[-1 - rank]) - 1e-4
        expected = np.flatnonzero((cosines >= least) & (True if among is None else among))
        found, scores = filled(rows).near(question, ROWS, ROWS, least=least, among=among)
        assert np.array_equal(np.sort(found), expected)
        assert np.allclose(scores, cosines[found], atol=1e-6)


def test_a_high_bound_is_answered_from_a_few_rows() -> None:
    """The sketch leaves less than one row in twenty to be read."""
    rows = vectors(ROWS, 1)
    question = unit(rows[77:78] + 0.3 * vectors(1, 5))[0]
    held = filled(rows)
    found, _ = held.near(question, ROWS, 10, least=float((rows @ question).max()) - 1e-4)
    assert found.tolist() == [77]
    assert held.read < ROWS / 20


def test_a_bound_that_a_hundred_rows_reach_is_answered_from_a_few_times_as_many() -> None:
    """Rows are ruled out a few directions at a time, each look at those alone that the one before has left."""
    rows = vectors(ROWS, 1)
    question = unit(rows[77:78] + vectors(1, 5))[0]
    held = filled(rows)
    found, _ = held.near(question, ROWS, ROWS, least=float(np.sort(rows @ question)[-100]))
    assert 99 <= len(found) <= 101
    assert held.read < ROWS / 20


def test_a_bound_that_no_cosine_reaches_costs_nothing() -> None:
    """No vector is read for it."""
    held = filled(vectors(100, 1))
    assert not len(held.near(vectors(1, 2)[0], 100, 10, least=1.5)[0])
    assert held.read == 0


def test_few_admitted_rows_are_the_only_ones_read() -> None:
    """A filter that leaves forty rows leaves forty to be read."""
    held = filled(vectors(ROWS, 1))
    among = np.zeros(ROWS, dtype=np.bool_)
    among[::500] = True
    found, _ = held.near(vectors(1, 2)[0], ROWS, 10, among=among)
    assert len(found) == 10
    assert among[found].all()
    assert held.read == 40


@pytest.mark.parametrize("added", [1, 700, 1_500, 40_000])
def test_rows_that_are_added_later_are_found(added: int) -> None:
    """Whether or not the sketch knows them yet."""
    held = filled(vectors(ROWS, 1))
    question = vectors(1, 2)[0]
    held.near(question, ROWS, 10, least=0.9)
    held.append(vectors(added - 1, 3))
    held.append(question[np.newaxis])
    count = ROWS + added
    assert held.near(question, count, 10, least=0.999)[0].tolist() == [count - 1]


def test_a_reader_of_before_is_shown_no_row_that_was_added() -> None:
    """A sketch that knows more rows than the reader does tells it of no other."""
    held = filled(vectors(ROWS, 1))
    question = vectors(1, 2)[0]
    held.append(question[np.newaxis])
    held.append(vectors(ROWS, 3))
    assert held.near(question, 2 * ROWS + 1, 10, least=0.999)[0].tolist() == [ROWS]
    assert not len(held.near(question, ROWS, 10, least=0.999)[0])


def test_the_best_are_given_where_more_reach_the_bound() -> None:
    """No more than asked for, and the nearest."""
    rows = vectors(ROWS, 1)
    question = vectors(1, 2)[0]
    best = np.sort(np.argsort(rows @ question)[-10:])
    for least in (-math.inf, 0.1):
        assert np.array_equal(np.sort(filled(rows).near(question, ROWS, 10, least=least)[0]), best)
