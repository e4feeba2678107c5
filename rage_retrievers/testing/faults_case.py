"""One fault with the outcome it must have."""

from __future__ import annotations

from dataclasses import dataclass

from .. import errors
from ._needs import need, need_script
from .faults import Fault, Script, Step

ANSWER = "answer"
LOST = "ConnectionFailedError"


@dataclass(frozen=True, slots=True)
class FaultCase:
    """A script and what one request that meets it must come to; the fault repeats, so retries do not change that.

    `outcome` is "answer" or the name of a class of `rage_retrievers.errors`, or several of them where HTTP leaves the
    choice to the client. `transient` is the error's; None where it depends on the class, or where there is no error.
    """

    name: str
    script: Script
    outcome: str | tuple[str, ...]
    transient: bool | None = None

    def __post_init__(self) -> None:
        need(isinstance(self.name, str) and bool(self.name), "FaultCase's name", self.name, "a text")
        need_script("FaultCase's script", self.script, Fault)
        named = self.outcome if isinstance(self.outcome, tuple) and self.outcome else (self.outcome,)
        for one in named:
            known = one == ANSWER or one in errors.__all__
            need(known, "FaultCase's outcome", one, 'the name of an error, such as "ServerError", or "answer"')
        need(isinstance(self.transient, bool | None), "FaultCase's transient", self.transient, "True, False or None")

    @property
    def group(self) -> str:
        """The kind of fault: the first part of the name."""
        return self.name.partition("/")[0]

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Every outcome that is right."""
        return (self.outcome,) if isinstance(self.outcome, str) else self.outcome

    @property
    def lasts(self) -> bool:
        """Whether only a deadline ends a request that meets this fault."""
        return self.outcome == "DeadlineExceededError"

    def allows(self, error: BaseException | None) -> bool:
        """Whether this is the right outcome: None stands for the right answer."""
        if error is None:
            return ANSWER in self.outcomes
        known = type(error).__name__ in self.outcomes and type(error).__module__ == "rage_retrievers.errors"
        return known and self.transient in (None, getattr(error, "transient", None))


def case(
    name: str, *steps: Step, outcome: str | tuple[str, ...], transient: bool = False, on_accept: bool = False
) -> FaultCase:
    """A case of one fault. A lost connection is transient, several outcomes leave it open."""
    fault = Fault(steps, on_accept=on_accept)
    if isinstance(outcome, tuple) or outcome == ANSWER:
        return FaultCase(name, fault, outcome)
    return FaultCase(name, fault, outcome, transient or outcome == LOST)
