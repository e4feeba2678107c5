"""Cache: an answer is kept for a while, and calls that ask the same at the same time share one request. Opt-in."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

from .._flow import Clock, Flow, Wait
from ..errors import ConfigurationError, DeadlineExceededError, RageError
from ..models import Retrieval
from ..observability.events import CacheHit
from .failures import is_outage
from .pipeline import Call, Step, above, at_least, at_least_one

if TYPE_CHECKING:
    from cachetools import TTLCache


class Kept(NamedTuple):
    """An answer, and the instant it came."""

    at: float
    retrieval: Retrieval


class Failed(NamedTuple):
    """How the shared request failed."""

    error: Exception


Outcome: TypeAlias = Kept | Failed | None
"""None: whoever made the request gave up; another has to."""


class Lead(NamedTuple):
    """This call makes the request that others may wait for."""

    flight: Future[Outcome]


class Follow(NamedTuple):
    """Another call is making the request."""

    flight: Future[Outcome]


class Answers:
    """The answers kept for one pipeline, and the requests under way. Every method decides under a lock."""

    def __init__(self, options: Cache, clock: Clock) -> None:
        from cachetools import TTLCache

        # Entered again where the garbage collector, amid `look`, ends the flow of a call that was thrown away.
        self._lock = threading.RLock()
        self._fresh_for = options.ttl
        self._clock = clock
        self._kept: TTLCache[bytes, Kept] = TTLCache(
            options.max_entries, options.ttl + options.stale_for, timer=clock.monotonic
        )
        self._flights: dict[bytes, Future[Outcome]] = {}

    def look(self, key: bytes) -> Kept | Lead | Follow:
        """A fresh answer, or the part this call has in getting one."""
        with self._lock:
            kept: Kept | None = self._kept.get(key)
            if kept is not None and self._clock.monotonic() - kept.at < self._fresh_for:
                return kept
            flight = self._flights.get(key)
            if flight is not None:
                return Follow(flight)
            self._flights[key] = flight = Future()
            return Lead(flight)

    def kept(self, key: bytes) -> Kept | None:
        """Whatever is kept, fresh or stale."""
        with self._lock:
            found: Kept | None = self._kept.get(key)
            return found

    def land(self, key: bytes, flight: Future[Outcome], outcome: Outcome) -> None:
        """The request ended: keep its answer and wake those who wait."""
        with self._lock:
            if isinstance(outcome, Kept):
                self._kept[key] = outcome
            del self._flights[key]
        flight.set_result(outcome)


@dataclass(frozen=True, slots=True)
class Cache:
    """Answers retrievals from memory for `ttl` seconds; at most `max_entries`, the least recently used goes first.

    An answer is found again by everything that shapes it: target, operation, the whole query but its timeout, and whose
    credential asks; with an unknown credential nothing is cached. Calls that ask the same at the same time share one
    request: its failure is everyone's, each keeps its own deadline, and when the caller that made it is cancelled or
    runs out of time, another takes over.

    For `stale_for` seconds after its time an answer is served while the service is out of reach, never after a 4xx such
    as a withdrawn token; `Retrieval.stale` and the `CacheHit` event say so. A hit is a copy: changing it changes no
    other. Needs the extra `cache`. Defaults: 60 s, 1,024 answers for each pipeline, nothing stale.
    """

    kind: ClassVar[str] = "cache"
    ttl: float = 60.0
    max_entries: int = 1024
    stale_for: float = 0.0

    def __post_init__(self) -> None:
        above("ttl", self.ttl)
        at_least_one("max_entries", self.max_entries)
        at_least("stale_for", self.stale_for, 0)
        try:
            import cachetools  # noqa: F401 - fails here, where the policy is chosen, not at the first call
        except ImportError:
            raise ConfigurationError("Cache needs cachetools; install rage-retrievers[cache].") from None

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Answer from memory, from a request under way, or by a request that others may share."""
        key = _key(call)
        return proceed(call) if key is None else self._through(call, proceed, key)

    def _through(self, call: Call, proceed: Step, key: bytes) -> Flow[Any]:
        answers = self._answers(call)
        outcome: Outcome = None
        while outcome is None:
            match answers.look(key):
                case Kept() as kept:
                    return self._hit(call, kept)
                case Lead(flight):
                    return (yield from self._lead(call, proceed, answers, key, flight))
                case Follow(flight):
                    outcome = yield from _follow(call, flight)
        if isinstance(outcome, Kept):
            return self._hit(call, outcome)
        return self._stale_or(call, answers, key, outcome.error)

    def _lead(self, call: Call, proceed: Step, answers: Answers, key: bytes, flight: Future[Outcome]) -> Flow[Any]:
        try:
            answer = yield from proceed(call)
            kept = Kept(call.clock.monotonic(), answer.model_copy(deep=True))
        except Exception as error:
            # The leader's time being up, in flight or in a line, says nothing of the followers'.
            mine_alone = isinstance(error, DeadlineExceededError) or call.remaining() <= 0
            answers.land(key, flight, None if mine_alone else Failed(error))
            stale = self._stale(call, answers, key, error)
            if stale is None:
                raise
            return stale
        except BaseException:  # cancelled: a follower takes over
            answers.land(key, flight, None)
            raise
        answers.land(key, flight, kept)
        return answer

    def _stale_or(self, call: Call, answers: Answers, key: bytes, error: Exception) -> Retrieval:
        stale = self._stale(call, answers, key, error)
        if stale is not None:
            return stale
        if isinstance(error, RageError):
            # An exception collects the traceback of everyone who raises it, so each raises its own.
            raise copy.copy(error) from error
        raise error

    def _stale(self, call: Call, answers: Answers, key: bytes, error: Exception) -> Retrieval | None:
        kept = answers.kept(key) if self.stale_for and is_outage(error) else None
        return None if kept is None else self._hit(call, kept)

    def _hit(self, call: Call, kept: Kept) -> Retrieval:
        age = call.clock.monotonic() - kept.at
        stale = age >= self.ttl
        call.emit(CacheHit, age, stale)
        copied: Retrieval = kept.retrieval.model_copy(deep=True)
        return copied.with_facts(attempts=0, stale=stale)

    def kept(self, call: Call) -> Retrieval | None:
        """The answer kept for this call, marked stale when it is; None when there is none."""
        key = _key(call)
        kept = None if key is None else self._answers(call).kept(key)
        return None if kept is None else self._hit(call, kept)

    def _answers(self, call: Call) -> Answers:
        return call.home.state(self, partial(Answers, self, call.clock))


def _follow(call: Call, flight: Future[Outcome]) -> Flow[Outcome]:
    """Wait for another call's request, no longer than this call's own deadline."""
    try:
        outcome: Outcome = yield Wait(flight, max(0.0, call.remaining()))
    except TimeoutError:
        raise DeadlineExceededError(
            "The time of the call was spent waiting for an identical request under way; raise timeout= if it needs "
            "longer."
        ) from None
    return outcome


def _key(call: Call) -> bytes | None:
    """A digest of everything that shapes the answer; None when it cannot be told whose or which answer it is."""
    if call.query is None or not call.credential:
        return None
    asked = [*call.target, call.operation, call.credential, call.query.model_dump(exclude={"timeout"})]
    try:
        text = json.dumps(asked)
    except (TypeError, ValueError, RecursionError):  # the attempt says what is wrong with it
        return None
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
