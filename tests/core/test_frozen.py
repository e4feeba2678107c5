"""`frozen` classes are the standard library's frozen dataclasses in all that can be seen of them."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

import pytest

from rage_retrievers._frozen import frozen


@frozen
class Event:
    kind: ClassVar[str] = "event"
    call: str


@frozen
class Ended(Event):
    """An end."""

    kind: ClassVar[str] = "ended"
    count: int
    how: str = "well"
    error: Exception | None = None


@frozen
class Begun(Event):
    """An event of another kind, with the same fields."""


@frozen
class Listing:
    name: str
    found: list[int] = field(default_factory=list)
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Plain:
    call: str


@dataclass(frozen=True, slots=True)
class PlainEnded(Plain):
    count: int
    how: str = "well"
    error: Exception | None = None


def test_it_is_made_as_a_dataclass_is() -> None:
    """The same signature, by position and by name, with the same defaults."""
    assert inspect.signature(Ended) == inspect.signature(PlainEnded)
    made, plain = Ended("c", 1, error=None), PlainEnded("c", 1, error=None)
    assert asdict(made) == asdict(plain)
    assert repr(made) == repr(plain).removeprefix("Plain")
    assert (made.kind, Ended.__doc__, Ended.__init__.__qualname__) == ("ended", "An end.", "Ended.__init__")
    for wrong in ({}, {"call": "c"}, {"call": "c", "count": 1, "more": 2}):
        with pytest.raises(TypeError):
            Ended(**wrong)


def test_what_a_factory_makes_is_each_one_s_own() -> None:
    """Made when nothing is given, whatever is given is kept, and None is something."""
    made, other = Listing("a"), Listing("b")
    made.found.append(1)
    assert (made, other) == (Listing("a", [1]), Listing("b", []))
    given: Any = [2]
    assert Listing("c", given, 3).found is given
    assert Listing("d", found=None).found is None  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Listing()  # type: ignore[call-arg]
    assert replace(made, name="e").found is made.found
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("unusual", ["repr", "compare", "hash", "init", "kw_only"])
def test_a_field_that_it_could_not_do_justice_to_is_refused(unusual: str) -> None:
    """When the class is defined: a secret that is not to be shown would be."""
    options: Any = {unusual: unusual == "kw_only"}
    body = {"__annotations__": {"secret": "str"}, "secret": field(default="", **options)}
    with pytest.raises(AssertionError):
        frozen(type("Keeping", (), body))


def test_nothing_of_it_changes() -> None:
    """Neither a field nor anything beside the fields can be set or deleted."""
    made: Any = Ended("c", 1)
    with pytest.raises(FrozenInstanceError):
        made.count = 2
    with pytest.raises(FrozenInstanceError):
        del made.count
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        made.other = 1
    assert not hasattr(made, "__dict__")


def test_it_is_compared_copied_and_pickled_as_a_value() -> None:
    """Equal by its fields, and so is every copy."""
    made: Any = Ended("c", 1, "badly")
    assert made == Ended("c", 1, "badly") != Ended("c", 2, "badly")
    assert hash(made) == hash(Ended("c", 1, "badly"))
    assert Event("c") != Begun("c")
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == copy.copy(made) == made
    assert replace(made, count=3) == Ended("c", 3, "badly")
    assert [field.name for field in fields(made)] == ["call", "count", "how", "error"]


def test_what_it_does_not_know_is_refused() -> None:
    """A default that each would share, a step after the making that would be skipped, a field not given by place."""
    with pytest.raises(AssertionError):

        @frozen
        class _Late:
            count: int

            def __post_init__(self) -> None: ...

    for beside in (field(kw_only=True), field(default=1, init=False)):
        with pytest.raises(AssertionError):

            @frozen
            class _Beside:
                count: int = beside

    with pytest.raises(ValueError, match="mutable default"):

        @frozen
        class _Shared:
            counts: list[int] = []  # noqa: RUF012  # what is refused
