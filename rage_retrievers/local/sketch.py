"""A first look at many vectors that rules most of them out, for a quarter of the reading that all of them take.

Of each vector it keeps the part along a few directions, those in which the vectors differ most, and the length of the
rest. What the rests add to a cosine is at most the product of their lengths (Cauchy and Schwarz), so no row that is
ruled out could have reached the bound asked for: nothing is missed, however the directions are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rage_retrievers.local.embedding import Vectors

DIRECTIONS = 64
# BLAS would start threads for a larger product than this, see `vectors`.
_AT_ONCE = 128
# Of single precision: of a sum of products, and of a length that is the root of a difference.
_ROUNDING = 1e-5
_ROUNDING_OF_SQUARES = 1e-6


@dataclass(frozen=True, slots=True)
class Sketch:
    """The look at the first `len(heads)` rows; `extended` gives one that knows more of them."""

    directions: Vectors
    heads: Vectors
    rests: Vectors

    @classmethod
    def of(cls, sample: Vectors) -> Sketch:
        """A sketch of no row yet, with the directions in which these vectors are longest."""
        _, directions = np.linalg.eigh(sample.T @ sample)
        nothing = np.zeros((0, DIRECTIONS), dtype=np.float32)
        return cls(np.ascontiguousarray(directions[:, -DIRECTIONS:]), nothing, nothing[:, 0])

    @staticmethod
    def whole(count: int) -> int:
        """As many of `count` rows as a sketch can know."""
        return count // _AT_ONCE * _AT_ONCE

    def extended(self, rows: Iterable[Vectors], count: int) -> Sketch:
        """One that knows the first `count` rows, of which `rows` are those after the ones known."""
        heads = np.empty((count, DIRECTIONS), dtype=np.float32)
        rests = np.empty(count, dtype=np.float32)
        known = len(self.heads)
        heads[:known], rests[:known] = self.heads, self.rests
        for some in rows:
            part = heads[known : known + len(some)]
            np.matmul(some, self.directions, out=part)
            left = np.vecdot(some, some) - np.vecdot(part, part)
            rests[known : known + len(some)] = np.sqrt(np.maximum(left, 0) + _ROUNDING_OF_SQUARES)
            known += len(some)
        return Sketch(self.directions, heads, rests)

    def may_reach(self, question: Vectors, least: float) -> NDArray[np.int64]:
        """The rows known whose cosine with the question could be `least` or more, in order."""
        head = question @ self.directions
        rest = np.sqrt(max(float(question @ question - head @ head), 0.0) + _ROUNDING_OF_SQUARES)
        highest = np.matmul(self.heads.reshape(-1, _AT_ONCE, DIRECTIONS), head).reshape(-1)
        highest += np.float32(rest) * self.rests
        return np.flatnonzero(highest >= least - _ROUNDING)
