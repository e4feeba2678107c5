"""Deadline: one budget for the whole call. Waiting, attempts, pauses and the body share it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .._flow import Flow
from .pipeline import Call, Step, above


@dataclass(frozen=True, slots=True)
class Deadline:
    """The call ends within `timeout` seconds, with an answer or with an error.

    A `timeout` given to the call itself takes the place of this one. The deadline only sets the instant; whoever waits
    (an attempt, a pause, a queue) waits no longer than what is left. Default: 10 s.
    """

    kind: ClassVar[str] = "deadline"
    timeout: float = 10.0

    def __post_init__(self) -> None:
        above("timeout", self.timeout)

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Set the instant by which the call must end."""
        timeout = self.timeout if call.timeout is None else call.timeout
        call.deadline = call.started + timeout
        return proceed(call)
