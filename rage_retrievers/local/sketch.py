"""A first look at many vectors that rules most of them out, for a part of the reading that all of them take.

Of each vector it keeps the part along a few directions, those in which the vectors differ most, and the length of the
rest. What the rests add to a cosine is at most the product of their lengths (Cauchy and Schwarz), so no row that is
ruled out could have reached the bound asked for: nothing is missed, however the directions are chosen. The directions
are looked at in groups, the foremost first, until few rows are left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rage_retrievers.local.embedding import Vectors

_GROUPS = (16, 16, 32)
DIRECTIONS = sum(_GROUPS)
# BLAS would start threads for a larger product than this, see `vectors`.
_AT_ONCE = 256
# Picking a row out takes as long as looking along one more group of directions at this many.
_PASSED = 80
# Of single precision: of a sum of products, and of a length that is the root of a difference.
_ROUNDING = 1e-5
_ROUNDING_OF_SQUARES = 1e-6


@dataclass(frozen=True, slots=True)
class _Group:
    """Some of the directions; the rows' parts along them, and the lengths of what these and those before leave."""

    directions: Vectors
    parts: Vectors
    rests: Vectors

    def extended(self, rows: Vectors, squares: Vectors) -> _Group:
        """With the parts of more rows; takes them off the `squares` of the lengths that are left."""
        parts = rows @ self.directions
        squares -= np.vecdot(parts, parts)
        rests = np.sqrt(np.maximum(squares, 0) + _ROUNDING_OF_SQUARES)
        return _Group(self.directions, np.concatenate([self.parts, parts]), np.concatenate([self.rests, rests]))


@dataclass(frozen=True, slots=True)
class Sketch:
    """The look at the first `count` rows; `extended` gives one that knows more of them."""

    count: int
    groups: tuple[_Group, ...]

    @classmethod
    def of(cls, sample: Vectors) -> Sketch:
        """A sketch of no row yet, with the directions in which these vectors are longest."""
        _, directions = np.linalg.eigh(sample.T @ sample)
        foremost = np.split(directions[:, ::-1], np.cumsum(_GROUPS), axis=1)[:-1]
        nothing = np.zeros((0, DIRECTIONS), dtype=np.float32)
        groups = (_Group(np.ascontiguousarray(some), nothing[:, : some.shape[1]], nothing[:, 0]) for some in foremost)
        return cls(0, tuple(groups))

    @staticmethod
    def whole(count: int) -> int:
        """As many of `count` rows as a sketch can know."""
        return count // _AT_ONCE * _AT_ONCE

    def extended(self, rows: Iterable[Vectors]) -> Sketch:
        """One that knows these rows too, after those known."""
        sketch = self
        for some in rows:
            squares = np.vecdot(some, some)
            groups = tuple(group.extended(some, squares) for group in sketch.groups)
            sketch = Sketch(sketch.count + len(some), groups)
        return sketch

    def may_reach(self, question: Vectors, least: float) -> NDArray[np.int64]:
        """The rows known whose cosine with the question could be `least` or more, in order."""
        left = float(question @ question)
        sums = np.zeros(self.count, dtype=np.float32)
        rows = np.zeros(0, dtype=np.int64)
        for group in self.groups:
            part = question @ group.directions
            left -= float(part @ part)
            sums += np.matmul(group.parts.reshape(-1, _AT_ONCE, len(part)), part).reshape(-1)
            highest = np.float32(np.sqrt(max(left, 0.0) + _ROUNDING_OF_SQUARES)) * group.rests
            highest += sums
            rows = np.flatnonzero(highest >= least - _ROUNDING)
            if len(rows) <= self.count // _PASSED:
                break
        return rows
