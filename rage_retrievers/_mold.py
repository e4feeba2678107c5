"""Instances of pydantic models from values that are known to be right.

Validating again what was validated when the answer was read costs more than reading it. `model_construct` skips the
validation but goes through every field in Python; a mold copies what pydantic made once.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)

_new = object.__new__
# What `object.__setattr__` comes to in the end; looking it up again for each of them takes longer than setting it.
set_values, set_given, set_extra, set_private = (
    BaseModel.__dict__[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


class Mold(Generic[M]):
    """Makes instances like a first one, with other values for what that one was given; no two of them share a default
    that can be changed."""

    def __init__(self, first: M) -> None:
        self._kind = type(first)
        self._values = dict(first.__dict__)
        self._given = set(first.model_fields_set)
        self._changeable = [
            (name, value)
            for name, value in self._values.items()
            if isinstance(value, dict | list | set) and name not in self._given
        ]
        assert not first.__pydantic_extra__
        assert not first.__pydantic_private__

    def cast(self, values: dict[str, Any]) -> M:
        """An instance with these values, which are the caller's word, for fields that the first one was given; those
        that could be changed must be among them. Values for every field become the instance's own, uncopied."""
        made = _new(self._kind)
        if len(values) < len(self._values):
            values = self._values | values
            for name, value in self._changeable:
                values[name] = value.copy()
        set_values(made, values)
        set_given(made, self._given.copy())
        set_extra(made, None)
        set_private(made, None)
        return made
