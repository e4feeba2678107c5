"""Frozen dataclasses whose instances cost a third as much to make, for those that every call makes.

The standard library's set each field by its name, through `object.__setattr__`; these use the slots' own setters. All
else is the standard library's.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """`dataclass(frozen=True, slots=True)`, for classes whose fields have plain defaults and no `__post_init__`."""
    made: Any = dataclass(frozen=True, slots=True)(cls)
    of_init = [field for field in fields(made) if field.init]
    assert len(of_init) == len(fields(made))
    assert not any(field.kw_only or field.default_factory is not MISSING for field in of_init)
    assert not hasattr(made, "__post_init__")
    scope: dict[str, Any] = {f"set_{field.name}": getattr(made, field.name).__set__ for field in of_init}
    scope |= {f"default_{field.name}": field.default for field in of_init}
    given = ", ".join(
        field.name if field.default is MISSING else f"{field.name}=default_{field.name}" for field in of_init
    )
    lines = (f"    set_{field.name}(self, {field.name})\n" for field in of_init)
    exec(f"def __init__(self, {given}):\n{''.join(lines)}", scope)  # noqa: S102  # as dataclasses does; names alone go in
    init = scope["__init__"]
    init.__qualname__, init.__module__ = f"{made.__qualname__}.__init__", made.__module__
    init.__annotations__ = made.__init__.__annotations__
    made.__init__ = init
    return made  # type: ignore[no-any-return]  # the class that came in, rewritten
