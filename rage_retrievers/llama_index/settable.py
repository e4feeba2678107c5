"""Options of the retriever as attributes."""

from __future__ import annotations

from typing import Any, Generic, Protocol, Self, TypeVar, overload

__all__ = ["Settable"]

T = TypeVar("T")


class Owner(Protocol):
    """What has such attributes."""

    def _option(self, name: str) -> Any: ...

    def _change(self, name: str, value: Any) -> None: ...


class Settable(Generic[T]):
    """What holds where scope and query say nothing; set, it holds for the calls to come."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owner: None, kind: type | None = None) -> Self: ...
    @overload
    def __get__(self, owner: Owner, kind: type | None = None) -> T: ...
    def __get__(self, owner: Owner | None, kind: type | None = None) -> Self | T:
        return self if owner is None else owner._option(self._name)

    def __set__(self, owner: Owner, value: T) -> None:
        owner._change(self._name, value)
