"""What somebody reads of an error."""

from __future__ import annotations

import traceback
from collections.abc import Callable


def shown_by(act: Callable[[], object]) -> str:
    """Everything that is printed of the error that this raises; empty where it raises none."""
    try:
        act()
    except Exception as error:
        return f"{error!r} {vars(error)} " + "".join(traceback.format_exception(error))
    return ""
