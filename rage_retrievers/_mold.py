"""Instances of other libraries' pydantic models from values that are known to be right.

Validating again what was validated when the answer was read costs more than reading it. `model_construct` skips the
validation but goes through every field in Python; a mold copies what pydantic made once.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)

_new, _set = object.__new__, object.__setattr__


class Mold(Generic[M]):
    """Makes instances like a first one, with other values; the defaults that can be changed are not shared."""

    def __init__(self, first: M) -> None:
        self._kind = type(first)
        self._values = dict(first.__dict__)
        self._given = set(first.model_fields_set)
        self._changeable = [
            (name, value) for name, value in self._values.items() if isinstance(value, dict | list | set)
        ]
        assert not first.__pydantic_extra__
        assert not first.__pydantic_private__

    def cast(self, values: dict[str, Any]) -> M:
        """An instance with these values, which are the caller's word; the rest as in the first one."""
        made = _new(self._kind)
        fields = self._values | values
        for name, value in self._changeable:
            if name not in values:
                fields[name] = value.copy()
        given = self._given.copy()
        given.update(values)
        _set(made, "__dict__", fields)
        _set(made, "__pydantic_fields_set__", given)
        _set(made, "__pydantic_extra__", None)
        _set(made, "__pydantic_private__", None)
        return made
