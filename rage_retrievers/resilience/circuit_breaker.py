"""Circuit breaker: while a pipeline keeps failing, calls are refused here; one probe finds out when to stop.

pybreaker holds the state. Admission, time and the failure rate are decided here, because pybreaker runs the call under
its lock, admits every concurrent probe, counts only failures in a row and reads the wall clock.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from .._flow import Flow
from ..errors import CircuitOpenError, ConfigurationError, DeadlineExceededError, StatusError
from ..models import Target
from ..observability.events import CircuitChanged, Rejected
from .failures import is_service_failure
from .pipeline import Call, Home, Homes, Step, above, at_least_one
from .window import Window

# As pybreaker names them, which loads Tornado where that is installed, and so is loaded with the first breaker.
CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"


class Admission(NamedTuple):
    """A call that was let through: in which period of the circuit, and whether it is the probe."""

    period: int
    probe: bool


class Change(NamedTuple):
    """The circuit went from one state to another."""

    before: str
    after: str


class Circuit:
    """The circuit of one pipeline. Every method decides under a lock and returns at once.

    A verdict (`succeeded`, `failed`, `abandoned`) returns the change it made, or None; one of an earlier period than
    the present changes nothing.
    """

    def __init__(self, options: CircuitBreaker) -> None:
        import pybreaker

        self._options = options
        self._lock = threading.Lock()
        self._breaker = pybreaker.CircuitBreaker(fail_max=options.in_a_row)
        self._window = Window(options.window)
        self._in_a_row = 0
        self._next_probe = 0.0
        self._period = 0
        # What a closed circuit gives everyone, so that admission takes one read and no lock; None while it is not.
        self._free: Admission | None = Admission(0, probe=False)

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        return self._breaker.current_state

    def retry_after(self, now: float) -> float:
        """Seconds until a probe is admitted; 0 when the circuit is closed, or a probe is due or under way."""
        return 0.0 if self._free is not None else max(0.0, self._next_probe - now)

    def admit(self, now: float) -> Admission | None:
        """Let a call through, as the probe where one is due; None when the circuit refuses."""
        free = self._free
        if free is not None:
            return free
        with self._lock:
            if self._free is not None:
                return self._free
            if self.state == HALF_OPEN or now < self._next_probe:
                return None
            self._breaker.half_open()
            return Admission(self._period, probe=True)

    def succeeded(self, admission: Admission, now: float) -> Change | None:
        """The service answered."""
        with self._lock:
            if admission.period != self._period:
                return None
            if admission.probe:
                return self._close()
            self._in_a_row = 0
            self._window.add(now, bad=False)
            return None

    def failed(self, admission: Admission, now: float) -> Change | None:
        """The service failed."""
        with self._lock:
            if admission.period != self._period:
                return None
            if not admission.probe:
                self._in_a_row += 1
                self._window.add(now, bad=True)
                if self._in_a_row < self._options.in_a_row and not self._rate_is_reached(now):
                    return None
            return self._open(now + self._options.reset_after)

    def abandoned(self, admission: Admission, next_probe: float = 0.0) -> Change | None:
        """The call says nothing of the service: no verdict. After a probe, another may be made at `next_probe`."""
        with self._lock:
            if not admission.probe or admission.period != self._period:
                return None
            return self._open(max(self._next_probe, next_probe))

    def _rate_is_reached(self, now: float) -> bool:
        good, bad = self._window.totals(now)
        return good + bad >= self._options.minimum_calls and bad >= self._options.failure_rate * (good + bad)

    def _open(self, next_probe: float) -> Change:
        before = self.state
        self._next_probe = next_probe
        self._period += 1
        self._free = None
        self._breaker.open()
        return Change(before, OPEN)

    def _close(self) -> Change:
        self._period += 1
        self._in_a_row = 0
        self._window.clear()
        self._breaker.close()
        self._free = Admission(self._period, probe=False)
        return Change(HALF_OPEN, CLOSED)


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Opens after `in_a_row` failures in a row, or when `failure_rate` of the last calls failed.

    The rate counts `window` seconds, and only when they saw `minimum_calls` or more. An open circuit refuses calls with
    `CircuitOpenError`. After `reset_after` seconds one call is the probe: its success closes the circuit, its failure
    opens it again for as long.

    Failures are 5xx, broken connections, unusable answers, and a deadline that passed although the attempt had at
    least half of the call's time. A cancelled call, a 429 and an answer too large give no verdict; other 4xx count as
    answers. Defaults: 0.5 of at least 10 calls in 30 s, or 5 in a row; reset after 30 s.
    """

    kind: ClassVar[str] = "circuit breaker"
    failure_rate: float = 0.5
    minimum_calls: int = 10
    window: float = 30.0
    in_a_row: int = 5
    reset_after: float = 30.0

    def __post_init__(self) -> None:
        above("failure_rate", self.failure_rate)
        if self.failure_rate > 1:
            raise ConfigurationError(
                f"failure_rate={self.failure_rate!r} cannot be used; it is a share above 0 and up to 1."
            )
        at_least_one("minimum_calls", self.minimum_calls)
        at_least_one("in_a_row", self.in_a_row)
        above("window", self.window)
        above("reset_after", self.reset_after)
        import pybreaker  # noqa: F401  # here, for the circuit is made amid a call, where an event loop would wait

    def circuit(self, home: Home) -> Circuit:
        """The circuit of the pipeline that lives there."""
        return home.state(self, self._make)

    def _make(self) -> Circuit:
        return Circuit(self)

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Ask for admission, proceed with no lock held, then give one verdict."""
        circuit = call.home.state(self, self._make)
        now, sent = call.clock.monotonic(), call.attempts
        admission = circuit.admit(now)
        if admission is None:
            raise self._refusal(call, circuit, now)
        try:
            if admission.probe:
                call.emit(CircuitChanged, OPEN, HALF_OPEN)
            answer = yield from proceed(call)
        except Exception as error:
            tells = not isinstance(error, DeadlineExceededError) or (call.attempts > sent and _had_its_time(call, now))
            self._tell(call, self._judge(call, circuit, admission, error) if tells else circuit.abandoned(admission))
            raise
        except BaseException:  # cancelled: it says nothing of the service
            self._tell(call, circuit.abandoned(admission))
            raise
        change = circuit.succeeded(admission, call.clock.monotonic())
        if change is not None:
            self._tell(call, change)
        return answer

    def _judge(self, call: Call, circuit: Circuit, admission: Admission, error: Exception) -> Change | None:
        now = call.clock.monotonic()
        if is_service_failure(error):
            return circuit.failed(admission, now)
        if not isinstance(error, StatusError):
            return circuit.abandoned(admission)
        if not error.transient:  # it understood and declined, so it is up
            return circuit.succeeded(admission, now)
        # A 429 says neither. The next probe waits as asked, but no header keeps a circuit open for days.
        asked = self.reset_after if error.retry_after is None else error.retry_after
        return circuit.abandoned(admission, now + min(asked, self.reset_after))

    @staticmethod
    def _tell(call: Call, change: Change | None) -> None:
        if change is not None:
            call.emit(CircuitChanged, change.before, change.after)

    def _refusal(self, call: Call, circuit: Circuit, now: float) -> CircuitOpenError:
        wait = circuit.retry_after(now)
        when = f"the next probe is in {wait:.1f} s" if wait else "a probe is under way"
        sent = "Nothing was sent" if call.attempts == 0 else f"No more was sent after attempt {call.attempts}"
        error = CircuitOpenError(
            f"The circuit of this pipeline is open after repeated failures; {when}. {sent}.", retry_after=wait
        )
        call.emit(Rejected, self.kind, error)
        return error


def _had_its_time(call: Call, admitted_at: float) -> bool:
    """Whether the attempt began with half of the call's time left, so that its passing is the service's doing.

    An attempt that a queue or earlier attempts left a few milliseconds says nothing of the service; nor does one that
    sent no request, because the function that gives the token took its time.
    """
    return 2 * (call.deadline - admitted_at) >= call.deadline - call.started


def known_circuits(homes: Homes) -> list[tuple[Target, Circuit]]:
    """Every circuit that a call went through, and what it protects."""
    return [(target, circuit) for target, home in homes.known() for circuit in home.states_of(CircuitBreaker.kind)]
