"""The pipeline: policies around one attempt, outermost first, in an order written once.

Why this order: the fallback sees every failure, the deadline's included; the deadline covers waiting for a permit,
every attempt and every pause; the cache answers before a permit is spent; a full bulkhead sheds before anything is
sent; the breaker sees every attempt, and an open circuit is never retried.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from .._checks import is_count, is_number, shown, typed
from .._flow import Clock, Flow
from ..errors import ConfigurationError
from ..models import Query, Target
from ..observability.events import Event, Listener, tell

S = TypeVar("S")

ORDER = (
    "degradation",
    "deadline",
    "cache",
    "bulkhead",
    "hedge",
    "retry",
    "rate limit",
    "throttle",
    "circuit breaker",
)


class Home:
    """The state the policies of one target share, whichever client, thread or event loop the call comes from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[tuple[str, object], Any] = {}
        self._by_id: dict[int, tuple[object, Any]] = {}

    def state(self, options: Options, make: Callable[[], S]) -> S:
        """The state that belongs to these options here: the same for equal options, made on first use."""
        known = self._by_id.get(id(options))
        if known is not None:
            return known[1]  # type: ignore[no-any-return]  # stored below with the type of `make`
        with self._lock:
            key = (options.kind, options)
            if key not in self._states:
                self._states[key] = make()
            if len(self._by_id) >= 256:
                self._by_id.clear()
            # The options are kept beside their state, so their id cannot pass to another object.
            self._by_id[id(options)] = (options, self._states[key])
            return self._states[key]  # type: ignore[no-any-return]

    def states_of(self, kind: str) -> list[Any]:
        """The states that policies of this kind have here, one for each of their options."""
        return [state for (known, _), state in list(self._states.items()) if known == kind]


class Homes:
    """The home of each target. One instance serves the whole process; a test brings its own.

    A process that was forked begins afresh: the permits, probes and shared requests of its parent's other threads never
    come back there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._homes: dict[Target, Home] = {}

    def of(self, target: Target) -> Home:
        """The home of this target, made on first use."""
        home = self._homes.get(target)
        if home is not None:
            return home
        with self._lock:
            return self._homes.setdefault(target, Home())

    def known(self) -> list[tuple[Target, Home]]:
        """Every target that a call went to, and its home."""
        return list(self._homes.items())

    def forget(self) -> None:
        """Leave every home, and a lock that may be held, to the process it came from."""
        self._lock = threading.Lock()
        self._homes = {}


shared_homes = Homes()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared_homes.forget)


@dataclass(slots=True)
class Call:
    """One logical call on its way: what is asked, until when, and how many requests were sent so far."""

    operation: str
    target: Target
    clock: Clock
    home: Home
    query: Query | None = None
    credential: str = ""
    """A digest of whose answer this is, for the cache's key; never the token itself."""
    timeout: float | None = None
    """The caller's own budget in seconds; None takes the pipeline's."""
    call_id: str = ""
    listeners: tuple[Listener, ...] = ()
    started: float = 0.0
    deadline: float = float("inf")
    attempts: int = 0

    def remaining(self) -> float:
        """Seconds until the deadline; 0 or less when it has passed."""
        return self.deadline - self.clock.monotonic()

    def emit(self, kind: Callable[..., Event], *values: object) -> None:
        """Tell the listeners of an event; nothing is built when nobody listens."""
        if self.listeners:
            tell(self.listeners, kind(self.call_id, self.target, *values))


Step: TypeAlias = Callable[[Call], Flow[Any]]


class Options(Protocol):
    """Frozen options that can be compared; `kind` tells what they are for."""

    kind: ClassVar[str]


class Policy(Options, Protocol):
    """Options that can be called: run `proceed(call)`, or decide otherwise."""

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """The flow of this policy around the rest of the pipeline."""
        ...


class Pipeline:
    """An immutable set of policies, at most one of a kind, kept in the one order that is right."""

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        if not isinstance(policies, Iterable):
            raise ConfigurationError(f"A pipeline needs a list of policies, such as [Retry()], not {typed(policies)}.")
        chosen: dict[str, Policy] = {}
        for policy in policies:
            kind = _kind_of(policy)
            if kind in chosen:
                raise ConfigurationError(f"The pipeline has two policies of kind {kind!r}; keep one.")
            chosen[kind] = policy
        self.policies: tuple[Policy, ...] = tuple(chosen[kind] for kind in ORDER if kind in chosen)

    def around(self, attempt: Step) -> Step:
        """The whole pipeline around one attempt."""
        step = attempt
        for policy in reversed(self.policies):
            step = partial(_call, policy, step)
        return step

    def with_policies(self, *policies: Policy) -> Pipeline:
        """A copy in which these take the places of their kinds."""
        kinds = {_kind_of(policy) for policy in policies}
        return Pipeline([*(kept for kept in self.policies if kept.kind not in kinds), *policies])

    def without(self, *kinds: str) -> Pipeline:
        """A copy without the policies of these kinds; raises ConfigurationError for a kind that there is not."""
        for kind in kinds:
            if kind not in ORDER:
                raise ConfigurationError(f"without({shown(kind)}) leaves nothing out; kinds are {', '.join(ORDER)}.")
        return Pipeline(policy for policy in self.policies if policy.kind not in kinds)

    def get(self, kind: str) -> Policy | None:
        """The policy of this kind, or None."""
        return next((policy for policy in self.policies if policy.kind == kind), None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self.policies == other.policies

    def __hash__(self) -> int:
        return hash(self.policies)

    def __repr__(self) -> str:
        return f"Pipeline([{', '.join(map(repr, self.policies))}])"


def _kind_of(policy: object) -> str:
    if isinstance(policy, type):
        raise ConfigurationError(f"{policy.__name__} is a class; give a policy, such as {policy.__name__}().")
    kind: object = getattr(policy, "kind", None)
    if not callable(policy) or not isinstance(kind, str) or kind not in ORDER:
        raise ConfigurationError(
            f"policies holds {typed(policy)}, which is no policy known here; known are {', '.join(ORDER)}."
        )
    return kind


def _call(policy: Policy, proceed: Step, call: Call) -> Flow[Any]:
    return policy(call, proceed)


def at_least(name: str, value: float, minimum: float) -> None:
    """Raise ConfigurationError unless value is a finite number >= minimum; for the options of policies."""
    if not is_number(value) or not value >= minimum:
        raise ConfigurationError(
            f"{name}={shown(value)} cannot be used; it needs a finite number of at least {minimum}."
        )


def above(name: str, value: float, minimum: float = 0) -> None:
    """Raise ConfigurationError unless value is a finite number > minimum; for the options of policies."""
    if not is_number(value) or not value > minimum:
        raise ConfigurationError(f"{name}={shown(value)} cannot be used; it needs a finite number above {minimum}.")


def at_least_one(name: str, value: int) -> None:
    """Raise ConfigurationError unless value is a count of one or more; for the options of policies."""
    if not is_count(value):
        raise ConfigurationError(f"{name}={shown(value)} cannot be used; it is a whole number of 1 or more.")
