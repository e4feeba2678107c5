"""What counts as a number where one is asked for, and how an error shows what was given instead."""

from __future__ import annotations

import sys


def is_number(value: object) -> bool:
    """Whether it is a finite number; True and False are none, nor is what is larger than every float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_count(value: object, least: int = 1) -> bool:
    """Whether it is a whole number, and not less than `least`; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def typed(value: object) -> str:
    """What it is, where the value itself says nothing or is not to be told: `a str`, `an int`, `the class Retry`."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in _VOWELS else 'a'} {name}"


_VOWELS = frozenset("AEIOaeio")  # a class whose name begins with U begins as UUID, User, Union or Unit do


def shown(value: object, most: int = 80) -> str:
    """The value as a message shows it, of a long one its beginning."""
    try:
        text = repr(value)
    except Exception:  # a number of more than 4,300 digits, or what a class of the user's own raises
        return f"<{type(value).__name__}>"
    return text if len(text) <= most else text[: most - 1] + "…"
