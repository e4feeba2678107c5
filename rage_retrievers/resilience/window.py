"""Outcomes of the last so many seconds, in ten buckets."""

from __future__ import annotations

_BUCKETS = 10


class Window:
    """Good and bad outcomes of the last `seconds`; the oldest tenth falls out as a whole. Its user holds a lock."""

    __slots__ = ("_bad", "_good", "_slots", "_width")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _BUCKETS
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._slots = [-1] * _BUCKETS
        self._good = [0] * _BUCKETS
        self._bad = [0] * _BUCKETS

    def add(self, now: float, *, bad: bool) -> None:
        """Count one outcome."""
        slot = int(now / self._width)
        index = slot % _BUCKETS
        if self._slots[index] != slot:
            self._slots[index] = slot
            self._good[index] = self._bad[index] = 0
        if bad:
            self._bad[index] += 1
        else:
            self._good[index] += 1

    def totals(self, now: float) -> tuple[int, int]:
        """(good, bad) in the window that ends now."""
        oldest = int(now / self._width) - _BUCKETS
        live = [index for index, slot in enumerate(self._slots) if slot > oldest]
        return sum(self._good[index] for index in live), sum(self._bad[index] for index in live)
