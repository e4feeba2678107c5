"""A first look at many vectors that rules most of them out, for a part of the reading that all of them take.

Of each vector it keeps the part along a few directions, those in which the vectors differ most, and the length of the
rest. What the rests add to a cosine is at most the product of their lengths (Cauchy and Schwarz), so no row that is
ruled out could have reached the bound asked for: nothing is missed, however the directions are chosen. The directions
are looked at in groups, the foremost first, each at the rows that those before have left.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rage_retrievers._frozen import frozen
from rage_retrievers.local.embedding import Vectors

Rows = NDArray[np.int64]

_GROUPS = (16, 16, 32, 32, 32)
DIRECTIONS = sum(_GROUPS)
# BLAS would start threads for a product of more numbers than this, see `vectors`.
_AT_ONCE = 8_192
_ROWS = _AT_ONCE // min(_GROUPS)
# Looking along some directions at rows picked out takes as long as looking at this many times as many in a row.
_PICKED = 8
# So few rows are sooner read whole than looked at once more.
_FEW = 200
# Of single precision: of a sum of products, and of a length that is the root of a difference.
_ROUNDING = 1e-5
_ROUNDING_OF_SQUARES = 1e-6


@frozen
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

    def along(self, part: Vectors, rows: Rows | None) -> Vectors:
        """What the directions add to the cosines of these rows, of all for None, with a question of this part."""
        if rows is not None:
            picked: Vectors = np.vecdot(self.parts.take(rows, axis=0), part)
            return picked
        along: Vectors = np.matmul(self.parts.reshape(-1, _AT_ONCE // len(part), len(part)), part).reshape(-1)
        return along

    def lengths_left(self, rows: Rows | None) -> Vectors:
        return self.rests if rows is None else self.rests.take(rows)


@frozen
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
        return count // _ROWS * _ROWS

    def extended(self, rows: Iterable[Vectors]) -> Sketch:
        """One that knows these rows too, after those known."""
        sketch = self
        for some in rows:
            squares = np.vecdot(some, some)
            groups = tuple(group.extended(some, squares) for group in sketch.groups)
            sketch = Sketch(sketch.count + len(some), groups)
        return sketch

    def may_reach(self, question: Vectors, least: float) -> Rows:
        """The rows known whose cosine with the question could be `least` or more, in order."""
        left = float(question @ question)
        sums, rows = None, None
        for group in self.groups:
            part = question @ group.directions
            left -= float(part @ part)
            along = group.along(part, rows)
            sums = along if sums is None else np.add(sums, along, out=sums)
            highest = np.float32(np.sqrt(max(left, 0.0) + _ROUNDING_OF_SQUARES)) * group.lengths_left(rows)
            highest += sums
            kept = np.flatnonzero(highest >= least - _ROUNDING)
            if rows is not None or len(kept) <= self.count // _PICKED:
                rows, sums = kept if rows is None else rows[kept], sums[kept]
                if len(rows) <= _FEW:
                    break
        return kept if rows is None else rows
