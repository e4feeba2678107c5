"""What counts as a number where one is asked for, and how an error shows what was given instead."""

from __future__ import annotations

import sys


def is_number(value: object) -> bool:
    """Whether it is a finite number; True and False are none, nor is what is larger than every float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def shown(value: object, most: int = 80) -> str:
    """The value as a message shows it, of a long one its beginning."""
    try:
        text = repr(value)
    except Exception:  # a number of more than 4,300 digits, or what a class of the user's own raises
        return f"<{type(value).__name__}>"
    return text if len(text) <= most else text[: most - 1] + "…"
