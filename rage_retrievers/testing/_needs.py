"""How what the fakes are made of is refused, where it is written and not where a server plays it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .._checks import is_count, is_number, shown
from .._flow import is_async
from ..errors import ConfigurationError

SECONDS = "a number of seconds of 0 or more"
COUNT = "a whole number of 0 or more"
OUTCOME = "a Reply, or a status, such as 503"
FAULT = "a Fault, such as status(503) or answer()"


def need(fits: bool, what: str, value: object, remedy: str) -> None:
    """Raise ConfigurationError unless it fits."""
    if not fits:
        raise ConfigurationError(f"{what} = {shown(value)} cannot be used; give {remedy}.")


def is_seconds(value: object) -> bool:
    """Whether something can take so long."""
    return is_number(value) and value >= 0  # type: ignore[operator]  # it is a number


def is_plain(value: object) -> bool:
    """Whether it is a function that can be called, and nobody needs to await."""
    return callable(value) and not isinstance(value, type) and not is_async(value)


def need_script(what: str, script: Any, kind: Any, fault: str = FAULT) -> None:
    """Raise ConfigurationError for what is neither a fault of this kind, nor some of them, nor a function."""
    if isinstance(script, Sequence) and not isinstance(script, str | bytes):
        need(len(script) > 0, what, script, f"at least one of what it needs: {fault}")
        for one in script:
            need(isinstance(one, kind), f"{what} holds what", one, fault)
    else:
        need(isinstance(script, kind) or is_plain(script), what, script, f"{fault}, a list of them, or a function")


def need_reply(reply: Any) -> None:
    """Raise ConfigurationError for what a scripted service could not answer."""
    need(is_count(reply.status, 0), "Reply's status", reply.status, "a status, such as 503")
    need(isinstance(reply.body, bytes), "Reply's body", reply.body, "bytes")
    need(isinstance(reply.headers, Mapping), "Reply's headers", reply.headers, "a mapping from name to value")
    need(is_seconds(reply.after) or reply.after == math.inf, "Reply's after", reply.after, f"{SECONDS}, or math.inf")
    need(isinstance(reply.error, Exception | None), "Reply's error", reply.error, "an exception")


def need_world(script: object, then: object, kind: Any, random: object, seed: object) -> None:
    """Raise ConfigurationError for what a virtual world could not play; what a generator gives is looked at later."""
    need(callable(script) or isinstance(script, Iterable), "The world's script", script, "a list of outcomes")
    for one in (*script, then) if isinstance(script, Sequence) else (then,):
        need(isinstance(one, kind), "An outcome of the world", one, OUTCOME)
    need(random is None or is_plain(random), "The world's random", random, "a function that gives 0.0 to 1.0")
    need(is_number(seed), "The world's seed", seed, "a number")


def given_by(script: Callable[[Any], Any], kind: Any, fault: str = FAULT) -> Callable[[Any], Any]:
    """The script, whose every outcome is looked at when it is given: it cannot be known before."""

    def checked(asked: Any) -> Any:
        outcome = script(asked)
        need(isinstance(outcome, kind), "What the script gave", outcome, fault)
        return outcome

    return checked
