"""Flows: programs that ask for their I/O, so that each policy is written once for blocking and async code.

A flow is a generator. It yields an `Effect`, a request to the world; the world performs it, and the answer, or the
exception, comes back at the `yield`. `drive` runs a flow in blocking code, `adrive` in async code.

What keeps this sound: a flow catches `Exception`, never `BaseException`; it has no `yield` in a `finally`; it holds no
lock across a `yield`; time and randomness come from the world on the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from ._frozen import frozen

T = TypeVar("T")
E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)
Headers: TypeAlias = tuple[tuple[str, str], ...]


@frozen
class WireRequest:
    """One HTTP request as plain data. `headers` holds the credential, so it is kept out of the repr."""

    method: str
    url: str
    headers: Headers
    body: bytes
    repeatable: bool = True
    """Whether sending it twice does what sending it once does, so that a connection found dead may be replaced."""

    def with_headers(self, headers: Headers) -> WireRequest:
        """The same request with these headers as well."""
        return WireRequest(self.method, self.url, self.headers + headers, self.body, self.repeatable)

    def __repr__(self) -> str:
        return f"WireRequest({self.method} {self.url.partition('?')[0]}, {len(self.body)} bytes)"


@frozen
class WireResponse:
    """One whole HTTP answer as plain data. Header names are in lower case; the body is decompressed."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Send:
    """Perform one request within `timeout` seconds and read at most `max_bytes` of body.

    Answer: a `WireResponse`, whatever its status. Raises ConnectionFailedError, DeadlineExceededError,
    ResponseTooLargeError or InvalidResponseError, and nothing else.
    """

    request: WireRequest
    timeout: float
    max_bytes: int


@frozen
class Sleep:
    """Wait for `seconds`."""

    seconds: float


class Promise(Protocol):
    """What another call will keep: a `concurrent.futures.Future`, or a lighter thing that is used like one.

    One kind serves both worlds, so a permit may go from a thread to a task.
    """

    def add_done_callback(self, told: Callable[[Any], object], /) -> None:
        """Call `told` with this once it is kept, in whichever thread keeps it; at once where it is already."""
        ...

    def result(self, timeout: float | None = None, /) -> Any:
        """Wait in blocking code for what was promised; TimeoutError after `timeout` seconds."""
        ...


@frozen
class Wait:
    """Wait at most `timeout` seconds for what another call has promised; raises TimeoutError after that."""

    promise: Promise
    timeout: float


class LateError(Exception):
    """The user's own function took longer than it was given."""


@frozen
class Ask:
    """Call the user's own function, which may be sync or async, and answer what it returns.

    With `timeout`, in seconds, it raises LateError after that: a sync function goes on in a thread of its own, an async
    one is cancelled.
    """

    call: Callable[[], Any] | None = None
    acall: Callable[[], Awaitable[Any]] | None = None
    timeout: float | None = None


@frozen
class Race:
    """Run `first`; if it is not done after `delay` seconds, start what `second` gives, and answer whichever wins.

    `second` may decline (None) when the delay has passed. The loser is cancelled. If one fails the other decides; if
    both fail, the first one's error is raised. Answer: (index of the winner, its value).
    """

    first: Flow[Any]
    second: Callable[[], Flow[Any] | None]
    delay: float


Effect: TypeAlias = Send | Sleep | Wait | Ask | Race
Flow: TypeAlias = Generator[Effect, Any, T]


class Clock(Protocol):
    """Where a flow gets time and chance from."""

    def monotonic(self) -> float:
        """Seconds that never go back; for durations and deadlines."""
        ...

    def time(self) -> float:
        """Seconds since the epoch; only to read dates the service sent."""
        ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class Performs(Protocol[E_contra]):
    """Performs effects of one kind in blocking code."""

    def perform(self, effect: E_contra, /) -> Any:
        """Perform the effect; return its answer or raise its exception."""
        ...


class AsyncPerforms(Protocol[E_contra]):
    """Performs effects of one kind in async code."""

    def perform(self, effect: E_contra, /) -> Coroutine[Any, Any, Any]:
        """Perform the effect once awaited: its answer, or its exception. No coroutine of its own need stand between."""
        ...


class World(Clock, Performs[Effect], Protocol):
    """Performs a policy's effects in blocking code."""


class AsyncWorld(Clock, AsyncPerforms[Effect], Protocol):
    """Performs a policy's effects in async code."""


def drive(flow: Generator[E, Any, T], world: Performs[E]) -> T:
    """Run a flow to its end in blocking code."""
    answer: Any = None
    problem: BaseException | None = None
    try:
        effect = next(flow)
        while True:
            try:
                answer, problem = world.perform(effect), None
            except BaseException as error:
                problem = error
            # Outside of the handler: an error that the flow raises instead does not drag this one along as its context.
            effect = flow.send(answer) if problem is None else flow.throw(problem)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # a generator's return value is typed Any here
    finally:
        # A failure's traceback holds this frame, and would hold a body of many MiB with it.
        answer = problem = None


async def adrive(flow: Generator[E, Any, T], world: AsyncPerforms[E]) -> T:
    """Run a flow to its end in async code."""
    answer: Any = None
    problem: BaseException | None = None
    try:
        effect = next(flow)
        while True:
            try:
                answer, problem = await world.perform(effect), None
            except BaseException as error:
                problem = error
            effect = flow.send(answer) if problem is None else flow.throw(problem)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # a generator's return value is typed Any here
    finally:
        answer = problem = None


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def as_ask(function: Any, *arguments: Any) -> Ask:
    """The effect of calling a function of the user's, sync or async, with these arguments."""
    if is_async(function):

        def acall() -> Awaitable[Any]:
            return function(*arguments)  # type: ignore[no-any-return]

        return Ask(acall=acall)
    return Ask(call=lambda: function(*arguments))


def immediate(value: T) -> Flow[T]:
    """A flow that is done at once."""
    return value
    yield Sleep(0)  # type: ignore[unreachable]  # makes this function a generator


__all__: Sequence[str] = [
    "Ask",
    "AsyncPerforms",
    "AsyncWorld",
    "Clock",
    "Effect",
    "Flow",
    "Headers",
    "LateError",
    "Performs",
    "Promise",
    "Race",
    "Send",
    "Sleep",
    "Wait",
    "WireRequest",
    "WireResponse",
    "World",
    "adrive",
    "as_ask",
    "drive",
    "immediate",
    "is_async",
]
