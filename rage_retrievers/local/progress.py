"""What a caller may be told while documents are read and indexed."""

from __future__ import annotations

from collections.abc import Callable

from rage_retrievers._frozen import frozen


@frozen
class Progress:
    """`done` of `total` documents in this `stage`; `path` is the document just finished."""

    stage: str
    """`read` while documents are read and embedded, `index` while the text index is written."""
    done: int
    total: int
    path: str = ""


Listener = Callable[[Progress], None]


def unheard(_: Progress) -> None:
    """The listener of a caller who did not give one."""
