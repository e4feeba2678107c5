"""`with` and `async with`, for whatever can be closed."""

from __future__ import annotations

from typing import Protocol, Self


class _Closes(Protocol):
    def close(self) -> None: ...


class _ClosesInAsyncio(Protocol):
    async def aclose(self) -> None: ...


class Closing:
    """Closed at the end of its `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self: _Closes, *_: object) -> None:
        self.close()


class AsyncClosing:
    """Closed at the end of its `async with` block."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self: _ClosesInAsyncio, *_: object) -> None:
        await self.aclose()
