"""A token bucket that calls fill and extra requests empty, so that extra load stays a share of the calls."""

from __future__ import annotations

import threading

# Sums of 0.1 fall short of whole numbers by rounding alone.
_WHOLE = 1.0 - 1e-9


class Bucket:
    """A call puts `ratio` tokens in, up to `capacity`; an extra request takes one. Safe to use from every thread."""

    __slots__ = ("_capacity", "_lock", "_ratio", "tokens")

    def __init__(self, ratio: float, capacity: float, tokens: float) -> None:
        self._ratio = ratio
        self._capacity = capacity
        self._lock = threading.Lock()
        self.tokens = tokens

    def put(self) -> None:
        """A call was made."""
        if self.tokens < self._capacity:
            with self._lock:
                self.tokens = min(self._capacity, self.tokens + self._ratio)

    def take(self) -> bool:
        """Whether one extra request may be made; it is then counted."""
        with self._lock:
            if self.tokens < _WHOLE:
                return False
            self.tokens -= 1.0
            return True
