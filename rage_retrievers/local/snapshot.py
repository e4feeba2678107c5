"""A point in time of a collection, which any number of threads may search."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rage_retrievers.local.columns import Columns, Mask
from rage_retrievers.local.embedding import Vectors
from rage_retrievers.local.filters import Filter
from rage_retrievers.local.store import MissingPassageError, OtherWidthError, Passage, Store
from rage_retrievers.local.text_index import TextView
from rage_retrievers.local.vectors import VectorRows

_KEPT_MASKS = 64
_COMPACT_ABOVE = 0.3
Rows = NDArray[np.int64]


class Snapshot:
    """Rows of passages: `numbers[row]` names the passage, `documents[row]` its document, `alive[row]` whether it is."""

    def __init__(
        self, store: Store, text: TextView | None, vectors: VectorRows, rows: tuple[Rows, Rows, Mask], width: int = 0
    ) -> None:
        """`rows`: numbers, documents, alive; `width`: how many dimensions the vectors have, 0 where there is none."""
        self.text = text
        self.vectors = vectors
        self.numbers, self.documents, self.alive = rows
        self.all_alive = bool(self.alive.all())
        self.count = len(self.numbers)
        self._unbroken = self.count > 0 and int(self.numbers[-1] - self.numbers[0]) == self.count - 1
        self._store = store
        self._width = width
        self._lock = threading.Lock()
        self._columns: tuple[Rows, Columns] | None = None
        self._masks: OrderedDict[Filter, Mask] = OrderedDict()

    @classmethod
    def empty(cls, store: Store, text: TextView | None = None) -> Snapshot:
        """A collection without a passage."""
        nothing: Rows = np.zeros(0, dtype=np.int64)
        return cls(store, text, VectorRows(), (nothing, nothing, np.zeros(0, dtype=np.bool_)))

    @classmethod
    def make(cls, store: Store, text: TextView, previous: Snapshot) -> Snapshot:
        """The store's present content, reusing the rows of `previous`."""
        # Their numbers alone take as long to read as all of the vectors do.
        alive = np.isin(previous.numbers, store.numbers() if previous.count else (), assume_unique=True)
        if alive.size and 1 - alive.mean() > _COMPACT_ABOVE:
            previous = cls.empty(store, text)
            alive = previous.alive
        vectors = previous.vectors
        vectors.keep(previous.count)
        numbers, documents = [previous.numbers], [previous.documents]
        last = int(previous.numbers[-1]) if previous.count else 0
        width = previous._width
        for some, owners, rows in store.vectors_after(last):
            vectors.append(rows)
            numbers.append(some)
            documents.append(owners)
            width = rows.shape[1]
        all_numbers = np.concatenate(numbers)
        fresh = np.ones(len(all_numbers) - len(alive), dtype=np.bool_)
        parts = all_numbers, np.concatenate(documents), np.concatenate([alive, fresh])
        return cls(store, text, vectors, parts, width)

    def admitted(self, condition: Filter | None) -> Mask | None:
        """True for each row that may be shown; None when all may."""
        if condition is None:
            return None if self.all_alive else self.alive
        with self._lock:
            if condition in self._masks:
                self._masks.move_to_end(condition)
                return self._masks[condition]
            owners, columns = self._columns or self._read_columns()
            mask = self.alive.copy()
            if len(owners):
                places = np.searchsorted(owners, self.documents).clip(max=len(owners) - 1)
                mask &= columns.mask(condition)[places] & (owners[places] == self.documents)
            self._masks[condition] = mask
            if len(self._masks) > _KEPT_MASKS:
                self._masks.popitem(last=False)
            return mask

    def rows_of(self, numbers: Rows) -> Rows:
        """The row of each passage, -1 for one that is not in this snapshot."""
        if not self.count:
            return np.full(len(numbers), -1, dtype=np.int64)
        places = numbers - self.numbers[0] if self._unbroken else np.searchsorted(self.numbers, numbers)
        places = np.minimum(np.maximum(places, 0), self.count - 1)
        found = (self.numbers[places] == numbers) & self.alive[places]
        return np.where(found, places, -1)

    def check_width(self, given: int) -> None:
        """Raise `OtherWidthError` for a question whose vector cannot be compared with those that are here."""
        if given != self._width and self._width:
            raise OtherWidthError(self._width, given)

    def near(self, question: Vectors, admitted: Mask | None, most: int, least: float) -> tuple[Rows, Vectors]:
        """(rows, cosines) of the admitted rows whose cosine is `least` or more; the best `most` where more are."""
        return self.vectors.near(question, self.count, most, least=least, among=admitted)

    def passages(self, numbers: Sequence[int]) -> dict[int, Passage]:
        """The passages of these numbers; raises `MissingPassageError` when one is gone since the snapshot was made."""
        found = self._store.passages(numbers)
        if not found.keys() >= set(numbers):
            raise MissingPassageError("a passage is gone")
        return found

    def _read_columns(self) -> tuple[Rows, Columns]:
        described = list(self._store.described())
        owners = np.asarray([d for d, *_ in described], dtype=np.int64)
        self._columns = owners, Columns((fields, facts, metadata) for _, fields, facts, metadata in described)
        return self._columns
