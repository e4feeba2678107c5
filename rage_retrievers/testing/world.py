"""Virtual time: try a pipeline against a scripted service in microseconds, with no network, no thread and no sleep.

    world = VirtualWorld([503, Reply(after=0.2)], random=lambda: 0.5)
    answer = drive(world.call(Pipeline([Retry()])), world)
    assert world.trace == ["send", 0.1, "send"]
    assert world.now == pytest.approx(0.3)

The clock moves only when every flow waits; then it jumps to the next thing that happens, so a run is the same every
time. `VirtualWorld` serves blocking code, `AsyncVirtualWorld` async code; both write the same trace. `gather` runs many
flows at once. Random numbers are seeded.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random as chance
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, assert_never

from .._endpoint import read_retrieval
from .._flow import Ask, Effect, Flow, Promise, Race, Send, Sleep, Wait, WireRequest, WireResponse
from .._world import run_apart
from ..errors import ConnectionFailedError, DeadlineExceededError, ResponseTooLargeError
from ..models import Query, Retrieval, Target
from ..observability.events import Listener
from ..resilience.pipeline import Call, Home, Pipeline, Step
from ._needs import OUTCOME, SECONDS, given_by, is_seconds, need, need_reply, need_world

T = TypeVar("T")

MAX_BYTES = 16 * 2**20
TARGET = Target("https://virtual.invalid/v1", "organization", "pipeline")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the scripted service does with one request: it answers, or fails with `error`, `after` seconds."""

    status: int = 200
    body: bytes = b'{"documents":[]}'
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    error: Exception | None = None

    def __post_init__(self) -> None:
        need_reply(self)


SILENCE = Reply(after=math.inf)
"""The service never answers."""
REFUSED = Reply(error=ConnectionFailedError("The connection was refused."))
"""Nobody listens."""

Outcome: TypeAlias = Reply | int
Script: TypeAlias = Iterable[Outcome] | Callable[[WireRequest], Outcome]


class Running(Generic[T]):
    """A flow under way in virtual time, or its end."""

    def __init__(self, world: _VirtualTime, flow: Flow[T]) -> None:
        self._world = world
        self._flow = flow
        self._step = 0
        self._value: Any = None
        self._children: Sequence[Running[Any]] = ()
        self._watchers: list[Callable[[], None]] = []
        self.done = False
        self.error: BaseException | None = None
        """What the flow ended with, once it is done: asyncio.CancelledError when it was cancelled."""

    def result(self) -> T:
        """What the flow returned; raises what it raised."""
        if not self.done:
            raise RuntimeError("The flow has not ended yet.")
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[no-any-return]  # StopIteration.value is typed Any

    def cancel(self) -> None:
        """Cancel the flow at this instant, as a task is cancelled; nothing if it has ended."""
        self._world.at(self._world.now, self._cancel)

    def _cancel(self) -> None:
        self._resume(self._step, error=asyncio.CancelledError())

    def _resume(self, step: int, value: Any = None, error: BaseException | None = None) -> None:
        """Go on after the effect of this step; nothing if that effect ended in another way before."""
        if self.done or step != self._step:
            return
        self._step += 1
        children, self._children = self._children, ()
        for child in children:
            child._cancel()
        try:
            effect = self._flow.send(value) if error is None else self._flow.throw(error)
        except StopIteration as stop:
            self._end(stop.value, None)
        except (Exception, asyncio.CancelledError) as raised:
            self._end(None, raised)
        else:
            self._world._begin(self, effect)

    def _end(self, value: Any, error: BaseException | None) -> None:
        self.done, self._value, self.error = True, value, error
        for watcher in self._watchers:
            watcher()


class _VirtualTime:
    """The clock, the scripted service and the order of events, shared by both worlds."""

    def __init__(
        self, script: Script = (), *, then: Outcome = 200, random: Callable[[], float] | None = None, seed: int = 0
    ) -> None:
        """`script` gives the outcome of each request in turn; once it is used up, every further one gets `then`."""
        need_world(script, then, Reply | int, random, seed)
        self.now = 0.0
        """Seconds since the world began."""
        self.trace: list[str | float] = []
        """What the flows asked for, in order: "send", "wait", "ask", "race", and the seconds of each pause."""
        self.sent: list[float] = []
        """The instant of each request."""
        self.home = Home()
        """What the policies share between the calls of this world."""
        self.random = random or chance.Random(seed).random  # noqa: S311 - repeatable, not secret
        self._outcome = given_by(script if callable(script) else _in_turn(script, then), Reply | int, OUTCOME)
        self._events: list[tuple[float, int, Callable[[], object], Running[Any] | None, int]] = []
        self._number = itertools.count()

    def monotonic(self) -> float:
        """Seconds since the world began."""
        return self.now

    def time(self) -> float:
        """Seconds since the epoch; the world begins at 1,000,000,000."""
        return 1e9 + self.now

    def call(
        self,
        pipeline: Pipeline,
        question: str = "What?",
        *,
        timeout: float | None = None,
        credential: str = "somebody",
        home: Home | None = None,
        listeners: tuple[Listener, ...] = (),
        attempt: Step | None = None,
    ) -> Flow[Retrieval]:
        """The flow of one retrieval through the pipeline, whose attempt sends one request to the scripted service."""
        need(isinstance(pipeline, Pipeline), "call's pipeline", pipeline, "a Pipeline, such as Pipeline([Retry()])")
        need(timeout is None or is_seconds(timeout), "call's timeout", timeout, SECONDS)
        call = Call(
            "retrieve",
            TARGET,
            self,
            self.home if home is None else home,
            query=Query.make({"question": question}),
            credential=credential,
            timeout=timeout,
            listeners=listeners,
            started=self.now,
        )
        retrieval: Retrieval = yield from pipeline.around(attempt or send_once)(call)
        return retrieval

    def start(self, flow: Flow[T]) -> Running[T]:
        """Let a flow run beside the others, from this instant on."""
        running = Running(self, flow)
        self._after(0, running, 0, partial(running._resume, 0))
        return running

    def at(self, instant: float, act: Callable[[], object]) -> None:
        """Do something when the clock shows `instant`: cancel a flow, change the script."""
        self._push(instant, act, None, 0)

    def _after(self, seconds: float, running: Running[Any], step: int, act: Callable[[], object]) -> None:
        """Do something later, unless the flow has gone on from this step by then."""
        self._push(self.now + seconds, act, running, step)

    def _push(self, instant: float, act: Callable[[], object], running: Running[Any] | None, step: int) -> None:
        if instant < math.inf:
            heapq.heappush(self._events, (max(instant, self.now), next(self._number), act, running, step))

    def gather(self, flows: Iterable[Flow[T]]) -> list[T | BaseException]:
        """Run flows side by side to their ends; what each returned or raised, in the order given."""
        running = [self.start(flow) for flow in flows]
        for one in running:
            self._run_until_done(one)
        return [one.result() if one.error is None else one.error for one in running]

    def finish(self, running: Running[T]) -> T:
        """Let time pass until this flow has ended; what it returned or raised."""
        self._run_until_done(running)
        return running.result()

    def _run_until_done(self, running: Running[Any]) -> None:
        while not running.done:
            if not self._advance():
                raise RuntimeError(_STUCK)

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, with everything that happens meanwhile."""
        need(is_seconds(seconds), "pass_time's seconds", seconds, SECONDS)
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self._advance()
        self.now = until

    def _advance(self) -> bool:
        """Jump to the next event and let it happen; False when there is none."""
        while self._events:
            instant, _, act, running, step = heapq.heappop(self._events)
            if running is None or (running._step == step and not running.done):
                self.now = instant
                act()
                return True
        return False

    def _begin(self, running: Running[Any], effect: Effect) -> None:
        step = running._step

        def resume_after(seconds: float, value: Any = None, error: BaseException | None = None) -> None:
            self._after(seconds, running, step, partial(running._resume, step, value, error))

        match effect:
            case Send():
                resume_after(*self._send(effect))
            case Sleep(seconds):
                self.trace.append(seconds)
                resume_after(seconds)
            case Wait(promise, timeout):
                self.trace.append("wait")
                resume_after(timeout, error=TimeoutError())
                promise.add_done_callback(lambda done: resume_after(0, *_end_of(done)))
            case Ask():
                self.trace.append("ask")
                resume_after(0, *_ask(effect))
            case Race():
                self.trace.append("race")
                self._race(running, step, effect)
            case _:
                assert_never(effect)

    def _send(self, send: Send) -> tuple[float, WireResponse | None, Exception | None]:
        """Seconds until the request ends, and how: with a response or an error."""
        self.trace.append("send")
        self.sent.append(self.now)
        outcome = self._outcome(send.request)
        reply = Reply(status=outcome) if isinstance(outcome, int) else outcome
        if reply.after > send.timeout:
            return send.timeout, None, DeadlineExceededError("No whole answer within the time of the call.")
        if reply.error is not None:
            return reply.after, None, reply.error
        if len(reply.body) > send.max_bytes:
            return reply.after, None, ResponseTooLargeError(f"The answer has more than {send.max_bytes} bytes.")
        return reply.after, WireResponse(reply.status, dict(reply.headers), reply.body), None

    def _race(self, running: Running[Any], step: int, race: Race) -> None:
        runners = [self.start(race.first)]
        running._children = runners

        def ended() -> None:
            for index, runner in enumerate(runners):
                if runner.done and runner.error is None:
                    return running._resume(step, (index, runner.result()))
            if all(runner.done for runner in runners):
                return running._resume(step, error=runners[0].error)
            return None

        def hedge() -> None:
            try:
                second = race.second()
            except Exception as error:  # it fails at the race's yield, as in the real worlds
                running._resume(step, error=error)
                return
            if second is not None:
                runners.append(self.start(second))
                runners[1]._watchers.append(ended)

        runners[0]._watchers.append(ended)
        self._after(race.delay, running, step, hedge)


class VirtualWorld(_VirtualTime):
    """Performs effects for blocking code in virtual time."""

    def perform(self, effect: Effect) -> Any:
        """Perform the effect; every other flow under way goes on meanwhile."""
        if type(effect) is Send and not self._events:  # nothing else can happen before the answer
            delay, value, error = self._send(effect)
            if delay == math.inf:
                raise RuntimeError(_STUCK)
            self.now += delay
            if error is not None:
                raise error
            return value
        return self.finish(self.start(_only(effect)))


class AsyncVirtualWorld(_VirtualTime):
    """Performs effects for tasks in virtual time, which moves once no task of the loop can run any more.

    A task that waits for something outside this world, such as a socket, does not hold the clock.
    """

    _turning: asyncio.AbstractEventLoop | None = None
    _patience = 100

    async def perform(self, effect: Effect) -> Any:
        """Perform the effect while the other tasks and flows go on."""
        if isinstance(effect, Ask):
            self.trace.append("ask")
            return await effect.acall() if effect.acall is not None else _ask_sync(effect)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        running = self.start(_only(effect))
        running._watchers.append(lambda: None if ended.done() else ended.set_result(None))
        self._turn_soon(loop)
        try:
            await ended
        except asyncio.CancelledError:
            running._cancel()
            raise
        return running.result()

    def _push(self, instant: float, act: Callable[[], object], running: Running[Any] | None, step: int) -> None:
        super()._push(instant, act, running, step)
        try:
            self._turn_soon(asyncio.get_running_loop())
        except RuntimeError:  # not in a loop: `gather` and `finish` move the clock
            return

    def _turn_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._turning is not loop:
            self._turning = loop
            loop.call_soon(self._turn, loop, self._patience)

    def _turn(self, loop: asyncio.AbstractEventLoop, patience: int) -> None:
        # asyncio shows nobody what is still to run at this instant but in this attribute. Where it is absent, or where
        # two such worlds wait for each other, so many turns are enough for the others to come to rest.
        if patience and getattr(loop, "_ready", True):
            loop.call_soon(self._turn, loop, patience - 1)
        elif self._advance() and self._events:
            loop.call_soon(self._turn, loop, self._patience)
        else:
            self._turning = None


def send_once(call: Call) -> Flow[Retrieval]:
    """An attempt: one request to the scripted service, bounded by what is left of the deadline."""
    remaining = call.remaining()
    if remaining <= 0:
        raise DeadlineExceededError("The time of the call is spent.")
    call.attempts += 1
    assert call.query is not None  # `call` above always asks a question
    response = yield Send(_REQUEST, remaining, MAX_BYTES)
    return read_retrieval(response, call.query, max_documents=10_000)


_STUCK = "The flow waits for something that nothing in this world will bring."
_REQUEST = WireRequest("POST", TARGET.base_url, (), b"{}")


def _only(effect: Effect) -> Flow[Any]:
    return (yield effect)


def _in_turn(outcomes: Iterable[Outcome], then: Outcome) -> Callable[[WireRequest], Outcome]:
    remaining = iter(outcomes)
    return lambda _: next(remaining, then)


def _end_of(kept: Promise) -> tuple[Any, BaseException | None]:
    try:
        return kept.result(0), None
    except CancelledError:  # that of concurrent.futures
        return None, asyncio.CancelledError()
    except BaseException as error:
        return None, error


def _ask(ask: Ask) -> tuple[Any, Exception | None]:
    try:
        return _ask_sync(ask), None
    except Exception as error:  # the flow that asked gets it
        return None, error


def _ask_sync(ask: Ask) -> Any:
    if ask.call is not None:
        return ask.call()
    assert ask.acall is not None  # an Ask has one of the two
    return run_apart(ask.acall)
