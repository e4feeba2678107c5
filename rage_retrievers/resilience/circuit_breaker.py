"""Circuit breaker: while a pipeline keeps failing, calls are refused here; one probe finds out when to stop.

pybreaker holds the state and tells its listeners. Admission, time and the failure rate are decided here, because
pybreaker runs the call under its lock, admits every concurrent probe, counts only failures in a row and reads the wall
clock.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pybreaker

from .._flow import Flow
from ..errors import (
    CircuitOpenError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidResponseError,
    ServerError,
    StatusError,
)
from ..observability.events import CircuitChanged, Rejected
from .pipeline import Call, Step, above

CLOSED, OPEN, HALF_OPEN = pybreaker.STATE_CLOSED, pybreaker.STATE_OPEN, pybreaker.STATE_HALF_OPEN
_BUCKETS = 10


def is_service_failure(error: BaseException) -> bool:
    """Whether the error speaks of the service's health. A 4xx does not: the service understood and declined."""
    return isinstance(error, ServerError | ConnectionFailedError | DeadlineExceededError | InvalidResponseError)


class Admission(NamedTuple):
    """A call that was let through: in which period of the circuit, and whether it is the probe."""

    period: int
    probe: bool


class Window:
    """Successes and failures of the last `seconds`, in ten buckets; the oldest falls out as a whole."""

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _BUCKETS
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._slots = [-1] * _BUCKETS
        self._counts = [[0, 0] for _ in range(_BUCKETS)]

    def add(self, now: float, failed: bool) -> None:
        """Count one outcome."""
        slot = int(now / self._width)
        index = slot % _BUCKETS
        if self._slots[index] != slot:
            self._slots[index] = slot
            self._counts[index] = [0, 0]
        self._counts[index][failed] += 1

    def totals(self, now: float) -> tuple[int, int]:
        """(successes, failures) in the window that ends now."""
        oldest = int(now / self._width) - _BUCKETS
        live = [count for slot, count in zip(self._slots, self._counts, strict=True) if slot > oldest]
        return sum(count[0] for count in live), sum(count[1] for count in live)


class Circuit:
    """The circuit of one pipeline. Every method decides under a lock and returns at once."""

    def __init__(self, options: CircuitBreaker) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._breaker = pybreaker.CircuitBreaker(fail_max=options.in_a_row)
        self._window = Window(options.window)
        self._in_a_row = 0
        self._opened_at = 0.0
        self._period = 0
        self._probing = False
        self._state = CLOSED

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        return self._state

    def retry_after(self, now: float) -> float:
        """Seconds until a probe is admitted; 0 when the circuit is closed or a probe is due."""
        if self._state == CLOSED:
            return 0.0
        return max(0.0, self._opened_at + self._options.reset_after - now)

    def admit(self, now: float) -> Admission | None:
        """Let a call through, as the probe where one is due; None when the circuit refuses."""
        if self._state == CLOSED:
            return Admission(self._period, False)
        with self._lock:
            if self._state == CLOSED:
                return Admission(self._period, False)
            if self._probing or now < self._opened_at + self._options.reset_after:
                return None
            self._probing = True
            self._turn(HALF_OPEN)
            return Admission(self._period, True)

    def succeeded(self, admission: Admission, now: float) -> None:
        """A verdict: the service answered. One of an earlier period changes nothing."""
        with self._lock:
            if admission.period != self._period:
                return
            if admission.probe:
                self._probing = False
                self._in_a_row = 0
                self._window.clear()
                self._turn(CLOSED)
            else:
                self._in_a_row = 0
                self._window.add(now, failed=False)

    def failed(self, admission: Admission, now: float) -> None:
        """A verdict: the service failed. One of an earlier period changes nothing."""
        with self._lock:
            if admission.period != self._period:
                return
            if admission.probe:
                self._open(now)
                return
            self._in_a_row += 1
            self._window.add(now, failed=True)
            if self._in_a_row >= self._options.in_a_row or self._rate_is_reached(now):
                self._open(now)

    def abandoned(self, admission: Admission) -> None:
        """The call was cancelled, or says nothing of the service's health: no verdict; a probe may be tried again."""
        with self._lock:
            if admission.probe and admission.period == self._period:
                self._probing = False
                self._turn(OPEN)

    def _rate_is_reached(self, now: float) -> bool:
        successes, failures = self._window.totals(now)
        calls = successes + failures
        return calls >= self._options.minimum_calls and failures >= self._options.failure_rate * calls

    def _open(self, now: float) -> None:
        self._opened_at = now
        self._probing = False
        self._in_a_row = 0
        self._window.clear()
        self._turn(OPEN)

    def _turn(self, state: str) -> None:
        if state == OPEN:
            self._breaker.open()
        elif state == HALF_OPEN:
            self._breaker.half_open()
        else:
            self._breaker.close()
        # A half-open circuit that goes back to open because its probe was cancelled starts a new period too.
        if state != HALF_OPEN:
            self._period += 1
        self._state = state


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Opens after `in_a_row` failures in a row, or when `failure_rate` of the last calls failed.

    The rate counts `window` seconds, and only when they saw `minimum_calls` or more.

    An open circuit refuses calls with `CircuitOpenError`. After `reset_after` seconds one call is the probe:
    its success closes the circuit, its failure opens it again for as long.
    """

    kind: ClassVar[str] = "circuit breaker"
    failure_rate: float = 0.5
    minimum_calls: int = 10
    window: float = 30.0
    in_a_row: int = 5
    reset_after: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.failure_rate <= 1:
            raise ConfigurationError(
                f"failure_rate={self.failure_rate!r} cannot be used; it is a share above 0 and up to 1."
            )
        for name in ("minimum_calls", "in_a_row"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{name}={value!r} cannot be used; it is a count of 1 or more.")
        above("window", self.window)
        above("reset_after", self.reset_after)

    def circuit(self, call: Call) -> Circuit:
        """The circuit this call goes through."""
        return call.home.state(self, self._make)

    def _make(self) -> Circuit:
        return Circuit(self)

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Ask for admission, proceed with no lock held, then give one verdict."""
        circuit = call.home.state(self, self._make)
        before = circuit.state
        admission = circuit.admit(call.clock.monotonic())
        if admission is None:
            raise self._refusal(call, circuit)
        self._tell(call, before, circuit)
        before = circuit.state
        try:
            answer = yield from proceed(call)
        except Exception as error:
            if is_service_failure(error):
                circuit.failed(admission, call.clock.monotonic())
            elif isinstance(error, StatusError) and not error.transient:
                # It understood and declined, so it is up; a 429 says neither.
                circuit.succeeded(admission, call.clock.monotonic())
            else:
                circuit.abandoned(admission)
            self._tell(call, before, circuit)
            raise
        except BaseException:  # cancelled: it says nothing of the service
            circuit.abandoned(admission)
            raise
        circuit.succeeded(admission, call.clock.monotonic())
        self._tell(call, before, circuit)
        return answer

    def _tell(self, call: Call, before: str, circuit: Circuit) -> None:
        if call.listeners and circuit.state != before:
            call.emit(CircuitChanged, before, circuit.state)

    def _refusal(self, call: Call, circuit: Circuit) -> CircuitOpenError:
        wait = circuit.retry_after(call.clock.monotonic())
        error = CircuitOpenError(
            f"The circuit of this pipeline is open after repeated failures; the next probe is in {wait:.1f} s. "
            "Nothing was sent.",
            retry_after=wait,
        )
        call.emit(Rejected, self.kind, error)
        return error
